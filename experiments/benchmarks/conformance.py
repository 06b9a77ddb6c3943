"""How often the federated conformance check is wrong, and how small a center it can judge.

Simulated federations: hospitals as unequal as those of the AMLSG trials, patients drawn by the AML dictionary, and
hospitals that differ for honest reasons, too (each has its own typical values, mutation rates and gaps).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from federation.conformance import CompareCenters
from federation.deviations import Deviation, deviations
from federation.memory import Memory
from federation.patients import Patients
from federation.randomness import generator
from federation.summation import total
from harmonization import Cohort, Dictionary

FEDERATIONS, TRIALS = 300, 100
SIZES = (10, 20, 40, 80)
SPREAD = {"age": 0.12, "hemoglobin": 0.1, "platelets": 0.4, "wbc": 0.65, "ldh": 0.3}
"""Standard deviation of the decimal logarithm over patients, as in AMLSG."""
BETWEEN = 0.2
"""Of hospitals' typical values and log rates, relative to the spread over patients."""


def conformance_benchmark(
    federations: int = FEDERATIONS, trials: int = TRIALS, sizes: Sequence[int] = SIZES, seed: int = 0
) -> dict[str, float]:
    """False alarms and power.

    Returns
    -------
    dict
        ``false_alarm_rate``: share of faultless federations of 45 hospitals with any deviation;
        ``false_alarm_rate_alike``: the same where hospitals differ by chance alone;
        ``unit_found_<n>``: of units taken for another in one hospital of n patients, the share found there with
        the feature, as another unit or as nowhere filled in (what is not plausible is set aside when harmonized);
        ``ratio_right_<n>``: of those found as another unit, the share whose ratio is right within a factor of 1.5;
        ``panel_found_<n>``: of hospitals whose genes all read wild type, the share found;
        ``wrongly_accused``: share of these federations in which an innocent hospital is named as well.
    """
    dictionary = Dictionary.read("aml")
    algorithm = CompareCenters.of(dictionary)
    rng = generator(seed, "conformance benchmark")
    figures: dict[str, float] = {}
    for name, between in (("false_alarm_rate", BETWEEN), ("false_alarm_rate_alike", 0.0)):
        alarms = 0
        for _ in range(federations):
            others = [hospital(dictionary, n, rng, between) for n in _sizes(45, rng)]
            alarms += bool(_compare(algorithm, others))
        figures[name] = alarms / federations
    accused = 0
    for n in sizes:
        found = right = units = panels = 0
        for _ in range(trials):
            others = [hospital(dictionary, m, rng) for m in _sizes(20, rng)]
            feature = str(rng.choice(list(algorithm.ratios)))
            ratio = float(rng.choice([r for r in algorithm.ratios[feature] if 1e-3 <= r <= 1e3]))
            wrong = in_other_unit(hospital(dictionary, n, rng), feature, ratio)
            said = _compare(algorithm, [wrong, *others])
            hits = [one for one in said if one.center == "C00" and one.feature == feature]
            found += bool(hits)
            units += sum(one.kind == "unit" for one in hits)
            right += sum(one.kind == "unit" and 1 / 1.5 < one.ratio / ratio < 1.5 for one in hits)
            accused += any(one.center != "C00" for one in said)
            said = _compare(algorithm, [all_wild_type(hospital(dictionary, n, rng), algorithm), *others])
            panels += any(one.center == "C00" and one.kind == "alterations" for one in said)
            accused += any(one.center != "C00" for one in said)
        figures[f"unit_found_{n}"] = found / trials
        figures[f"ratio_right_{n}"] = right / max(units, 1)
        figures[f"panel_found_{n}"] = panels / trials
    figures["wrongly_accused"] = accused / (2 * trials * len(sizes))
    return figures


def _sizes(centers: int, rng: np.random.Generator) -> list[int]:
    """Numbers of patients, as unequal as in AMLSG."""
    return [int(n) for n in np.maximum(rng.lognormal(3.0, 1.0, centers), 3)]


def hospital(dictionary: Dictionary, n: int, rng: np.random.Generator, between: float = BETWEEN) -> Cohort:
    """Patients of one simulated hospital."""
    schema = dictionary.schema()
    values = np.full((n, len(schema.features)), np.nan)
    for j, feature in enumerate(schema.features):
        if feature.kind == "continuous" and feature.unit == "%":
            values[:, j] = 100 * rng.beta(0.8, 0.8, n) * (rng.random(n) > 0.1)  # a tenth has none at all
        elif feature.kind == "continuous":
            spread = SPREAD[feature.name]
            values[:, j] = feature.reference * 10 ** (spread * (rng.normal(0, 1, n) + rng.normal(0, between)))
        elif feature.kind == "binary":
            rate = 0.3 / (1 + j % 25)  # a few that are frequent, many that are rare
            values[:, j] = rng.random(n) < min(rate * np.exp(rng.normal(0, between)), 0.9)
        else:
            values[:, j] = rng.integers(0, max(len(feature.categories), 3), n)
        if feature.low is not None and feature.high is not None:
            values[:, j] = np.clip(values[:, j], feature.low, feature.high)
        values[rng.random(n) < rng.beta(1, 12), j] = np.nan
    ids = np.array([str(i) for i in range(n)])
    return Cohort(schema, ids, values, np.ones(n), np.zeros(n, bool), np.full((n, len(schema.scores)), np.nan))


def in_other_unit(cohort: Cohort, feature: str, ratio: float) -> Cohort:
    """The same hospital with one feature off by a ratio; what is not plausible then is missing."""
    j = cohort.schema.index(feature)
    values = cohort.values.copy()
    values[:, j] *= ratio
    low, high = cohort.schema.features[j].low, cohort.schema.features[j].high
    assert low is not None
    assert high is not None
    values[(values[:, j] < low) | (values[:, j] > high), j] = np.nan
    return Cohort(cohort.schema, cohort.ids, values, cohort.time, cohort.event, cohort.scores)


def all_wild_type(cohort: Cohort, algorithm: CompareCenters) -> Cohort:
    """The same hospital with every gene tested and none altered."""
    values = cohort.values.copy()
    values[:, [cohort.schema.index(name) for name in algorithm.families[0].features]] = 0.0
    return Cohort(cohort.schema, cohort.ids, values, cohort.time, cohort.event, cohort.scores)


def _compare(algorithm: CompareCenters, cohorts: Sequence[Cohort]) -> list[Deviation]:
    answers: list[Any] = []
    for i, cohort in enumerate(cohorts):
        patients = Patients(cohort, np.zeros(len(cohort), int), i, len(cohorts), 3)
        answers.append(algorithm.client_update({}, patients, np.random.default_rng(0), Memory(None)))
    state = algorithm.server_update({}, total(answers))
    return deviations(algorithm, state, tuple(f"C{i:02}" for i in range(len(cohorts))))
