"""The thin nnsight helper: sites, edits, models, and one engine that encodes once and replays the rest.

It imports nothing of emolib outside this folder, and every name only when it is asked for.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
