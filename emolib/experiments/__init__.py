"""One module per experiment; each has `run(study) -> DataFrame`, a long table as described in `emolib.results`."""
