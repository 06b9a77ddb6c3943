"""Real MDS patients with a simulated embedding of a whole-slide image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from experiments.datasets import mds_iwg
from experiments.datasets.dataset import Card, DatasetError
from experiments.simulation.slides import SLIDE, slides
from federation.randomness import generator
from harmonization import Cohort

WITH_SLIDE, SEED = 860, 2025

CARD = Card(
    description="Real MDS patients (IWG) with a SIMULATED histopathology block: 64 columns in place of a slide's "
    "embedding, made so that one factor in them has a log hazard ratio of .6. What a model gains by them says how well "
    "it uses a block, and nothing of real slides. 860 of the 2,811 patients have it; option only_with_slide leaves out "
    "the others. IPSS-R and IPSS-M for comparison.",
    source=mds_iwg.CARD.source + "; the block is drawn on loading by experiments/simulation/slides.py",
    licence=mds_iwg.CARD.licence,
    files=mds_iwg.CARD.files,
    options=("only_with_slide",),
    simulated="The histopathology block is no image of these patients. Its 64 columns were drawn at random around the "
    "patients' covariates and their known survival, so that one factor in them has a log hazard ratio of .6: what "
    "models gain by it was put in. All other columns, and survival, are real.",
)


def load(data_dir: Path | None, options: Mapping[str, Any]) -> tuple[Cohort, None]:
    """All patients with follow-up, or those who have a slide; no centers."""
    only = options.get("only_with_slide", False)
    if not isinstance(only, bool):
        raise DatasetError(f"data set 'mds_wsi': only_with_slide is {only!r}; it is true or false")
    real, _ = mds_iwg.load(data_dir, {})
    block, _ = slides(real, SEED)
    chosen = generator(SEED, "slides", "who").permutation(len(real))[:WITH_SLIDE]
    has_slide = np.isin(np.arange(len(real)), chosen)
    block = np.where(has_slide[:, None], block, np.nan)
    schema = replace(real.schema, name="mds_wsi", features=(*real.schema.features, *SLIDE.features()))
    cohort = replace(real, schema=schema, values=np.column_stack([real.values, block]))
    return cohort[has_slide] if only else cohort, None
