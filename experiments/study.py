"""What an experiment works on: a data set in centers, its splits, and everything derived from the configuration.

A study is a benchmark on data that may be pooled (public or simulated): the centralized and isolated arms and the final
evaluation need the pooled table. The federated arms never touch it: their centers load their own patients, and where
these are exports still to be harmonized (`Declared`), they do so before anything is pooled.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actors.center import CenterSpec
from experiments.config import Config, parse_config
from experiments.datasets import center_names, declared, load_center
from experiments.datasets.hiding import hidden_blocks, without
from experiments.settings import ConfigError
from federation.randomness import entropy, generator
from federation.splits import Split
from harmonization import Cohort, CohortError, Schema, require_same_schema
from models.prognostic import SCORES, ScoreError


@dataclass(frozen=True, eq=False)
class Study:
    """An experiment's patients.

    Parameters
    ----------
    config
        The experiment.
    data_dir
        Where downloaded data sets are.
    names
        The roster: all centers, also those whose data cannot be loaded.
    cohorts
        Patients of each center that could be loaded, in roster order.
    failed
        Why the others could not, by name.
    """

    config: Config
    data_dir: Path | None
    names: tuple[str, ...]
    cohorts: dict[str, Cohort]
    failed: dict[str, str]

    @classmethod
    def load(cls, config: Config, data_dir: Path | None) -> Study:
        """Load the data set and spread it over its centers.

        Raises
        ------
        CohortError, DatasetError, PartitionError
            If no center can be loaded or the configuration does not fit the data.
        """
        study = _load(json.dumps({**config.to_dict(), "sweep": None}, sort_keys=True), data_dir)
        _ = study.computed_scores  # what cannot be computed is said before hours of training
        return study

    @cached_property
    def cohort(self) -> Cohort:
        """All patients, center after center."""
        return Cohort.concatenate(list(self.cohorts.values()))

    @cached_property
    def center(self) -> NDArray[np.str_]:
        """Each patient's center, shape (n,)."""
        return np.repeat(np.array(list(self.cohorts)), [len(c) for c in self.cohorts.values()])

    @property
    def schema(self) -> Schema:
        """The federation's schema."""
        return self.cohort.schema

    @cached_property
    def computed_scores(self) -> dict[str, NDArray[np.float64]]:
        """The scores of ``evaluation.scores`` from the patients' columns, also those that models do not see; by name.

        Raises
        ------
        ConfigError
            If the data set lacks a column that a score reads.
        """
        scores, section = self.config.evaluation.scores, self.config.dataset
        if not scores:
            return {}
        if section.modalities is not None:
            everything = self.config.model_copy(update={"dataset": section.model_copy(update={"modalities": None})})
            return Study.load(everything, self.data_dir).computed_scores
        table, carried = self.cohort.to_frame(), {score.name for score in self.schema.scores}
        found = {}
        for score in scores:
            name = score.lower().replace(" ", "_").replace("-", "_")
            try:
                values = SCORES[score](table)["score"].to_numpy()
            except ScoreError as error:
                raise ConfigError(f"evaluation.scores: {error}") from None
            found[f"{name}_recomputed" if name in carried else name] = values
        return found

    def specs(self) -> list[CenterSpec]:
        """The centers as actors load them."""
        sizes = {name: float(len(self.cohorts.get(name, ()))) for name in self.names}
        return _specs(self.config, self.data_dir, sizes)

    def seed(self, repeat: int) -> int:
        """Seed of all training in a repeat."""
        return int(generator(self.config.seed, "repeat", repeat).integers(2**31))

    def split(self, repeat: int, fold: int) -> Split:
        """One fold of the repeated K-fold."""
        split = self.config.split
        return Split(self.config.seed, repeat, fold, split.folds, split.validation)

    def whole(self) -> Split:
        """No test part: for a center that is left out, all others train."""
        return Split(self.config.seed, 0, 0, 0, self.config.split.validation)

    def parts(self, split: Split) -> NDArray[np.int64]:
        """TRAIN, VALIDATION or TEST for every patient, as each center draws it for itself; shape (n,)."""
        drawn = [split.parts(c.ids, c.event, name) for name, c in self.cohorts.items()]
        return np.concatenate(drawn)

    def folds(self, repeat: int) -> NDArray[np.int64]:
        """The fold in which each patient is tested, shape (n,)."""
        split = self.split(repeat, 0)
        return np.concatenate([split.folds(c.ids, c.event, name) for name, c in self.cohorts.items()])

    @property
    def unique_ids(self) -> NDArray[np.str_]:
        """Ids that differ between centers too, shape (n,)."""
        return np.char.add(np.char.add(self.center, "/"), self.cohort.ids)


@dataclass(frozen=True)
class Declared:
    """What is known of a federation before a patient is read: a data set whose centers harmonize their own exports.

    Parameters
    ----------
    config, data_dir
        As of a study.
    schema
        That of the dictionary.
    sizes
        Size of each center's export, in roster order.
    """

    config: Config
    data_dir: Path | None
    schema: Schema
    sizes: dict[str, float]

    @classmethod
    def of(cls, config: Config, data_dir: Path | None) -> Declared | None:
        """None for data sets that have to be read first."""
        found = declared(**_source_arguments(config, data_dir))
        return None if found is None else cls(config, data_dir, *found)

    def specs(self) -> list[CenterSpec]:
        """The centers as actors load them."""
        return _specs(self.config, self.data_dir, self.sizes)


def _specs(config: Config, data_dir: Path | None, sizes: dict[str, float]) -> list[CenterSpec]:
    arguments = _source_arguments(config, data_dir)
    resources = config.federation.resources
    for name in resources.keys() - sizes.keys():
        raise ConfigError(f"federation.resources: no center {name!r}; there are {', '.join(list(sizes)[:10])}")
    hidden = _hidden(config, tuple(sizes))
    return [
        CenterSpec(
            name, position, partial(_load_center, name, hidden.get(name, ()), arguments), size, resources.get(name)
        )
        for position, (name, size) in enumerate(sizes.items())
    ]


def _hidden(config: Config, names: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    return hidden_blocks(config.dataset.hide, names, config.seed)


def _load_center(name: str, hidden: tuple[str, ...], arguments: dict[str, Any]) -> Cohort:
    """A center's patients, without the blocks that it is to lack."""
    return without(load_center(**arguments, center=name), hidden)


def _source_arguments(config: Config, data_dir: Path | None) -> dict[str, Any]:
    return {
        "name": config.dataset.name,
        "data_dir": data_dir,
        "options": config.dataset.options,
        "partition": {"name": config.partition.name, **config.partition.parameters},
        "seed": entropy(f"{config.seed}/partition") % 2**31,
        "modalities": config.dataset.modalities,
    }


@lru_cache(maxsize=2)
def _load(config_json: str, data_dir: Path | None) -> Study:
    config = parse_config(json.loads(config_json))
    arguments = _source_arguments(config, data_dir)
    everywhere = {k: v for k, v in arguments.items() if k != "modalities"}
    names = center_names(**everywhere)
    hidden = _hidden(config, names)
    cohorts: dict[str, Cohort] = {}
    failed: dict[str, str] = {}
    for name in names:
        try:
            cohort = _load_center(name, hidden.get(name, ()), arguments)
            first = next(iter(cohorts.values()), cohort).schema
            cohort = cohort.in_time_unit(first.time_unit)
            require_same_schema(first, cohort.schema, f"center {name}")
        except CohortError as error:
            failed[name] = str(error)
        else:
            cohorts[name] = cohort
    if not cohorts:
        raise CohortError("no center could be loaded: " + "; ".join(failed.values()))
    return Study(config, data_dir, names, cohorts, failed)
