"""What generators are compared with, on one table: sdv's, one that knows marginals alone, the real patients."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from harmonization import Cohort
from harmonization.schema import EVENT, ID, TIME

TABLE = "patients"


def draw_baseline(name: str, train: Cohort, n: int, seed: int, sample_seeds: Sequence[int]) -> list[Cohort]:
    """Fit to training patients, and draw several times.

    Parameters
    ----------
    name
        ``gaussian_copula`` or ``tvae`` (sdv, default options); ``independent_marginals``; ``real``: training patients,
        drawn once each.
    train
        The patients.
    n
        How many to draw; of ``real`` at most as many as there are.
    seed
        Of the fit.
    sample_seeds
        Of each sample.
    """
    if name == "independent_marginals":
        return [IndependentMarginals(train).sample(n, s) for s in sample_seeds]
    if name == "real":
        return [_some(train, n, s) for s in sample_seeds]
    return _sdv(name, train, n, seed, sample_seeds)


@dataclass(frozen=True, eq=False)
class IndependentMarginals:
    """Every feature, and the pair of time and event, drawn from training patients by itself."""

    train: Cohort

    def sample(self, n: int, seed: int) -> Cohort:
        """Draw n patients."""
        train, rng = self.train, np.random.default_rng(np.random.SeedSequence([seed]))
        rows = rng.integers(len(train), size=(n, len(train.schema.features) + 1))
        values = np.take_along_axis(train.values, rows[:, :-1], axis=0)
        return replace(
            train,
            ids=_ids(n, seed),
            values=values,
            time=train.time[rows[:, -1]],
            event=train.event[rows[:, -1]],
            scores=np.full((n, len(train.schema.scores)), np.nan),
        )


def _some(train: Cohort, n: int, seed: int) -> Cohort:
    order = np.random.default_rng(np.random.SeedSequence([seed])).permutation(len(train))
    return train[order[:n]]


def _sdv(name: str, train: Cohort, n: int, seed: int, sample_seeds: Sequence[int]) -> list[Cohort]:
    from sdv.metadata import Metadata
    from sdv.single_table import GaussianCopulaSynthesizer, TVAESynthesizer

    from models.generative.adversarial import seeded

    schema = train.schema
    frame = train.to_frame().drop(columns=[ID, *(f.name for f in schema.scores)])
    columns = {f.name: {"sdtype": "numerical" if f.numeric else "categorical"} for f in schema.features}
    columns |= {TIME: {"sdtype": "numerical"}, EVENT: {"sdtype": "categorical"}}
    metadata = Metadata.load_from_dict({"tables": {TABLE: {"columns": columns}}})
    kind = {"gaussian_copula": GaussianCopulaSynthesizer, "tvae": TVAESynthesizer}[name]
    drawn = []
    with warnings.catch_warnings(), seeded(seed):
        warnings.simplefilter("ignore")  # sdv advises to save the metadata
        state = np.random.get_state()  # noqa: NPY002 (sdv draws from numpy's global numbers)
        np.random.seed(seed)  # noqa: NPY002
        try:
            synthesizer = kind(metadata)
            synthesizer.fit({TABLE: frame})
            for sample_seed in sample_seeds:
                synthesizer._set_random_state(sample_seed)  # else every sample is the first
                drawn.append(_cohort(synthesizer.sample(n)[TABLE], train, sample_seed))
        finally:
            np.random.set_state(state)  # noqa: NPY002
    return drawn


def _cohort(table: pd.DataFrame, train: Cohort, seed: int) -> Cohort:
    """Within the schema: whole counts, values within their range, times of zero or more."""
    table = table.copy()
    for feature in train.schema.features:
        if feature.numeric:
            column = table[feature.name].astype("float64")
            column = column.round() if feature.kind == "count" else column
            table[feature.name] = column.clip(feature.low, feature.high)
        elif feature.kind == "binary":
            table[feature.name] = table[feature.name].astype("float64")
    table[TIME] = table[TIME].astype("float64").clip(lower=0.0)
    table[EVENT] = table[EVENT].astype("int64")
    table[ID] = _ids(len(table), seed)
    for score in train.schema.scores:
        table[score.name] = np.nan
    return Cohort.from_frame(table, train.schema, source="sdv")


def _ids(n: int, seed: int) -> np.ndarray:
    return np.array([f"synthetic-{seed}-{i}" for i in range(n)], dtype=str)
