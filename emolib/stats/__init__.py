"""Statistics, and their intervals for texts that come in groups. Knows nothing of models."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
