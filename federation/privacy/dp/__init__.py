"""Differential privacy: noise that a center adds at its own door, what it costs, and a ledger of what was spent.

An algorithm says by `Algorithm.mechanism` how much one patient (or one center) can change each array of an answer, and
how much noise is to cover it. The rest is written once: the center enters the cost in its ledger, adds the noise
(`mechanism`, `discrete_gaussian`) and only then lets the answer out, masked or not.
"""
