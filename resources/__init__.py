"""Where Things live: lake, catalog, provenance, and the IO managers that hand them to Dagster."""
