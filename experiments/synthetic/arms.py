"""Every fit and every sample of a comparison, each a file: on the actor system, and one table at a time in parallel."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from actors.coordinator import Coordinator, Task
from experiments.running import Listener
from experiments.study import Study
from experiments.synthetic.baselines import draw_baseline
from experiments.synthetic.config import SyntheticConfig, parse_synthetic
from experiments.synthetic.fitting import alone, finished, fit_generator, kept
from experiments.synthetic.study import load_study
from federation.algorithm import Algorithm
from federation.checkpoint import discard_state
from federation.generative import RunTask
from federation.quorum import QuorumError
from federation.randomness import generator
from federation.splits import TRAIN
from federation.state import State, file_name
from harmonization import Cohort, Schema, read_cohort, write_cohort
from models.generative import PatientGenerator, without_center

logger = logging.getLogger("haemfed")

FEDERATED, CENTRALIZED, ISOLATED = "federated", "centralized", "isolated/"


@dataclass(frozen=True)
class Draw:
    """A fit, and the samples of it.

    Parameters
    ----------
    model
        A generator or a baseline.
    arm
        ``federated``, ``centralized`` or ``isolated/<center>``.
    repeat
        Which part is held out, and which random numbers; from 0.
    """

    model: str
    arm: str
    repeat: int


class Files:
    """Where fits, samples and what was found lie below a run's directory."""

    def __init__(self, out: Path) -> None:
        self.out = out

    def fit(self, draw: Draw) -> Path:
        """Directory of a fit's steps."""
        return self.out / "fits" / draw.model / file_name(draw.arm) / str(draw.repeat)

    def sample(self, draw: Draw, sample: int) -> Path:
        """A table of synthetic patients."""
        return self.out / "samples" / draw.model / file_name(draw.arm) / f"{draw.repeat}-{sample}.parquet"

    def failed(self, draw: Draw) -> Path:
        """Why a fit has no samples."""
        return self.fit(draw) / "failed.json"

    def found(self, measure: str, draw: Draw, sample: int) -> Path:
        """What a measure found."""
        return self.out / "found" / measure / draw.model / file_name(draw.arm) / f"{draw.repeat}-{sample}.json"

    def checkpoint(self, draw: Draw, step: str) -> Path:
        """Of a fit on the actor system that was interrupted."""
        return self.out / "checkpoints" / f"{file_name(draw.model, str(draw.repeat), step)}.safetensors"


@dataclass(frozen=True, eq=False)
class Patients:
    """The patients of one repeat: what generators learn from, and what they are judged by."""

    config: SyntheticConfig
    study: Study
    repeat: int

    @classmethod
    def load(cls, config: SyntheticConfig, data_dir: Path | None, repeat: int) -> Patients:
        """Read the data set, or take it from this process's memory."""
        return cls(config, load_study(config, data_dir), repeat)

    def learned(self, arm: str = CENTRALIZED) -> Cohort:
        """Those that an arm's generator sees, a center's own or everybody's, with their center if it learns that."""
        return self._part(True, arm)

    def train(self, arm: str = CENTRALIZED) -> Cohort:
        """The same without their center: what synthetic patients are compared with."""
        return without_center(self.learned(arm))

    def heldout(self) -> Cohort:
        """Those whom none sees, of all centers."""
        return without_center(self._part(False, CENTRALIZED))

    def _part(self, trains: bool, arm: str) -> Cohort:
        rows = (self.study.parts(self.study.split(self.repeat, 0)) == TRAIN) == trains
        if arm.startswith(ISOLATED):
            rows &= self.study.center == arm.removeprefix(ISOLATED)
        cohort = self.study.cohort
        ids = self.study.unique_ids if len(np.unique(cohort.ids)) < len(cohort) else cohort.ids
        # To a generator an event is any of the causes; scores are not generated.
        schema = replace(cohort.schema, causes=())
        return replace(cohort, schema=schema, ids=ids, cause=None)[rows]

    @property
    def seed(self) -> int:
        """Of all training in this repeat."""
        return self.study.seed(self.repeat)

    def sample_seed(self, sample: int) -> int:
        """The same for all models and arms, whose samples are thus paired."""
        return int(generator(self.config.seed, "sample", self.repeat, sample).integers(2**31))


def able_centers(config: SyntheticConfig, study: Study) -> list[str]:
    """Centers with enough training patients and events, in every repeat, to train a generator alone."""
    least = config.arms.isolated
    if least is None or len(study.cohorts) < 2:
        return []
    able = list(study.cohorts)
    for repeat in range(config.seeds):
        trains = study.parts(study.split(repeat, 0)) == TRAIN
        events = trains & study.cohort.event
        able = [
            name
            for name in able
            if (trains & (study.center == name)).sum() >= least.min_patients
            and (events & (study.center == name)).sum() >= least.min_events
        ]
    return able


def draws_of(config: SyntheticConfig, study: Study) -> list[Draw]:
    """Every fit that the configuration asks for, those that take long first."""
    arms = [FEDERATED] if config.arms.federated else []
    arms += [CENTRALIZED] if config.arms.centralized else []
    arms += [ISOLATED + name for name in able_centers(config, study)]
    pairs = [(model, arm) for model in reversed(config.generators) for arm in arms]
    pairs += [(name, CENTRALIZED) for name in config.baselines]
    return [Draw(model, arm, repeat) for repeat in range(config.seeds) for model, arm in pairs]


# -- the federated arm: on the actor system -------------------------------------------------------------------------


def run_federated(
    config: SyntheticConfig, study: Study, files: Files, start: Callable[[], Coordinator], listen: Listener
) -> dict[str, str]:
    """Fit what is not on disk yet on the actor system, one after the other: who dropped out, and why.

    Parameters
    ----------
    start
        Starts the actors; called if there is something to fit.
    """
    todo = [d for d in draws_of(config, study) if d.arm == FEDERATED and not is_drawn(config, files, d)]
    if not todo:
        return {}
    coordinator = start()
    try:
        dropouts = coordinator.load()
        for done, draw in enumerate(todo):

            def run_task(step: str, algorithm: Algorithm, draw: Draw = draw, done: int = done) -> State:
                checkpoint = files.checkpoint(draw, step)
                task = Task(
                    f"{draw.model}/{draw.repeat}/{step}",
                    algorithm,
                    study.split(draw.repeat, 0),
                    study.seed(draw.repeat),
                    checkpoint=checkpoint,
                    checkpoint_every=config.federation.checkpoint_every,
                )
                for progress in coordinator.run(task):
                    words = f"{draw.model}, seed {draw.repeat}: {step}, round {progress.round}"
                    listen("federated", done / len(todo), words)
                assert progress.final is not None
                return progress.final

            _fit(config, study.schema, draw, files, run_task)
            for checkpoint in files.checkpoint(draw, "").parent.glob(
                f"{file_name(draw.model, str(draw.repeat))}--*.safetensors"
            ):
                discard_state(checkpoint)
        listen("federated", 1.0, "")
        return dropouts | coordinator.dropouts
    finally:
        coordinator.close()


def _fit(config: SyntheticConfig, schema: Schema, draw: Draw, files: Files, run_task: RunTask) -> PatientGenerator:
    return fit_generator(draw.model, config, schema, kept(run_task, files.fit(draw)), draw.arm == FEDERATED)


# -- one table at a time, in parallel -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Work:
    """A piece of work for another process."""

    config_json: str
    data_dir: Path | None
    out: Path
    draw: Draw

    @property
    def config(self) -> SyntheticConfig:
        """The configuration."""
        return parse_synthetic(json.loads(self.config_json))


def is_drawn(config: SyntheticConfig, files: Files, draw: Draw) -> bool:
    """Whether all samples of a fit are there, or it is known that there will be none."""
    if draw.model == "real" or files.failed(draw).exists():
        return True
    return all(files.sample(draw, sample).exists() for sample in range(config.samples))


Map = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[tuple[Any, Any]]]
"""Applies a function to each item, in parallel or not; yields pairs of item and result."""


def run_draws(
    config: SyntheticConfig, study: Study, data_dir: Path | None, files: Files, apply: Map, listen: Listener
) -> None:
    """Fit the centralized and isolated arms and the baselines, and draw from all fits."""
    text = json.dumps(config.to_dict())
    todo = [d for d in draws_of(config, study) if not is_drawn(config, files, d)]
    work = [Work(text, data_dir, files.out, draw) for draw in todo]
    for done, (item, _) in enumerate(apply(do_draw, work), start=1):
        listen("fits", done / len(work), f"{item.draw.model}, {item.draw.arm}, seed {item.draw.repeat}")
    listen("fits", 1.0, "")


def do_draw(work: Work) -> None:
    """Fit, unless the fit is there, and write the samples. Runs in another process."""
    config, draw, files = work.config, work.draw, Files(work.out)
    patients = Patients.load(config, work.data_dir, draw.repeat)
    n = len(patients.learned())
    seeds = [patients.sample_seed(sample) for sample in range(config.samples)]
    if draw.model in config.baselines:
        cohorts = draw_baseline(draw.model, patients.train(draw.arm), n, patients.seed, seeds)
    else:
        name, train = f"{draw.model}/{draw.arm}/{draw.repeat}", patients.learned(draw.arm)
        run_task = finished(files.fit(draw)) if draw.arm == FEDERATED else alone(train, patients.seed, name)
        try:
            fitted = _fit(config, train.schema, draw, files, run_task)
            cohorts = [fitted.sample(n, seed) for seed in seeds]
        except (
            QuorumError,
            ValueError,
        ) as error:  # nothing varies, or it diverged: the results name the arm as missing
            if not draw.arm.startswith(ISOLATED):
                raise
            logger.warning("%s: no generator: %s", name, error)
            path = files.failed(draw)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"why": str(error)}))
            return
    for sample, cohort in enumerate(cohorts):
        write_cohort(cohort, files.sample(draw, sample))


def read_sample(patients: Patients, files: Files, draw: Draw, sample: int) -> Cohort:
    """Synthetic patients as they were drawn; those of ``real`` are never written, but drawn again."""
    if draw.model == "real":
        train = patients.train()
        return draw_baseline("real", train, len(train), patients.seed, [patients.sample_seed(sample)])[0]
    return read_cohort(files.sample(draw, sample))
