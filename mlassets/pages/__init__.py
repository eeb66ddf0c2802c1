"""Pages to browse the catalog with: what there is, one Thing, its lineage. Read-only, and they load nothing."""
