"""The living documentation: a static site about the standing publication, readable by a lawyer, built with every run."""
