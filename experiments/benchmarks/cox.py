"""The exact Cox model over centers against lifelines on the pooled patients: broadcasts, and how far apart they are."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from experiments.datasets import DatasetError, load_dataset, resolve_data_dir
from federation.algorithm import rounds, run
from federation.center import Center
from federation.in_process import InProcessFederation
from federation.policy import DisclosurePolicy
from federation.preprocessing import FitPreprocessor, preprocessor_of
from federation.survival import FitCox, cox_fit
from models.preprocessing import PreprocessingOptions

DATASETS = ("aml_amlsg", "mds_iwg", "flchain", "gbsg2", "whas500")
OPTIONS = PreprocessingOptions(min_count=10, min_frequency=0.03)
"""Without columns so rare that no unpenalized model has a coefficient for them."""


def cox_benchmark() -> Mapping[str, Any]:
    """One column per data set that is here; those without centers of their own are spread over six of unequal size.

    Raises
    ------
    ValueError
        If lifelines is not installed.
    """
    try:
        from lifelines import CoxPHFitter
    except ImportError:
        raise ValueError("lifelines, which this compares with, is not installed: pip install -e '.[test]'") from None
    found = {}
    for name in DATASETS:
        try:
            dataset = load_dataset(name, resolve_data_dir(None))
        except DatasetError:
            continue  # not downloaded
        cohort, labels = dataset.cohort, dataset.center
        if labels is None:
            shares = [0.4, 0.3, 0.15, 0.1, 0.04, 0.01]
            labels = np.random.default_rng(0).choice(6, len(cohort), p=shares).astype(str)
        names, sizes = np.unique(np.asarray(labels), return_counts=True)
        few = DisclosurePolicy().min_patients
        present = np.isin(labels, names[sizes >= few])  # the others withhold
        dealt = {str(n): cohort[labels == n] for n in names}
        federation = InProcessFederation(
            [Center(n, partial(dealt.__getitem__, n), j) for j, n in enumerate(dealt)], task=name
        )
        preprocessor = preprocessor_of(run(FitPreprocessor(cohort.schema, OPTIONS), federation))
        algorithm = FitCox(preprocessor=preprocessor)
        began = time.perf_counter()
        states = list(rounds(algorithm, federation))
        seconds = time.perf_counter() - began
        mine, pooled = cox_fit(states[-1], algorithm, cohort.schema), cohort[present]
        cell, event = algorithm.grid.cells(pooled.time, pooled.event, cohort.schema.time_unit)
        columns = preprocessor.names(cohort.schema)
        frame = pd.DataFrame(preprocessor.transform(pooled), columns=columns).assign(T=cell, E=event)
        theirs = CoxPHFitter().fit(frame, "T", "E", fit_options={"precision": 1e-13})
        summary = mine.summary()
        found[name] = {
            "patients": len(pooled),
            "events": mine.events,
            "centers": int((sizes >= few).sum()),
            "columns": len(columns),
            "broadcasts": len(states),
            "coefficients": _apart(summary["coefficient"], theirs.params_),
            "standard_errors": _apart(summary["standard_error"], theirs.standard_errors_),
            "p_values": _apart(summary["p"], theirs.summary["p"]),
            "log_likelihood": abs(mine.log_likelihood - theirs.log_likelihood_),
            "seconds": seconds,
        }
    return found


def _apart(mine: Any, theirs: Any) -> float:
    return float(np.abs(np.asarray(mine) - np.asarray(theirs)).max())
