"""Synthetic patients as files for others: Parquet, CSV, and FHIR where a dictionary describes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np

from experiments.synthetic.arms import FEDERATED, Draw, Files, Patients, read_sample
from experiments.synthetic.config import SyntheticConfig
from experiments.synthetic.fitting import Generator, fit_generator, kept
from federation.algorithm import Algorithm
from federation.state import State, file_name
from harmonization import Cohort, Dictionary, Schema, write_cohort
from harmonization.dictionary_file import available
from harmonization.writing import write_fhir

DIRECTORY = "synthetic"
MOST_DRAWS = 1_000_000
"""Patients drawn at most to find those who fulfil conditions."""


def write_tables(config: SyntheticConfig, data_dir: Path | None, files: Files, draws: Sequence[Draw]) -> list[Path]:
    """Write ``synthetic/MODEL-ARM.parquet`` and ``.csv`` of the first seed's fits, and FHIR of the federated ones.

    Real patients are not written. With conditions or a balanced feature, of the generators alone.

    Returns
    -------
    list of Path
        What was written.
    """
    directory = files.out / DIRECTORY
    patients = Patients.load(config, data_dir, 0)
    dictionary = dictionary_of(patients.train().schema)
    written = []
    for draw in draws:
        if draw.repeat or draw.model == "real" or files.failed(draw).exists():
            continue
        if config.sample.as_judged:
            cohort = read_sample(patients, files, draw, 0)
        elif draw.model in config.generators:
            cohort = as_wanted(config, patients, files, draw)
        else:
            continue
        name = file_name(draw.model, draw.arm.replace("/", "-")).replace("--", "-")
        for kind in ("parquet", "csv"):
            write_cohort(cohort, directory / f"{name}.{kind}")
            written.append(directory / f"{name}.{kind}")
        if dictionary is not None and draw.arm == FEDERATED:
            write_fhir(cohort, dictionary, directory / "fhir" / name, config.seed)
            written.append(directory / "fhir" / name)
    return written


def as_wanted(config: SyntheticConfig, patients: Patients, files: Files, draw: Draw) -> Cohort:
    """Patients as the section ``sample`` wants them, from a fit on disk."""

    def run_task(step: str, algorithm: Algorithm) -> State:
        raise FileNotFoundError(f"{files.fit(draw)}: no file of step {step!r}; remove the directory and --resume")

    train = patients.train(draw.arm)
    fitted = fit_generator(draw.model, config, train.schema, kept(run_task, files.fit(draw)))
    wanted, seed = config.sample, patients.sample_seed(0)
    n = wanted.patients or len(patients.train())
    if wanted.balance is None:
        return _conditioned(fitted, n, seed, wanted.conditions)
    name, seen = wanted.balance, train.column(wanted.balance)
    feature = train.schema.features[train.schema.index(name)]
    codes = np.unique(seen[np.isfinite(seen)]).astype(int).tolist()
    parts = [
        _conditioned(fitted, n // len(codes) + (i < n % len(codes)), seed + i, {**wanted.conditions, name: value})
        for i, value in enumerate(feature.categories[code] if feature.categories else float(code) for code in codes)
    ]
    return Cohort.concatenate(parts)[np.random.default_rng(seed).permutation(n)]


def _conditioned(fitted: Generator, n: int, seed: int, conditions: Mapping[str, float | str | None]) -> Cohort:
    if not conditions:
        return fitted.sample(n, seed)
    if "conditions" not in signature(fitted.sample).parameters:
        return _drawn_until(fitted, n, seed, conditions)
    sample: Any = fitted.sample
    drawn: Cohort = sample(n, seed, conditions=dict(conditions))
    return drawn


def _drawn_until(fitted: Generator, n: int, seed: int, conditions: Mapping[str, float | str | None]) -> Cohort:
    """Of a generator that takes no conditions: draw until enough patients meet them."""
    kept_ones: list[Cohort] = []
    found = drawn = 0
    while found < n:
        if drawn >= max(100 * n, MOST_DRAWS):
            raise ValueError(f"sample.conditions: of {drawn} patients drawn {found} fulfil them; ask for less")
        batch = fitted.sample(max(n, 1000), seed + 1000 * (len(kept_ones) + 1))
        drawn += len(batch)
        meets = np.ones(len(batch), bool)
        for name, value in conditions.items():
            feature = batch.schema.features[batch.schema.index(name)]
            column, code = batch.column(name), feature.categories.index(value) if isinstance(value, str) else value
            meets &= np.isnan(column) if code is None else column == code
        kept_ones.append(batch[meets])
        found += int(meets.sum())
    return Cohort.concatenate(kept_ones)[np.arange(n)]


def dictionary_of(schema: Schema) -> Dictionary | None:
    """The data dictionary that has this schema, if one of the package's has."""
    for name in available():
        dictionary = Dictionary.read(name)
        if dictionary.columns and dictionary.endpoint == "overall survival" and dictionary.schema().hash == schema.hash:
            return dictionary
    return None
