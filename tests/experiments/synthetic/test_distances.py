"""The mixed distance against its definition, pair by pair, on cohorts of every kind."""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata

from experiments.synthetic.distances import MixedDistance, by_rows, is_numeric, nearest, records
from harmonization import Cohort


def by_definition(real: Cohort, i: int, j: int) -> float:
    """Gower's mean over columns, for two real patients."""
    table, numeric, parts = records(real), is_numeric(real.schema), []
    for column, number in zip(table.T, numeric, strict=True):
        a, b = column[[i, j]]
        if np.isnan(a) or np.isnan(b):
            parts.append(float(np.isnan(a) != np.isnan(b)))
        elif number:
            known = column[~np.isnan(column)]
            ranks = (rankdata(known) - 0.5) / len(known)
            parts.append(abs(ranks[known == a][0] - ranks[known == b][0]))
        else:
            parts.append(float(a != b))
    return float(np.mean(parts))


@given(data=st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_distance_is_the_mean_of_differences_between_0_and_1(
    data: st.DataObject, cohorts: st.SearchStrategy[Cohort]
) -> None:
    real = data.draw(cohorts)
    points = MixedDistance.of(real).embed(real)
    found = by_rows(points, points, lambda d, _: (d,))[0]
    for i in range(len(real)):
        for j in range(len(real)):
            np.testing.assert_allclose(found[i, j], by_definition(real, i, j), atol=1e-9)
    assert found.min() >= 0
    assert found.max() <= 1 + 1e-9


def test_nearest_are_the_nearest_in_order_and_nobody_is_his_own() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random((7, 3)), rng.random((11, 3))
    all_of_them = np.abs(a[:, None] - b).sum(axis=2)
    distances, who = nearest(a, b, 4)
    np.testing.assert_array_equal(who, np.argsort(all_of_them, axis=1)[:, :4])
    np.testing.assert_allclose(distances, np.sort(all_of_them, axis=1)[:, :4])
    assert not (nearest(a, a, 1, itself=True)[1][:, 0] == np.arange(7)).any()
    assert (nearest(a, a, 1)[1][:, 0] == np.arange(7)).all()
