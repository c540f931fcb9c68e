"""How fast emolib is, measured: `python -m benchmarks` (make bench) writes results/bench/*.json for appendix G.

One process a side (`sides`), told in turn what to run; `workload` is what both sides get. `plain` is the plain way in
plain PyTorch, `ours` is emolib, `hooked` is emolib's engine with PyTorch hooks in place of nnsight. `comparisons` sets
them against each other, `machine` asks what the processor could do, `growth` how cost grows.
"""
