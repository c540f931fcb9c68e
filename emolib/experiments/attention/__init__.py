"""Where the last token looks (paper §6, Fig 4; E13): attention by part of the prompt, its top tokens, its words."""

import lazy_loader

PROTOCOL = 1  # raise it when the numbers of this experiment may change
EARLY, MIDDLE = 0.5, 0.7  # depths: the paper's layers 1-8 of 16, and its 9-11

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={"measure": ["run"]})
