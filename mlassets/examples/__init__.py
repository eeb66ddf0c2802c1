"""Worked examples: data, specs, and the scripts that made them."""
