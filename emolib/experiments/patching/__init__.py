"""What carries the answer from one text to another (paper §6, C.2, C.3): activation patching."""

import lazy_loader

PROTOCOL = 1  # raise it when the numbers of this experiment may change

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, ["views"], {"measure": ["run"]})
