"""What the words of a text alone tell of emotion and appraisals, and what activations tell beyond them (E2, E6)."""

import lazy_loader

PROTOCOL = 1  # raise it when the numbers of this experiment may change
INPUTS = ("keyword-free.csv", "situations.csv")  # corpora that probes are carried over to

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, ["views"], {"measure": ["run"]})
