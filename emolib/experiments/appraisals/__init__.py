"""Whether appraisals can be read, beyond what the emotion's name tells (paper §7, E; E6, E14; Figs 5, 29)."""

import lazy_loader

PROTOCOL = 1  # raise it when the numbers of this experiment may change

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={"measure": ["run"]})
