"""From a cohort to a design matrix: standardization, imputation, rare-feature filter, missingness indicators.

Everything that is fitted comes from sums and counts over patients (`FeatureSums`), which add over centers:
a `Preprocessor` fitted on the sum of several centers' sums is the one fitted on their pooled patients.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from harmonization import Cohort, Schema
from harmonization.schema import Modality
from models.pca import PrincipalAxes

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
    reduce
        Modality -> how many principal components stand for its columns (`federation.pca`).
    missing
        ``impute`` missing values by the mean, with indicators; ``mask``: the same, but all columns of a modality of
        which nothing is known of a patient are NaN; or ``keep`` missing values as NaN, without indicators. By default
        what the network is made for.
    modalities
        Blocks of features to use of those that there are; all by default.
    """

    min_count: int = 3
    min_frequency: float = 0.005
    min_missing: float = 0.05
    max_indicator_correlation: float = 0.9
    reduce: Mapping[Modality, int] = field(default_factory=dict)
    missing: Literal["impute", "mask", "keep"] | None = None
    modalities: tuple[Modality, ...] | None = None

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}  # in configurations

    def __post_init__(self) -> None:
        for modality, components in self.reduce.items():
            if components < 1:
                raise ValueError(f"reduce.{modality} is {components}; keep at least one component")


def encoded_names(schema: Schema) -> list[str]:
    """Names of the columns of `encode`, e.g. ``age`` or ``sex=M``."""
    names = []
    for feature in schema.features:
        if feature.kind == "categorical":
            names += [f"{feature.name}={category}" for category in feature.categories[1:]]
        else:
            names.append(feature.name)
    return names


def encoded_modalities(schema: Schema) -> NDArray[np.str_]:
    """The modality of each column of `encode`, shape (q,)."""
    widths = [len(f.categories) - 1 if f.kind == "categorical" else 1 for f in schema.features]
    return np.repeat(np.array([f.modality for f in schema.features], dtype=str), widths)


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


def feature_sums(cohort: Cohort, reduce: Collection[str] = ()) -> dict[str, Floats]:
    """The additive statistics a `Preprocessor` is fitted from.

    Parameters
    ----------
    reduce
        Modalities whose columns principal components will stand for. One of their features (`indicated`) says for all
        who lacks the block.

    Returns
    -------
    dict
        ``patients`` (), ``seen``, ``total`` and ``squares`` of shape (q,) over encoded columns,
        and ``missing`` (m, m): patients who lack both of two features, of those that may get an indicator.
    """
    x = encode(cohort)
    missing = np.isnan(cohort.values[:, indicated(cohort.schema, reduce)]).astype(np.float64)
    return {
        "patients": np.float64(len(cohort)) * np.ones(()),
        "seen": (~np.isnan(x)).sum(axis=0).astype(np.float64),
        "total": np.nansum(x, axis=0),
        "squares": np.nansum(x * x, axis=0),
        "missing": missing.T @ missing,
    }


def indicated(schema: Schema, reduce: Collection[str]) -> NDArray[np.int64]:
    """Positions of the features that may get a missingness indicator: of a modality to be reduced only the first."""
    seen: set[str] = set()
    chosen = []
    for j, feature in enumerate(schema.features):
        if feature.modality not in reduce or feature.modality not in seen:
            chosen.append(j)
        seen.add(feature.modality)
    return np.array(chosen, dtype=np.int64)


ColumnKind = Literal["continuous", "binary", "count"]


@dataclass(frozen=True)
class Column:
    """What a column of a design matrix is.

    Parameters
    ----------
    name
        See `Preprocessor.names`.
    kind
        ``continuous`` (principal components too), ``count``, or ``binary`` for what is 0 or 1 before standardization.
    modality, feature
        Where it comes from: a block, and a feature's position in the schema (-1 for principal components).
    indicator
        Whether it says that the feature is missing.
    mean, scale
        What undoes standardization: value = mean + scale · column.
    """

    name: str
    kind: ColumnKind
    modality: Modality
    feature: int
    indicator: bool
    mean: float
    scale: float


Design = tuple[Column, ...]
"""The columns of a design matrix. Those of one categorical feature have the same `feature`."""


@dataclass(frozen=True, eq=False)
class Preprocessor:
    """A fitted map from cohorts to design matrices.

    Parameters
    ----------
    keep
        Positions of the encoded columns that are columns of the design matrix.
    mean, scale
        Mean and (population) standard deviation of each of them, over training patients.
    reduced, reduced_mean, reduced_scale
        The same of the encoded columns of which the design matrix has principal components.
    rotation
        Maps the latter, standardized, to components of variance 1, shape (components, reduced columns).
    component_modality
        Whose each component is, as its place among the modalities.
    indicators
        Positions of the features that get a missingness indicator.
    indicator_mean, indicator_scale
        Mean and standard deviation of each indicator.
    imputes
        Whether missing values are set to the mean; otherwise they stay NaN. Shape ().
    masks
        Whether, all the same, a modality of which nothing is known of a patient is NaN throughout. Shape ().
    """

    keep: NDArray[np.int64]
    mean: Floats
    scale: Floats
    reduced: NDArray[np.int64]
    reduced_mean: Floats
    reduced_scale: Floats
    rotation: Floats
    component_modality: NDArray[np.int64]
    indicators: NDArray[np.int64]
    indicator_mean: Floats
    indicator_scale: Floats
    imputes: NDArray[np.bool_] = field(default_factory=lambda: np.array(True))
    masks: NDArray[np.bool_] = field(default_factory=lambda: np.array(False))

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
        if options.modalities is not None:
            keep &= np.isin(encoded_modalities(schema), options.modalities)
        fewest = np.maximum(options.min_count, options.min_frequency * sums["seen"])
        rare = np.minimum(sums["total"], sums["seen"] - sums["total"]) < fewest
        keep &= ~(zero_one & rare)
        if not keep.any():
            raise ValueError(
                f"no feature varies in the {sums['patients']:g} training patients; "
                f"lower preprocessing.min_count ({options.min_count}) or add patients"
            )
        imputes = options.missing != "keep"
        may = indicated(schema, options.reduce)
        often = _indicators(sums, options) if imputes else np.empty(0, dtype=np.int64)
        if options.modalities is not None:
            often = often[[schema.features[j].modality in options.modalities for j in may[often]]]
        fraction = sums["missing"].diagonal()[often] / sums["patients"]
        wide = keep & np.isin(encoded_modalities(schema), list(options.reduce))
        keep &= ~wide
        return cls(
            np.flatnonzero(keep),
            mean[keep],
            np.sqrt(variance[keep]),
            np.flatnonzero(wide),
            mean[wide],
            np.sqrt(variance[wide]),
            np.empty((0, int(wide.sum()))),
            np.empty(0, dtype=np.int64),
            may[often],
            fraction,
            np.sqrt(fraction * (1 - fraction)),
            np.array(imputes),
            np.array(options.missing == "mask"),
        )

    @classmethod
    def declared(
        cls,
        schema: Schema,
        mean: Floats,
        scale: Floats,
        modalities: Collection[str] | None = None,
        keep: bool = False,
        zero_one: tuple[Floats, Floats] | None = None,
    ) -> Preprocessor:
        """From constants alone: all columns, those of 0 and 1 as they are, missing values at the mean (or 0).

        Parameters
        ----------
        mean, scale
            Of the schema's numeric features, in their order.
        modalities
            Blocks of features to use; all by default.
        keep
            Whether missing values stay NaN.
        zero_one
            Mean and scale of the columns of 0 and 1, in their order.
        """
        widths = [len(f.categories) - 1 if f.kind == "categorical" else 1 for f in schema.features]
        means, scales = np.zeros(sum(widths)), np.ones(sum(widths))
        numeric = np.repeat([f.numeric for f in schema.features], widths)
        means[numeric] = np.asarray(mean) - [f.reference for f in schema.features if f.numeric]
        scales[numeric] = scale
        if zero_one is not None:
            means[~numeric], scales[~numeric] = zero_one
        used = np.ones(sum(widths), dtype=bool)
        if modalities is not None:
            used = np.isin(encoded_modalities(schema), list(modalities))
        none, no = np.empty(0), np.empty(0, dtype=np.int64)
        columns = np.flatnonzero(used)
        return cls(
            *(columns, means[used], scales[used], no, none, none, np.empty((0, 0)), no, no, none, none),
            np.array(not keep),
        )

    @property
    def n_features(self) -> int:
        """Number of columns of the design matrix."""
        return len(self.keep) + len(self.rotation) + len(self.indicators)

    def names(self, schema: Schema) -> list[str]:
        """Column names of the design matrix."""
        encoded = encoded_names(schema)
        return [
            *(encoded[j] for j in self.keep),
            *self._component_names(),
            *(f"{schema.names[j]} missing" for j in self.indicators),
        ]

    def design(self, schema: Schema) -> Design:
        """What the columns of the design matrix are."""
        features = np.arange(len(schema.features))
        widths = [len(f.categories) - 1 if f.kind == "categorical" else 1 for f in schema.features]
        source = np.repeat(features, widths)[self.keep]
        modalities = [get_args(Modality)[code] for code in self.component_modality]
        names = iter(self.names(schema))
        columns = []
        for j, mean, scale in zip(source, self.mean, self.scale, strict=True):
            feature = schema.features[j]
            kind: ColumnKind = "binary" if feature.kind == "categorical" else feature.kind
            zero = feature.reference if feature.numeric else 0.0
            column = Column(next(names), kind, feature.modality, int(j), False, float(mean + zero), float(scale))
            columns.append(column)
        columns += [Column(next(names), "continuous", modality, -1, False, 0.0, 1.0) for modality in modalities]
        for j, mean, scale in zip(self.indicators, self.indicator_mean, self.indicator_scale, strict=True):
            modality = schema.features[j].modality
            columns.append(Column(next(names), "binary", modality, int(j), True, float(mean), float(scale)))
        return tuple(columns)

    def _component_names(self) -> list[str]:
        """E.g. ``histopathology 3``, counted from 1 within a modality."""
        codes = self.component_modality.tolist()
        return [f"{get_args(Modality)[code]} {codes[: i + 1].count(code)}" for i, code in enumerate(codes)]

    def transform(self, cohort: Cohort) -> Floats:
        """The design matrix, shape (n, n_features): standardized; missing values at the mean (zero), or NaN if kept.

        Principal components are missing where the whole block is.
        """
        encoded = encode(cohort)
        x = (encoded[:, self.keep] - self.mean) / self.scale
        components = self._deviations(encoded) @ self.rotation.T
        if self.imputes:
            x = np.nan_to_num(x, nan=0.0)
        else:
            components[self._lacking(encoded)] = np.nan
        missing = (np.isnan(cohort.values[:, self.indicators]) - self.indicator_mean) / self.indicator_scale
        design = np.concatenate([x, components, missing], axis=1)
        return np.where(self._masked(cohort.schema, encoded), np.nan, design) if self.masks else design

    def _masked(self, schema: Schema, encoded: Floats) -> NDArray[np.bool_]:
        """Columns of modalities of which nothing is known, patient by patient, shape (n, n_features)."""
        modality = encoded_modalities(schema)
        used = np.concatenate([self.keep, self.reduced])
        unknown: NDArray[np.bool_] = np.isnan(encoded[:, used])
        mine = np.array([column.modality for column in self.design(schema)])
        masked = np.zeros((len(encoded), len(mine)), dtype=bool)
        for name in np.unique(mine):
            masked[:, mine == name] = unknown[:, modality[used] == name].all(axis=1, keepdims=True)
        return masked

    def _lacking(self, encoded: Floats) -> NDArray[np.bool_]:
        """Who lacks all columns that a component is made of, shape (n, components)."""
        unknown = np.isnan(encoded[:, self.reduced])
        made_of = self.rotation != 0
        lacking: NDArray[np.bool_] = (~unknown).astype(np.float64) @ made_of.T == 0
        return lacking

    def _deviations(self, encoded: Floats) -> Floats:
        """Columns to be reduced, standardized, missing values at the mean (zero)."""
        return np.nan_to_num((encoded[:, self.reduced] - self.reduced_mean) / self.reduced_scale, nan=0.0)

    def block(self, cohort: Cohort, modality: str) -> Floats:
        """What a modality's principal components are taken of: its columns to be reduced, of the patients in whom any
        is known; standardized about the mean of all training patients, missing values at the mean (zero).

        Returns
        -------
        array of shape (patients with the block, columns)
        """
        encoded = encode(cohort)
        mine = encoded_modalities(cohort.schema)[self.reduced] == modality
        present = ~np.isnan(encoded[:, self.reduced[mine]]).all(axis=1)
        return self._deviations(encoded[present])[:, mine]

    def with_components(self, schema: Schema, modality: Modality, axes: PrincipalAxes) -> Preprocessor:
        """With the principal components of a modality's columns as further columns of the design matrix."""
        rows = np.zeros((len(axes.components), len(self.reduced)))
        rows[:, encoded_modalities(schema)[self.reduced] == modality] = axes.whitening
        codes = np.full(len(rows), get_args(Modality).index(modality))
        return replace(
            self,
            rotation=np.concatenate([self.rotation, rows]),
            component_modality=np.concatenate([self.component_modality, codes]),
        )

    def to_arrays(self, prefix: str = "") -> dict[str, NDArray[np.generic]]:
        """As named arrays, to travel to centers."""
        return {prefix + name: array for name, array in vars(self).items()}

    @classmethod
    def from_arrays(cls, arrays: Arrays, prefix: str = "") -> Preprocessor:
        """Inverse of `to_arrays`; other arrays are ignored."""
        return cls(**{name: arrays[prefix + name] for name in cls.__dataclass_fields__})  # type: ignore[arg-type]


def _indicators(sums: Mapping[str, Floats], options: PreprocessingOptions) -> NDArray[np.int64]:
    """Which features of those in ``missing`` get an indicator: often missing, and not (nearly) together with an earlier
    one."""
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
