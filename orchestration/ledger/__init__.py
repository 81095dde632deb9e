"""The decision ledger: what was decided about whom, when and why, in a form that nobody can change unseen."""
