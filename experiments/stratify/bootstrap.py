"""Refits of a method on resamples of the patients, in parallel on Ray: which clusters other patients would have given.

Patients are drawn with replacement, and each drawn one takes part once (Hennig, Comput. Stat. Data Anal. 2007, section
4): copies would be clusters of their own. A refit has chains and a classification like the run's own, with a smaller
budget of sweeps. It depends on the seed and its number alone and is a file of its own: a run that stopped makes what it
lacks.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from actors.parallel import parallel_map
from clustering.stability import Bootstrap, draw_resample, judge
from experiments.files import write_text
from experiments.settings import ConfigError
from experiments.stratify.config import CHAINS_OF, StratifyConfig
from experiments.stratify.patients import Patients
from experiments.stratify.results import classification_of
from experiments.stratify.serial import run_serial
from federation.randomness import generator
from harmonization.files import replacing

Refit = dict[str, np.ndarray]
"""Method -> labels of the patients of a resample, -1 for no cluster."""


def refit_resamples(
    config: StratifyConfig,
    chains: str,
    patients: Patients,
    folder: Path,
    heard: Callable[[int], None] | None = None,
) -> list[Refit]:
    """Refit the methods that read some chains to every resample; needs a Ray session.

    Parameters
    ----------
    config
        Of the run; ``config.bootstrap`` says how many resamples and how long their chains are.
    chains
        Name of the chains.
    patients
        All of them with events.
    folder
        Of the finished refits.
    heard
        Called with the number of finished refits.

    Raises
    ------
    ConfigError
        If ``folder`` holds refits that were made otherwise.
    """
    _claim(config, folder)
    numbers = range(config.bootstrap.resamples)
    found = {number: _read(folder / f"{number:05d}.npz") for number in numbers}
    missing = [number for number, refit in found.items() if refit is None]
    fit = partial(refit_one, config, chains, patients)
    for done, (number, refit) in enumerate(parallel_map(fit, missing), start=1):
        _write(folder / f"{number:05d}.npz", refit)
        found[number] = refit
        if heard is not None:
            heard(len(found) - len(missing) + done)
    return [refit for refit in found.values() if refit is not None]


def refit_one(config: StratifyConfig, chains: str, patients: Patients, number: int) -> Refit:
    """The methods' labels of the patients of one resample."""
    plan, budget = config.chains, config.bootstrap
    some = patients.select(draw_resample(len(patients.table), plan.seed, number, distinct=True))
    seed = int(generator(plan.seed, "bootstrap", number).integers(2**31))
    sampler = config.sampler(chains, some)
    length = max(budget.sweeps // budget.spacing, 1)
    ran = run_serial(sampler, seed, budget.chains, length, budget.spacing, plan.burn_in, config.draws)
    draws = [[step.draw for step in chain] for chain in ran.kept]
    result = {}
    for method in config.methods:
        if CHAINS_OF[method] == chains:
            options = config.methods["mfnch"] if method == "mfnch" else {}
            found = classification_of(method, some.table, draws, config.classification, options, seed)
            result[str(method)] = (found.labels - 1).astype(np.int32)
    return result


def judge_refits(config: StratifyConfig, method: str, labels: np.ndarray, refits: list[Refit]) -> Bootstrap:
    """How a classification holds in the refits of its method.

    Parameters
    ----------
    labels
        Shape (patients,), from 1; patients of 0, the catch-all, are left out.
    """
    classed = labels > 0
    place = np.cumsum(classed) - 1
    compared = []
    for number, refit in enumerate(refits):
        drawn = draw_resample(len(labels), config.chains.seed, number, distinct=True)
        inside = classed[drawn]
        compared.append((place[drawn[inside]], refit[method][inside]))
    return judge(labels[classed], compared)


def _claim(config: StratifyConfig, folder: Path) -> None:
    """Refuse to mix refits of different kinds; more of one kind may be added."""
    how = {
        "seed": config.chains.seed,
        "burn_in": config.chains.burn_in,
        "classification": config.classification,
        "draws": config.draws,
        **config.bootstrap.model_dump(exclude={"resamples"}),
    }
    path = folder / "bootstrap.json"
    if path.exists() and (before := json.loads(path.read_text(encoding="utf-8"))) != how:
        raise ConfigError(f"{folder}: holds refits made with {before}, not {how}; remove it or choose another --out")
    folder.mkdir(parents=True, exist_ok=True)
    write_text(json.dumps(how), path)


def _read(path: Path) -> Refit | None:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {method: file[method] for method in file.files}
    except (FileNotFoundError, zipfile.BadZipFile):
        return None


def _write(path: Path, refit: Refit) -> None:
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **refit)  # type: ignore[arg-type]
