"""One package per experiment; each has `run(study) -> DataFrame`, a long table as described in `tables.results`."""
