"""The design matrix: against pandas and scikit-learn, and the same from sums over any partition of the patients."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import StandardScaler

from harmonization import Cohort, Feature, Schema
from models.preprocessing import PreprocessingOptions, Preprocessor, encode, encoded_names, feature_sums

SCHEMA = Schema(
    "demo",
    "1",
    (
        Feature("age", "continuous", reference=60),
        Feature("platelets", "continuous", unit="1/L", reference=2e11),
        Feature("blasts", "count"),
        Feature("sex", "categorical", categories=("F", "M")),
        Feature("grade", "categorical", categories=("low", "intermediate", "high")),
        Feature("NPM1", "binary", "genomic"),
    ),
)
EVERYTHING = PreprocessingOptions(min_count=0, min_frequency=0, min_missing=2)  # no filter, no indicators


def cohort_of(schema: Schema = SCHEMA, **columns: Any) -> Cohort:
    """A cohort from columns of numbers; the endpoint does not matter here."""
    values = np.column_stack([np.asarray(columns[name], dtype=float) for name in schema.names])
    n = len(values)
    return Cohort(schema, np.arange(n).astype(str), values, np.ones(n), np.ones(n, dtype=bool))


def patients(seed: int = 0, n: int = 120, missing: float = 0.15) -> Cohort:
    rng = np.random.default_rng(seed)
    cohort = cohort_of(
        age=rng.normal(62, 12, n),
        platelets=rng.lognormal(26, 0.5, n),
        blasts=rng.poisson(8, n),
        sex=rng.integers(0, 2, n),
        grade=rng.choice(3, n, p=[0.6, 0.3, 0.1]),
        NPM1=rng.random(n) < 0.3,
    )
    cohort.values[rng.random(cohort.values.shape) < missing] = np.nan
    return cohort


def fit(cohort: Cohort, options: PreprocessingOptions = EVERYTHING) -> Preprocessor:
    return Preprocessor.fit(feature_sums(cohort), cohort.schema, options)


def total(parts: list[dict[str, NDArray[np.float64]]]) -> dict[str, NDArray[np.float64]]:
    return {name: np.asarray(sum(part[name] for part in parts)) for name in parts[0]}


def require_equal(a: Preprocessor, b: Preprocessor, tolerance: float = 1e-9) -> None:
    for name, array in vars(a).items():
        np.testing.assert_allclose(array, vars(b)[name], rtol=tolerance, atol=tolerance, err_msg=name)


# Against pandas and scikit-learn ---------------------------------------------------------------------


def test_encoding_equals_pandas() -> None:
    cohort = patients()
    frame = cohort.to_frame()
    expected = []
    for feature in SCHEMA.features:
        column = frame[feature.name]
        if feature.kind == "categorical":
            dummies = pd.get_dummies(pd.Categorical(column, feature.categories), drop_first=True, dtype=float)
            expected.append(dummies.where(column.notna(), np.nan).to_numpy())
        else:
            expected.append((column - feature.reference).to_numpy()[:, None])
    np.testing.assert_array_equal(encode(cohort), np.column_stack(expected))
    assert encoded_names(SCHEMA) == [
        "age", "platelets", "blasts", "sex=M", "grade=intermediate", "grade=high", "NPM1",
    ]  # fmt: skip


def test_standardization_and_imputation_equal_scikit_learn() -> None:
    cohort = patients()
    raw = encode(cohort) + np.array([60, 2e11, 0, 0, 0, 0, 0])
    scaler = StandardScaler().fit(raw)  # leaves missing values out
    imputed = SimpleImputer(strategy="mean").fit_transform(raw)
    design = fit(cohort).transform(cohort)
    np.testing.assert_allclose(design, scaler.transform(imputed), atol=1e-9)
    np.testing.assert_allclose(design, np.nan_to_num(scaler.transform(raw)), atol=1e-9)


def test_fitted_on_training_patients_applied_to_others() -> None:
    train, test = patients(1), patients(2, n=30)
    raw_train, raw_test = encode(train), encode(test)
    expected = np.nan_to_num(StandardScaler().fit(raw_train).transform(raw_test))
    np.testing.assert_allclose(fit(train).transform(test), expected, atol=1e-9)
    assert np.abs(expected.mean(axis=0)).max() > 0.05  # the test patients are not centered by themselves


# Sums over centers are the pooled computation --------------------------------------------------------


@settings(deadline=None, max_examples=50)
@given(
    seed=st.integers(0, 1000),
    centers=st.integers(1, 8),
    skew=st.floats(0.05, 3),
    missing=st.sampled_from([0.0, 0.1, 0.6]),
)
def test_sums_over_any_partition_give_the_pooled_preprocessor(
    seed: int, centers: int, skew: float, missing: float
) -> None:
    cohort = patients(seed, missing=missing)
    rng = np.random.default_rng(seed)
    center = rng.choice(centers, len(cohort), p=rng.dirichlet(np.full(centers, skew)))
    options = PreprocessingOptions()
    federated = Preprocessor.fit(total([feature_sums(cohort[center == c]) for c in range(centers)]), SCHEMA, options)
    pooled = fit(cohort, options)
    require_equal(federated, pooled)
    np.testing.assert_allclose(federated.transform(cohort), pooled.transform(cohort), atol=1e-9)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_any_cohort_of_any_schema(cohorts: st.SearchStrategy[Cohort], data: st.DataObject) -> None:
    cohort = data.draw(cohorts)
    values = np.round(np.clip(cohort.values, -50, 50), 1)  # without a reference value, not far from zero
    cohort = replace(cohort, values=values.astype(np.float64))
    assert encode(cohort).shape == (len(cohort), len(encoded_names(cohort.schema)))
    here = np.array(data.draw(st.lists(st.booleans(), min_size=len(cohort), max_size=len(cohort))))
    options = PreprocessingOptions(min_count=data.draw(st.integers(0, 2)), min_missing=data.draw(st.floats(0, 1)))
    try:
        pooled = fit(cohort, options)
    except ValueError as error:
        assert "no feature varies" in str(error)  # noqa: PT017
        return
    federated = Preprocessor.fit(
        total([feature_sums(cohort[here]), feature_sums(cohort[~here])]), cohort.schema, options
    )
    require_equal(federated, pooled)
    design = federated.transform(cohort)
    assert design.shape == (len(cohort), pooled.n_features)
    assert len(pooled.names(cohort.schema)) == pooled.n_features
    assert np.isfinite(design).all()
    np.testing.assert_allclose(design.mean(axis=0), 0, atol=1e-6)


@pytest.mark.parametrize("offset", [0.0, 1e4, 1e9, -1e12])
def test_large_offsets_keep_their_digits_around_the_reference_value(offset: float) -> None:
    schema = Schema("offset", "1", (Feature("x", "continuous", reference=offset),))
    rng = np.random.default_rng(0)
    around = np.round(rng.normal(size=300) * 1024) / 1024  # so that offset + around is exact
    cohort = cohort_of(schema, x=offset + around)
    parts = [feature_sums(cohort[rows]) for rows in np.array_split(rng.permutation(300), 7)]
    federated = Preprocessor.fit(total(parts), schema, EVERYTHING)
    expected = (around - around.mean()) / around.std()
    np.testing.assert_allclose(federated.transform(cohort)[:, 0], expected, atol=1e-9)


def test_the_reference_value_has_no_other_effect() -> None:
    cohort = patients()
    features = tuple(replace(f, reference=0.0) for f in SCHEMA.features)
    moved = replace(cohort, schema=replace(SCHEMA, features=features))
    np.testing.assert_allclose(fit(moved).transform(moved), fit(cohort).transform(cohort), atol=1e-9)


def test_each_center_scaled_by_itself_would_be_something_else() -> None:
    # Scaled center by center, "one standard deviation" means another number of years in each hospital.
    young, old = patients(3), patients(4)
    old.values[:, 0] += 30
    shared = Preprocessor.fit(total([feature_sums(young), feature_sums(old)]), SCHEMA, EVERYTHING)
    assert shared.transform(old)[:, 0].mean() > 0.6
    assert shared.transform(young)[:, 0].mean() < -0.6
    assert abs(fit(old).transform(old)[:, 0].mean()) < 1e-9
    same_age = np.array([[70.0, *[np.nan] * 5]])
    a, b = (replace(c[np.array([0])], values=same_age) for c in (young, old))
    np.testing.assert_array_equal(shared.transform(a), shared.transform(b))


# Missing values --------------------------------------------------------------------------------------


def test_missing_is_not_zero() -> None:
    schema = Schema("m", "1", (Feature("albumin", "continuous"), Feature("NPM1", "binary", "genomic")))
    cohort = cohort_of(schema, albumin=[38, 42, np.nan, 40, np.nan], NPM1=[1, 0, np.nan, 1, np.nan])
    fitted = fit(cohort)
    np.testing.assert_allclose(fitted.mean, [40, 2 / 3])  # of those in whom it is known
    np.testing.assert_allclose(fitted.scale, [np.std([38, 42, 40]), np.std([1, 0, 1])])
    design = fitted.transform(cohort)
    np.testing.assert_allclose(design[[2, 4]], 0)  # at the mean, not fifteen standard deviations below
    wild_type = design[1, 1]
    assert wild_type < -1  # "not tested" is not "wild type"


def test_no_patient_is_dropped_for_what_is_missing() -> None:
    cohort = patients(missing=0.5)
    assert np.isnan(cohort.values).any(axis=1).mean() > 0.9
    assert fit(cohort).transform(cohort).shape == (120, 7)
    assert feature_sums(cohort)["patients"] == 120
    nothing_known = replace(cohort[np.array([0])], values=np.full((1, 6), np.nan))
    np.testing.assert_array_equal(fit(cohort).transform(nothing_known), np.zeros((1, 7)))


def test_a_patients_row_depends_on_no_other_patient() -> None:
    cohort = patients()
    fitted = fit(cohort, PreprocessingOptions())
    whole = fitted.transform(cohort)
    rows = np.array([7, 3, 99])
    np.testing.assert_array_equal(fitted.transform(cohort[rows]), whole[rows])


def test_input_is_left_as_it_was() -> None:
    cohort = patients()
    before = cohort.values.copy()
    fit(cohort, PreprocessingOptions()).transform(cohort)
    np.testing.assert_array_equal(cohort.values, before)


def holes(n: int, *missing: range) -> Cohort:
    """n patients with one feature for each range of patients who lack it."""
    schema = Schema("holes", "1", tuple(Feature(f"x{j}", "continuous") for j in range(len(missing))))
    x = np.random.default_rng(0).normal(size=(n, len(missing)))
    for j, lacking in enumerate(missing):
        x[list(lacking), j] = np.nan
    return cohort_of(schema, **{f"x{j}": x[:, j] for j in range(len(missing))})


def test_indicators_are_standardized_and_named() -> None:
    cohort = holes(100, range(20), range(0), range(50, 90))
    fitted = fit(cohort, PreprocessingOptions())
    assert fitted.names(cohort.schema) == ["x0", "x1", "x2", "x0 missing", "x2 missing"]
    expected = StandardScaler().fit_transform(np.isnan(cohort.values[:, [0, 2]]).astype(float))
    np.testing.assert_allclose(fitted.transform(cohort)[:, 3:], expected, atol=1e-12)


@pytest.mark.parametrize(
    ("missing", "options", "expected"),
    [
        (5, PreprocessingOptions(min_missing=0.05), True),
        (4, PreprocessingOptions(min_missing=0.05), False),
        (96, PreprocessingOptions(min_missing=0.05), False),  # hardly anybody has it: the same indicator mirrored
        (5, PreprocessingOptions(min_missing=0.05, min_count=6), False),
        (50, PreprocessingOptions(min_missing=1), False),
        (50, PreprocessingOptions(min_missing=2), False),
        (0, PreprocessingOptions(min_missing=0, min_count=0), False),
        (1, PreprocessingOptions(min_missing=0, min_count=0), True),
    ],
)
def test_who_gets_an_indicator(missing: int, options: PreprocessingOptions, expected: bool) -> None:
    fitted = fit(holes(100, range(0), range(missing)), options)
    assert fitted.indicators.tolist() == ([1] if expected else [])


@pytest.mark.parametrize("n", [49, 93, 98, 103, 107])
def test_a_feature_missing_in_just_enough_patients_gets_one(n: int) -> None:
    # Counts are compared, not fractions times n, which round down for these n.
    fitted = fit(holes(n, range(0), range(10)), PreprocessingOptions(min_count=10, min_missing=0.05))
    assert fitted.indicators.tolist() == [1]


def test_of_panels_missing_together_only_the_first_gets_one() -> None:
    cohort = holes(100, range(30), range(30), range(31), range(20, 50))
    assert fit(cohort, PreprocessingOptions()).indicators.tolist() == [0, 3]
    assert fit(cohort, PreprocessingOptions(max_indicator_correlation=1.0)).indicators.tolist() == [0, 1, 2, 3]


# What stays and what goes ----------------------------------------------------------------------------


def mutations(*carriers: int, n: int = 200, known: int = 200) -> Cohort:
    """n patients, the first `known` tested; so many carriers of each mutation; one feature that always stays."""
    features = [Feature(f"gene{j}", "binary", "genomic") for j in range(len(carriers))]
    schema = Schema("genes", "1", (Feature("age", "continuous"), *features))
    columns = {"age": np.arange(n)}
    for j, count in enumerate(carriers):
        columns[f"gene{j}"] = np.where(np.arange(n) < known, np.arange(n) < count, np.nan)
    return cohort_of(schema, **columns)


def test_rare_mutations_are_left_out_by_count_and_by_frequency() -> None:
    cohort = mutations(2, 3, 10, 198, 197)  # and those that nearly everybody has
    assert fit(cohort, PreprocessingOptions(min_count=3)).names(cohort.schema) == ["age", "gene1", "gene2", "gene4"]
    often = PreprocessingOptions(min_count=0, min_frequency=0.05)
    assert fit(cohort, often).names(cohort.schema) == ["age", "gene2"]


def test_frequency_is_among_those_tested() -> None:
    cohort = mutations(9, 3, known=60)
    options = PreprocessingOptions(min_count=0, min_frequency=0.1, min_missing=2)
    assert fit(cohort, options).names(cohort.schema) == ["age", "gene0"]


def test_carriers_are_counted_over_all_centers() -> None:
    # One carrier in each of four hospitals: too few for any of them, enough for all together.
    cohort = mutations(4)
    order = np.argsort(np.arange(200) % 4, kind="stable")
    parts = [feature_sums(cohort[rows]) for rows in np.split(order, 4)]
    options = PreprocessingOptions(min_count=3, min_frequency=0)
    for part in parts:
        assert Preprocessor.fit(part, cohort.schema, options).keep.tolist() == [0]
    assert Preprocessor.fit(total(parts), cohort.schema, options).keep.tolist() == [0, 1]


def test_rare_categories_are_left_out_one_by_one() -> None:
    schema = Schema("c", "1", (Feature("site", "categorical", categories=("a", "b", "c", "d")),))
    cohort = cohort_of(schema, site=[0] * 50 + [1] * 40 + [2] * 2 + [3] * 5)
    assert fit(cohort, PreprocessingOptions()).names(schema) == ["site=b", "site=d"]


def test_rare_counts_and_numbers_stay() -> None:
    schema = Schema("r", "1", (Feature("x", "continuous"), Feature("n", "count")))
    cohort = cohort_of(schema, x=[0.0] * 99 + [1.0], n=[0] * 99 + [5])
    assert fit(cohort, PreprocessingOptions(min_count=10)).n_features == 2


def test_constants_and_columns_never_seen_go() -> None:
    features = tuple(Feature(name, "continuous", reference=1e6) for name in ("same", "never", "once", "varies"))
    schema = Schema("k", "1", features)
    cohort = cohort_of(schema, same=[0.1] * 5, never=[np.nan] * 5, once=[np.nan] * 4 + [3.0], varies=[1.0, 2, 3, 4, 5])
    fitted = fit(cohort)
    assert fitted.names(schema) == ["varies"]
    assert np.isfinite(fitted.transform(cohort)).all()


def test_a_category_without_alternative_carries_nothing() -> None:
    schema = Schema("one", "1", (Feature("site", "categorical", categories=("here",)), Feature("x", "binary")))
    cohort = cohort_of(schema, site=[0, 0, 0, np.nan], x=[0, 1, 1, 0])
    assert fit(cohort).names(schema) == ["x"]


def test_nothing_left_is_said_with_what_to_do() -> None:
    cohort = cohort_of(Schema("x", "1", (Feature("x", "binary"),)), x=[0, 1, 0, 0])
    with pytest.raises(ValueError, match=r"no feature varies in the 4 .* lower preprocessing.min_count \(3\)"):
        fit(cohort, PreprocessingOptions())


# As arrays -------------------------------------------------------------------------------------------


def test_travels_as_arrays() -> None:
    cohort = patients()
    fitted = fit(cohort, PreprocessingOptions())
    arrays = fitted.to_arrays("preprocessor/")
    assert all(isinstance(array, np.ndarray) and array.dtype.kind in "bif" for array in arrays.values())
    again = Preprocessor.from_arrays({**arrays, "weights": np.zeros(3)}, "preprocessor/")
    np.testing.assert_array_equal(again.transform(cohort), fitted.transform(cohort))
    assert again.names(SCHEMA) == fitted.names(SCHEMA)


def test_missing_values_are_kept_where_a_network_takes_them() -> None:
    cohort = patients()
    imputed, kept = fit(cohort, PreprocessingOptions()), fit(cohort, PreprocessingOptions(missing="keep"))
    assert imputed.indicators.size
    assert not kept.indicators.size
    x, columns = kept.transform(cohort), len(kept.keep)
    np.testing.assert_array_equal(np.nan_to_num(x), imputed.transform(cohort)[:, :columns])
    np.testing.assert_array_equal(np.isnan(x), np.isnan(encode(cohort)[:, kept.keep]))
    assert np.isnan(x).any()


@pytest.mark.parametrize("missing", ["impute", "keep"])
def test_a_design_says_what_its_columns_are(missing: Literal["impute", "keep"]) -> None:
    cohort = patients()
    fitted = fit(cohort, PreprocessingOptions(missing=missing))
    design = fitted.design(cohort.schema)
    assert [column.name for column in design] == fitted.names(cohort.schema)
    x = fitted.transform(cohort)
    for j, column in enumerate(design):
        feature = cohort.schema.features[column.feature]
        assert column.modality == feature.modality
        raw = cohort.values[:, column.feature]
        value = column.mean + column.scale * x[:, j]
        if column.indicator:
            np.testing.assert_allclose(value, np.isnan(raw), atol=1e-9)
            continue
        if feature.kind == "categorical":
            raw = np.where(np.isnan(raw), np.nan, raw == feature.categories.index(column.name.partition("=")[2]))
        assert column.kind == (feature.kind if feature.kind != "categorical" else "binary")
        known = ~np.isnan(raw)
        np.testing.assert_allclose(value[known], raw[known], atol=1e-9)


def test_a_modality_of_which_nothing_is_known_is_masked_and_the_rest_imputed() -> None:
    cohort = patients()
    lacking = np.arange(len(cohort)) % 3 == 0
    cohort.values[lacking, SCHEMA.index("NPM1")] = np.nan
    cohort.values[5, : SCHEMA.index("NPM1")] = np.nan  # all that is clinical
    options = PreprocessingOptions()
    imputed, masked = fit(cohort, options), fit(cohort, replace(options, missing="mask"))
    x, expected = masked.transform(cohort), imputed.transform(cohort)
    modality = np.array([column.modality for column in masked.design(SCHEMA)])
    assert {"NPM1", "NPM1 missing", "age missing"} <= set(masked.names(SCHEMA))
    expected[np.ix_(np.isnan(cohort.column("NPM1")), modality == "genomic")] = np.nan
    expected[np.ix_(np.isnan(cohort.values[:, :-1]).all(axis=1), modality == "clinical")] = np.nan
    assert np.isnan(expected[5]).any()
    np.testing.assert_array_equal(x, expected)


def test_modalities_left_out_have_no_column_and_change_no_other() -> None:
    cohort = patients()
    whole, part = fit(cohort, PreprocessingOptions()), fit(cohort, PreprocessingOptions(modalities=("clinical",)))
    names = whole.names(SCHEMA)
    assert part.names(SCHEMA) == [name for name in names if "NPM1" not in name]
    here = [i for i, name in enumerate(names) if "NPM1" not in name]
    np.testing.assert_array_equal(part.transform(cohort), whole.transform(cohort)[:, here])
    assert fit(cohort, PreprocessingOptions(modalities=("genomic",))).names(SCHEMA) == ["NPM1", "NPM1 missing"]
