"""One thin file per step: what it needs, what it makes, what a person wants to see."""
