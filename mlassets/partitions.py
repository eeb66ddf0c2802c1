"""The partitions of every asset, defined once: projects, their segments, and sources."""

import dagster as dg

PROJECT, SEGMENT, SOURCE = "project", "segment", "source"

projects = dg.DynamicPartitionsDefinition(name=PROJECT)
segments = dg.MultiPartitionsDefinition(
    {PROJECT: projects, SEGMENT: dg.DynamicPartitionsDefinition(name=SEGMENT)}
)
sources = dg.DynamicPartitionsDefinition(name=SOURCE)

segments_of_project = dg.MultiToSingleDimensionPartitionMapping(PROJECT)
