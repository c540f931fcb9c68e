"""What the answer needs (paper appendix B, C.1; E4, E5; Figs 12, 14, 15): components removed at the last token."""

import lazy_loader

PROTOCOL = 3  # raise it when the numbers of this experiment may change

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, ["views"], {"measure": ["run"]})
