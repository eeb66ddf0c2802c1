"""Verdicts on data and models, and their report; knows nothing of Dagster."""
