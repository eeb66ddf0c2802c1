"""Commands of `mlassets` that are about the catalog, by what they are for; `mlassets.cli` puts them together."""
