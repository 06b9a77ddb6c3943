"""A generator that copies its training rows is caught by every metric, and fresh real patients pass every one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations, permutations

import numpy as np
import pytest

from experiments.synthetic.attribute_inference import attribute_inference
from experiments.synthetic.closeness import copies, share_nearer
from experiments.synthetic.distances import MixedDistance
from experiments.synthetic.linkability import linkability
from experiments.synthetic.membership import density_attack, shadow_attack
from experiments.synthetic.privacy import VERDICTS, privacy, verdicts
from experiments.synthetic.rates import Estimate, Rate, residual_risk
from harmonization import Cohort, Feature, Schema

GENES = 16
SCHEMA = Schema(
    "made_up",
    "1",
    (
        Feature("age", "continuous", low=0, high=120),
        Feature("wbc", "continuous", low=0),
        Feature("ldh", "continuous", low=0),
        Feature("male", "binary"),
        Feature("type", "categorical", categories=("primary", "secondary", "other")),
        *(Feature(f"G{g}", "binary", "genomic") for g in range(GENES)),
    ),
)


def draw(n: int, seed: int) -> Cohort:
    """Patients of two kinds, with missing values; hardly two have the same lesions."""
    rng = np.random.default_rng(seed)
    kind = rng.random(n) < 0.5
    age = np.clip(rng.normal(np.where(kind, 50, 68), 10), 18, 100).round()
    wbc, ldh = np.exp(rng.normal(np.where(kind, 3, 1.5), 1)).round(1), np.exp(rng.normal(6, 0.5, n)).round()
    rates = np.where(kind[:, None], np.linspace(0.1, 0.6, GENES), np.linspace(0.6, 0.1, GENES))
    genes = np.where(rng.random((n, GENES)) < 0.03, np.nan, rng.random((n, GENES)) < rates)
    wbc[rng.random(n) < 0.1] = np.nan
    values = np.column_stack([age, wbc, ldh, rng.random(n) < 0.5, rng.choice(3, n, p=[0.7, 0.2, 0.1]), genes])
    death, leaving = rng.exponential(np.where(kind, 4, 1)), rng.uniform(1, 8, n)
    ids = np.array([f"{seed}-{i}" for i in range(n)])
    return Cohort(SCHEMA, ids, values, np.minimum(death, leaving).round(4), death <= leaving)


TRAIN, HELDOUT, FRESH = draw(400, 1), draw(200, 2), draw(400, 5)


@dataclass(frozen=True)
class Overfitted:
    """Draws training patients with some values of other training patients."""

    train: Cohort
    changed: float = 0.25

    def sample(self, n: int, seed: int) -> Cohort:
        rng = np.random.default_rng(seed)
        own, others = rng.integers(len(self.train), size=(2, n, len(self.train.schema.features)))
        rows = np.where(rng.random(own.shape) < self.changed, others, own[:, :1])
        drawn = self.train[own[:, 0]]
        return replace(drawn, values=np.take_along_axis(self.train.values, rows, axis=0))


def test_copies_are_caught_by_every_metric() -> None:
    """Row i being training row i: no pair is left out."""
    found = privacy(TRAIN, HELDOUT, TRAIN, 1)
    judged = verdicts(found)
    assert set(judged) == set(VERDICTS) - {"shadow_auc"}
    assert not any(verdict["passed"] for verdict in judged.values()), judged
    assert found["exact_matches"] == found["rare_copies"] == found["outcome_copies"] == 400
    assert found["exact_matches_heldout_share"] == 0
    assert found["dcr_5th_percentile_ratio"] == 0
    assert found["membership_auc"] > 0.99
    for name in ("dcr_share", "membership_auc"):
        assert found[f"{name}_low"] > 0.5
    for name in ("attribute_inference", "singling_out", "linkability", "rare_combinations"):
        assert found[f"{name}_low"] > 0


def test_fresh_patients_pass_and_intervals_hold_chance() -> None:
    found = privacy(TRAIN, HELDOUT, FRESH, 1)
    assert all(verdict["passed"] for verdict in verdicts(found).values()), verdicts(found)
    for name in ("dcr_share", "membership_auc"):
        assert found[f"{name}_low"] < 0.5 < found[f"{name}_high"]
    names = ("attribute_inference", "singling_out_univariate", "singling_out_multivariate", "linkability")
    for name in (*names, "rare_combinations"):
        assert found[f"{name}_low"] < 0 < found[f"{name}_high"]
    assert found == privacy(TRAIN, HELDOUT, FRESH, 1)


def test_a_copied_part_is_caught() -> None:
    """Every fourth synthetic patient is a training patient: what looks at single ones sees it."""
    mixed = Cohort.concatenate([FRESH[np.arange(300)], TRAIN[np.arange(100)]])
    found = privacy(TRAIN, HELDOUT, mixed, 1)
    failed = {name for name, verdict in verdicts(found).items() if not verdict["passed"]}
    assert {"exact_matches", "rare_copies", "membership_auc", "nndr_ratio", "dcr_5th_percentile_ratio"} <= failed
    assert {"rare_combinations", "singling_out", "linkability"} <= failed


def test_the_shadow_attack_tells_members_of_an_overfitted_generator() -> None:
    distance = MixedDistance.of(Cohort.concatenate([TRAIN, HELDOUT]))

    def attack(synthetic: Cohort) -> Estimate:
        return shadow_attack(TRAIN, HELDOUT, synthetic, distance, lambda c, _: Overfitted(c), 1, shadows=4)

    found = attack(Overfitted(TRAIN).sample(400, 7))
    assert found.value > 0.7
    assert found.low > 0.6
    chance = attack(FRESH)
    assert chance.low < 0.5 < chance.high


def test_a_share_is_the_mean_over_all_ways_to_thin_the_larger_table() -> None:
    """By enumeration: five training patients and three held-out ones, and the other way round."""
    rng = np.random.default_rng(0)
    five, three, drawn = (rng.integers(0, 3, (n, 2)).astype(float) for n in (5, 3, 6))  # with ties
    far = [np.abs(drawn[:, None] - points).sum(axis=2) for points in (five, three)]
    wins = []
    for chosen in combinations(range(5), 3):
        a, b = far[0][:, chosen].min(axis=1), far[1].min(axis=1)
        wins.append((a < b) + 0.5 * (a == b))
    expected = float(np.mean(wins))
    assert share_nearer(five, three, drawn, 1).value == pytest.approx(expected)
    assert share_nearer(three, five, drawn, 1).value == pytest.approx(1 - expected)


def test_only_copies_of_the_only_one_are_rare() -> None:
    """Common patients are doubled by chance; whoever is alone is not."""
    schema = Schema("two", "1", (Feature("a", "binary", "genomic"), Feature("b", "binary", "genomic")))

    def of(*rows: tuple[float, float]) -> Cohort:
        n = len(rows)
        return Cohort(schema, np.arange(n).astype(str), np.array(rows), np.arange(1.0, n + 1), np.ones(n, bool))

    train, heldout = of((0, 0), (0, 0), (1, 1), (0, np.nan)), of((0, 0), (1, 0))
    found = copies(train, heldout, of((0, 0), (0, np.nan), (0, 1)))
    assert found["exact_matches"] == 2
    assert found["rare_copies"] == 1
    assert found["exact_matches_share"] == 0.75
    assert found["exact_matches_heldout_share"] == 0.5
    assert copies(train, heldout, of((0, 1), (0, 1), (0, 1)))["rare_copies"] == 0


SMALL = Schema(
    "small",
    "1",
    (
        Feature("a", "binary"),
        Feature("b", "binary"),
        Feature("g", "binary", "genomic"),
        Feature("h", "binary", "genomic"),
        Feature("load", "continuous", "genomic"),
    ),
)


def small(*rows: tuple[float, ...]) -> Cohort:
    n = len(rows)
    return Cohort(SMALL, np.arange(n).astype(str), np.array(rows, dtype=float), np.ones(n), np.ones(n, bool))


def test_linkability_by_hand() -> None:
    """Linked if one synthetic patient is among the nearest of both halves, in whatever order they come."""
    synthetic = small((0, 0, 0, 0, 1), (1, 1, 1, 1, 1), (0, 0, 1, 1, 1))
    train = small(
        (0, 0, 0, 0, 1),  # clinical: the first and the third; genomic: the first
        (1, 1, 0, 0, 1),  # the second; the first: not linked
        (1, 1, 1, 1, 1),  # the second; the second and the third
        (0, 1, 0, 0, 1),  # all three; the first
    )
    heldout = small((1, 1, 0, 0, 1), (0, 0, 1, 1, 1), (1, 1, 0, 0, 1))  # the third is nearest to both halves of one
    expected = residual_risk(Rate.of(3, 4), Rate.of(1, 3))
    distance = MixedDistance.of(Cohort.concatenate([train, heldout]), synthetic)
    for order in permutations(range(3)):
        assert linkability(train, heldout, synthetic[np.array(order)], distance) == expected


def test_attribute_inference_by_hand() -> None:
    """Guesses are those of the nearest by a and b; of numbers within 5 % of ranks, here .1, .3, .5, .7, .9."""
    synthetic = small((0, 0, 1, 0, 10), (1, 1, 0, 1, 21))
    train = small(
        (0, 0, 1, 0, 10),  # all three are right
        (1, 1, 0, 0, 20),  # but for h; 21 has rank .32
        (0, 0, 1, np.nan, 30),  # g of two that are known
    )
    heldout = small((1, 1, 1, 1, 40), (0, 0, 0, 1, 50))  # h alone; none
    found = attribute_inference(train, heldout, synthetic, MixedDistance.of(Cohort.concatenate([train, heldout])))
    assert found["attribute_inference_training"] == pytest.approx((1 + 2 / 3 + 1 / 2) / 3)
    assert found["attribute_inference_heldout"] == pytest.approx((1 / 3 + 0) / 2)
    assert found["attribute_inference"] == pytest.approx(13 / 18 - 1 / 6)


def test_the_density_attack_by_its_definition() -> None:
    train, heldout, synthetic = TRAIN[:7], HELDOUT[:5], Cohort.concatenate([TRAIN[4:9], FRESH[:3]])
    real = Cohort.concatenate([train, heldout])
    distance = MixedDistance.of(real, synthetic)
    points, drawn = distance.embed(real), distance.embed(synthetic)
    apart = [[float(np.abs(x - y).sum()) for y in points] for x in points]
    width = 0.1 * float(np.median([min(d for j, d in enumerate(row) if j != i) for i, row in enumerate(apart)]))
    score = []
    for i, x in enumerate(points):
        around = np.mean([np.exp(-np.abs(x - y).sum() / width) for y in drawn])
        others = np.mean([np.exp(-d / width) for j, d in enumerate(apart[i]) if j != i])
        score.append(np.log(around) - np.log(others))
    wins = [(a > b) + (a == b) / 2 for a in score[:7] for b in score[7:]]
    found = density_attack(train, heldout, synthetic, distance)
    assert found.value == pytest.approx(np.mean(wins))
    assert 0.5 < found.value < 1


def test_other_columns_and_too_few_patients_are_refused() -> None:
    with pytest.raises(ValueError, match="synthetic has other features than train"):
        privacy(TRAIN, HELDOUT, FRESH.select(["clinical"]), 1)
    with pytest.raises(ValueError, match="heldout has 2 patients"):
        privacy(TRAIN, HELDOUT[np.arange(2)], FRESH, 1)


def test_what_is_missing_has_no_verdict() -> None:
    assert verdicts({"membership_auc": 0.55, "linkability": float("nan"), "nndr_ratio": 0.1}) == {
        "nndr_ratio": {"value": 0.1, "threshold": 0.8, "direction": "at least", "passed": False},
        "membership_auc": {"value": 0.55, "threshold": 0.55, "direction": "at most", "passed": True},
    }
