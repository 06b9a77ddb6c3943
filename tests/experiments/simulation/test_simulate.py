"""Simulated cohorts have the truth that they state: hazard, frequencies, co-occurrences, centers."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import chi2, kruskal
from sksurv.util import Surv

from experiments.simulation import Bernoulli, Disease, Exclusive, Simulation, simulate
from experiments.simulation.cmml import CMML
from experiments.simulation.mm import MM
from models.survival.exact_cox import ExactCox

N = 12_000
BOTH = pytest.mark.parametrize("disease", [CMML, MM], ids=lambda d: d.name)


@pytest.fixture(scope="module")
def large() -> dict[str, Simulation]:
    return {disease.name: simulate(disease, N, seed=3) for disease in (CMML, MM)}


@BOTH
def test_a_cox_fit_recovers_the_stated_coefficients(disease: Disease, large: dict[str, Simulation]) -> None:
    drawn = large[disease.name]
    outcome = Surv.from_arrays(drawn.cohort.event, drawn.cohort.time)
    fit = ExactCox().fit(drawn.design, outcome, strata=drawn.center).fit_
    off = fit.coefficients - np.array(list(drawn.coefficients.values()))
    # All at once (chi-squared), and each within its interval (99.99%, since there are twenty).
    assert chi2.sf(off @ np.linalg.solve(fit.covariance, off), len(off)) > 0.001
    errors = np.sqrt(np.diag(fit.covariance))
    assert (np.abs(off) < 3.9 * errors).all(), dict(zip(drawn.design, off / errors, strict=True))
    assert errors.max() < 0.12


@BOTH
def test_frequencies_and_odds_ratios_are_the_stated_ones(disease: Disease, large: dict[str, Simulation]) -> None:
    table, population = large[disease.name].complete, disease.population
    stated = {name: m.probability for name, m in population.variables.items() if isinstance(m, Bernoulli)}
    for marginal in population.variables.values():
        if isinstance(marginal, Exclusive):
            stated |= marginal.members
            assert (table[list(marginal.members)].sum(axis=1) <= 1).all()
    assert len(stated) > 20
    for name, p in stated.items():
        assert abs(table[name].mean() - p) < 4 * np.sqrt(p * (1 - p) / N), name
    assert population.odds_ratios
    for (a, b), ratio in population.odds_ratios.items():
        x, y = table[a] == 1, table[b] == 1
        cells = [(i & j).sum() for i in (x, ~x) for j in (y, ~y)]
        found = np.log(cells[0] * cells[3] / (cells[1] * cells[2]))
        assert abs(found - np.log(ratio)) < 4 * np.sqrt(sum(1 / c for c in cells)), (a, b)


@BOTH
def test_centers_differ_in_size_case_mix_missingness_and_hazard(disease: Disease, large: dict[str, Simulation]) -> None:
    drawn, names = large[disease.name], disease.centers.names
    members = [drawn.center == name for name in names]
    sizes = np.array([m.sum() for m in members])
    assert np.corrcoef(np.log(sizes), np.log(disease.centers.fractions))[0, 1] > 0.9
    age = drawn.complete["age"].to_numpy()
    assert kruskal(*(age[m] for m in members)).pvalue < 1e-6
    assert kruskal(*(drawn.linear_predictor[m] for m in members)).pvalue < 1e-6
    # Missing more often at some centers than at others.
    gone = np.isnan(drawn.cohort.column("ldh"))
    rates = np.array([gone[m].mean() for m in members])
    assert rates.max() > rates.min() + 0.05
    # The stated log baseline hazards, from a model with a coefficient per center beside the linear predictor.
    reference = int(np.argmax(sizes))
    others = [k for k in range(len(names)) if k != reference]
    x = np.column_stack([drawn.linear_predictor, *(members[k] for k in others)])
    fit = ExactCox().fit(x, Surv.from_arrays(drawn.cohort.event, drawn.cohort.time)).fit_
    hazards = np.array(list(drawn.log_hazards.values()))
    off = fit.coefficients - np.array([1.0, *(hazards[others] - hazards[reference])])
    assert chi2.sf(off @ np.linalg.solve(fit.covariance, off), len(off)) > 0.001
    assert hazards.std() > 0.1


def test_without_center_effects_centers_are_alike() -> None:
    alike = replace(CMML, centers=replace(CMML.centers, case_mix=0.0, hazard=0.0, missingness=0.0))
    drawn = simulate(alike, 4000, seed=1)
    members = [drawn.center == name for name in alike.centers.names]
    assert kruskal(*(drawn.linear_predictor[m] for m in members)).pvalue > 0.01
    assert set(drawn.log_hazards.values()) == {0.0}
    assert np.isnan(drawn.cohort.column("ldh")).mean() == pytest.approx(0.25, abs=0.03)


def test_the_baseline_hazard_is_the_stated_one() -> None:
    hazard = replace(CMML.hazard, follow_up=(50.0, 51.0), lost=0.0)
    time, event = hazard.draw(np.zeros(40_000), np.random.default_rng(0))
    assert event.all()
    assert np.median(time) == pytest.approx(hazard.median, rel=0.03)
    assert np.mean(time > 8) == pytest.approx(np.exp(-((8 / hazard.scale) ** hazard.shape)), abs=0.01)


def test_radiomics_have_the_stated_factors(large: dict[str, Simulation]) -> None:
    drawn, (block,) = large["mm_simulated"], MM.factors
    columns = drawn.complete[list(block.names)].to_numpy()
    assert columns.std(axis=0) == pytest.approx(np.ones(block.width), abs=0.03)
    spectrum = np.linalg.eigvalsh(np.corrcoef(columns.T))[::-1]
    assert spectrum[: len(block.depends)].sum() / block.width > block.signal  # a few factors lie behind all columns
    assert spectrum[len(block.depends)] < 1
    latent = drawn.complete[[f"radiology/{k + 1}" for k in range(len(block.depends))]]
    assert latent.std().to_numpy() == pytest.approx(np.ones(6), abs=0.03)
    assert np.corrcoef(latent["radiology/4"], drawn.complete["hemoglobin"])[0, 1] == pytest.approx(-0.4, abs=0.03)
    # Whole centers lack the block, and some patients of the others.
    missing = np.isnan(drawn.cohort.column(block.names[0]))
    for name, lacks in ((n, k in MM.centers.without["radiology"]) for k, n in enumerate(MM.centers.names)):
        rate = missing[drawn.center == name].mean()
        assert rate == 1 if lacks else rate < 0.2, name
    both = np.isnan(drawn.cohort.values[:, [drawn.cohort.schema.index(n) for n in block.names]])
    assert (both.all(axis=1) | ~both.any(axis=1)).all()


@BOTH
def test_the_seed_decides_everything(disease: Disease) -> None:
    one, same, other = (simulate(disease, 300, seed) for seed in (1, 1, 2))
    for name in ("values", "time", "event", "scores"):
        np.testing.assert_array_equal(getattr(one.cohort, name), getattr(same.cohort, name))
    np.testing.assert_array_equal(one.center, same.center)
    assert not np.array_equal(one.cohort.time, other.cohort.time)


def test_karyotypes_are_consistent(large: dict[str, Simulation]) -> None:
    table = large["cmml_simulated"].complete
    flags = table[["plus8", "minus7", "del7q", "minusY"]].sum(axis=1)
    number = table["karyotype_abnormalities"]
    assert (flags <= number).all()
    assert ((number >= 3) == (table["complex_karyotype"] == 1)).all()
    assert (table.loc[table["minusY"] == 1, "male"] == 1).all()
    assert (number > 0).mean() == pytest.approx(0.27, abs=0.015)  # Such 2011


def test_stages_come_near_to_those_published(large: dict[str, Simulation]) -> None:
    drawn = large["mm_simulated"]
    iss = drawn.cohort.scores[:, 0]
    shares = [np.mean(iss[~np.isnan(iss)] == stage) for stage in (1, 2, 3)]
    assert shares == pytest.approx([0.35, 0.40, 0.25], abs=0.05)
    assert (drawn.complete["ldh"] > 250).mean() == pytest.approx(0.13, abs=0.02)
    risk = [drawn.linear_predictor[iss == stage].mean() for stage in (1, 2, 3)]
    assert all(low < high for low, high in pairwise(risk))
