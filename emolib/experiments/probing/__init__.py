"""Where the emotion can be read (paper §5, C.1, C.3; E2; Figs 2, 13, 18): probes per layer, component and token."""

import lazy_loader

PROTOCOL = 1  # raise it when the numbers of this experiment may change

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, ["views"], {"measure": ["run"]})
