"""Whether an emotion's own vector makes the model answer that emotion (paper appendix D; E11, E12; Fig 28)."""

import lazy_loader

PROTOCOL = 1  # raise it when the numbers of this experiment may change

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, ["views"], {"measure": ["run"]})
