"""A run with its resources open: texts, model, the clean pass, and interventions on it."""
