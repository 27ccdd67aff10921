"""How the learned shape of the sketch engine is made: procedural solids, their pictures, the network, its training.

Not needed to use the app, and the only part of the sketch engine that imports torch. ``python -m
orfeas.engines.sketch.train --help`` lists the steps; `RUNS.md` beside this file says what was tried and what came out.
"""
