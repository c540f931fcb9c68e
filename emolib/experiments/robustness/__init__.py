"""Does any of it depend on the prompt, the task, the mask, the split or the token (paper C.3-C.6)?"""

import lazy_loader

PROTOCOL = 1  # raise it when the numbers of this experiment may change
INPUTS = ("prompts.yml", "topics.yml")  # whose content decides numbers, beside texts and the run's prompt

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, ["views"], {"measure": ["run"]})
