"""Telling people what needs them: what is open, to whom it is sent, and what was sent already. Without Dagster."""
