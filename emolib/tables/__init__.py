"""Measurements as tables: schemas, storage with provenance, and the published values of the paper."""
