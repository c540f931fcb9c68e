"""The texts a model reads: corpora, prompts, control tasks, and what appraisal theory says of them."""
