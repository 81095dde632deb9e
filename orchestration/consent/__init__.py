"""Consent: what people's signals say. Nothing is re-exported here."""
