"""Sensors and conditions that start exactly the work that is needed."""
