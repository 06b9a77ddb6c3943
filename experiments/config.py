"""The configuration of an experiment: YAML in, checked and complete out.

An unknown or wrong key is an error that names it and suggests the nearest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, field_validator, model_validator

from experiments.partition import make_partition, unknown
from experiments.settings import Section, check, read_yaml, with_settings
from federation.averaging import Selection
from federation.policy import DisclosurePolicy
from federation.privacy.dp.settings import DifferentialPrivacy
from federation.privacy.secure import SecureAggregation
from federation.quorum import Quorum
from federation.robust import check_options
from federation.strategies import FedBuff, build_strategy
from harmonization.schema import Modality
from models.per_patient import require_separable
from models.preprocessing import PreprocessingOptions
from models.prognostic import SCORES
from models.steps import TrainingOptions
from models.survival.cox_sums import Ties
from models.survival.network import build_network, network_class


class DatasetSection(Section):
    """Which patients.

    Parameters
    ----------
    name
        See ``haemfed datasets``.
    modalities
        Feature blocks to use; all by default.
    options
        Of the dataset's adapter, e.g. ``path`` and ``schema`` for ``table``.
    hide
        Modality -> the centers that lack it, by name or as a fraction of all centers (`experiments.datasets.hiding`).
    """

    name: str
    modalities: tuple[Modality, ...] | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    hide: dict[Modality, Annotated[float, Field(ge=0, le=1)] | tuple[str, ...]] = Field(default_factory=dict)


class PartitionSection(Section):
    """How patients are spread over centers; ``real`` keeps the data's own centers."""

    name: str = "real"
    parameters: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _builds(self) -> PartitionSection:
        make_partition({"name": self.name, **self.parameters})
        return self


class SplitSection(Section):
    """Repeated K-fold drawn inside each center; `validation` is the fraction of the training patients held out."""

    folds: int = Field(default=5, ge=2)
    repeats: int = Field(default=1, ge=1)
    validation: float = Field(default=0.0, ge=0, lt=1)


class ModelSection(Section):
    """The network, declared by name and parameters."""

    name: str = "cox"
    parameters: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _builds(self) -> ModelSection:
        build_network(self.name, 1, self.parameters)
        if self.name == "vae":
            raise ValueError("model 'vae' generates features and predicts no survival; use 'savae'")
        return self


class AggregatorSection(Section):
    """How the centers' updates become one, in the place of their mean (`federation.robust`)."""

    name: str
    parameters: dict[str, float] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _builds(self) -> AggregatorSection:
        check_options(self.name, self.parameters)
        return self


class StrategySection(Section):
    """A federated arm.

    Parameters
    ----------
    name, parameters
        Of the strategy (`federation.strategies`).
    label
        Name of the arm, ``federated/<label>``; the strategy's name (and the aggregator's) by default.
    training, rounds
        Override the experiment's for this arm.
    aggregator
        Robust to a minority of centers that lie (docs/strategies.md); null for the mean.
    """

    name: str
    parameters: dict[str, Any] = Field(default_factory=dict)
    label: str = ""
    training: Annotated[dict[str, Any], TrainingOptions] = Field(default_factory=dict)
    rounds: int | None = Field(default=None, ge=1)
    aggregator: AggregatorSection | None = None

    @field_validator("training")
    @classmethod
    def _known(cls, training: dict[str, Any]) -> dict[str, Any]:
        TypeAdapter(TrainingOptions).validate_python(training)
        return training

    @model_validator(mode="after")
    def _builds(self) -> StrategySection:
        strategy = build_strategy(self.name, self.parameters)
        if self.aggregator is not None and (strategy.control_variates or isinstance(strategy, FedBuff)):
            raise ValueError(f"strategy {self.name!r} has no robust aggregator: it needs a mean over centers")
        return self

    @property
    def arm(self) -> str:
        """Name of the arm."""
        usual = self.name if self.aggregator is None else f"{self.name}-{self.aggregator.name}"
        return f"federated/{self.label or usual}"


class LocalSection(Section):
    """The isolated arms: each center alone. A center with fewer training patients or events trains no model."""

    min_patients: int = Field(default=10, ge=2)
    min_events: int = Field(default=3, ge=1)


class FineTuningSection(Section):
    """Personalization: further steps on each center's own training patients, from the first federated arm's model."""

    steps: int = Field(default=10, ge=1)
    learning_rate: float | None = Field(default=None, gt=0)


class LeftOutSection(Section):
    """Leave one center out: the first strategy trained without it, for the largest `centers` centers."""

    centers: int = Field(default=5, ge=1)


class BlocksSection(Section):
    """The gain per block of features: the first strategy again on fewer modalities (`experiments.blocks`).

    Parameters
    ----------
    order
        All modalities of the data, in the order in which they are added; that of the schema's definition by default.
    """

    order: tuple[Modality, ...] | None = None


class ArmsSection(Section):
    """What stands beside the federated arms; null leaves an arm out."""

    centralized: bool = True
    local: LocalSection | None = LocalSection()
    fine_tuning: FineTuningSection | None = None
    left_out: LeftOutSection | None = None
    blocks: BlocksSection | None = None


class ExactCoxSection(Section):
    """The exact Cox model as two more arms, ``exact-cox/federated`` and ``exact-cox/centralized``, with hazard ratios.

    Parameters
    ----------
    penalty, l1_ratio
        penalty·(l1_ratio·‖β‖₁ + (1 − l1_ratio)/2·‖β‖²) on the scale of the total log likelihood, β per SD.
    ties, strata
        See `models.survival.newton_cox.NewtonCox`; strata ``center`` gives every center its own baseline hazard.
    resolution
        Days between the shared times (`models.survival.time_grid.TimeGrid`).
    preprocessing
        The experiment's by default.
    """

    penalty: float = Field(default=0.0, ge=0)
    l1_ratio: float = Field(default=0.0, ge=0, le=1)
    ties: Ties = "efron"
    strata: Literal["none", "center"] = "none"
    resolution: float = Field(default=1.0, gt=0)
    preprocessing: PreprocessingOptions | None = None


class ExplanationSection(Section):
    """What the federated and the centralized model have learned (`federation.explanation`).

    Parameters
    ----------
    repeats
        Shuffles of each feature per fold.
    partial_dependence
        Features whose partial dependence is shown, by name, or how many of the most important ones.
    points
        Values of a numeric feature at which it is asked.
    """

    repeats: int = Field(default=5, ge=1)
    partial_dependence: int | tuple[str, ...] = 6
    points: int = Field(default=20, ge=2)


class EvaluationSection(Section):
    """Metrics.

    Parameters
    ----------
    horizons
        Years; the last one bounds Uno's C and the integrated Brier score.
    bootstrap
        Replicates behind every interval.
    grid_points, grid_cells
        Of the time grid on which baseline hazards live (`federation.preprocessing.FitTimeGrid`).
    follow_up
        Years that the grid spans.
    margin
        Of non-inferiority: a concordance lower by less than this counts as no worse.
    scores
        Prognostic scores to compute from the patients' own columns, beside those the data set carries
        (`models.prognostic.SCORES`, e.g. ``ELN 2022``).
    """

    horizons: tuple[float, ...] = (1.0, 3.0, 5.0)
    bootstrap: int = Field(default=500, ge=20)
    follow_up: float = Field(default=10.0, gt=0)
    grid_points: int = Field(default=100, ge=2)
    grid_cells: int = Field(default=520, ge=2)
    margin: float = Field(default=0.02, gt=0)
    scores: tuple[str, ...] = ()

    @field_validator("horizons")
    @classmethod
    def _increasing(cls, horizons: tuple[float, ...]) -> tuple[float, ...]:
        if not horizons or list(horizons) != sorted(set(horizons)) or horizons[0] <= 0:
            raise ValueError("horizons are positive and increasing")
        return horizons

    @field_validator("scores")
    @classmethod
    def _published(cls, scores: tuple[str, ...]) -> tuple[str, ...]:
        for name in scores:
            if name not in SCORES:
                raise ValueError(unknown("prognostic score", name, SCORES))
        return scores


class FederationSection(Section):
    """The actor system.

    Parameters
    ----------
    hosts
        Center actors; 0 is one per center, null one per CPU.
    device
        Where hosts compute: ``cpu`` or ``cuda``.
    resources
        Center -> the Ray resource of the node that holds its data (docs/scaling.md); the others run anywhere.
    timeout
        Seconds to wait for the answers of a round.
    max_norm
        Longest update of a center that is let out and taken in; null for any.
    checkpoint_every
        Rounds between checkpoints.
    secure_aggregation
        Sum under masks (docs/privacy.md); null for bare sums.
    differential_privacy
        Train under differential privacy (docs/privacy.md); null for none.
    signed
        Sign questions and answers; replays and stale rounds are refused (docs/privacy.md).
    """

    hosts: int | None = Field(default=None, ge=0)
    device: Literal["cpu", "cuda"] = "cpu"
    resources: dict[str, str] = Field(default_factory=dict)
    timeout: float = Field(default=600.0, gt=0)
    max_norm: float | None = Field(default=None, gt=0)
    quorum: Quorum = Quorum()
    policy: DisclosurePolicy = DisclosurePolicy()
    checkpoint_every: int = Field(default=20, ge=1)
    secure_aggregation: SecureAggregation | None = None
    signed: bool = False
    differential_privacy: DifferentialPrivacy | None = None


class TrackingSection(Section):
    """MLflow. `uri` null is an SQLite file ``mlflow.db`` in the directory of the runs."""

    enabled: bool = True
    uri: str | None = None
    experiment: str | None = None


class SweepSection(Section):
    """A search over configuration fields (``haemfed sweep``).

    Parameters
    ----------
    space
        Dotted field -> ``{"log": [low, high]}``, ``{"uniform": [low, high]}``, ``{"integer": [low, high]}`` or
        ``{"choice": [values]}``.
    trials
        How many configurations to try.
    grace_rounds
        Rounds before ASHA may stop a trial.
    cpus_per_trial
        CPUs of a trial: its coordinator and its centers' host share them.
    """

    space: dict[str, dict[str, list[Any]]]
    trials: int = Field(default=20, ge=1)
    grace_rounds: int = Field(default=5, ge=1)
    cpus_per_trial: float = Field(default=1.0, gt=0)


class Config(Section):
    """An experiment.

    Parameters
    ----------
    name, seed
        Name of the run, and the seed of every random number in it.
    ridge
        Ridge penalty ridge/2·‖weights‖² on the scale of the total log likelihood, as in scikit-survival; every arm
        divides it by its own number of training patients. Null: ``training.weight_decay`` as it is.
    rounds, sample, weighting
        Of parameter averaging. The centralized and isolated arms run as federations of one center with the same
        rounds and training.
    """

    name: str = "experiment"
    description: str = ""
    seed: int = 0
    dataset: DatasetSection
    partition: PartitionSection = PartitionSection()
    split: SplitSection = SplitSection()
    preprocessing: PreprocessingOptions = PreprocessingOptions()
    model: ModelSection = ModelSection()
    training: TrainingOptions = TrainingOptions()
    ridge: float | None = Field(default=None, ge=0)
    rounds: int = Field(default=50, ge=1)
    sample: float = Field(default=1.0, gt=0, le=1)
    weighting: Literal["patients", "events", "uniform"] = "patients"
    selection: Selection = Selection()
    strategies: tuple[StrategySection, ...] = (StrategySection(name="fedavg"),)
    arms: ArmsSection = ArmsSection()
    exact_cox: ExactCoxSection | None = None
    explanation: ExplanationSection | None = None
    evaluation: EvaluationSection = EvaluationSection()
    federation: FederationSection = FederationSection()
    tracking: TrackingSection = TrackingSection()
    sweep: SweepSection | None = None

    @field_validator("strategies")
    @classmethod
    def _distinct(cls, strategies: tuple[StrategySection, ...]) -> tuple[StrategySection, ...]:
        arms = [s.arm for s in strategies]
        if not arms or len(set(arms)) < len(arms):
            raise ValueError("name at least one strategy, and give two of the same name different labels")
        return strategies

    @model_validator(mode="after")
    def _missing_values_fit(self) -> Config:
        if self.preprocessing.missing in ("keep", "mask") and not network_class(self.model.name).accepts_missing:
            raise ValueError(f"model {self.model.name!r} takes no missing values; set preprocessing.missing to impute")
        return self

    @model_validator(mode="after")
    def _privacy_fits(self) -> Config:
        privacy = self.federation.differential_privacy
        if privacy is None:
            return self
        where = "federation.differential_privacy"
        network = network_class(self.model.name)
        if privacy.unit == "patient":
            require_separable(network, self.model.name)
        if network.proportional:
            raise ValueError(
                f"{where}: model {self.model.name!r} needs a baseline hazard, for which there is no noise; use "
                "'discrete_hazard', 'piecewise_hazard' or 'savae'"
            )
        if privacy.noise == "distributed" and self.federation.secure_aggregation is None:
            raise ValueError(f"{where}.noise 'distributed' needs federation.secure_aggregation")
        asked = {"exact_cox": self.exact_cox, "explanation": self.explanation, "arms.blocks": self.arms.blocks}
        for name, section in asked.items():
            if section is not None:
                raise ValueError(f"{where}: {name} asks the centers for answers without noise; leave it out")
        if self.sweep is not None:
            raise ValueError(f"{where}: sweep needs validation, which is left out; choose settings on public data")
        if any(strategy.aggregator is not None for strategy in self.strategies):
            raise ValueError(
                f"{where}: noise is made for the mean of the centers; leave out the strategies' aggregator"
            )
        if self.ridge is not None or self.preprocessing.reduce:
            raise ValueError(f"{where}: set training.weight_decay instead of ridge, and no preprocessing.reduce")
        return self

    @model_validator(mode="after")
    def _strategies_fit(self) -> Config:
        for strategy in self.strategies:
            self.training_of(strategy)
            if strategy.name == "scaffold" and self.training_of(strategy).optimizer != "sgd":
                raise ValueError("strategy 'scaffold' needs training.optimizer 'sgd'")
        return self

    @model_validator(mode="after")
    def _aggregators_fit(self) -> Config:
        if self.federation.secure_aggregation is None:
            return self
        for strategy in self.strategies:
            if strategy.aggregator is not None:
                raise ValueError(
                    f"aggregator {strategy.aggregator.name!r} of {strategy.arm} has to see each center's update by "
                    "itself, and secure_aggregation shows their sum alone; leave one of the two out. "
                    "federation.max_norm bounds updates under masks too, as far as centers keep to it"
                )
        return self

    @model_validator(mode="after")
    def _sums_do_not_differ_by_a_center(self) -> Config:
        federation = self.federation
        if federation.secure_aggregation is None or federation.differential_privacy is not None:
            return self
        if self.arms.left_out is not None:
            raise ValueError(
                "arms.left_out: the same sums with and without a center differ by that center's own, which "
                "secure_aggregation is to hide; set arms.left_out to null, or add federation.differential_privacy, or "
                "leave out federation.secure_aggregation where nothing is secret, in simulation"
            )
        return self

    def training_of(self, strategy: StrategySection | None = None) -> TrainingOptions:
        """The experiment's local training, with a strategy's own changes."""
        changes = strategy.training if strategy else {}
        return TypeAdapter(TrainingOptions).validate_python({**asdict(self.training), **changes})


def load_config(path: Path, changes: Sequence[str] = ()) -> Config:
    """Read and check a configuration.

    Parameters
    ----------
    path
        YAML file.
    changes
        ``key=value`` each, with dots in the key for parts (``training.learning_rate=0.1``) and YAML in the value.

    Raises
    ------
    ConfigError
        Naming file, key and value, with the nearest known key.
    """
    return parse_config(with_settings(read_yaml(path), changes), str(path))


def parse_config(data: Mapping[str, Any], source: str = "configuration") -> Config:
    """Check plain data; raises ConfigError (see `load_config`)."""
    return check(Config, data, source)
