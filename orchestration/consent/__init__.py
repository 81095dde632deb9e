"""Consent: what people's signals say. Nothing is re-exported here."""
"""Consent: what a person expressed, at any point in time."""
