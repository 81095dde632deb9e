"""Thin Dagster adapters, one module per stage of the flow; each opens with what belongs in it. Nothing is re-exported here."""
