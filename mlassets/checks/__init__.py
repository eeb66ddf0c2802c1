"""Asset checks, one file per step."""
