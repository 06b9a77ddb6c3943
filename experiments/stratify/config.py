"""The configuration of a stratification: YAML or a bare CSV in, checked and complete out."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, get_type_hints

from pydantic import Field, TypeAdapter, ValidationError, ValidationInfo, field_validator, model_validator

from actors.chains import Plan
from clustering.chain import Sampler
from clustering.hdmm import HDMMSampler
from clustering.mixture import MixtureSampler
from experiments.config import TrackingSection
from experiments.datasets import available_datasets
from experiments.settings import ConfigError, Section, check, read_yaml, set_key, with_settings

if TYPE_CHECKING:
    from experiments.stratify.patients import Patients

Method = Literal["cb", "hdmm", "mfnch"]
SAMPLERS: dict[str, Callable[..., Sampler]] = {"cb": MixtureSampler, "hdmm": HDMMSampler}
"""Chains -> their sampler, built from the table and the options of the method of that name."""

CHAINS_OF: dict[str, str] = {"cb": "cb", "hdmm": "hdmm", "mfnch": "hdmm"}
"""Method -> the chains it reads: MFNCH reassigns the patients of the multinomial mixture's components."""

MANY_CLUSTERS = {"initial_clusters": 30}
"""Default of the multinomial mixture's chains: started with few they seldom split, and a component that one chain lacks
counts for none."""


class DataSection(Section):
    """Which patients.

    Parameters
    ----------
    csv
        Lesions, 0/1 columns (`clustering.events.read_events`); relative to the configuration's own directory, variables
        of the environment such as $HAEMFED_DATA filled in.
    truth
        Column of a known classification, empty where a patient has no class.
    unclassed
        Classes that are none, such as "ambiguous": their patients count in ``ari_all`` alone.
    exclude
        Columns that are neither.
    join
        Further files (.csv, or .tsv / .txt separated by tabs) whose first column names the patients: ``truth``,
        ``time`` and ``event`` may be columns of theirs. Relative like ``csv``.
    time, time_unit, event
        Columns of the time to death or censoring, its unit, and whether it is death (1) or censoring (0).
    outcome
        Instead of ``time`` and ``event``: a data set (``haemfed datasets``) that knows the patients by the same names.
    groups
        Column of each patient's hospital or trial, or ``center`` for the centers of the data set in ``outcome``:
        method ``cb`` then gives every group its own shares of the same clusters (`clustering.mixture.groups`).
    min_events
        Genes seen in fewer patients are left out.
    """

    csv: Path
    truth: str | None = None
    unclassed: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    join: tuple[Path, ...] = ()
    time: str | None = None
    time_unit: Literal["days", "months", "years"] = "years"
    event: str | None = None
    outcome: str | None = None
    groups: str | None = None
    min_events: int = Field(default=1, ge=0)

    @model_validator(mode="after")
    def _one_outcome(self) -> Self:
        if (self.time is None) != (self.event is None):
            raise ValueError("time and event go together: give both columns or neither")
        if self.outcome is not None and self.time is not None:
            raise ValueError("outcome takes the place of time and event: give one of them")
        if self.outcome is not None and self.outcome not in available_datasets():
            raise ValueError(f"outcome: no data set {self.outcome!r}; haemfed datasets lists them")
        return self


class TuneSection(Section):
    """Options to compare: every combination of the values of a method's options is a trial.

    Parameters
    ----------
    cb, hdmm
        Option of the method's sampler -> its values; a method without options has no trial.
    held_out
        Fraction of the patients that no trial sees, on which the mixture's prediction is judged.
    """

    cb: dict[str, list[Any]] = Field(default={})
    hdmm: dict[str, list[Any]] = Field(default={})
    held_out: float = Field(default=0.2, ge=0, lt=1)

    @field_validator("cb", "hdmm")
    @classmethod
    def _options(cls, options: dict[str, list[Any]], field: ValidationInfo) -> dict[str, list[Any]]:
        sampler = SAMPLERS[str(field.field_name)]
        kinds = {name: kind for name, kind in get_type_hints(sampler).items() if name not in ("table", "groups")}
        checked = {}
        for name, values in options.items():
            if name not in kinds:
                near = get_close_matches(name, kinds, n=1, cutoff=0.5)
                raise ValueError(
                    f"{name} is no option; " + (f"did you mean {near[0]!r}?" if near else ", ".join(kinds))
                )
            if not values:
                raise ValueError(f"{name}: give at least one value")
            try:
                kind = TypeAdapter(kinds[name])
                checked[name] = [kind.validate_python(value) for value in values]
            except ValidationError as error:
                raise ValueError(f"{name}: {error.errors()[0]['msg']} (found {error.errors()[0]['input']!r})") from None
        return checked

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not self.cb and not self.hdmm:
            raise ValueError("give options of cb or hdmm, e.g. {hdmm: {base_weight: [0.1, 0.5]}}")
        return self


class BootstrapSection(Section):
    """Refits to resamples of the patients (`experiments.stratify.bootstrap`).

    Parameters
    ----------
    resamples
        How many; 0 for none.
    sweeps, chains, spacing
        Of each refit: sweeps of a chain, half of them burn-in as ``chains.burn_in`` says, chains, sweeps per draw.
    """

    resamples: int = Field(default=0, ge=0)
    sweeps: int = Field(default=4000, gt=0)
    chains: int = Field(default=1, gt=0)
    spacing: int = Field(default=10, gt=0)


class StratifyConfig(Section):
    """A stratification.

    Parameters
    ----------
    methods
        Method -> its options: ``cb`` and ``hdmm`` of their sampler, ``mfnch`` those of
        `clustering.hdmm.assignment.classify_mfnch`.
    chains
        How they run; the seed is theirs too.
    classification
        Of the draws of ``cb``: ``vi``, the partition of least expected variation of information, or ``classes``, each
        patient's most probable cluster (for classes that overlap so much that the first has one cluster).
    draws
        At most so many draws of all chains together make the classification.
    bootstrap
        Stability of the clusters, had other patients been seen.
    tune
        Options to compare (`experiments.stratify.tuning`) instead of one stratification.
    tracking
        MLflow.
    """

    name: str = "stratify"
    data: DataSection
    methods: dict[Method, dict[str, Any]] = Field(default={"cb": {}}, min_length=1)
    chains: Plan = Plan()
    classification: Literal["vi", "classes"] = "vi"
    draws: int = Field(default=1000, ge=2)
    bootstrap: BootstrapSection = BootstrapSection()
    tune: TuneSection | None = None
    tracking: TrackingSection = TrackingSection()

    def options(self, chains: str) -> dict[str, Any]:
        """Of the sampler of some chains."""
        given: Mapping[str, dict[str, Any]] = {str(method): options for method, options in self.methods.items()}
        return (MANY_CLUSTERS if chains == "hdmm" else {}) | given.get(chains, {})

    def sampler(self, chains: str, patients: Patients) -> Sampler:
        """The sampler of some chains, of some patients with events.

        Raises
        ------
        ConfigError
            For wrong options of the method.
        """
        options = self.options(chains)
        if chains == "cb" and patients.groups is not None:
            options["groups"] = patients.groups
        try:
            return SAMPLERS[chains](patients.table, **options)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"methods.{chains}: {error}") from None


def load_stratify(
    source: Path, truth: str | None = None, methods: Sequence[str] = (), changes: Sequence[str] = ()
) -> StratifyConfig:
    """Read and check a configuration, or make the default one for a CSV.

    Parameters
    ----------
    source
        ``.yaml`` / ``.yml``, or else the CSV itself.
    truth, methods
        Take the place of the configuration's; a method that it lists keeps its options.
    changes
        ``key=value`` each, as in `experiments.config.load_config`.

    Raises
    ------
    ConfigError
        Naming file, key and value.
    """
    if source.suffix in (".yaml", ".yml"):
        data = read_yaml(source)
    elif source.is_file():
        data = {"name": source.stem, "data": {"csv": str(source.absolute())}}
    else:
        raise ConfigError(f"{source}: no such file")
    data = with_settings(data, changes)
    if truth is not None:
        set_key(data, "data.truth", truth)
    if methods:
        known = data.get("methods") or {}
        data["methods"] = {method: known.get(method, {}) for method in methods}
    config = check(StratifyConfig, data, str(source))
    csv, *join = (
        (source.parent / Path(os.path.expandvars(path)).expanduser()).absolute()  # an absolute path stays
        for path in (config.data.csv, *config.data.join)
    )
    return config.model_copy(update={"data": config.data.model_copy(update={"csv": csv, "join": tuple(join)})})
