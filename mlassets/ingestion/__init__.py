"""Landed files of any supported format become Parquet; knows nothing of Dagster."""
