"""What goes with what: rank correlations of columns of any kind, and log odds ratios of lesions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from experiments.synthetic.columns import Columns
from models.generative.heldout_sums import lesion_pairs, pair_sums

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

OFTEN_MISSING = 0.05
"""A column has a missingness indicator among the correlated if at least this fraction of either cohort lacks it."""


@dataclass(frozen=True, eq=False)
class Scales:
    """Columns as ranks and indicators, the same for both cohorts.

    Parameters
    ----------
    names
        Of ranks and indicators: ``age``, ``sex=1``, ``wbc missing``.
    source
        The column that each comes from, shape (q,).
    values
        Shape (n, q), one array for each cohort; missing as NaN.
    """

    names: tuple[str, ...]
    source: Codes
    values: tuple[Floats, ...]


def scales(cohorts: Sequence[Columns]) -> Scales:
    """Numbers as ranks among their cohort's, classes as indicators (of two, one), and what is missing as indicators."""
    names: list[str] = []
    source: list[int] = []
    values: list[list[Floats]] = []
    for j, (name, numeric) in enumerate(zip(cohorts[0].names, cohorts[0].numeric, strict=True)):
        columns = [cohort.values[:, j] for cohort in cohorts]
        if numeric:
            new = {name: [rankdata(x, nan_policy="omit") for x in columns]}
        else:
            codes = np.unique(np.concatenate(columns))
            codes = codes[~np.isnan(codes)]
            codes = codes[1:] if len(codes) == 2 else codes
            new = {f"{name}={code:g}": [np.where(np.isnan(x), np.nan, x == code) for x in columns] for code in codes}
        if max(np.isnan(x).mean() for x in columns) >= OFTEN_MISSING:
            new[f"{name} missing"] = [np.isnan(x).astype(np.float64) for x in columns]
        names += list(new)
        source += [j] * len(new)
        values += list(new.values())
    arrays = tuple(np.column_stack([v[c] for v in values]) for c in range(len(cohorts)))
    return Scales(tuple(names), np.array(source, dtype=np.int64), arrays)


def correlations(values: Floats) -> Floats:
    """Pearson's correlation of every two columns among the rows that have both, shape (q, q); 0 where one is constant.

    On ranks it is Spearman's, on indicators the phi coefficient, on ranks and an indicator the rank-biserial one's
    standardized form.
    """
    known = ~np.isnan(values)
    center = np.where(known, values, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return correlations_of(pair_sums(values - center))  # so that squares keep their precision


def correlations_of(sums: Mapping[str, Floats]) -> Floats:
    """The same from (a total of) `models.generative.heldout_sums.pair_sums`."""
    pairs = np.maximum(sums["known"], 1)
    mean = sums["totals"] / pairs  # of the row's column, among the rows that have the other
    variance = sums["squares"] / pairs - mean**2
    covariance = sums["products"] / pairs - mean * mean.T
    spread = variance * variance.T
    varies = (variance > 1e-12) & (variance.T > 1e-12)
    result: Floats = np.divide(covariance, np.sqrt(np.maximum(spread, 0)), out=np.zeros_like(spread), where=varies)
    return np.clip(result, -1, 1)


def correlation_similarities(real: Columns, synthetic: Columns) -> Floats:
    """Of every two columns, 1 − \\|difference of their correlations\\|, at least 0; shape (p, p), NaN on the diagonal.

    Columns of several indicators have the mean over all pairs of indicators. Undefined (no variation) counts as 0.
    """
    both = scales([real, synthetic])
    return similarities(correlations(both.values[0]), correlations(both.values[1]), both.source, len(real.names))


def similarities(
    real: Floats, synthetic: Floats, source: Codes, columns: int, counts: NDArray[np.bool_] | None = None
) -> Floats:
    """The same from the correlations of scales, the column that each scale comes from, and which pairs count."""
    counted = np.ones_like(real) if counts is None else counts.astype(np.float64)
    belongs = np.zeros((len(source), columns))
    belongs[np.arange(len(source)), source] = 1
    pairs = belongs.T @ counted @ belongs
    similar = belongs.T @ (counted * np.maximum(0, 1 - np.abs(real - synthetic))) @ belongs
    result: Floats = np.divide(similar, pairs, out=np.full_like(similar, np.nan), where=pairs > 0)
    np.fill_diagonal(result, np.nan)
    return result


@dataclass(frozen=True, eq=False)
class Pairs:
    """Lesions by twos, among the patients tested for both: numbers of patients, each of shape (g, g)."""

    both: Floats
    first_only: Floats
    second_only: Floats
    neither: Floats

    @classmethod
    def of(cls, lesions: Floats) -> Pairs:
        """From lesions of shape (n, g): 1, 0, NaN for not tested."""
        return cls.of_sums(lesion_pairs(lesions))

    @classmethod
    def of_sums(cls, sums: Mapping[str, Floats]) -> Pairs:
        """From (a total of) `models.generative.heldout_sums.lesion_pairs`."""
        return cls(sums["both"], sums["first_only"], sums["first_only"].T, sums["neither"])

    @property
    def tested(self) -> Floats:
        """Patients tested for both."""
        return self.both + self.first_only + self.second_only + self.neither

    def information(self) -> Floats:
        """V, the hypergeometric variance of the number of patients with both lesions, were they independent."""
        n, first, second = np.maximum(self.tested, 1), self.both + self.first_only, self.both + self.second_only
        result: Floats = first * (n - first) * second * (n - second) / (n**2 * np.maximum(n - 1, 1))
        return result

    def log_odds(self, spread: float, patients: float) -> Floats:
        """Log odds ratios, shrunk towards 0 as those of a cohort of some size would be: (O − E) / (V + 1 / spread²).

        O − E is the excess of patients with both lesions over independence. It is a Newton step from 0 under a normal
        prior; without the prior it would be Peto's one-step estimate. No cell needs a patient.

        Parameters
        ----------
        spread
            Standard deviation of the prior.
        patients
            The size of cohort whose O − E and V these are scaled to, so that cohorts of any size are shrunk alike.

        References
        ----------
        Yusuf, Peto, Lewis, Collins and Sleight (1985), Prog Cardiovasc Dis 27:335.
        """
        n = np.maximum(self.tested, 1)
        excess = self.both - (self.both + self.first_only) * (self.both + self.second_only) / n
        result: Floats = excess * (patients / n) / (self.information() * (patients / n) + 1 / spread**2)
        return result
