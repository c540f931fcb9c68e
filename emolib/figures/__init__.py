"""The figures of the book, one function per kind: each takes rows of a table and returns a matplotlib Figure."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
