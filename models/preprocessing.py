"""From a cohort to a design matrix: standardization, imputation, rare-feature filter, missingness indicators.

Everything that is fitted comes from sums and counts over patients (`FeatureSums`), which add over centers:
a `Preprocessor` fitted on the sum of several centers' sums is the one fitted on their pooled patients.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from harmonization import Cohort, Schema

Floats = NDArray[np.float64]
Arrays = Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True)
class PreprocessingOptions:
    """What to keep of the features.

    Parameters
    ----------
    min_count, min_frequency
        A 0/1 column stays only if at least so many training patients, and at least this fraction of those in whom
        it is known, have a 1; and as many a 0.
    min_missing
        A feature gets a missingness indicator if at least this fraction of training patients lacks it
        (1 or more: no indicators).
    max_indicator_correlation
        Of indicators that nearly coincide (a panel not done is missing as a whole) only the first stays.
    """

    min_count: int = 3
    min_frequency: float = 0.005
    min_missing: float = 0.05
    max_indicator_correlation: float = 0.9

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}  # in configurations


def encoded_names(schema: Schema) -> list[str]:
    """Names of the columns of `encode`, e.g. ``age`` or ``sex=M``."""
    names = []
    for feature in schema.features:
        if feature.kind == "categorical":
            names += [f"{feature.name}={category}" for category in feature.categories[1:]]
        else:
            names.append(feature.name)
    return names


def encode(cohort: Cohort) -> Floats:
    """Numbers relative to the schema's reference value, 0/1, and categories (but the first) as 0/1 columns.

    Returns
    -------
    array of shape (n, q)
        Missing stays NaN, in every column of its feature.
    """
    columns = []
    for j, feature in enumerate(cohort.schema.features):
        x = cohort.values[:, j : j + 1]
        if feature.kind == "categorical":
            codes = np.arange(1, len(feature.categories))
            columns.append(np.where(np.isnan(x), np.nan, x == codes))
        else:
            columns.append(x - feature.reference if feature.numeric else x)
    return np.concatenate(columns, axis=1)


def feature_sums(cohort: Cohort) -> dict[str, Floats]:
    """The additive statistics a `Preprocessor` is fitted from.

    Returns
    -------
    dict
        ``patients`` (), ``seen``, ``total`` and ``squares`` of shape (q,) over encoded columns,
        and ``missing`` (p, p): patients who lack both feature i and feature j.
    """
    x = encode(cohort)
    missing = np.isnan(cohort.values).astype(np.float64)
    return {
        "patients": np.float64(len(cohort)) * np.ones(()),
        "seen": (~np.isnan(x)).sum(axis=0).astype(np.float64),
        "total": np.nansum(x, axis=0),
        "squares": np.nansum(x * x, axis=0),
        "missing": missing.T @ missing,
    }


@dataclass(frozen=True, eq=False)
class Preprocessor:
    """A fitted map from cohorts to design matrices.

    Parameters
    ----------
    keep
        Positions of the encoded columns that stay.
    mean, scale
        Mean and (population) standard deviation of each kept column, over training patients.
    indicators
        Positions of the features that get a missingness indicator.
    indicator_mean, indicator_scale
        Mean and standard deviation of each indicator.
    """

    keep: NDArray[np.int64]
    mean: Floats
    scale: Floats
    indicators: NDArray[np.int64]
    indicator_mean: Floats
    indicator_scale: Floats

    @classmethod
    def fit(cls, sums: Mapping[str, Floats], schema: Schema, options: PreprocessingOptions) -> Preprocessor:
        """Fit from (a total of) `feature_sums`.

        Raises
        ------
        ValueError
            If no column is left.
        """
        seen = np.maximum(sums["seen"], 1)
        mean = sums["total"] / seen
        variance = np.maximum(sums["squares"] / seen - mean**2, 0)
        keep = (sums["seen"] > 0) & (variance > 1e-12 * (1 + mean**2))
        widths = [len(f.categories) - 1 if f.kind == "categorical" else 1 for f in schema.features]
        zero_one = np.repeat([not f.numeric for f in schema.features], widths)
        fewest = np.maximum(options.min_count, options.min_frequency * sums["seen"])
        rare = np.minimum(sums["total"], sums["seen"] - sums["total"]) < fewest
        keep &= ~(zero_one & rare)
        if not keep.any():
            raise ValueError(
                f"no feature varies in the {sums['patients']:g} training patients; "
                f"lower preprocessing.min_count ({options.min_count}) or add patients"
            )
        indicators = _indicators(sums, options)
        fraction = sums["missing"].diagonal()[indicators] / sums["patients"]
        return cls(
            np.flatnonzero(keep),
            mean[keep],
            np.sqrt(variance[keep]),
            indicators,
            fraction,
            np.sqrt(fraction * (1 - fraction)),
        )

    @property
    def n_features(self) -> int:
        """Number of columns of the design matrix."""
        return len(self.keep) + len(self.indicators)

    def names(self, schema: Schema) -> list[str]:
        """Column names of the design matrix."""
        encoded = encoded_names(schema)
        return [encoded[j] for j in self.keep] + [f"{schema.names[j]} missing" for j in self.indicators]

    def transform(self, cohort: Cohort) -> Floats:
        """The design matrix, shape (n, n_features): standardized, missing values at the mean (zero)."""
        x = (encode(cohort)[:, self.keep] - self.mean) / self.scale
        missing = (np.isnan(cohort.values[:, self.indicators]) - self.indicator_mean) / self.indicator_scale
        return np.concatenate([np.nan_to_num(x, nan=0.0), missing], axis=1)

    def to_arrays(self, prefix: str = "") -> dict[str, NDArray[np.generic]]:
        """As named arrays, to travel to centers."""
        return {prefix + name: array for name, array in vars(self).items()}

    @classmethod
    def from_arrays(cls, arrays: Arrays, prefix: str = "") -> Preprocessor:
        """Inverse of `to_arrays`; other arrays are ignored."""
        return cls(**{name: arrays[prefix + name] for name in cls.__dataclass_fields__})  # type: ignore[arg-type]


def _indicators(sums: Mapping[str, Floats], options: PreprocessingOptions) -> NDArray[np.int64]:
    """Features to indicate missingness of: often missing, and not (nearly) together with an earlier one."""
    both, n = sums["missing"] / sums["patients"], sums["patients"]
    fraction = both.diagonal()
    often = (fraction >= options.min_missing) & (fraction <= 1 - options.min_missing)
    lacking = sums["missing"].diagonal()
    often &= np.minimum(lacking, n - lacking) >= max(options.min_count, 1)  # a constant indicates nothing
    spread = np.sqrt(np.maximum(fraction * (1 - fraction), 1e-12))
    correlation = (both - np.outer(fraction, fraction)) / np.outer(spread, spread)
    chosen: list[int] = []
    for j in np.flatnonzero(often):
        if not chosen or correlation[j, chosen].max() <= options.max_indicator_correlation:
            chosen.append(int(j))
    return np.array(chosen, dtype=np.int64)
