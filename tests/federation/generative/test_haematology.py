"""On real AML and MDS patients: network and mixtures over 3, 5 and 45 centers, and what synthetic patients teach."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sksurv.metrics import concordance_index_censored

from experiments.datasets import load_dataset
from federation import (
    Center,
    DisclosurePolicy,
    FitBayesianNetwork,
    FitColumnMixtures,
    InProcessFederation,
    mixture_of,
    network_of,
    run,
)
from harmonization import Cohort
from models.generative import BayesianNetwork, SurvivalLaw, fit_mixture

pytestmark = pytest.mark.slow
SHARES = {3: [0.6, 0.3, 0.1], 5: [0.45, 0.2, 0.15, 0.1, 0.1], 45: [1 / 45] * 45}


@pytest.mark.parametrize("name", ["aml_amlsg", "mds_iwg"])
def test_network_and_mixtures_are_the_pooled_ones(name: str, data_dir: Path) -> None:
    dataset = load_dataset(name, data_dir)
    cohort = dataset.cohort
    pooled = BayesianNetwork(law=None).fit(cohort).network_
    numeric = [j for j, feature in enumerate(cohort.schema.features) if feature.numeric]
    columns, algorithm = FitColumnMixtures(), FitBayesianNetwork(cohort.schema)
    mixtures = fit_mixture(cohort.values[:, numeric, None], columns.options)
    deviation = np.sqrt(mixtures.state["prior_covariance"][:, :, 0])[:, None]
    for centers, shares in SHARES.items():
        whose = np.random.default_rng(centers).choice(centers, len(cohort), p=shares).astype(str)
        if centers == 45 and dataset.center is not None:  # the real hospitals
            whose = dataset.center
        parts = [cohort[whose == label] for label in np.unique(whose)]
        assert len(parts) == centers
        everybody = DisclosurePolicy(min_patients=0)
        federation = InProcessFederation(
            [Center(f"c{i}", lambda part=part: part, i, policy=everybody) for i, part in enumerate(parts)]
        )
        state = run(algorithm, federation)
        assert network_of(state, algorithm).edges == pooled.edges
        assert int(state["round"]) <= pooled.moves + 5
        for key, array in pooled.state.items():
            np.testing.assert_array_equal(state[key], array, err_msg=key, strict=True)
        found = mixture_of(run(columns, federation), columns)
        np.testing.assert_allclose(found.means / deviation, mixtures.means / deviation, atol=1e-6)
        np.testing.assert_allclose(found.weights, mixtures.weights, atol=1e-6)
        by = deviation[..., None] ** 2
        np.testing.assert_allclose(found.covariances / by, mixtures.covariances / by, atol=1e-6)
        np.testing.assert_allclose(found.lower_bound, mixtures.lower_bound, atol=1e-6)


@pytest.mark.parametrize("name", ["aml_amlsg", "mds_iwg"])
def test_a_cox_model_of_synthetic_patients_ranks_real_ones(name: str, data_dir: Path) -> None:
    """Harrell's C on a held-out fifth is within .03 of that of a model of the real patients."""
    cohort = load_dataset(name, data_dir).cohort
    order = np.random.default_rng(0).permutation(len(cohort))
    test, train = cohort[order[: len(cohort) // 5]], cohort[order[len(cohort) // 5 :]]

    def concordance(patients: Cohort) -> float:
        law = SurvivalLaw.fit(patients)
        risk = law.preprocessor.transform(test) @ law.event.coefficients
        return float(concordance_index_censored(test.event, test.time, risk)[0])

    network = BayesianNetwork().fit(train)
    synthetic = [concordance(network.sample(len(train), seed)) for seed in (1, 2, 3)]
    real = concordance(train)
    print(f"{name}: real {real:.3f}, synthetic {np.round(synthetic, 3)}")  # shown by pytest -s
    assert np.mean(synthetic) > real - 0.03
