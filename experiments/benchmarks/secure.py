"""What secure aggregation costs: many centers with dropouts, and the hospitals of the AMLSG against a plain round.

Every simulated center does its own part in full (keys, shares, masks), in one process and on one core.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from actors.cluster import ray_session
from actors.coordinator import Coordinator, Task
from experiments.config import parse_config
from experiments.datasets import DatasetError, resolve_data_dir
from experiments.fitting import Fit, fit_model
from experiments.study import Study
from federation.algorithm import Algorithm
from federation.privacy.aggregator import Aggregator, MaskedSum
from federation.privacy.fixed_point import add
from federation.privacy.graph import graph_of
from federation.privacy.masks import MaskStream
from federation.privacy.party import Party
from federation.privacy.secure import SecureAggregation, rounds_ahead
from federation.splits import TEST
from federation.state import State
from harmonization import Cohort
from models.survival.concordance import concordance_counts
from models.survival.network import build_network
from models.training import predict

logger = logging.getLogger("haemfed")

CONFIGS = {
    name: Path(__file__).parent.parent / "configs" / file
    for name, file in (("linear", "demo.yaml"), ("DeepSurv", "aml_deepsurv.yaml"))
}

CENTERS, PARAMETERS, DROPOUTS = 500, 10_000, 0.1


def secure_benchmark() -> dict[str, Any]:
    """The large federation, and the AMLSG's hospitals if their data are there."""
    found: dict[str, Any] = {"500 centers": many_centers()}
    try:
        found |= {f"AML, {name}": hospitals(name) for name in CONFIGS}
    except DatasetError as error:
        logger.warning("without the hospitals: %s", error)
    return found


def many_centers(rounds: int = 3) -> dict[str, Any]:
    """Seconds of a round: 500 centers with 10,000 parameters, a tenth lost after they shared their secrets.

    Returns
    -------
    dict
        ``setup_s`` is the agreement on keys, once a run; ``share_s`` the sharing of the secrets of ``session_rounds``
        rounds; ``round_s`` the median round with its part of that, and ``round_cpu_s`` what the processor worked for it
        (the same on a quiet machine); ``mask_s`` and so on its steps; ``plain_sum_s`` the same sum without secrets;
        ``differ`` how many numbers differ from it (0).
    """
    settings = SecureAggregation()
    fixed, rng = settings.fixed_point, np.random.default_rng(0)
    names = tuple(sorted(f"center {i}" for i in range(CENTERS)))
    numbers = rng.normal(size=(CENTERS, 1 + PARAMETERS))
    lost = set(rng.choice(names, round(DROPOUTS * CENTERS), replace=False).tolist())
    graph = graph_of(names, settings.threshold, settings.degree(CENTERS))
    ahead = rounds_ahead(CENTERS, len(graph.neighbours[names[0]]))
    began = time.perf_counter()
    parties = {name: Party(name) for name in names}
    keys = {name: {n: parties[n].public for n in graph.neighbours[name]} for name in names}
    for name, party in parties.items():
        party.share("setup", keys[name], graph.threshold)
    found: dict[str, Any] = {
        "centers": CENTERS,
        "parameters": PARAMETERS,
        "lost": len(lost),
        "neighbours": len(graph.neighbours[names[0]]),
        "threshold": graph.threshold,
        "session_rounds": ahead,
        "setup_s": time.perf_counter() - began,
    }
    began = time.perf_counter()
    bare = fixed.encode(np.zeros(1 + PARAMETERS), CENTERS)
    for name, row in zip(names, numbers, strict=True):
        if name not in lost:
            add(bare, fixed.encode(row, CENTERS))
    found["plain_sum_s"] = time.perf_counter() - began
    expected, steps, cpu, differ = fixed.decode(bare)[1:], [], [], 0
    began, worked = time.perf_counter(), time.process_time()
    aggregator = Aggregator(graph, fixed)
    aggregator.take_shares({n: p.share("session", keys[n], graph.threshold, ahead) for n, p in parties.items()})
    for name, inbox in aggregator.inboxes().items():
        parties[name].receive("session", inbox)
    found["share_s"], share_cpu = time.perf_counter() - began, time.process_time() - worked
    for number in range(1 + rounds):  # the first warms up
        times, worked = [time.perf_counter()], time.process_time()
        aggregator.begin(number)
        stream, total = MaskStream(bare.shape), np.zeros_like(bare)
        for name, row in zip(names, numbers, strict=True):
            if name in lost:
                continue
            words = fixed.encode(row, CENTERS)
            parties[name].mask("session", number, words, stream)
            add(total, words)
        alive = frozenset(names) - lost
        aggregator.take_masked(MaskedSum(tuple(sorted(alive)), (("x", (PARAMETERS,)),), total))
        times.append(time.perf_counter())
        openings = {name: parties[name].reveal("session", number, alive) for name in alive}
        times.append(time.perf_counter())
        result = aggregator.result(openings)["x"]
        times.append(time.perf_counter())
        cpu.append(time.process_time() - worked)
        differ += int((result != expected).sum())
        steps.append(np.diff(times))
    found |= dict(zip(("mask_s", "reveal_s", "unmask_s"), np.median(steps[1:], axis=0).tolist(), strict=True))
    found["round_s"] = float(np.median(np.sum(steps[1:], axis=1))) + found["share_s"] / ahead
    return found | {"round_cpu_s": float(np.median(cpu[1:])) + share_cpu / ahead, "differ": differ}


def hospitals(name: str, rounds: int = 40, pairs: int = 15) -> dict[str, Any]:
    """A configuration's first strategy on one fold, plain and masked in turns: time of a round, and Harrell's C.

    Returns
    -------
    dict
        ``masked_over_plain`` is the median over pairs of runs that follow each other, so that a machine that is busy
        slows both, of the ratio of their median rounds; ``masked_over_plain_quartiles`` its spread. ``plain_round_ms``
        and ``masked_round_ms`` are medians over all rounds.

    Raises
    ------
    DatasetError
        If the data are not there.
    """
    path = CONFIGS[name]
    config = parse_config(yaml.safe_load(path.read_text(encoding="utf-8")), str(path))
    config = config.model_copy(update={"rounds": rounds})
    study = Study.load(config, resolve_data_dir(None))
    split, seed = study.split(0, 0), study.seed(0)
    found: dict[str, Any] = {"centers": len(study.cohorts)}
    seconds: dict[str, list[list[float]]] = {"plain": [], "masked": []}
    fits: dict[str, Fit] = {}
    with ray_session():
        coordinators = {
            kind: Coordinator(study.specs(), study.schema, hosts=2, cpus=0.0, secure_aggregation=settings)
            for kind, settings in (("plain", None), ("masked", SecureAggregation()))
        }
        for coordinator in coordinators.values():
            coordinator.load()
        turns = [(pair, kind) for pair in range(1 + pairs) for kind in ("plain", "masked")[:: (-1) ** pair]]
        for pair, kind in turns:
            taken: list[float] = []

            def run_task(name: str, algorithm: Algorithm) -> State:
                task = Task(f"{pair} {name}", algorithm, split, seed)  # noqa: B023
                for progress in coordinators[kind].run(task):  # noqa: B023
                    if name == "training":
                        taken.extend(progress.seconds)  # noqa: B023
                assert progress.final is not None
                return progress.final

            fits[kind] = fit_model(config, config.strategies[0], study.schema, run_task)
            if pair > 0:  # the first warms up
                seconds[kind].append(taken)
        for coordinator in coordinators.values():
            coordinator.close()
    tested = [c[split.parts(c.ids, c.event, name) == TEST] for name, c in study.cohorts.items()]
    cohort = Cohort.concatenate([c for c in tested if len(c)])
    for kind, fit in fits.items():
        network = build_network(config.model.name, fit.preprocessor.n_features, fit.parameters)
        risk = predict(network, fit.weights, fit.preprocessor.transform(cohort))
        found[f"{kind}_round_ms"] = 1000 * float(np.median(seconds[kind]))
        concordant, comparable = concordance_counts(cohort.time, cohort.event, risk)
        found[f"{kind}_c"] = concordant / comparable
    medians = {kind: np.median(taken, axis=1) for kind, taken in seconds.items()}
    low, median, high = np.quantile(medians["masked"] / medians["plain"], [0.25, 0.5, 0.75]).tolist()
    return found | {"masked_over_plain": median, "masked_over_plain_quartiles": [low, high]}
