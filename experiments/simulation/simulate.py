"""From a disease's description to a cohort, its centers and the truth."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from experiments.datasets.comparators import with_scores
from experiments.simulation.centers import Centers
from experiments.simulation.factors import Factors
from experiments.simulation.hazard import Hazard
from experiments.simulation.population import Population
from federation.randomness import generator
from harmonization import Cohort, Feature, Schema
from harmonization.schema import EVENT, ID, TIME
from models.prognostic import Score

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Disease:
    """What is simulated.

    Parameters
    ----------
    name
        Of the schema.
    population
        Joint distribution of the covariates.
    features
        Columns of the cohort that come from it, after `derive`; factors' columns follow.
    hazard
        Terms by column (of the complete table), or by factor: ``radiology/1`` is the first of the radiology block.
    centers
        Their effects.
    factors
        Blocks of many columns.
    missing
        Probability that a value is missing at an average center, by column; 0 for all others.
    absent
        Modality -> probability that a patient lacks the block.
    scores
        Comparators by column name, computed from what is recorded.
    derive
        From drawn variables to the columns of `features`.
    constants
        Columns that scores read and that are the same for all patients, such as a laboratory's upper limit.
    """

    name: str
    population: Population
    features: tuple[Feature, ...]
    hazard: Hazard
    centers: Centers
    factors: tuple[Factors, ...] = ()
    missing: Mapping[str, float] = field(default_factory=dict)
    absent: Mapping[str, float] = field(default_factory=dict)
    scores: Mapping[str, Score] = field(default_factory=dict)
    derive: Callable[[pd.DataFrame], pd.DataFrame] = lambda drawn: drawn
    constants: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Simulation:
    """A simulated cohort and all that is known of it.

    Parameters
    ----------
    cohort
        What a data set would hold: values go missing.
    center
        Name of each patient's center, shape (n,).
    complete
        Every column before values went missing, and the latent factors; by patient.
    coefficients
        The stated log hazard ratios, by term.
    design
        What they multiply, shape (n, terms).
    log_hazards
        Log baseline hazard of each center, by name.
    linear_predictor
        Log hazard of each patient, without the center's, shape (n,).
    """

    cohort: Cohort
    center: NDArray[np.str_]
    complete: pd.DataFrame
    coefficients: dict[str, float]
    design: pd.DataFrame
    log_hazards: dict[str, float]
    linear_predictor: Floats


def simulate(disease: Disease, patients: int, seed: int) -> Simulation:
    """Draw a cohort; the same arguments give the same cohort.

    Parameters
    ----------
    disease
        What to draw.
    patients
        How many, over all centers.
    seed
        Of every random number.
    """

    def stream(part: str) -> np.random.Generator:
        return generator(seed, "simulation", disease.name, part)

    drawn, scores = disease.population.draw(patients, stream("covariates"))
    by_name = {name: scores[:, j] for j, name in enumerate(disease.population.variables)}
    complete = disease.derive(drawn)
    blocks: dict[str, Floats] = {}
    for block in disease.factors:
        own = stream(f"{block.prefix}/factors").standard_normal((patients, len(block.depends)))
        latent = block.factors(by_name, own)
        complete = complete.assign(**{f"{block.modality}/{k + 1}": latent[:, k] for k in range(latent.shape[1])})
        blocks |= dict(zip(block.names, block.columns(latent, stream(f"{block.prefix}/columns")).T, strict=True))
    complete = pd.concat([complete, pd.DataFrame(blocks)], axis=1)

    predictor = disease.hazard.linear_predictor(complete)
    severity = (predictor - predictor.mean()) / predictor.std()
    code = disease.centers.assign(severity, by_name["age"], stream("referral"))
    log_hazards = disease.centers.log_hazards(stream("hazards"))
    time, event = disease.hazard.draw(predictor + log_hazards[code], stream("survival"))

    features = (*disease.features, *(f for block in disease.factors for f in block.features()))
    names = [f.name for f in features]
    rates = np.array([disease.missing.get(name, 0.0) for name in names])
    gone = disease.centers.missing(code, rates, [f.modality for f in features], disease.absent, stream("missing"))
    recorded = complete[names].mask(pd.DataFrame(gone, columns=names))
    recorded.insert(0, ID, [f"{disease.name}-{i:05d}" for i in range(1, patients + 1)])
    recorded = recorded.assign(**{TIME: time, EVENT: event.astype(float)})
    constants: dict[str, Any] = dict(disease.constants)
    schema, table = with_scores(Schema(disease.name, "1", features), recorded, disease.scores, constants)
    return Simulation(
        Cohort.from_frame(table, schema, source=f"simulation {disease.name}"),
        np.array(disease.centers.names)[code],
        complete,
        {name: term.coefficient for name, term in disease.hazard.terms.items()},
        disease.hazard.design(complete),
        dict(zip(disease.centers.names, log_hazards.tolist(), strict=True)),
        predictor,
    )
