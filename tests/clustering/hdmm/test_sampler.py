"""The samplers against enumeration of all partitions, against the prior, and against each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import product

import numpy as np
import pytest
from scipy.special import gammaln
from scipy.stats import gamma as gamma_law
from scipy.stats import kstest

from clustering.chain import chain_rng, steps
from clustering.events import EventTable
from clustering.hdmm import HDMMSampler
from clustering.hdmm.concentrations import auxiliary_update, slice_update
from clustering.hdmm.sampler import log_likelihood

METHODS = ("dense", "sparse")


def table(events: list[list[int]] | np.ndarray) -> EventTable:
    x = np.array(events, np.int8)
    return EventTable(np.arange(len(x)).astype(str), tuple(f"g{g}" for g in range(x.shape[1])), x)


def cohort(patients: int = 120, genes: int = 12, seed: int = 5) -> EventTable:
    """Three overlapping subgroups."""
    rng = np.random.default_rng(seed)
    p = rng.beta(0.3, 1.2, (3, genes))
    return table(rng.random((patients, genes)) < p[rng.integers(3, size=patients)])


def canonical(z: np.ndarray) -> tuple[int, ...]:
    seen: dict[int, int] = {}
    return tuple(seen.setdefault(int(k), len(seen)) for k in z)


def partitions(n: int) -> Iterator[tuple[int, ...]]:
    for z in product(range(n), repeat=n):
        if canonical(np.array(z)) == z:
            yield z


def stirling(n: int, m: int) -> int:
    """Unsigned Stirling number of the first kind."""
    if n == m:
        return 1
    return 0 if m == 0 or m > n else stirling(n - 1, m - 1) + (n - 1) * stirling(n - 1, m)


def exact_posterior(data: EventTable, base: float, alpha: float, gamma: float) -> dict[tuple[int, ...], float]:
    """P(partition of the tokens | tokens): β integrated out by summing over all numbers of tables."""
    tokens = HDMMSampler(data).tokens
    log_p = {}
    for z in partitions(len(tokens)):
        k = max(z) + 1
        cells = tokens.per_patient(np.array(z), k)
        prior = 0.0
        for flat in product(*[range(1, n + 1) if n else [0] for n in cells.ravel()]):
            m = np.array(flat).reshape(cells.shape).sum(0)
            ways = np.prod([stirling(int(n), r) for n, r in zip(cells.ravel(), flat, strict=True)])
            top = k * np.log(gamma) + gammaln(gamma) - gammaln(gamma + m.sum()) + gammaln(m).sum()
            prior += ways * np.exp(top + m.sum() * np.log(alpha))
        log_p[z] = np.log(prior) + log_likelihood(tokens.per_gene(np.array(z), k), base)
    values = np.array(list(log_p.values()))
    values = np.exp(values - values.max())
    return dict(zip(log_p, values / values.sum(), strict=True))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("blocks", [1, 3])
def test_partitions_of_a_tiny_cohort(method: str, blocks: int) -> None:
    data = table([[1, 1, 0], [0, 1, 1], [1, -1, 0], [0, 0, 0]])
    alpha, gamma, base, draws = 1.3, 0.8, 0.4, 30_000
    exact = exact_posterior(data, base, alpha, gamma)
    sampler = HDMMSampler(
        data, base, None, False, (gamma, 1.0), (alpha, 1.0), concentration_updates=0, method=method, blocks=blocks
    )
    rng = np.random.default_rng(3)
    state, found = sampler.start(rng), Counter[tuple[int, ...]]()
    assert (float(state["alpha"]), float(state["gamma"])) == (alpha, gamma)
    for _ in range(draws):
        state = sampler.advance(state, 3, rng)
        found[canonical(state["z"])] += 1
    assert len(exact) == 52  # Bell's number of five tokens
    for z, p in exact.items():
        error = np.sqrt(p * (1 - p) / draws * 3)  # draws three sweeps apart: at most thrice the variance
        assert abs(found[z] / draws - p) < 4.5 * error + 1e-4, z


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("move", ["slice", "auxiliary"])
@pytest.mark.parametrize("method", METHODS)
def test_geweke(method: str, move: str, shared: bool) -> None:
    """Alternating sweeps with new tokens given z (successive-conditional) returns the prior (Geweke 2004)."""
    patients, events, genes, base = 5, 3, 4, 0.6
    prior = (2.0, 1.5)
    rng = np.random.default_rng(11)
    # Patients' numbers of events stay; which genes they are is redrawn, possibly the same gene twice: the model's
    # tokens are draws with repetition, so the sampler's tokens are replaced and not its table.
    options = {"shared_concentration": shared, "concentration_move": move, "method": method, "blocks": 2}
    sampler = HDMMSampler(table(np.tile([1] * events + [0] * (genes - events), (patients, 1))), base, None,
                          top_prior=prior, patient_prior=prior, **options)  # fmt: skip
    tokens = sampler.tokens
    state = sampler.start(rng)
    alphas, clusters, ties = [], [], []
    for step in range(9_000):
        state = sampler.advance(state, 1, rng)
        phi = rng.dirichlet(np.full(genes, base), len(state["beta"]))
        tokens.gene[:] = [rng.choice(genes, p=phi[k]) for k in state["z"]]
        if step >= 200:
            alphas.append(float(state["alpha"]))
            clusters.append(len(state["beta"]))
            ties.append(float(tokens.gene[0] == tokens.gene[-1]))
    # marginal-conditional simulator: α, γ, z by the Chinese restaurant franchise, tokens
    simulated = np.array([franchise(rng, patients, events, genes, base, prior, shared) for _ in range(9_000)])
    assert kstest(alphas[::30], gamma_law(prior[0], scale=1 / prior[1]).cdf).pvalue > 1e-4
    for found, expected in ((clusters, simulated[:, 0]), (ties, simulated[:, 1])):
        batches = np.array(found[: len(found) // 50 * 50], float).reshape(50, -1).mean(1)
        error = np.hypot(batches.std(ddof=1) / np.sqrt(50), expected.std() / np.sqrt(len(expected)))
        assert abs(batches.mean() - expected.mean()) < 4 * error
        assert error < 0.1


def franchise(
    rng: np.random.Generator,
    patients: int,
    events: int,
    genes: int,
    base: float,
    prior: tuple[float, float],
    shared: bool,
) -> tuple[float, float]:
    """Number of components, and whether the first token's gene is the last's, drawn from the model."""
    gamma, alpha = rng.gamma(prior[0], 1 / prior[1], 2)
    alpha = gamma if shared else alpha
    dishes: list[int] = []  # tables of each dish
    z = []
    for _ in range(patients):
        served: list[tuple[int, int]] = []  # dish, customers
        for n in range(events):
            at = rng.choice(len(served) + 1, p=np.array([c for _, c in served] + [alpha]) / (n + alpha))
            if at == len(served):
                dish = rng.choice(len(dishes) + 1, p=np.array([*dishes, gamma]) / (sum(dishes) + gamma))
                dishes = dishes + [0] * (dish == len(dishes))
                dishes[dish] += 1
                served.append((dish, 0))
            served[at] = (served[at][0], served[at][1] + 1)
            z.append(served[at][0])
    phi = rng.dirichlet(np.full(genes, base), len(dishes))
    return float(len(dishes)), float(rng.choice(genes, p=phi[z[0]]) == rng.choice(genes, p=phi[z[-1]]))


def test_concentration_moves_have_one_law() -> None:
    first = np.concatenate([[0], np.cumsum([1, 4, 4, 6, 2])])
    exceed = np.array([(np.diff(first) > r).sum() for r in range(6)], float)
    grid = np.exp(np.linspace(-9, 4, 4000))
    log_p = 3.0 * np.log(grid) + 6 * np.log(grid) - 2 * grid - sum(c * np.log(grid + r) for r, c in enumerate(exceed))
    p = np.exp(log_p - log_p.max())
    mean = (p * grid).sum() / p.sum()
    sd = np.sqrt((p * grid**2).sum() / p.sum() - mean**2)
    rng = np.random.default_rng(2)
    for move, counts in ((slice_update, exceed), (auxiliary_update, first)):
        c, draws = 1.0, []
        for _ in range(20_000):
            c = move(c, 9.0, 2.0, 0.0, counts, rng)
            draws.append(c)
        batches = np.array(draws).reshape(50, -1).mean(1)
        assert abs(batches.mean() - mean) < 4 * batches.std(ddof=1) / np.sqrt(50)
        assert np.std(draws) == pytest.approx(sd, rel=0.1)


def differences(data: EventTable, sweeps: int, burn_in: int) -> np.ndarray:
    """Means of the scalars, the sparse sampler's less the dense one's, over the Monte Carlo error between chains."""
    means = []
    for method in METHODS:
        sampler = HDMMSampler(data, initial_clusters=5, method=method)
        chains = []
        for c in range(6):
            rng = chain_rng(1, c, 0)
            state = sampler.advance(sampler.start(rng), burn_in, rng)
            kept = []
            for _ in range(sweeps // 5):
                state = sampler.advance(state, 5, rng)
                s = sampler.scalars(state)
                kept.append([s["clusters"], s["concentration"], s["top_concentration"], s["log_likelihood"]])
            chains.append(np.mean(kept, 0))
        means.append(np.array(chains))
    dense, sparse = means
    error = np.sqrt((dense.var(0, ddof=1) + sparse.var(0, ddof=1)) / 6)
    return np.asarray((sparse.mean(0) - dense.mean(0)) / error)


def test_sparse_is_dense() -> None:
    assert np.abs(differences(cohort(), 4000, 500)).max() < 5


@pytest.mark.slow
def test_sparse_is_dense_on_a_larger_cohort() -> None:
    assert np.abs(differences(cohort(400, 30), 20_000, 3000)).max() < 5


@pytest.mark.parametrize("method", METHODS)
def test_chain_is_pure_and_repeats(method: str) -> None:
    sampler = HDMMSampler(cohort(), method=method)
    state = sampler.start(chain_rng(4, 0, 0))
    before = {name: value.copy() for name, value in state.items()}
    sampler.advance(state, 20, chain_rng(4, 0, 1))
    assert all((state[name] == before[name]).all() for name in state)
    runs = [steps(sampler, seed=4, chain=0, spacing=10) for _ in range(2)]
    for _ in range(3):
        a, b = (next(run) for run in runs)
        assert a.scalars == b.scalars
        assert all((a.draw[name] == b.draw[name]).all() for name in a.draw)
    assert a.draw["counts"].sum() == len(sampler.tokens)
    assert a.state["beta"].sum() + a.state["rest"] == pytest.approx(1)


@pytest.mark.parametrize("method", METHODS)
def test_places_do_not_change_the_chain(method: str) -> None:
    """A chain that must ask for more places midway is refused none: components outgrow the first 34 places."""
    options = {"top_prior": (400.0, 1.0), "patient_prior": (400.0, 1.0), "concentration_updates": 0}
    sampler = HDMMSampler(cohort(), initial_clusters=1, method=method, **options)
    state = sampler.advance(sampler.start(chain_rng(0, 0, 0)), 3, chain_rng(0, 0, 1))
    assert len(state["beta"]) > 40
    assert (np.bincount(state["z"]) > 0).all()


def test_an_annealed_start_finds_the_groups_that_a_random_start_merges() -> None:
    """Ten groups of two lesions each, with noise: groups in a component of their own, over four chains."""
    group = np.repeat(np.arange(10), 20)
    x = (np.arange(40) // 2 == group[:, None]) | (np.random.default_rng(1).random((200, 40)) < 0.02)
    found = {}
    for annealing in (0, 300):
        sampler = HDMMSampler(table(x), initial_clusters=30, annealing=annealing)
        states = [sampler.advance(sampler.start(chain_rng(0, c, 0)), 700, chain_rng(0, c, 1)) for c in range(4)]
        labels = [sampler.draw(state)["labels"] for state in states]
        assert all(state["beta"].sum() + state["rest"] == pytest.approx(1) for state in states)
        found[annealing] = [len({np.bincount(own[group == k]).argmax() for k in range(10)}) for own in labels]
    assert min(found[300]) == 10
    assert min(found[0]) < 10
    with pytest.raises(ValueError, match="annealing: -1, but"):
        HDMMSampler(table(x), annealing=-1)


def test_summaries_do_not_depend_on_labels() -> None:
    sampler = HDMMSampler(cohort(), initial_clusters=6)
    state = sampler.advance(sampler.start(chain_rng(0, 0, 0)), 50, chain_rng(0, 0, 1))
    order = np.random.default_rng(0).permutation(len(state["beta"]))
    other = {**state, "z": np.argsort(order)[state["z"]].astype(np.int16), "beta": state["beta"][order]}
    assert sampler.scalars(other) == pytest.approx(sampler.scalars(state))


def test_log_likelihood_is_the_product_of_predictions() -> None:
    genes, z, base = [0, 2, 2, 1, 0], [0, 0, 1, 1, 0], 0.3
    counts, log_p = np.zeros((2, 3)), 0.0
    for w, k in zip(genes, z, strict=True):
        log_p += np.log((counts[k, w] + base) / (counts[k].sum() + 3 * base))
        counts[k, w] += 1
    assert log_likelihood(counts, base) == pytest.approx(log_p)


@pytest.mark.parametrize("method", METHODS)
def test_no_events_leave_the_prior(method: str) -> None:
    sampler = HDMMSampler(table([[0, 0], [-1, 0]]), top_prior=(2.0, 4.0), method=method)
    rng = np.random.default_rng(0)
    state, gammas = sampler.start(rng), []
    for _ in range(2000):
        state = sampler.advance(state, 1, rng)
        gammas.append(float(state["gamma"]))
    assert sampler.scalars(state)["clusters"] == 0
    assert np.mean(gammas) == pytest.approx(0.5, abs=0.04)


@pytest.mark.parametrize(
    "wrong", [{"base_weight": 0.0}, {"initial_clusters": 0}, {"concentration_updates": -1}, {"top_prior": (0.0, 1.0)}]
)
def test_options_are_checked(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        HDMMSampler(cohort(), **wrong)  # type: ignore[arg-type]
