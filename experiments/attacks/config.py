"""The configuration of the attacks: one file for all of them, one section each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from experiments.config import AggregatorSection, Config, parse_config
from experiments.settings import Section, check, read_yaml, set_key, with_settings
from federation.bad_centers import HARMS
from federation.policy import DisclosurePolicy
from federation.privacy.dp.settings import DifferentialPrivacy

PRIVACY = (DifferentialPrivacy(8.0), DifferentialPrivacy(8.0, 1e-3, "center"))
"""Of patients, and of whole centers."""

RULES = DisclosurePolicy(min_patients=10, min_cell=5, declared_only=True, max_parameters_per_patient=0.33)
"""The rules that are tried: those of docs/privacy.md that look at a single answer."""


def _as_it_is(name: str) -> Callable[[], dict[str, dict[str, Any]]]:
    """The experiment's own model, under a name."""
    return lambda: {name: {}}


class RobustnessSection(Section):
    """Bad centers against aggregators.

    Parameters
    ----------
    harms
        What bad centers do (`federation.bad_centers.HARMS`).
    aggregators
        Against them, plain averaging first.
    shares
        Of the centers that are bad.
    feature
        Binary feature in which a backdoor is planted.
    private
        Changes of the experiment, dotted field to value: training whose updates centers clip and add noise to, as one
        more aggregator. None for without.
    """

    harms: tuple[str, ...] = tuple(HARMS)
    aggregators: tuple[AggregatorSection, ...] = tuple(
        AggregatorSection(name=name)
        for name in ("mean", "median", "trimmed-mean", "krum", "geometric-median", "bounded-mean")
    )
    shares: tuple[float, ...] = (0.1, 0.2, 0.3)
    feature: str = "NPM1"
    private: dict[str, Any] | None = None

    @field_validator("harms")
    @classmethod
    def _known(cls, harms: tuple[str, ...]) -> tuple[str, ...]:
        for name in harms:
            if name not in HARMS:
                raise ValueError(f"no harm {name!r}; there are {', '.join(HARMS)}")
        return harms


class InversionSection(Section):
    """Gradient inversion.

    Parameters
    ----------
    models
        Name -> changes of the experiment, dotted field to value; each takes one full-batch step a round.
    rounds
        From how many first rounds the attacker keeps the updates.
    iterations
        Of L-BFGS per center.
    parameters_per_patient
        Of the disclosure rule that is tried.
    privacy
        Differential privacy that is tried; of patients on models whose loss is a sum over them.
    """

    models: dict[str, dict[str, Any]] = Field(default_factory=_as_it_is("cox"))
    rounds: int = Field(default=3, ge=1)
    iterations: int = Field(default=60, ge=1)
    parameters_per_patient: float = Field(default=0.33, gt=0)
    privacy: tuple[DifferentialPrivacy, ...] = PRIVACY


class MembershipSection(Section):
    """Membership inference.

    Parameters
    ----------
    models
        Name -> changes of the experiment. The first is the released model.
    shadows
        Models, each trained on random patients of every center.
    fraction
        Of the patients that train a shadow model. One half gives most power; near 1 is nearest to the released model.
    draws
        Random parts of the patients whose sums are attacked.
    privacy
        Of these sums, each answer paying all of ε.
    policy
        Disclosure rules for these sums.
    families
        Name -> names in `models`, the most exact first and each saying less than the one before. Of each family the
        last is released whose concordance on inner validation patients is within one standard error of the best.
    """

    models: dict[str, dict[str, Any]] = Field(default_factory=_as_it_is("released"))
    shadows: int = Field(default=32, ge=8)
    fraction: float = Field(default=0.5, gt=0, lt=1)
    draws: int = Field(default=40, ge=2)
    privacy: DifferentialPrivacy = PRIVACY[0]
    policy: DisclosurePolicy = RULES
    families: dict[str, tuple[str, ...]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _known(self) -> MembershipSection:
        for name, members in self.families.items():
            for member in members:
                if member not in self.models:
                    raise ValueError(f"families.{name}: no model {member!r}; there are {', '.join(self.models)}")
        return self


class PropertySection(Section):
    """Prevalence of mutations at a center, from its updates.

    Parameters
    ----------
    models
        Name -> changes of the experiment.
    rounds
        From how many first rounds the attacker keeps the updates.
    worlds
        Federations of the same sizes that the attacker makes up to learn from.
    least
        Smallest center attacked, and smallest frequency of a mutation in the federation.
    privacy
        As in gradient inversion, of a fit whose first rounds are seen.
    policy
        Disclosure rules that are tried.
    """

    models: dict[str, dict[str, Any]] = Field(default_factory=_as_it_is("cox"))
    rounds: int = Field(default=3, ge=1)
    worlds: int = Field(default=300, ge=20)
    least: tuple[int, float] = (10, 0.05)
    privacy: tuple[DifferentialPrivacy, ...] = PRIVACY
    policy: DisclosurePolicy = RULES


class DifferencingSection(Section):
    """The same sums with and without a patient: `victims` patients, the rule that stops it, and the ε that two
    noisy answers cost (with ranges of numeric features where the schema has none)."""

    victims: int = Field(default=60, ge=1)
    policy: DisclosurePolicy = DisclosurePolicy(min_difference=10)
    epsilon: float = Field(default=8.0, gt=0)
    ranges: dict[str, tuple[float, float]] = Field(default_factory=dict)


class SmallCellsSection(Section):
    """Counts by mutation and year, the rule that hides small ones, and the ε of noisy counts by all mutations."""

    policy: DisclosurePolicy = DisclosurePolicy(min_cell=5)
    resolution: float = Field(default=365.25, gt=0)
    epsilon: float = Field(default=8.0, gt=0)


class AttackConfig(Section):
    """What is attacked, and how.

    Parameters
    ----------
    experiment
        Configuration of the experiment, relative to this file.
    changes
        Dotted field of it -> value.
    """

    name: str = "attacks"
    description: str = ""
    seed: int = 0
    experiment: Path
    changes: dict[str, Any] = Field(default_factory=dict)
    robustness: RobustnessSection = RobustnessSection()
    inversion: InversionSection = InversionSection()
    membership: MembershipSection = MembershipSection()
    property: PropertySection = PropertySection()
    differencing: DifferencingSection = DifferencingSection()
    small_cells: SmallCellsSection = SmallCellsSection()

    def target(self, changes: dict[str, Any] | None = None) -> Config:
        """The experiment with this file's changes, and further ones; raises ConfigError."""
        data = read_yaml(self.experiment)
        for key, value in {**self.changes, **(changes or {})}.items():
            set_key(data, key, value)
        return parse_config(data, str(self.experiment))


def load_attacks(path: Path, changes: list[str]) -> AttackConfig:
    """Read and check; raises ConfigError naming file, key and value."""
    data = with_settings(read_yaml(path), changes)
    if isinstance(data.get("experiment"), str):
        data["experiment"] = str((path.parent / data["experiment"]).resolve())
    return check(AttackConfig, data, str(path))
