"""Singling out: do synthetic patients tell properties that exactly one training patient has?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import curve_fit

from experiments.synthetic.distances import Floats, Ints, is_numeric, records
from experiments.synthetic.rates import Estimate, Rate, residual_risk
from harmonization import Cohort

ATTACKS, ATTEMPTS, COLUMNS = 1000, 40_000, 4
"""Predicates to try on the real patients, to look for them at most, and columns of a multivariate one."""
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


def isolation(n: Floats, most: float) -> Floats:
    """Probability that one of n patients has a property, for properties of frequency 0 to ``most``, summed over these.

    ∫ n·w·(1 − w)^(n − 1) dw from 0 to ``most``.

    References
    ----------
    Cohen and Nissim (2020), Towards formalizing the GDPR's notion of singling out, PNAS 117; Giomi et al. (2023).
    """
    n = np.asarray(n, dtype=np.float64)
    return np.asarray((1 - (n * most + 1) * (1 - most) ** n) / (n + 1))


def at_size(predicates: Predicates, table: Floats, size: int, rng: np.random.Generator) -> float:
    """How many predicates would isolate one of ``size`` patients like these.

    The number that isolate one of k patients is known for every k up to the table's length; `isolation` times a
    constant is fitted to it.
    """
    total = len(table)
    counts = predicates.counts(table)
    if not (counts == 1).any() or size == total:
        return float((counts == 1).sum())
    sizes = np.unique(np.linspace(total / 10, total, 10).astype(int))
    # Of random k patients without replacement: the expectation is in closed form (hypergeometric).
    from scipy.stats import hypergeom

    successes = np.array([hypergeom.pmf(1, total, counts, k).sum() for k in sizes])

    def model(k: Floats, most: float, scale: float) -> Floats:
        return scale * isolation(k, most) / isolation(total, most)

    start = (min(2 / total, 0.5), max(successes[-1], 1.0))
    (most, scale), _ = curve_fit(model, sizes, successes, p0=start, bounds=((1e-9, 0), (1, np.inf)))
    return float((counts == 1).sum() * model(np.array(size), most, scale) / model(np.array(total), most, scale))


def singling_out(train: Cohort, heldout: Cohort, synthetic: Cohort, seed: int) -> dict[str, float]:
    """Residual risk that a property of one synthetic patient alone is one of a training patient alone.

    Held-out patients are fewer than training patients; how many of as many would be isolated is extrapolated
    (`at_size`).

    Returns
    -------
    dict
        ``singling_out_univariate`` and ``singling_out_multivariate`` with intervals, and ``singling_out``, the larger
        of the two, with its own; NaN where no property of a single patient was found.

    References
    ----------
    Giomi et al. (2023), section 5.1.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, 3]))
    numeric = is_numeric(train.schema)
    tables = [np.unique(records(c), axis=0) for c in (train, heldout, synthetic)]
    found: dict[str, Estimate] = {}
    for name, make in (("univariate", univariate), ("multivariate", multivariate)):
        predicates = make(tables[2], numeric, rng, ATTACKS)
        attacks = len(predicates)
        successes = int((predicates.counts(tables[0]) == 1).sum())
        expected = at_size(predicates, tables[1], len(tables[0]), rng)
        risk = residual_risk(Rate.of(successes, attacks), Rate.of(min(expected, attacks), attacks))
        found[name] = risk
    known = [risk for risk in found.values() if not np.isnan(risk.value)]
    worst = max(known, key=lambda risk: risk.value, default=Estimate(np.nan, np.nan, np.nan))
    parts = {f"singling_out_{name}": risk for name, risk in found.items()} | {"singling_out": worst}
    return {key: value for name, risk in parts.items() for key, value in risk.named(name).items()}
