"""The published home that other whole runs look at serves the faults that need no run of their own."""

from tests.e2e.conftest import fintech

__all__ = ["fintech"]
