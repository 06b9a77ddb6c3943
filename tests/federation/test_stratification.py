"""The federated mixture against the pooled one, enumeration of all partitions, its prior, and itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import gammaln
from scipy.stats import kstest
from sklearn.metrics import adjusted_rand_score

from clustering.elementary import draw_events
from clustering.mixture.data import prepare
from clustering.mixture.sweep import log_likelihood
from federation.algorithm import Algorithm, Roster, build, rounds, run
from federation.center import Center
from federation.checkpoint import Checkpoint, load_state, save_state
from federation.in_process import InProcessFederation
from federation.memory import Memory
from federation.patients import Patients
from federation.policy import DisclosurePolicy
from federation.quorum import Quorum, QuorumError
from federation.randomness import entropy
from federation.state import State
from federation.stratification import SCALARS, FederatedMixture, lesions, panels, trace
from federation.stratification.jumps import UNITS, Template, propose
from federation.stratification.labels import uniforms
from federation.stratification.memberships import event_table
from federation.stratification.telescoping import log_components, log_norms
from federation.summation import total
from harmonization import Cohort, Feature, Schema
from tests.federation.hospitals import SCHEMA, federation_of, require_equal_states

GENES = tuple(f"g{g}" for g in range(12))
SMALL = np.array([[1, 1, 0, 0], [1, 0, 0, 1], [0, 1, 1, 0], [1, -1, 0, 0], [1, 1, 1, 0]])
Ints = NDArray[np.int64]


def cohort_of(events: NDArray[Any], first: int = 0) -> Cohort:
    """Patients with these lesions (-1: not tested) beside their age."""
    n, genes = events.shape
    schema = Schema(
        "lesions", "1", (Feature("age", "continuous"), *(Feature(f"g{g}", "binary", "genomic") for g in range(genes)))
    )
    values = np.column_stack([np.full(n, 60.0), np.where(events < 0, np.nan, events)])
    ids = np.array([f"patient-{first + i}" for i in range(n)])
    return Cohort(schema, ids, values, np.ones(n), np.zeros(n, dtype=bool))


def planted(n: int = 300, seed: int = 0) -> tuple[Cohort, Ints]:
    """Three clusters with four lesions each of their own; some patients have untested lesions, some have no event."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(3, size=n)
    events = np.zeros((n, len(GENES)), dtype=np.int64)
    suffix = np.empty((len(GENES) + 1, 6))
    for i in range(n):
        weights = np.where(np.arange(len(GENES)) // 4 == truth[i], 1.0, 0.01) * np.exp(0.3 * (np.arange(12) % 4))
        draw_events(weights, np.ones(len(GENES), dtype=bool), int(rng.integers(0, 6)), rng, suffix, events[i])
    events[rng.random(n) < 0.2, :2] = -1
    events[rng.random(n) < 0.1, 7] = -1
    return cohort_of(events), truth


def split(cohort: Cohort, centers: int, seed: int = 0) -> dict[str, Cohort]:
    """Random sizes, patients in random order; the first few centers have one patient each."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(cohort))
    few = min(5, centers - 1)
    cuts = np.sort(rng.choice(np.arange(few + 1, len(cohort)), centers - 1 - few, replace=False))
    rows = np.split(order, np.concatenate([np.arange(1, few + 1), cuts]).astype(int))
    return {f"c{j:02d}": cohort[part] for j, part in enumerate(rows)}


def federation(cohorts: Mapping[str, Cohort], seed: int = 3, **options: Any) -> InProcessFederation:
    policy = DisclosurePolicy(min_patients=options.pop("min_patients", 1))
    directory = options.pop("directory", None)
    centers = [
        Center(name, partial(lambda c: c, cohort), j, policy=policy, directory=directory)
        for j, (name, cohort) in enumerate(cohorts.items())
    ]
    return InProcessFederation(centers, seed, **options)


def mixture(**changes: Any) -> FederatedMixture:
    return FederatedMixture(GENES, **{"rounds": 40, "annealing": 10, **changes})


def step(algorithm: Algorithm, state: State, patients: Patients) -> State:
    """One round of a single center, without the wall."""
    answer = algorithm.client_update(algorithm.broadcast(state), patients, np.random.default_rng(0), Memory())
    return algorithm.server_update(state, answer)


def about_labels(algorithm: FederatedMixture, state: State) -> bool:
    """Whether the next question is about labels rather than a proposal."""
    return algorithm.broadcast(state)["log_weights"].ndim == 1


def everybody(cohort: Cohort) -> Patients:
    return Patients(cohort, np.zeros(len(cohort), dtype=np.int64), 0, 1, 1)


# The chain is the pooled one --------------------------------------------------------------------------


@pytest.mark.parametrize("centers", [2, 7, 45])
def test_the_chain_is_the_pooled_chain_bit_for_bit(centers: int) -> None:
    cohort, _ = planted()
    pooled = list(rounds(mixture(), federation({"all": cohort})))
    parts = split(cohort, centers, seed=centers)
    apart = list(rounds(mixture(), federation(parts)))
    assert sum(len(c) == 1 for c in parts.values()) >= min(5, centers - 1)
    assert len(apart) == len(pooled)
    for a, b in zip(apart, pooled, strict=True):
        require_equal_states(a, b)
    assert len({float(row[0]) for row in trace(pooled[-1])}) > 30  # and it moves


def test_neither_the_order_of_patients_nor_of_centers_matters() -> None:
    cohort, _ = planted(100)
    parts = split(cohort, 6)
    expected = run(mixture(), federation(parts))
    backwards = {name: c[np.arange(len(c))[::-1]] for name, c in reversed(parts.items())}
    require_equal_states(run(mixture(), federation(backwards)), expected)


def test_another_seed_is_another_chain() -> None:
    cohort, _ = planted(60)
    one, two = (run(mixture(), federation({"all": cohort}, seed=seed)) for seed in (1, 2))
    assert not np.array_equal(one["trace"], two["trace"])


def test_ids_unique_in_their_center_alone() -> None:
    # Two hospitals number their patients from 1: only with unique_ids do their patients share random numbers.
    cohort, _ = planted(80)
    both = {"a": cohort, "b": cohort}
    shared = list(rounds(mixture(), federation(both)))
    assert all((s["sizes"] % 2 == 0).all() for s in shared if "sizes" in s)
    algorithm = mixture(unique_ids=False)
    assert build(algorithm.declare()) == mixture(unique_ids=False, rounds=1000, annealing=0)
    own = list(rounds(algorithm, federation(both)))
    assert any((s["sizes"] % 2 == 1).any() for s in own if "sizes" in s)
    state = own[-2]
    labels = [algorithm.memberships(state, cohort, position).labels for position in (0, 1)]
    assert (labels[0] != labels[1]).any()
    seen = np.concatenate(labels)
    sizes = np.bincount(seen[seen >= 0], minlength=len(state["theta"]))
    np.testing.assert_array_equal(sizes[sizes > 0], own[-1]["sizes"][own[-1]["sizes"] > 0])


def test_resumed_at_any_round(tmp_path: Path) -> None:
    cohort, _ = planted(60)
    parts, algorithm = split(cohort, 4), mixture(rounds=12, annealing=4)
    whole = list(rounds(algorithm, federation(parts)))
    for state in whole[:-1]:
        save_state(tmp_path / "state.npz", state)
        again = run(algorithm, federation(parts, directory=tmp_path), load_state(tmp_path / "state.npz"))
        require_equal_states(again, whole[-1])
    path = tmp_path / "kept.npz"
    run(algorithm, federation(parts), after_round=[Checkpoint(path, 5), lambda s: int(s["round"]) == 8])
    require_equal_states(run(algorithm, federation(parts), load_state(path)), whole[-1])


# The posterior is right -------------------------------------------------------------------------------


def canonical(z: NDArray[Any]) -> tuple[int, ...]:
    seen: dict[int, int] = {}
    return tuple(seen.setdefault(int(k), len(seen)) for k in z)


def partitions(n: int) -> Iterator[tuple[int, ...]]:
    for z in product(range(n), repeat=n):
        if canonical(np.array(z)) == z:
            yield z


def enumerated_law(row: NDArray[Any], weights: NDArray[Any]) -> NDArray[Any]:
    """P(row | number of events) under each row of weights, by listing all sets of tested genes."""
    sets = combinations(np.flatnonzero(row != -1), int((row == 1).sum()))
    norm = sum(weights[:, list(s)].prod(1) for s in sets)
    return np.asarray(weights[:, row == 1].prod(1) / norm)


def mfm_prior(n: int, gamma: float, geometric: float) -> dict[tuple[int, ...], float]:
    """P(partition) by definition: K, then labels given Dirichlet proportions, summed over K and all labellings."""
    result = {}
    for z in partitions(n):
        sizes, t, probability = np.bincount(z), max(z) + 1, 0.0
        for k in range(t, 400):
            log_ways = gammaln(k + 1) - gammaln(k - t + 1)
            labels = gammaln(k * gamma) - gammaln(k * gamma + n) + (gammaln(sizes + gamma) - gammaln(gamma)).sum()
            probability += geometric * (1 - geometric) ** (k - 1) * np.exp(log_ways + labels)
        result[z] = float(probability)
    return result


def exact_posterior(events: NDArray[Any], scale: float, gamma: float, geometric: float) -> dict[tuple[int, ...], float]:
    """P(partition | data); weights integrated by plain Monte Carlo over the prior."""
    n = len(events)
    weights = np.random.default_rng(0).dirichlet(np.full(events.shape[1], scale), 400_000)
    law = np.array([enumerated_law(row, weights) for row in events])
    marginal = {
        members: law[list(members)].prod(0).mean()
        for size in range(1, n + 1)
        for members in combinations(range(n), size)
    }
    posterior = {}
    for z, probability in mfm_prior(n, gamma, geometric).items():
        blocks = [tuple(int(i) for i in np.flatnonzero(np.array(z) == k)) for k in range(max(z) + 1)]
        posterior[z] = probability * np.prod([marginal[block] for block in blocks])
    whole = sum(posterior.values())
    return {z: float(value / whole) for z, value in posterior.items()}


PROPOSALS = [1, pytest.param(0, marks=pytest.mark.slow)]
"""Births and deaths beside the telescoping sampler, and the latter alone."""


@pytest.mark.parametrize("proposals", PROPOSALS)
@pytest.mark.parametrize("scale", [0.15, 1.0])
def test_partitions_of_a_tiny_cohort(scale: float, proposals: int) -> None:
    """All 52 partitions of five patients, one with an untested gene, have their exact posterior probability."""
    draws, gamma, geometric = 10_000, 0.7, 0.3
    exact = exact_posterior(SMALL, scale, gamma, geometric)
    assert len(exact) == 52  # Bell's number
    cohort = cohort_of(SMALL)
    algorithm = FederatedMixture(
        GENES[:4],
        rounds=draws + 100,
        annealing=10,
        gamma=gamma,
        geometric=geometric,
        scale=scale,
        components=3,
        proposals=proposals,
    )
    patients, found = everybody(cohort), Counter[tuple[int, ...]]()
    state = algorithm.start(Roster(("all",), 4))
    while not algorithm.done(state):
        if "theta" in state and int(state["sweeps"]) >= 100 and about_labels(algorithm, state):
            found[canonical(algorithm.memberships(state, cohort).labels)] += 1
        state = step(algorithm, state, patients)
    assert found.total() == draws
    assert not proposals or (state["accepted"][:, 0] > 100).all()  # both births and deaths
    for z, p in exact.items():
        error = np.sqrt(p * (1 - p) / draws * 12)  # a round's autocorrelation time is a few rounds
        assert abs(found[z] / draws - p) < 4.5 * error + 0.01 * p + 1e-4, (z, found[z] / draws, p)


@pytest.mark.parametrize("proposals", PROPOSALS)
def test_geweke(proposals: int) -> None:
    """Rounds alternating with new events given labels and weights return the prior (Geweke, JASA 2004)."""
    patients, genes, steps = 6, 5, 8_000
    rng = np.random.default_rng(8)
    tested = rng.random((patients, genes)) < 0.8
    tested[:, :4] = True
    n = rng.integers(1, 4, patients)
    events = np.where(tested, 0, -1)
    for i in range(patients):
        events[i, : n[i]] = 1
    algorithm = FederatedMixture(
        GENES[:genes], rounds=steps, geometric=0.3, scale_bounds=(0.1, 3.0), components=2, proposals=proposals
    )
    cohort = cohort_of(events)
    state = algorithm.start(Roster(("all",), 9))
    while "theta" not in state:
        state = step(algorithm, state, everybody(cohort))
    suffix, drawn = np.empty((genes + 1, 5)), np.empty(genes, np.int64)
    while not algorithm.done(state):
        while not about_labels(algorithm, state):
            state = step(algorithm, state, everybody(cohort))
        labels = algorithm.memberships(state, cohort).labels
        state = step(algorithm, state, everybody(cohort))
        rank = np.searchsorted(np.unique(labels), labels)  # the server puts components with patients first
        assert (np.bincount(rank) == state["sizes"][state["sizes"] > 0]).all()
        for i in range(patients):
            draw_events(np.exp(state["theta"][rank[i]]), tested[i], int(n[i]), rng, suffix, drawn)
            events[i, tested[i]] = drawn[tested[i]]
        cohort = cohort_of(events)
    _, clusters, components, _, scale = trace(state)[::10].T
    assert kstest(np.log(scale), "uniform", (np.log(0.1), np.log(30))).pvalue > 1e-3
    sizes = np.zeros(patients + 1)
    for z, probability in mfm_prior(patients, 1.0, 0.3).items():
        sizes[max(z) + 1] += probability
    found = np.bincount(clusters.astype(int), minlength=patients + 1) / len(clusters)
    assert np.abs(found - sizes).max() < 4.5 * np.sqrt(0.25 / len(clusters) * 2)
    share = (components == 1).mean(), (components <= 3).mean()
    assert np.abs(np.subtract(share, (0.3, 1 - 0.7**3))).max() < 4.5 * np.sqrt(0.25 / len(clusters) * 2)


def test_templates_draw_from_their_density() -> None:
    """Importance weights against another law average to 1, over weights and proportion alike."""
    rng = np.random.default_rng(2)
    template = Template(1, np.array([3.0, 9.0, 0.0]), np.array([-0.3, 0.0, 0.4]), 0.3)
    wide = Template(1, np.array([1.5, 9.0, 0.2]), np.array([0.5, 0.0, 0.9]), 0.25)
    log_ratio = []
    for _ in range(20_000):
        theta, w = template.draw(0.7, rng)
        parts = theta, np.log(w), np.log1p(-w), 0.7
        log_ratio.append(wide.log_density(*parts) - template.log_density(*parts))
    weights = np.exp(log_ratio)
    assert abs(weights.mean() - 1) < 4.5 * weights.std() / np.sqrt(len(weights))
    assert weights.std() > 0.2


def test_a_birth_has_its_death() -> None:
    """The ratios of a move and of its reverse cancel, and so do the gains."""
    rng = np.random.default_rng(3)
    template = Template(0, np.array([5.0, 2.0, 1.0]), np.zeros(3), 0.4)
    theta, log_weights = rng.normal(size=(3, 3)), np.log([0.5, 0.3, 0.2])
    birth = None
    while birth is None or len(birth.theta) == 3:
        birth = propose(template, theta, log_weights, 0.5, 0.8, 0.2, 10, rng)
    for _ in range(100):
        death = propose(template, birth.theta, birth.log_weights[1], 0.5, 0.8, 0.2, 10, rng)
        assert death is not None
        if len(death.theta) == 4 and np.isinf(death.log_weights[1, 3]):
            break
    assert death is not None
    assert death.log_ratio == pytest.approx(-birth.log_ratio, rel=1e-10)
    np.testing.assert_allclose(death.log_weights[1, :3], log_weights)
    one = propose(template, theta[:1], np.zeros(1), 0.5, 0.8, 0.2, 1, rng)
    assert one is None  # none fewer than one, none more than the capacity


def test_the_gain_is_that_of_the_mixture() -> None:
    cohort, _ = planted(200)
    algorithm = mixture(rounds=5, annealing=0)
    for state in rounds(algorithm, federation({"all": cohort})):
        if "theta" in state and not about_labels(algorithm, state):
            break
    question = algorithm.broadcast(state)
    answer = algorithm.client_update(question, everybody(cohort), np.random.default_rng(0), Memory())
    table = event_table(cohort, GENES)
    table = table.select(table.counts > 0)
    law = np.array([enumerated_law(row, np.exp(question["theta"])) for row in table.events])
    now, then = (np.log(law @ np.exp(row)).sum() for row in question["log_weights"])
    assert answer["gain"] / UNITS == pytest.approx(then - now, rel=1e-9, abs=1e-4)


def test_the_number_of_components_given_a_partition() -> None:
    """Its law sums to Miller & Harrison's V_n(t), by the definition over all K."""
    from clustering.mixture.partition_prior import log_mfm_coefficients

    for filled in (1, 3):
        log_v = log_mfm_coefficients(20, 4, 0.7, 0.2)
        constant = np.log(0.2) - np.log(0.8)
        total_mass = np.logaddexp.reduce(log_components(filled, 20, 0.7, 0.2, 1500)) + constant
        assert total_mass == pytest.approx(log_v[filled], rel=1e-10)


def test_planted_clusters_are_found_and_the_likelihood_is_that_of_the_patients() -> None:
    cohort, truth = planted(400, seed=5)
    algorithm = mixture(rounds=300, annealing=150)
    history = list(rounds(algorithm, federation(split(cohort, 9))))
    before, state = history[-2], history[-1]
    assert about_labels(algorithm, before)
    assert 3 <= np.median(trace(state)[150:, SCALARS.index("clusters")]) <= 4
    found = algorithm.memberships(state, cohort)
    seen = found.labels >= 0
    assert adjusted_rand_score(truth[seen], found.labels[seen]) > 0.9
    labels = algorithm.memberships(before, cohort).labels[seen]
    data = prepare(event_table(cohort[seen], GENES))
    # The trace has the likelihood under the labels of the round and the weights drawn given them.
    rank = np.searchsorted(np.unique(labels), labels)
    assert trace(state)[-1, 0] == pytest.approx(log_likelihood(data, rank, state["theta"]), rel=1e-12)
    assert dict(zip(SCALARS, trace(state)[-1], strict=True)) == algorithm.metrics(state)


# What a center writes for itself ----------------------------------------------------------------------


def test_memberships_are_the_centers_own_labels_and_their_probabilities() -> None:
    cohort, _ = planted(120)
    parts, algorithm = split(cohort, 5), mixture()
    history = list(rounds(algorithm, federation(parts)))
    before, state = history[-2:]
    found = [algorithm.memberships(before, part) for part in parts.values()]
    labels = np.concatenate([m.labels for m in found])
    sizes = np.bincount(labels[labels >= 0])
    np.testing.assert_array_equal(sizes[sizes > 0], state["sizes"][state["sizes"] > 0])
    one = found[-1]
    table = event_table(parts["c04"], GENES)
    weights = np.exp(before["theta"])
    for i in range(len(one.ids)):
        law = np.array([enumerated_law(table.events[i], row[None])[0] for row in weights])
        expected = np.exp(before["log_weights"]) * (law if table.counts[i] else 1.0)
        np.testing.assert_allclose(one.probabilities[i], expected / expected.sum(), rtol=1e-9, atol=1e-300)
        assert (one.labels[i] == -1) == (table.counts[i] == 0)
    # A new patient, with other lesions tested, has a probability too.
    new = cohort_of(np.array([[1, -1, -1, 1] + [-1] * 7 + [0]]))
    assert algorithm.memberships(state, new).probabilities.sum() == pytest.approx(1.0)


def test_normalizers_do_not_depend_on_company() -> None:
    rng = np.random.default_rng(1)
    theta, tested = rng.normal(0, 30, (4, 30)), rng.random((6, 30)) < 0.7
    whole = log_norms(theta, tested, 20)
    np.testing.assert_array_equal(log_norms(theta[2:3], tested[4:5], 7)[0, 0], whole[2, 4, :8])


# Random numbers, panels -------------------------------------------------------------------------------


def test_uniforms_are_those_of_philox() -> None:
    rng = np.random.default_rng(4)
    key = rng.integers(0, 2**64, 2, dtype=np.uint64)
    patients = rng.integers(0, 2**64, 50, dtype=np.uint64)
    for number in (0, 1, 123456):
        expected = [
            np.random.Generator(np.random.Philox(key=key, counter=_one_before(int(p), number))).random()
            for p in patients
        ]
        np.testing.assert_array_equal(uniforms(key, patients, np.uint64(number)), expected)
    many = uniforms(key, np.array([entropy(str(i)) for i in range(100_000)], np.uint64), np.uint64(7))
    assert kstest(many, "uniform").pvalue > 1e-3


def _one_before(patient: int, number: int) -> NDArray[np.uint64]:
    """NumPy counts up before it draws."""
    counter = (patient + (number << 64) - 1) % (1 << 256)
    return np.array([counter >> 64 * j & (2**64 - 1) for j in range(4)], dtype=np.uint64)


@pytest.mark.parametrize("sets", [1, 40, 700])
def test_panels_are_agreed_on_by_sums_alone(sets: int) -> None:
    rng = np.random.default_rng(sets)
    tested = rng.random((sets, 16)) < 0.5
    which = rng.integers(sets, size=3 * sets)
    centers = [np.unique(part, return_inverse=True) for part in np.array_split(which, 9)]
    known, complete, attempt = np.zeros((0, 16), dtype=bool), False, 0
    while not complete:
        assert attempt < 8
        answers = [panels.count(tested[own], row, known, attempt) for own, row in centers if len(own)]
        patients, sums = (sum(a[name] for a in answers) for name in ("panel_patients", "panel_tested"))
        known, complete = panels.resolve(np.asarray(patients), np.asarray(sums), known)
        attempt += 1
    np.testing.assert_array_equal(known, np.unique(tested[np.unique(which)], axis=0))
    if sets == 700:
        assert attempt > 1


# The wall, and errors ---------------------------------------------------------------------------------


def test_small_centers_take_no_part_in_sampling(tmp_path: Path) -> None:
    cohort, _ = planted(100)
    parts = split(cohort, 6)  # five centers of one patient, which the default policy withholds
    federated = federation(parts, min_patients=3, directory=tmp_path)
    state = run(mixture(), federated)
    require_equal_states(state, run(mixture(), federation({"all": parts["c05"]})))
    assert "withheld" in (tmp_path / "audit" / "c00.jsonl").read_text()


def test_an_answer_is_whole_numbers_without_patients() -> None:
    cohort, _ = planted(97)
    federated = federation(split(cohort, 3))
    history = list(rounds(mixture(), federated))
    for state in (mixture().start(federated.roster), *history[-3:-1]):
        question_state = mixture().broadcast(state)
        answers = [
            mixture().client_update(question_state, everybody(c), np.random.default_rng(0), Memory())
            for c in split(cohort, 3).values()
        ]
        for name, array in total(answers).items():
            assert (array == array.round()).all(), name
            assert not {97, *map(len, split(cohort, 3).values())} & set(array.shape)


def test_a_center_without_events_answers_nothing() -> None:
    cohort, _ = planted(50)
    without = cohort_of(np.zeros((4, 12), dtype=int), first=1000)
    both = run(mixture(), federation({"all": cohort, "none": without}, min_patients=3))
    require_equal_states(both, run(mixture(), federation({"all": cohort})))


def test_a_center_that_drops_out_stops_the_run() -> None:
    cohort, _ = planted(60)
    parts, algorithm = split(cohort, 3), mixture()
    state = list(rounds(algorithm, federation(parts)))[5]
    with pytest.raises(QuorumError, match="exact sampling needs all in every round"):
        run(algorithm, federation(dict(list(parts.items())[1:])), state)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"annealing": 40}, "annealing is 40; it takes some of the 40 rounds"),
        ({"gamma": 0.0}, "gamma is 0.0"),
        ({"geometric": 1.0}, "geometric 1.0"),
        ({"scale": -1.0}, "scale is -1.0"),
        ({"scale_bounds": (2.0, 1.0)}, "scale_bounds"),
        ({"proposals": -1}, "proposals is -1"),
        ({"components": 200}, "components is 200; from 1 to the capacity, 100"),
    ],
)
def test_parameters_are_checked(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mixture(**changes)


def test_lesions_are_named_once_exist_and_are_binary() -> None:
    with pytest.raises(ValueError, match="2 names, 1 different"):
        FederatedMixture(("g1", "g1"))
    with pytest.raises(ValueError, match="0 names"):
        FederatedMixture(())
    cohort, _ = planted(20)
    assert lesions(cohort.schema) == GENES
    for genes, message in ((("g1", "KIT"), "no feature 'KIT'"), (("age",), "'age' is continuous; lesions are binary")):
        with pytest.raises(QuorumError, match=message):
            run(FederatedMixture(genes), federation({"all": cohort}, quorum=Quorum(1.0)))


def test_memberships_before_the_first_components() -> None:
    cohort, _ = planted(20)
    with pytest.raises(ValueError, match="no components yet"):
        mixture().memberships(mixture().start(Roster(("all",))), cohort)


def test_patients_unlike_those_agreed_on_are_refused() -> None:
    cohort, _ = planted(30)
    state = list(rounds(mixture(), federation({"all": cohort})))[-2]
    other = everybody(cohort_of(np.array([[1] * 11 + [-1]])))
    with pytest.raises(ValueError, match="was not agreed on"):
        mixture().client_update(mixture().broadcast(state), other, np.random.default_rng(0), Memory())


def test_a_single_lesion_is_a_mixture_too() -> None:
    # The example of the contract that all registered algorithms meet (test_algorithm.py).
    algorithm = FederatedMixture(("mutated",), rounds=5, geometric=0.5, components=3)
    for state in rounds(algorithm, federation_of()):
        assert all(isinstance(array, np.ndarray) and array.dtype.kind in "biuf" for array in state.values())
    assert lesions(SCHEMA) == ("mutated",)
    assert trace(state)[-1, 0] == 0.0  # whether the only lesion is there is certain, given the number of events
