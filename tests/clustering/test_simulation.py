"""The generator of cohorts: the laws of its design, the published cohorts, and what an oracle can recover."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.special import digamma, polygamma
from scipy.stats import chi2, kstest, poisson
from sklearn.metrics import adjusted_rand_score

from clustering.conditional_bernoulli import inclusion_probabilities
from clustering.simulation import Simulated, log_dirichlet, oracle_labels, read_simulated, simulate


def worst_z(cohort: Simulated) -> tuple[float, float]:
    """Largest |z|, and the sum of z² in degrees of freedom, of genes' sums given n by cluster."""
    z = []
    for k in np.unique(cohort.labels):
        chosen = cohort.table.select(cohort.labels == k)
        n, times = np.unique(chosen.counts, return_counts=True)
        p = np.array([inclusion_probabilities(cohort.log_odds[k], int(i)) for i in n])
        mean, variance = times @ p, times @ (p * (1 - p))
        common = variance > 3
        z.append(((chosen.events.sum(0) - mean)[common]) / np.sqrt(variance[common]))
    values = np.concatenate(z)
    return float(np.abs(values).max()), float((values**2).mean())


@pytest.mark.parametrize(("concentration", "events"), [(1.0, 5), (0.02, 3)])
def test_cohorts_follow_their_design(concentration: float, events: int) -> None:
    cohort = simulate(5, events, concentration, np.random.default_rng(1), patients=20_000)
    n = cohort.table.counts
    expected = poisson.pmf(np.arange(12), events)
    expected = 20_000 * np.append(expected, 1 - expected.sum())
    observed = np.append(np.bincount(n, minlength=12)[:12], (n >= 12).sum())
    assert chi2.sf(((observed - expected) ** 2 / expected).sum(), 12) > 1e-4
    shares = np.bincount(cohort.labels, minlength=5)
    assert chi2.sf(((shares - 20_000 * cohort.weights) ** 2 / (20_000 * cohort.weights)).sum(), 4) > 1e-4
    largest, mean_square = worst_z(cohort)
    assert largest < 4.5
    assert 0.6 < mean_square < 1.4
    np.testing.assert_allclose(np.median(cohort.log_odds, axis=1), 0, atol=1e-12)


@pytest.mark.parametrize("a", [1.0, 0.02])
def test_log_odds_are_those_of_dirichlet_draws(a: float) -> None:
    """Differences of log Gamma(a) variables: mean zero and variance 2 ψ′(a); single ones have the Gamma law."""
    draws = log_dirichlet(a, (4000, 50), np.random.default_rng(2))
    assert draws.mean() == pytest.approx(digamma(a), abs=5 * np.sqrt(polygamma(1, a) / draws.size))
    assert draws.var() == pytest.approx(polygamma(1, a), rel=0.03)
    shares = np.exp(draws[:, 0] - np.logaddexp.reduce(draws, axis=1))
    assert kstest(shares, "beta", (a, 49 * a)).pvalue > 1e-4


def test_fewest_and_repetition_and_wrong_arguments() -> None:
    cohort = simulate(3, 1.0, 1.0, np.random.default_rng(3), patients=500, genes=6, fewest=1)
    assert cohort.table.counts.min() == 1
    assert cohort.table.counts.max() <= 6
    again = simulate(3, 1.0, 1.0, np.random.default_rng(3), patients=500, genes=6, fewest=1)
    np.testing.assert_array_equal(cohort.table.events, again.table.events)
    everything = simulate(1, 50.0, 1.0, np.random.default_rng(3), patients=20, genes=6, fewest=6)
    assert (everything.table.events == 1).all()
    for name, arguments in (("clusters", (0, 1.0, 1.0)), ("events", (1, 0.0, 1.0)), ("concentration", (1, 1.0, 0.0))):
        with pytest.raises(ValueError, match=name):
            simulate(*arguments, np.random.default_rng(0))
    with pytest.raises(ValueError, match="fewest"):
        simulate(1, 1.0, 1.0, np.random.default_rng(0), genes=5, fewest=6)


def test_the_oracle_beats_itself_misinformed_and_needs_events() -> None:
    cohort = simulate(5, 5.0, 0.02, np.random.default_rng(4), patients=2000)
    informed = adjusted_rand_score(cohort.labels, oracle_labels(cohort))
    blurred = Simulated(cohort.table, cohort.labels, 0.05 * cohort.log_odds, cohort.weights)
    assert informed > adjusted_rand_score(cohort.labels, oracle_labels(blurred))
    empty = cohort.table.counts == 0
    assert (oracle_labels(cohort)[empty] == cohort.weights.argmax()).all()


def test_published_cohorts_have_the_design_and_their_odds(data_dir: Path) -> None:
    paths = sorted((data_dir / "clustering" / "simulated").glob("*.csv"))
    if not paths:
        pytest.skip("no published cohorts")
    for path in paths:
        cohort, events = read_simulated(path), int(path.stem.rsplit("_l", 1)[1])
        zero = (cohort.table.counts == 0).mean()
        assert zero == pytest.approx(np.exp(-events), abs=4 * np.sqrt(np.exp(-events) / 1000) + 1e-3)
        assert worst_z(cohort)[0] < 5
        carriers = cohort.table.counts > 0
        score = adjusted_rand_score(cohort.labels[carriers], oracle_labels(cohort)[carriers])
        assert score > (0.95 if "a1M" in path.stem else 0.25)
