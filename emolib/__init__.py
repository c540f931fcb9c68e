"""emolib: where in a language model the emotion of a described event is, what causes it, and how appraisals steer it.

From the bottom up: `sites`, `edits`, `labels`, `prompts`, `corpus` name things; `models` loads and `engine` runs them
(`encode` once, `replay` every intervention); `probes` read, `stats` and `scores` put intervals on it, `results` keeps
it, `paper` holds the published values, `plotting` draws; `runs` and `study` tie a run together, and one module in
`experiments` measures each section of the paper. Importing this package loads none of them.
"""

__version__ = "0.1.0"
