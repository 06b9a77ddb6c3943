"""Intervals over folds, curves at common values, and features that the data do not have."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import t as student

from experiments.config import parse_config
from experiments.datasets import load_dataset
from experiments.explaining import _at_common_values, over_folds, require_known_features
from experiments.settings import ConfigError


def test_the_interval_allows_for_shared_training_patients() -> None:
    drops = np.array([0.02, 0.05, 0.03, 0.06, 0.04, 0.01, 0.07, 0.03, 0.05, 0.04])  # two repeats of five folds
    found = over_folds(drops, folds=5)
    error = np.sqrt((1 / 10 + 1 / 4) * drops.var(ddof=1))  # Nadeau and Bengio: 1/k + test patients / training patients
    assert found["mean"] == pytest.approx(0.04)
    assert found["high"] - found["mean"] == pytest.approx(student.ppf(0.975, 9) * error)
    assert found["mean"] - found["low"] == pytest.approx(student.ppf(0.975, 9) * error)
    assert over_folds(np.full(4, 0.03), folds=2) == pytest.approx({"mean": 0.03, "low": 0.03, "high": 0.03})


def test_curves_of_folds_are_read_off_where_all_have_values() -> None:
    lines = [(np.linspace(low, high, 5), slope) for low, high, slope in ((0, 10, 1.0), (2, 12, 2.0))]
    values, tables = _at_common_values([(x, (slope * x)[:, None]) for x, slope in lines])
    assert (values[0], values[-1]) == (2, 10)
    np.testing.assert_allclose(tables[:, :, 0], [values, 2 * values])
    words = np.array(["no", "yes"])
    values, tables = _at_common_values([(words, np.zeros((2, 3))), (words, np.ones((2, 3)))])
    assert values.tolist() == ["no", "yes"]
    assert tables.shape == (2, 2, 3)


def test_a_feature_that_is_not_there_is_named_with_the_nearest() -> None:
    config = parse_config({"dataset": {"name": "gbsg2"}, "explanation": {"partial_dependence": ["tumour_size"]}})
    schema = load_dataset("gbsg2").cohort.schema
    with pytest.raises(ConfigError, match="no feature 'tumour_size'; did you mean 'tumor_size'"):
        require_known_features(config, schema)
    require_known_features(parse_config({"dataset": {"name": "gbsg2"}, "explanation": {}}), schema)
    require_known_features(config, replace(schema, features=(replace(schema.features[0], name="tumour_size"),)))
