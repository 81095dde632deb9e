"""Who may open what, and how each role gets that and nothing more."""
