"""The partitions of every asset, defined once: projects, their segments, sources, and the names of uploads."""

import warnings

import dagster as dg

PROJECT, SEGMENT, SOURCE, NAME = "project", "segment", "source", "name"

projects = dg.DynamicPartitionsDefinition(name=PROJECT)
segments = dg.MultiPartitionsDefinition(
    {PROJECT: projects, SEGMENT: dg.DynamicPartitionsDefinition(name=SEGMENT)}
)
sources = dg.DynamicPartitionsDefinition(name=SOURCE)
names = dg.DynamicPartitionsDefinition(name=NAME)

with warnings.catch_warnings():
    # This mapping is in beta in Dagster 1.13, and it would say so at every start.
    warnings.simplefilter("ignore", dg.BetaWarning)
    segments_of_project = dg.MultiToSingleDimensionPartitionMapping(PROJECT)
