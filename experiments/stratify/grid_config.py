"""The configuration of a simulation study (``configs/hdmm_grid.yaml``): YAML in, checked and complete out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from experiments.config import TrackingSection
from experiments.settings import Section, check, read_yaml, with_settings

Share = PositiveFloat | Literal["1/genes"]
"""A parameter of a Dirichlet law over the genes."""


class DesignSection(Section):
    """Dall'Olio et al. (PLOS Comput Biol 2023): cohorts of every combination, each fitted with every ``alpha_hdmm``.

    Parameters
    ----------
    patients, genes
        N and M of a cohort.
    alpha_sim
        Parameters of the Dirichlet law that a cluster's weights come from: numbers, or ``1/genes``.
    clusters, events
        True numbers of clusters K, and mean numbers of events λ.
    alpha_hdmm
        h of `clustering.hdmm.HDMMSampler`, the weight of each gene in its components' prior: numbers, or ``1/genes``.
    """

    patients: int = Field(default=1000, ge=2)
    genes: int = Field(default=50, ge=2)
    alpha_sim: tuple[Share, ...] = Field(default=(1.0, "1/genes"), min_length=1)
    clusters: tuple[PositiveInt, ...] = Field(default=(1, 5, 10), min_length=1)
    events: tuple[PositiveInt, ...] = Field(default=tuple(range(1, 11)), min_length=1)
    alpha_hdmm: tuple[Share, ...] = Field(default=(1.0, "1/genes"), min_length=1)

    @field_validator("alpha_sim", "clusters", "events", "alpha_hdmm")
    @classmethod
    def _distinct(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        if len(set(values)) < len(values):
            raise ValueError("name every value once")
        return values

    def numbers(self, values: Sequence[float | str]) -> list[float]:
        """``1/genes`` as a number."""
        return [1 / self.genes if isinstance(value, str) else float(value) for value in values]


class Budget(Section):
    """Chains of one model on one cohort.

    Parameters
    ----------
    chains
        Their number, from over-dispersed starts.
    sweeps, spacing
        Of each chain, and sweeps from draw to draw.
    burn_in
        Fraction of the sweeps left out.
    draws
        At most so many draws of all chains together make the classification.
    """

    chains: PositiveInt = 4
    sweeps: PositiveInt = 6000
    spacing: PositiveInt = 10
    burn_in: float = Field(default=0.5, ge=0, lt=1)
    draws: PositiveInt = 1000

    @model_validator(mode="after")
    def _some_draws(self) -> Self:
        if self.sweeps < self.spacing:
            raise ValueError(f"sweeps: at least one step of {self.spacing} sweeps (found {self.sweeps})")
        return self


class HDMMBudget(Budget):
    """Chains of the hierarchical mixture of multinomials on one cohort.

    Parameters
    ----------
    initial_clusters
        Components of every chain's first state.
    catch_all
        Whether component 0, all that is not surely there, takes part in the assignments by likelihood, as in the
        published code for simulations.
    """

    initial_clusters: PositiveInt = 30
    catch_all: bool = True


class GridConfig(Section):
    """A simulation study.

    Parameters
    ----------
    seed, replicates
        Replicate r of a cohort is the same whatever else is in the study.
    cb, hdmm
        Budgets of the conditional-Bernoulli mixture and of the hierarchical mixture of multinomials.
    tracking
        MLflow.
    """

    name: str = "grid"
    seed: int = Field(default=0, ge=0)
    replicates: PositiveInt = 3
    design: DesignSection = DesignSection()
    cb: Budget = Budget()
    hdmm: HDMMBudget = HDMMBudget()
    tracking: TrackingSection = TrackingSection()


def load_grid(path: Path, changes: Sequence[str] = ()) -> GridConfig:
    """Read and check a configuration.

    Parameters
    ----------
    path
        YAML file.
    changes
        ``key=value`` each, as in `experiments.config.load_config`.

    Raises
    ------
    ConfigError
        Naming file, key and value, with the nearest known key.
    """
    return check(GridConfig, with_settings(read_yaml(path), changes), str(path))
