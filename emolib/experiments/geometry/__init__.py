"""Do the directions of emotions and appraisals lie as theory says, and where do emotions lie (paper §8; E7; Fig 6)?"""

import lazy_loader

PROTOCOL = 1  # raise it when the numbers of this experiment may change
SIX = ("joy", "pride", "surprise", "fear", "guilt", "anger")
PLANE = ("pleasantness", "other_responsblt")  # the axes of the paper's Figure 6
HALVING = (8 / 16, 10 / 16)  # depths of claim C13: the paper's layers 8 and 10 of 16
EARLY, LATE = 0.5, 0.75

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={"measure": ["run"]})
