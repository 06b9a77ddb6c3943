"""Singling out: do synthetic patients tell properties that exactly one training patient has?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import hypergeom

from experiments.synthetic.distances import Floats, Ints, is_numeric, records
from experiments.synthetic.rates import Estimate, Z
from harmonization import Cohort

ATTACKS, ATTEMPTS, COLUMNS = 1000, 40_000, 4
"""Predicates to try on the real patients, to look for them at most, and columns of a multivariate one."""
RELABELINGS = 200
EQUAL, AT_LEAST, AT_MOST, MISSING = range(4)


@dataclass(frozen=True, eq=False)
class Predicates:
    """Conjunctions of comparisons, all of shape (number of predicates, number of columns in each).

    Parameters
    ----------
    column, comparison, value
        Of each comparison: a column of `records`, one of EQUAL, AT_LEAST, AT_MOST, MISSING, and what to compare with.
    """

    column: Ints
    comparison: Ints
    value: Floats

    def __len__(self) -> int:
        return len(self.column)

    def __getitem__(self, rows: NDArray[np.bool_] | Ints | slice) -> Predicates:
        return Predicates(self.column[rows], self.comparison[rows], self.value[rows])

    def holds(self, table: Floats) -> NDArray[np.bool_]:
        """Of which patients each predicate is true, shape (number of predicates, n)."""
        true = np.ones((len(self), len(table)), dtype=bool)
        for k in range(self.column.shape[1]):
            x, kind, value = table.T[self.column[:, k]], self.comparison[:, k, None], self.value[:, k, None]
            cases = [x == value, x >= value, x <= value, np.isnan(x)]
            true &= np.choose(kind, cases)
        return true

    def counts(self, table: Floats) -> Ints:
        """How many patients each is true of."""
        blocks = [self[i : i + 1000].holds(table).sum(axis=1) for i in range(0, len(self), 1000)]
        return np.concatenate(blocks) if blocks else np.empty(0, np.int64)


def univariate(table: Floats, numeric: NDArray[np.bool_], rng: np.random.Generator, wanted: int) -> Predicates:
    """Values that one synthetic patient has, the extremes of numbers, and being the only one with a missing value."""
    rows: list[tuple[int, int, float]] = []
    for j, x in enumerate(table.T):
        values, counts = np.unique(x[~np.isnan(x)], return_counts=True)
        rows += [(j, EQUAL, float(v)) for v in values[counts == 1]]
        if numeric[j] and len(values):
            rows += [(j, AT_MOST, float(values[0]))] * int(counts[0] == 1)
            rows += [(j, AT_LEAST, float(values[-1]))] * int(counts[-1] == 1)
        rows += [(j, MISSING, np.nan)] * int(np.isnan(x).sum() == 1)
    chosen = [rows[i] for i in rng.permutation(len(rows))[:wanted]]
    column, comparison, value = zip(*chosen, strict=True) if chosen else ((), (), ())
    return Predicates(
        np.array(column, np.int64)[:, None], np.array(comparison, np.int64)[:, None], np.array(value, float)[:, None]
    )


def multivariate(
    table: Floats, numeric: NDArray[np.bool_], rng: np.random.Generator, wanted: int, columns: int = COLUMNS
) -> Predicates:
    """What some columns of a synthetic patient say (numbers: at least or at most, away from the median), if it is true
    of him alone."""
    n, p = table.shape
    columns = min(columns, p)
    has = [table[~np.isnan(table[:, j]), j] for j in range(p)]
    median = np.array([np.median(x) if len(x) else 0.0 for x in has])
    seen: set[bytes] = set()
    found: list[Predicates] = []
    for _ in range(ATTEMPTS // 1000):
        victim = rng.integers(n, size=1000)
        column = np.sort(rng.permuted(np.tile(np.arange(p), (1000, 1)), axis=1)[:, :columns], axis=1)
        value = table[victim[:, None], column]
        side = np.where(value > median[column], AT_LEAST, AT_MOST)
        comparison = np.where(np.isnan(value), MISSING, np.where(numeric[column], side, EQUAL))
        tried = Predicates(column, comparison, value)
        alone = tried[tried.counts(table) == 1]
        keys = [a.tobytes() + b.tobytes() for a, b in zip(alone.column, alone.value, strict=True)]
        new = [i for i, key in enumerate(keys) if key not in seen and key not in keys[:i]]
        seen.update(keys)
        found.append(alone[np.array(new, dtype=np.int64)])
        if len(seen) >= wanted:
            break
    arrays = (np.concatenate([getattr(f, name) for f in found]) for name in ("column", "comparison", "value"))
    return Predicates(*arrays)[:wanted]


def risk(predicates: Predicates, train: Floats, heldout: Floats, rng: np.random.Generator) -> Estimate:
    """Share of predicates that name a training patient because he was in the training data.

    Predicates of rare properties isolate somebody by chance, and the more patients there are the more often. So success
    on training patients is compared with what it would be were membership drawn by lot among the real patients: of a
    predicate true of c among N of whom n are training patients the probability is hypergeometric, P(1; N, c, n). Were
    every predicate about one training patient, the sum of the differences would be that of 1 − P(1; N, 1 + c_heldout,
    n), and the risk is the ratio of the two: Giomi's residual risk, without extrapolating the control attack from few
    patients to many. The interval is as wide as the risks of random relabelings are (`RELABELINGS`).
    """
    n, m = len(train), len(heldout)
    true = predicates.holds(np.concatenate([train, heldout])).astype(np.float32)
    lots = np.tile(np.arange(n + m) < n, (RELABELINGS + 1, 1))
    lots[1:] = rng.permuted(lots[1:], axis=1)
    inside, total = (true @ lots.T.astype(np.float32)).round(), true.sum(axis=1, keepdims=True).round()
    by_lot = _one_of(np.arange(total.max() + 2), n + m, n)
    excess = (inside == 1) - by_lot[total.astype(int)]
    most = 1 - by_lot[1 + (total - inside).astype(int)]
    risks = excess.sum(axis=0) / most.sum(axis=0)
    error = Z * float(risks[1:].std(ddof=1))
    return Estimate(float(risks[0]), float(risks[0]) - error, float(risks[0]) + error)


def _one_of(having: Floats, patients: int, drawn: int) -> Floats:
    """Probability that of those having a property exactly one is drawn."""
    return np.asarray(hypergeom.pmf(1, patients, having.astype(int), drawn))


def singling_out(train: Cohort, heldout: Cohort, synthetic: Cohort, seed: int) -> dict[str, float]:
    """Residual risk that a property of one synthetic patient alone is one of a training patient alone.

    Returns
    -------
    dict
        ``singling_out_univariate`` and ``singling_out_multivariate`` with intervals, and ``singling_out``, the larger
        of the two, with its own; NaN where no property of a single patient was found.

    References
    ----------
    Giomi et al. (2023), A unified framework for quantifying privacy risk in synthetic data, PoPETs 2023(2), section
    5.1: how predicates are found. Their control attack is replaced (`risk`).
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, 3]))
    numeric, table = is_numeric(train.schema), np.unique(records(synthetic), axis=0)
    found = {}
    for name, make in (("univariate", univariate), ("multivariate", multivariate)):
        predicates = make(table, numeric, rng, ATTACKS)
        unknown = Estimate(np.nan, np.nan, np.nan)
        found[name] = risk(predicates, records(train), records(heldout), rng) if len(predicates) else unknown
    worst = max(found.values(), key=lambda one: np.nan_to_num(one.value, nan=-np.inf))
    parts = {f"singling_out_{name}": one for name, one in found.items()} | {"singling_out": worst}
    return {key: value for name, one in parts.items() for key, value in one.named(name).items()}
