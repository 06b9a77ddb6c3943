"""What is measured of every sample, in parallel; each measure of each sample is a file."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from experiments.files import write_json
from experiments.running import Listener
from experiments.study import Study
from experiments.synthetic.arms import (
    FEDERATED,
    ISOLATED,
    Draw,
    Files,
    Map,
    Patients,
    Work,
    draws_of,
    read_sample,
)
from experiments.synthetic.augmentation import RealArms, augmentation
from experiments.synthetic.baselines import IndependentMarginals
from experiments.synthetic.config import HELDOUT, SyntheticConfig, parse_synthetic
from experiments.synthetic.fidelity import fidelity
from experiments.synthetic.fitting import alone, fit_generator
from experiments.synthetic.membership import Generator
from experiments.synthetic.privacy import privacy
from experiments.synthetic.utility import RealModels, utility
from harmonization import Cohort


@dataclass(frozen=True)
class Measurement:
    """One measure of one sample."""

    work: Work
    measure: str
    sample: int


def run_measures(
    config: SyntheticConfig, study: Study, data_dir: Path | None, files: Files, apply: Map, listen: Listener
) -> None:
    """Measure what has not been measured yet."""
    text = json.dumps(config.to_dict())
    todo = [
        Measurement(Work(text, data_dir, files.out, draw), measure, sample)
        for measure in config.measures
        if measure != HELDOUT  # asked of the centers (`run_heldout`)
        for draw in draws_of(config, study)
        if measures(measure, draw) and not files.failed(draw).exists()
        for sample in range(config.samples)
        if not files.found(measure, draw, sample).exists()
    ]
    for done, (item, _) in enumerate(apply(do_measure, todo), start=1):
        listen("measures", done / len(todo), f"{item.measure} of {item.work.draw.model}, {item.work.draw.arm}")
    listen("measures", 1.0, "")


def measures(measure: str, draw: Draw) -> bool:
    """Whether a measure is taken of a fit: augmentation is, of the federation's patients."""
    return measure != "augmentation" or draw.arm == FEDERATED


def do_measure(item: Measurement) -> None:
    """Measure one sample, and write what was found. Runs in another process."""
    work, draw = item.work, item.work.draw
    files = Files(work.out)
    patients = Patients.load(work.config, work.data_dir, draw.repeat)
    synthetic = read_sample(patients, files, draw, item.sample)
    heldout, seed = patients.heldout(), patients.sample_seed(item.sample)
    if item.measure == "fidelity":
        found = fidelity(heldout, synthetic, seed)
    elif item.measure == "utility":
        real = _real_models(work.config_json, work.data_dir, draw.repeat)
        found = utility(patients.train(), heldout, synthetic, patients.seed, real)
    elif item.measure == "augmentation":
        real_arms = _real_arms(work.config_json, work.data_dir, draw.repeat)
        found = augmentation(_centers(patients), synthetic, heldout, patients.seed, real_arms)
    else:
        shadows = draw.model in work.config.shadows and item.sample == 0
        found = privacy(patients.train(draw.arm), heldout, synthetic, seed, _refit(work) if shadows else None)
    path = files.found(item.measure, draw, item.sample)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json({k: v if math.isfinite(v) else None for k, v in found.items()}, path)


def _refit(work: Work) -> Callable[[Cohort, int], Generator]:
    """How an attacker trains such a generator himself: on one table."""

    def refit(cohort: Cohort, seed: int) -> Generator:
        if work.draw.model == "independent_marginals":
            return IndependentMarginals(cohort)
        return fit_generator(work.draw.model, work.config, cohort.schema, alone(cohort, seed, "shadow"))

    return refit


@lru_cache(maxsize=4)
def _real_models(config_json: str, data_dir: Path | None, repeat: int) -> RealModels:
    """Models of the real patients are the same for all generators."""
    patients = Patients.load(parse_synthetic(json.loads(config_json)), data_dir, repeat)
    return RealModels.fit(patients.train(), patients.heldout(), patients.seed)


@lru_cache(maxsize=4)
def _real_arms(config_json: str, data_dir: Path | None, repeat: int) -> RealArms:
    """So are those that augmented centers are compared with."""
    patients = Patients.load(parse_synthetic(json.loads(config_json)), data_dir, repeat)
    return RealArms.fit(_centers(patients), patients.heldout(), patients.seed)


def _centers(patients: Patients) -> dict[str, Cohort]:
    """Training patients of every center that has any."""
    found = {name: patients.train(ISOLATED + name) for name in patients.study.cohorts}
    return {name: cohort for name, cohort in found.items() if len(cohort)}


def read_found(files: Files, config: SyntheticConfig, draw: Draw, sample: int) -> dict[str, float | None]:
    """All that was found of a sample, by metric."""
    found: dict[str, float | None] = {}
    for measure in (m for m in config.measures if measures(m, draw)):
        found |= json.loads(files.found(measure, draw, sample).read_text())
    return found
