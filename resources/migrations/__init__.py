"""How the catalog's tables came to be what they are: one alembic revision per change."""
