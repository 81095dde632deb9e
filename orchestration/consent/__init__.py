"""Consent: what a person expressed, by which signal, and what state follows at any point in time."""
