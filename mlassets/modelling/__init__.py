"""From a drawn table to a fitted, measured, explained model; knows nothing of Dagster."""
