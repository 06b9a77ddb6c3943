"""International Staging System for multiple myeloma (Greipp 2005)."""

from __future__ import annotations

import numpy as np

from models.prognostic.bounds import Bounds, decide
from models.prognostic.score import INCOMPLETE, Columns, Input, Scenarios, Score

INPUTS = (
    Input("beta2_microglobulin", "serum beta-2 microglobulin", "mg/L", 0, 200),
    Input("albumin", "serum albumin", "g/dL", 0.5, 8),
)


def iss_stage(x: Columns) -> Bounds:
    """Stage 1 to 3 (Greipp 2005, table 5)."""
    microglobulin = Bounds.of(x["beta2_microglobulin"], 0, np.inf)
    albumin = Bounds.of(x["albumin"], 0, np.inf)
    return decide([(microglobulin.at_least(5.5), 3), (microglobulin.below(3.5) & albumin.at_least(3.5), 1)], 2)


ISS = Score(
    name="ISS",
    source="Greipp et al., J Clin Oncol 2005; 23:3412, table 5",
    inputs=INPUTS,
    categories=("I", "II", "III"),
    upper=(1, 2),
    missing=INCOMPLETE,
    evaluate=lambda x: Scenarios.of(iss_stage(x)),
)
