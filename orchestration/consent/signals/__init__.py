"""Strict decoders of consent signals. Nothing is re-exported here."""
