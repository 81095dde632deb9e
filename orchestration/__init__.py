"""Segline: risk- and consent-based customer segments with proof. Nothing is re-exported here."""
