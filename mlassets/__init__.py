"""Recurring modelling work as a Dagster asset graph of immutable, versioned Things."""

__version__ = "0.1.0"
