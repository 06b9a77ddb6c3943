"""On real AML and MDS patients: network and mixtures over 3, 5 and 45 centers, and what synthetic patients teach."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sksurv.metrics import concordance_index_censored

from experiments.datasets import load_dataset
from federation import (
    Algorithm,
    Center,
    DisclosurePolicy,
    FitBayesianNetwork,
    FitColumnMixtures,
    InProcessFederation,
    State,
    mixture_of,
    network_of,
    run,
)
from federation.generative import fit_vae_bgm
from harmonization import Cohort
from models.generative import VAEBGM, BayesianNetwork, SurvivalLaw, fit_mixture
from models.preprocessing import encode

pytestmark = pytest.mark.slow
SHARES = {3: [0.6, 0.3, 0.1], 5: [0.45, 0.2, 0.15, 0.1, 0.1], 45: [1 / 45] * 45}


@pytest.mark.parametrize("name", ["aml_amlsg", "mds_iwg"])
def test_network_and_mixtures_are_the_pooled_ones(name: str, data_dir: Path) -> None:
    dataset = load_dataset(name, data_dir)
    cohort = dataset.cohort
    pooled = BayesianNetwork(law=None).fit(cohort).fitted_
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
    train, test = held_out(name, data_dir)
    network = BayesianNetwork().fit(train)
    synthetic = [concordance(network.sample(len(train), seed), test) for seed in (1, 2, 3)]
    real = concordance(train, test)
    print(f"{name}: real {real:.3f}, synthetic {np.round(synthetic, 3)}")  # shown by pytest -s
    assert np.mean(synthetic) > real - 0.03


@pytest.mark.parametrize("name", ["aml_amlsg", "mds_iwg"])
def test_vae_bgm_over_centers_draws_patients_like_the_real_ones(name: str, data_dir: Path) -> None:
    """Of 60, 30 and 10 % of the patients: C within .03; a random forest tells them apart as rarely as published."""
    train, test = held_out(name, data_dir)
    whose = np.random.default_rng(3).choice(3, len(train), p=SHARES[3])
    everybody = DisclosurePolicy(min_patients=0)

    def run_task(task: str, algorithm: Algorithm) -> State:
        parts = [train[whose == j] for j in range(3)]
        centers = [Center(f"c{j}", lambda part=part: part, j, policy=everybody) for j, part in enumerate(parts)]
        return run(algorithm, InProcessFederation(centers, task=task))

    real = concordance(train, test)
    for arm, model in (("federated", fit_vae_bgm(run_task, train.schema)), ("centralized", VAEBGM().fit(train))):
        drawn = [model.sample(len(train), seed) for seed in (1, 2, 3)]
        found = np.array(
            [[concordance(d, test), told_apart(train, d), told_apart(test, d[np.arange(len(test))])] for d in drawn]
        )
        print(f"{name}, {arm}: real C {real:.3f}; synthetic C, told from training, from held-out", found.round(3))
        assert found[:, 0].mean() > real - 0.03
        assert found[:, 1:].mean(0).max() <= 0.68


def held_out(name: str, data_dir: Path) -> tuple[Cohort, Cohort]:
    """Four fifths to train on, and a fifth to test with."""
    cohort = load_dataset(name, data_dir).cohort
    order = np.random.default_rng(0).permutation(len(cohort))
    return cohort[order[len(cohort) // 5 :]], cohort[order[: len(cohort) // 5]]


def concordance(patients: Cohort, test: Cohort) -> float:
    """Harrell's C on the test patients of a ridge Cox model of others."""
    law = SurvivalLaw.fit(patients)
    risk = law.preprocessor.transform(test) @ law.event.coefficients
    return float(concordance_index_censored(test.event, test.time, risk)[0])


def told_apart(real: Cohort, synthetic: Cohort) -> float:
    """Accuracy of a random forest in threefold cross-validation; .5 is chance."""
    x = np.concatenate([np.column_stack([encode(c), c.time, c.event]) for c in (real, synthetic)])
    y = np.repeat([0, 1], [len(real), len(synthetic)])
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    forest = RandomForestClassifier(100, random_state=0)
    return float(cross_val_score(forest, np.nan_to_num(x, nan=-99), y, cv=folds).mean())
