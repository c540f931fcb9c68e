"""What the model answers (paper §3, A.3; Figs 8-11, 24, 25), with human readers as the ceiling."""

import lazy_loader

PROTOCOL = 2  # raise it when the numbers of this experiment may change

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, ["views"], {"measure": ["run"]})
