"""Decisions in real time: events taken in durably, the person evaluated again by the batch's own SQL, answers over HTTP."""
