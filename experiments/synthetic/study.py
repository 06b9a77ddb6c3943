"""The patients of a comparison of generators; each with his center as one more feature where that is learned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from actors.center import CenterSpec
from experiments.settings import ConfigError
from experiments.study import Study
from experiments.synthetic.config import SyntheticConfig
from harmonization import Cohort
from models.generative import with_center


@dataclass(frozen=True, eq=False)
class StudyOfCenters(Study):
    """A study whose patients have their center as one more feature, wherever they are loaded."""

    def specs(self) -> list[CenterSpec]:
        """The centers as actors load them."""
        return [
            replace(spec, source=partial(_with_center, spec.source, spec.name, self.names)) for spec in super().specs()
        ]


def _with_center(source: Callable[[], Cohort], center: str, names: tuple[str, ...]) -> Cohort:
    return with_center(source(), center, names)


def load_study(config: SyntheticConfig, data_dir: Path | None) -> Study:
    """The data set over its centers; if patients of one are wanted, each patient has his center as a feature.

    Raises
    ------
    CohortError, DatasetError, PartitionError, ConfigError
        See `Study.load`; and if there is no center of that name.
    """
    study = Study.load(config.study, data_dir)
    wanted, names = config.sample.center, study.names
    if wanted is None:
        return study
    if wanted not in study.cohorts:
        raise ConfigError(f"sample.center: no center is called {wanted!r}; there are {', '.join(study.cohorts)}")
    shown = {name: with_center(cohort, name, names) for name, cohort in study.cohorts.items()}
    return StudyOfCenters(study.config, study.data_dir, names, shown, study.failed)
