"""Consent: what a person expressed, at any point in time."""
