"""What pushing appraisals does to the label (paper §9, F; E8-E10; Figs 7, 30-36): steering vectors, their controls."""

import lazy_loader

PROTOCOL = 3  # raise it when the numbers of this experiment may change
INPUTS = ("said.yml", "meta_analysis.yml")  # whose content decides numbers, beside texts and the run's prompt

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, ["views"], {"measure": ["run"]})
