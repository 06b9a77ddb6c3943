"""Fitting every arm of an experiment, each fit to its own file, so that an interrupted run goes on where it was."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from actors.coordinator import Coordinator, Progress, Task
from actors.parallel import parallel_map
from experiments.blocks import block_arms, with_modalities
from experiments.config import Config, StrategySection, parse_config
from experiments.fitting import Fit, fit_model
from experiments.running import Listener
from experiments.settings import ConfigError
from experiments.study import Study
from federation.algorithm import Algorithm, run
from federation.center import Center
from federation.checkpoint import discard_state
from federation.in_process import InProcessFederation
from federation.patients import training_data
from federation.policy import DisclosurePolicy
from federation.privacy.secure import SMALLEST
from federation.quorum import QuorumError
from federation.randomness import generator
from federation.splits import TRAIN, Split
from federation.state import State, file_name
from federation.strategies import FedBuff, build_strategy
from harmonization import Cohort
from harmonization.schema import Modality
from models.training import TrainingOptions, train

logger = logging.getLogger("haemfed")

"""Hears of progress: what is being done, the fraction done, and a few words on how it goes."""


class Fits:
    """The fits of an experiment on disk, ``fits/<arm>/<repeat>-<fold>.safetensors``."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def path(self, arm: str, repeat: int, fold: int | str) -> Path:
        """Where a fit lives."""
        return self.directory / file_name(arm) / f"{repeat}-{file_name(str(fold))}.safetensors"

    def get(self, arm: str, repeat: int, fold: int | str) -> Fit | None:
        """A fit, or None if it does not exist."""
        path = self.path(arm, repeat, fold)
        return Fit.load(path) if path.exists() else None


def folds_of(config: Config) -> list[tuple[int, int]]:
    """All (repeat, fold)."""
    return [(repeat, fold) for repeat in range(config.split.repeats) for fold in range(config.split.folds)]


# -- federated arms: on the actor system ---------------------------------------------------------------------------


@dataclass(frozen=True)
class FederatedFit:
    """One fit of a federated arm."""

    arm: str
    strategy: StrategySection
    repeat: int
    fold: int | str
    split: Split
    left_out: tuple[str, ...] = ()
    modalities: tuple[Modality, ...] | None = None


def federated_fits(study: Study) -> list[FederatedFit]:
    """Every fit the federated and left-out arms need, and the final model: the first strategy on all patients."""
    config = study.config
    fits = [
        FederatedFit(strategy.arm, strategy, repeat, fold, study.split(repeat, fold))
        for repeat, fold in folds_of(config)
        for strategy in config.strategies
    ]
    first = config.strategies[0]
    for arm, modalities in block_arms(config, study.schema).items():
        for repeat, fold in folds_of(config):
            split = study.split(repeat, fold)
            fits.append(FederatedFit(arm, first, repeat, fold, split, modalities=modalities))
    fits.append(FederatedFit(first.arm, first, 0, "final", study.whole()))
    if config.arms.left_out:
        largest = sorted(study.cohorts, key=lambda name: (-len(study.cohorts[name]), name))
        arm = left_out_arm(config)
        for name in largest[: config.arms.left_out.centers] if len(largest) > 1 else ():
            fits.append(FederatedFit(arm, first, 0, name, study.whole(), (name,)))
    return fits


def require_sums_of_several(config: Config, centers: int) -> None:
    """Raise ConfigError if masks would hide updates in a sum of fewer centers than they need: not all may train."""
    if config.federation.secure_aggregation is None:
        return
    for section in config.strategies:
        strategy, sampled = build_strategy(section.name, section.parameters), max(1, round(config.sample * centers))
        where = "sample"
        if isinstance(strategy, FedBuff):
            at_work = max(1, round(strategy.concurrency * centers))
            sampled, where = min(strategy.buffer, at_work), "buffer or concurrency"
        if sampled < SMALLEST:
            raise ConfigError(
                f"{section.arm}: {where}: updates of {sampled} of {centers} centers are in a sum, and "
                f"secure_aggregation hides each in a sum of at least {SMALLEST}; let more train"
            )


def left_out_arm(config: Config) -> str:
    """Name of the leave-one-center-out arm."""
    return config.strategies[0].arm.replace("federated/", "left-out/")


def run_federated(study: Study, coordinator: Coordinator, fits: Fits, checkpoints: Path, listen: Listener) -> None:
    """Fit what is not on disk yet, one after the other."""
    todo = [f for f in federated_fits(study) if not fits.path(f.arm, f.repeat, f.fold).exists()]
    for done, item in enumerate(todo):

        def heard(progress: Progress, item: FederatedFit = item, done: int = done) -> None:
            part = progress.round / ((item.strategy.rounds or study.config.rounds) + 1)
            listen("federated", (done + part) / len(todo), _words(item.arm, progress))

        fit = fit_federated(study, coordinator, item, checkpoints, heard)
        fit.save(fits.path(item.arm, item.repeat, item.fold))
    listen("federated", 1.0, "")


def fit_federated(
    study: Study, coordinator: Coordinator, item: FederatedFit, checkpoints: Path, heard: Callable[[Progress], None]
) -> Fit:
    """Fit on the actor system, from the checkpoint of an interrupted fit if there is one."""
    name = f"{item.arm}/{item.repeat}-{item.fold}"
    checkpoint = checkpoints / f"{file_name(name)}.safetensors"

    def run_task(step: str, algorithm: Algorithm) -> State:
        task = Task(
            f"{name}/{step}",
            algorithm,
            item.split,
            study.seed(item.repeat),
            item.left_out,
            checkpoint if step == "training" else None,
            study.config.federation.checkpoint_every,
        )
        for progress in coordinator.run(task):
            if step == "training":
                heard(progress)
        assert progress.final is not None
        return progress.final

    config = study.config if item.modalities is None else with_modalities(study.config, item.modalities)
    fit = fit_model(config, item.strategy, study.schema, run_task)
    discard_state(checkpoint)
    return fit


def _words(arm: str, progress: Progress) -> str:
    validation = progress.metrics.get("concordance", float("nan"))
    seen = "" if np.isnan(validation) else f", validation C {validation:.3f}"
    return f"{arm} round {progress.round}{seen}"


# -- centralized and isolated arms: federations of one, in parallel -------------------------------------------------


@dataclass(frozen=True)
class PooledWork:
    """A piece of work for another process: fits of one (repeat, fold)."""

    config_json: str
    data_dir: Path | None
    fits: Path
    kind: str
    repeat: int
    fold: int
    centers: tuple[str, ...] = ()


def pooled_work(study: Study, fits: Fits, chunk: int = 12) -> list[PooledWork]:
    """Every fit that is not on disk yet, in pieces of similar length."""
    config, arms = study.config, study.config.arms
    text = json.dumps(config.to_dict())
    work = []
    for repeat, fold in folds_of(config):
        common = (text, study.data_dir, fits.directory)
        if arms.centralized and not fits.path("centralized", repeat, fold).exists():
            work.append(PooledWork(*common, "centralized", repeat, fold))
        for kind, centers in (
            ("local", able_centers(study) if arms.local else []),
            ("fine-tuned", list(study.cohorts) if arms.fine_tuning else []),
        ):
            missing = [n for n in centers if not fits.path(f"{kind}/{n}", repeat, fold).exists()]
            for start in range(0, len(missing), chunk):
                work.append(PooledWork(*common, kind, repeat, fold, tuple(missing[start : start + chunk])))
    return work


def able_centers(study: Study) -> list[str]:
    """Centers with enough training patients and events, in every fold, to train a model alone."""
    least = study.config.arms.local
    assert least is not None
    able = set(study.cohorts)
    for repeat, fold in folds_of(study.config):
        train = study.parts(study.split(repeat, fold)) == TRAIN
        for name in list(able):
            here = train & (study.center == name)
            if here.sum() < least.min_patients or study.cohort.event[here].sum() < least.min_events:
                able.discard(name)
    return [name for name in study.cohorts if name in able]


def run_pooled(study: Study, fits: Fits, listen: Listener) -> None:
    """Fit the centralized, isolated and fine-tuned arms on all CPUs."""
    work = pooled_work(study, fits)
    for done, (item, _) in enumerate(parallel_map(do_pooled_work, work), start=1):
        listen("pooled", done / len(work), f"{item.kind}, repeat {item.repeat}, fold {item.fold}")
    listen("pooled", 1.0, "")


def do_pooled_work(work: PooledWork) -> int:
    """Fit and save; returns the number of fits. Runs in another process."""
    study = Study.load(parse_config(json.loads(work.config_json)), work.data_dir)
    fits = Fits(work.fits)
    count = 0
    for arm, fit in _pooled_fits(study, work):
        fit.save(fits.path(arm, work.repeat, work.fold))
        count += 1
    return count


def _pooled_fits(study: Study, work: PooledWork) -> Iterator[tuple[str, Fit]]:
    parts = study.parts(study.split(work.repeat, work.fold))
    if work.kind == "centralized":
        yield "centralized", fit_alone(study, study.cohort, parts, "centralized", work)
    for name in work.centers:
        here = study.center == name
        if work.kind == "fine-tuned":
            start = Fits(work.fits).get(study.config.strategies[0].arm, work.repeat, work.fold)
            assert start is not None, "fine-tuning starts from the federated fit"
            train_rows = here & (parts == TRAIN)
            yield f"fine-tuned/{name}", fine_tune(study, start, study.cohort[train_rows], name, work)
            continue
        try:
            yield f"local/{name}", fit_alone(study, study.cohort[here], parts[here], f"local/{name}", work)
        except (
            QuorumError,
            ValueError,
        ) as error:  # it diverged, or nothing varies; the results name the arm as missing
            logger.warning("center %s trains no isolated model in fold %d: %s", name, work.fold, error)


class _Alone(Center):
    """A center whose split was drawn beforehand."""

    def __init__(self, name: str, cohort: Cohort, parts: NDArray[np.int64]) -> None:
        super().__init__(name, lambda: cohort, policy=DisclosurePolicy(min_patients=1))
        self._drawn = parts

    def _parts(self, split: Split) -> NDArray[np.int64]:
        return self._drawn


def fit_alone(study: Study, cohort: Cohort, parts: NDArray[np.int64], arm: str, work: PooledWork) -> Fit:
    """Fit on one table: a federation of one, in this process."""
    seed = study.seed(work.repeat)

    def run_task(step: str, algorithm: Algorithm) -> State:
        name = f"{arm}/{work.repeat}-{work.fold}/{step}"
        return run(algorithm, InProcessFederation([_Alone("alone", cohort, parts)], seed, task=name))

    return fit_model(study.config, None, study.schema, run_task)


def fine_tune(study: Study, start: Fit, cohort: Cohort, center: str, work: PooledWork) -> Fit:
    """A few more full-batch steps on a center's own training patients; the baseline hazard stays the federation's.

    The ridge penalty pulls towards the federation's weights instead of zero, so the fewer patients a center has, the
    closer it stays (Ditto, Li et al. 2021).
    """
    config = study.config
    wanted = config.arms.fine_tuning
    assert wanted is not None
    if len(cohort) == 0:
        return start
    network = start.network(config.model.name)
    base = config.training_of(config.strategies[0])
    pull = base.weight_decay if config.ridge is None else config.ridge / len(cohort)
    rate = wanted.learning_rate or base.learning_rate
    options = TrainingOptions(
        steps=wanted.steps,
        learning_rate=min(rate, 1 / pull) if pull > 0 else rate,  # a longer step would overshoot the pull
        clip_norm=base.clip_norm,
    )
    data = training_data(cohort, start.preprocessor, network.causes)
    rng = generator(study.seed(work.repeat), "fine-tuning", center, work.fold)
    weights, _ = train(network, start.weights, data, options, rng, proximal=pull)
    return replace(start, weights=weights, history=np.empty((0, 0, 0)))
