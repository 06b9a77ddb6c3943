"""The configuration of ``haemfed synthesize``: YAML in, checked and complete out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Self, get_args

from pydantic import Field, model_validator

from experiments.config import (
    Config,
    DatasetSection,
    FederationSection,
    PartitionSection,
    SplitSection,
    StrategySection,
    TrackingSection,
)
from experiments.settings import ConfigError, Section, check, read_yaml, with_settings
from federation.privacy.dp.settings import DifferentialPrivacy
from models.generative import CTGANOptions, SearchOptions, VAEBGMOptions

Baseline = Literal["gaussian_copula", "tvae", "independent_marginals", "real"]
Model = Literal["bayesian_network", "vae_bgm", "ctgan"]
Measure = Literal["fidelity", "utility", "privacy", "augmentation", "federated"]
HELDOUT = "federated"
"""The measure of held-out patients who stay in their centers."""

NEEDS = {"ctgan": "ctgan", "gaussian_copula": "sdv", "tvae": "sdv"}
"""Generator -> the package of the extra ``synthetic`` that it cannot do without."""


MOST_ANSWERS = 1000
"""With noise: beyond it hardly anything is left of the counts."""


class ModelsSection(Section):
    """The generators and their options; null leaves one out.

    Parameters
    ----------
    bayesian_network
        `models.generative.search.SearchOptions`.
    vae_bgm
        `models.generative.vae_bgm.VAEBGMOptions`.
    ctgan
        `models.generative.ctgan.CTGANOptions`.
    """

    bayesian_network: SearchOptions | None = SearchOptions()
    vae_bgm: VAEBGMOptions | None = VAEBGMOptions()
    ctgan: CTGANOptions | None = CTGANOptions()


class IsolatedSection(Section):
    """Each center alone, if so many of its patients and events are there to learn from."""

    min_patients: int = Field(default=50, ge=10)
    min_events: int = Field(default=10, ge=1)


class GeneratorArms(Section):
    """What stands beside the federation; null and false leave an arm out."""

    federated: bool = True
    centralized: bool = True
    isolated: IsolatedSection | None = IsolatedSection()

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not (self.federated or self.centralized or self.isolated):
            raise ValueError("leaves out every arm; keep at least one of federated, centralized, isolated")
        return self


class SampleSection(Section):
    """The patients that are written; what is judged is always drawn without conditions, as many as have trained.

    Parameters
    ----------
    patients
        How many; as many as have trained, by default.
    conditions
        Values that all have, by feature (`models.generative`).
    balance
        A binary or categorical feature of which every value is to come equally often.
    center
        Patients like those of one center. Generators then learn which center a patient is of
        (`models.generative.with_center`); what is judged does not show it.
    """

    patients: int | None = Field(default=None, ge=1)
    conditions: dict[str, float | str | None] = Field(default_factory=dict)
    balance: str | None = None
    center: str | None = None

    @property
    def as_judged(self) -> bool:
        """Whether the patients that are written are those that were judged first."""
        return self == SampleSection()


class SyntheticConfig(Section):
    """A comparison of generators.

    Parameters
    ----------
    seed
        Of every random number.
    seeds
        How often all is repeated: another part of the patients held out, other random numbers of training.
    folds
        One patient in so many is held out at each center, events and censored alike, and seen by no generator.
    samples
        How often each fit is drawn from and judged.
    models, strategy
        The generators; by which strategy VAE-BGM is averaged.
    baselines
        On the pooled training patients; ``real`` is these themselves.
    measures
        What is judged (docs/synthetic.md); ``augmentation``, of the federated arm, where there are small centers;
        ``federated``, by held-out patients who stay in their centers.
    shadows
        Models whose privacy is also judged by shadow generators: eight more fits for each arm and seed. The baseline
        ``independent_marginals`` may be among them: what the attack finds there, rates alone give away.
    """

    name: str = "synthetic"
    description: str = ""
    seed: int = 0
    seeds: int = Field(default=3, ge=1)
    dataset: DatasetSection
    partition: PartitionSection = PartitionSection()
    folds: int = Field(default=5, ge=2)
    samples: int = Field(default=2, ge=1)
    models: ModelsSection = ModelsSection()
    strategy: StrategySection = StrategySection(name="fedavg")
    arms: GeneratorArms = GeneratorArms()
    baselines: tuple[Baseline, ...] = get_args(Baseline)
    measures: tuple[Measure, ...] = ("fidelity", "utility", "privacy")
    shadows: tuple[Model | Literal["independent_marginals"], ...] = ()
    sample: SampleSection = SampleSection()
    federation: FederationSection = FederationSection()
    tracking: TrackingSection = TrackingSection()

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not self.generators and not self.baselines:
            raise ValueError("models and baselines are all left out; keep one")
        if not self.measures:
            raise ValueError(f"measures is empty; name at least one of {', '.join(get_args(Measure))}")
        if absent := [name for name in self.shadows if name not in (*self.generators, *self.baselines)]:
            raise ValueError(f"shadows names {absent[0]!r}, which is left out: take it out of shadows")
        if self.shadows and "privacy" not in self.measures:
            raise ValueError("shadows is about privacy, which measures leaves out: add it there, or leave out shadows")
        return self

    @model_validator(mode="after")
    def _privacy_fits(self) -> Self:
        privacy = self.federation.differential_privacy
        if privacy is None:
            return self
        where = "federation.differential_privacy"
        if self.generators != ("bayesian_network",):
            raise ValueError(f"{where}: there is noise for bayesian_network alone; set the other models to null")
        said = DifferentialPrivacy(privacy.epsilon, privacy.delta, noise=privacy.noise, accountant=privacy.accountant)
        if privacy != said:
            raise ValueError(f"{where}: of counts, only epsilon, delta, noise and accountant can be set")
        if privacy.noise == "distributed" and self.federation.secure_aggregation is None:
            raise ValueError(f"{where}.noise 'distributed' needs federation.secure_aggregation")
        if self.most_answers > MOST_ANSWERS:
            raise ValueError(
                f"{where}: each move of the search is an answer that shares epsilon; set "
                f"models.bayesian_network.max_moves to less than {MOST_ANSWERS - 2}, e.g. 30"
            )
        if self.shadows or "federated" in self.measures:
            raise ValueError(f"{where}: shadows and the measure federated have no noise; leave them out")
        return self

    @property
    def most_answers(self) -> int:
        """Of a center to the search for a Bayesian network, if none drops out."""
        options = self.models.bayesian_network
        return 0 if options is None else options.max_moves + 2 + bool(options.required)

    @property
    def generators(self) -> tuple[str, ...]:
        """Names of the models that are fitted, baselines aside."""
        return tuple(name for name in get_args(Model) if getattr(self.models, name) is not None)

    @property
    def study(self) -> Config:
        """The data set, its centers and its folds, as an experiment has them; privacy is the generators'."""
        return Config(
            name=self.name,
            seed=self.seed,
            dataset=self.dataset,
            partition=self.partition,
            split=SplitSection(folds=self.folds, repeats=self.seeds),
            federation=self.federation.model_copy(update={"differential_privacy": None}),
        )

    def require_packages(self) -> None:
        """Raise ConfigError, saying what to install, if a package that is needed is not there."""
        wanted = {NEEDS[name] for name in (*self.generators, *self.baselines) if name in NEEDS}
        missing = sorted(package for package in wanted if find_spec(package) is None)
        if missing:
            raise ConfigError(
                f"synthetic patients need {', '.join(missing)}, not installed: pip install 'haemfed[synthetic]' (sdv "
                "and ctgan are under the Business Source License 1.1, see README.md)"
            )


def load_synthetic(path: Path, changes: Sequence[str] = ()) -> SyntheticConfig:
    """Read and check a configuration; changes are ``key=value`` as in `experiments.config.load_config`.

    Raises
    ------
    ConfigError
        Naming file, key and value, with the nearest known key.
    """
    return parse_synthetic(with_settings(read_yaml(path), changes), str(path))


def parse_synthetic(data: Mapping[str, Any], source: str = "configuration") -> SyntheticConfig:
    """Check plain data; raises ConfigError (see `load_synthetic`)."""
    return check(SyntheticConfig, data, source)
