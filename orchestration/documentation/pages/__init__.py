"""The pages: pure functions from facts to Markdown, one module per subject."""
