"""Gradient inversion: patients who would have given the update that was seen (Zhu 2019; Geiping 2020).

The attacker is the coordinator and is given more than it would have: the times and events of everybody, in order,
whose patients are whose, the random numbers of the training, and exact arithmetic. From the sums of a center
(standardization) it has the center's mean, from which it starts; under secure aggregation it has the sums over the
federation alone, and with public constants in the place of sums (differential privacy) nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.func import functional_call

from experiments.attacks.config import AttackConfig
from experiments.attacks.federations import (
    answered,
    centers_of,
    interval,
    prepared,
    preprocessor_of,
    question_of,
    under_privacy,
)
from experiments.study import Study
from federation.averaging import ParameterAveraging
from federation.center import Question
from federation.contribution import Contribution
from federation.in_process import InProcessFederation
from federation.privacy.dp.settings import DifferentialPrivacy
from federation.privacy.secure import SecureAggregation
from federation.randomness import entropies, entropy
from federation.splits import Split
from models.batched.streams import Streams
from models.flat import penalty_mask
from models.steps import TrainingData
from models.survival.network import SurvivalNetwork, build_network

Floats = NDArray[np.float64]
Row = dict[str, Any]

BARE, FEW_PARAMETERS, MASKED = "none", "parameters per patient", "secure aggregation"
"""Defences, beside differential privacy (`federations.under_privacy`)."""

CHUNKS = 4
"""Pieces into which a model's centers are cut."""

PRIOR = 0.03
"""Weight of the distance from the mean; without it errors of large centers are above that of the mean."""

EXPOSED = 0.05
"""A patient whose squared error is below this part of that of the mean counts as exposed."""


@dataclass(frozen=True)
class Seen:
    """What the attacker saw of one round: weights that were sent out, and the gradient that came back.

    Parameters
    ----------
    weights, gradient
        Shape (P,); the gradient is of the mean loss over patients.
    noise
        Standard normal numbers of the training step, or None.
    progress
        Part of the training that was done.
    """

    weights: Floats
    gradient: Floats
    noise: Floats | None
    progress: float


def reconstruct(
    network: SurvivalNetwork,
    seen: Sequence[Seen],
    time: Floats,
    event: NDArray[Any],
    table: NDArray[np.int64],
    start: Floats,
    scale: Floats,
    iterations: int = 60,
    *,
    prior: float = 0.0,
    direction: bool = False,
) -> Floats:
    """Design matrix whose gradients are nearest to those seen, by L-BFGS from `start`.

    Parameters
    ----------
    table
        Whose each patient is, from 0 on, shape (n,).
    start, scale
        First guess, shape (n, p), and the standard deviation of each column, shape (p,).
    prior
        Weight of the mean squared distance from `start`, in standard deviations: what is not in the gradients stays.
    direction
        Compare directions (Geiping 2020, eq. 4) instead of values: for gradients that were clipped.

    Returns
    -------
    array of shape (n, p)
    """
    network = network.to(torch.float64).train()
    named = list(network.named_parameters())
    sizes = [p.numel() for _, p in named]
    counts = torch.bincount(torch.as_tensor(table)).to(torch.float64)
    target = network.prepare_many(time, event, table)
    first, unit = torch.as_tensor(start, dtype=torch.float64), torch.as_tensor(scale, dtype=torch.float64)
    steps = torch.zeros_like(first)
    if direction:  # patients who are all the same have no gradient of Cox's likelihood, hence no direction
        steps += 0.01 * torch.randn(first.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    steps.requires_grad_()
    useful = [s for s in seen if np.linalg.norm(s.gradient) > 1e-9]
    if not useful:
        return start

    def mismatch() -> torch.Tensor:
        x, whole = first + unit * steps, torch.zeros((), dtype=torch.float64)
        for s in useful:
            parts = torch.split(torch.as_tensor(s.weights, dtype=torch.float64), sizes)
            at = {n: v.reshape(p.shape).requires_grad_() for (n, p), v in zip(named, parts, strict=True)}
            arguments: tuple[Any, ...] = (x,)
            if s.noise is not None:
                arguments = (x, torch.as_tensor(s.noise, dtype=torch.float64), s.progress)
            output = functional_call(network, at, arguments)
            loss = _losses(network, output, target, time, event, table) @ counts / counts.sum()
            slopes = torch.autograd.grad(loss, list(at.values()), create_graph=True, allow_unused=True)
            flat = torch.cat(
                [
                    torch.zeros_like(v).reshape(-1) if g is None else g.reshape(-1)
                    for g, v in zip(slopes, at.values(), strict=True)
                ]
            )
            wanted = torch.as_tensor(s.gradient, dtype=torch.float64)
            if direction:
                whole = whole + 1 - flat @ wanted / (flat.norm() * wanted.norm() + 1e-300)
            else:
                whole = whole + ((flat - wanted) ** 2).sum() / (wanted**2).sum()
        return whole / len(useful) + prior * (steps**2).mean()

    optimizer = torch.optim.LBFGS(
        [steps],
        max_iter=iterations,
        history_size=20,
        line_search_fn="strong_wolfe",
        tolerance_grad=1e-12,
        tolerance_change=1e-14,
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = mismatch()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    found: Floats = (first + unit * steps).detach().numpy()
    return found if np.isfinite(found).all() else start


def _losses(
    network: SurvivalNetwork,
    output: torch.Tensor,
    target: Any,
    time: Floats,
    event: NDArray[Any],
    table: NDArray[np.int64],
) -> torch.Tensor:
    """The loss of each table; the partial likelihood is written anew, so that it can be differentiated twice."""
    if not network.proportional:
        return network.losses(output, target)
    return torch.stack([_cox(output[rows], time[rows], event[rows]) for rows in _rows(table)])


def _rows(table: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return [np.flatnonzero(table == t) for t in range(int(table.max()) + 1)]


def _cox(risk: torch.Tensor, time: Floats, event: NDArray[Any]) -> torch.Tensor:
    """Negative log partial likelihood per patient, ties by Efron."""
    order = np.lexsort((~event.astype(bool), -time))
    sorted_time, died = time[order], event[order].astype(bool)
    hazard = risk[torch.as_tensor(order)]
    at_risk = torch.logcumsumexp(hazard, 0).exp()
    last = np.searchsorted(-sorted_time, -sorted_time, side="right") - 1  # all of the same time are at risk
    events = np.flatnonzero(died)
    if len(events) == 0:
        return 0 * risk.sum()
    groups, place = np.unique(sorted_time[events], return_inverse=True)
    dying = torch.zeros(len(groups), dtype=risk.dtype).index_add(
        0, torch.as_tensor(place), hazard[torch.as_tensor(events)].exp()
    )
    counts = np.bincount(place)
    rank = np.arange(len(events)) - np.array([np.flatnonzero(place == g)[0] for g in range(len(groups))])[place]
    part = torch.as_tensor(rank / counts[place])
    denominator = at_risk[torch.as_tensor(last[events])] - part * dying[torch.as_tensor(place)]
    return -(hazard[torch.as_tensor(events)] - denominator.log()).sum() / len(time)


# -- the measurement -------------------------------------------------------------------------------------------------


def pieces(config: AttackConfig, study: Study) -> list[str]:
    """For each model its centers in chunks, without and with noise of each kind, and the sum of all."""
    found = []
    for model in config.inversion.models:
        for kind in (BARE, *_private(config, model)):
            found += [f"{model}/{kind}/{k}" for k in range(CHUNKS)]
        found.append(f"{model}/{MASKED}/0")
    return found


def _private(config: AttackConfig, model: str) -> dict[str, DifferentialPrivacy]:
    return under_privacy(config.target(config.inversion.models[model]), config.inversion.privacy)


def measure(config: AttackConfig, study: Study, piece: str) -> list[Row]:
    """Errors of the reconstructed patients of some centers."""
    model, kind, chunk = piece.rsplit("/", 2)
    section, privacy = config.inversion, _private(config, model).get(kind)
    target = config.target(section.models[model])
    # Whom the default protects is attacked, too; and noise follows from the seed, so that figures can be repeated.
    policy = replace(target.federation.policy, min_patients=1, secure_noise=False)
    centers = centers_of(study.cohorts, policy)
    masks = SecureAggregation() if kind == MASKED else None
    bare = InProcessFederation(centers, study.seed(0), Split(), "attacked")
    algorithm = prepared(target, study, bare, privacy)
    federation = InProcessFederation(centers, study.seed(0), Split(), "attacked", secure_aggregation=masks)
    preprocessor = preprocessor_of(algorithm)
    if algorithm.training.optimizer != "sgd" or algorithm.training.steps != 1 or algorithm.training.batch_size:
        raise ValueError(f"inversion.models.{model}: set training to one full-batch step of sgd")
    data = []
    for c in centers:
        cohort = study.cohorts[c.name]
        data.append(TrainingData(preprocessor.transform(cohort), cohort.time, cohort.event))
    everybody = np.concatenate([d.x for d in data])
    mean, scale = np.nanmean(everybody, axis=0), np.maximum(np.nanstd(everybody, axis=0), 1e-9)
    network = build_network(target.model.name, preprocessor.n_features, algorithm.model_parameters)
    state = algorithm.start(federation.roster)
    questions = []
    for _ in range(min(section.rounds, algorithm.rounds)):
        question = question_of(federation, algorithm, state)
        total = federation.ask(algorithm, state)
        questions.append((question, total))
        state = algorithm.server_update(state, total)
    if kind == MASKED:
        return _from_the_sum(network, algorithm, questions, centers, data, mean, scale, model, section.iterations)
    rows = []
    strict = centers_of(study.cohorts, replace(policy, max_parameters_per_patient=section.parameters_per_patient))
    for j in range(int(chunk), len(centers), CHUNKS):
        d, n = data[j], len(data[j])
        guess = np.tile(mean, (n, 1))
        known = np.tile(d.x.mean(axis=0), (n, 1)) if kind == BARE else guess
        seen = [_seen(algorithm, network, q, centers[j].answer(q), [centers[j].name], [n]) for q, _ in questions]
        found = reconstruct(
            network,
            seen,
            d.time,
            d.event,
            np.zeros(n, dtype=np.int64),
            known,
            scale,
            section.iterations,
            prior=PRIOR,
            direction=privacy is not None,
        )
        common = {"model": model, "center": centers[j].name, "patients": n}
        rows.append({**common, "defence": kind, **_errors(d.x, found, guess, scale)})
        if kind == BARE:
            left = known if answered(strict[j], questions[0][0]) is None else found  # sums of the center are left
            rows.append({**common, "defence": FEW_PARAMETERS, **_errors(d.x, left, guess, scale)})
    return rows


def _from_the_sum(
    network: SurvivalNetwork,
    algorithm: ParameterAveraging,
    questions: Sequence[tuple[Question, Contribution]],
    centers: Sequence[Any],
    data: Sequence[TrainingData],
    mean: Floats,
    scale: Floats,
    model: str,
    iterations: int,
) -> list[Row]:
    """Everybody at once, from the sums over the federation."""
    sizes = [len(d) for d in data]
    seen = [_seen(algorithm, network, q, total, [c.name for c in centers], sizes) for q, total in questions]
    time, event = (np.concatenate([getattr(d, name) for d in data]) for name in ("time", "event"))
    table = np.repeat(np.arange(len(data)), sizes)
    start = np.tile(mean, (len(time), 1))
    found = reconstruct(network, seen, time, event, table, start, scale, iterations, prior=PRIOR)
    rows = []
    for j, d in enumerate(data):
        mine = table == j
        errors = _errors(d.x, found[mine], start[mine], scale)
        rows.append({"model": model, "center": centers[j].name, "patients": len(d), "defence": MASKED, **errors})
    return rows


def _seen(
    algorithm: ParameterAveraging,
    network: SurvivalNetwork,
    question: Question,
    answer: Contribution,
    names: Sequence[str],
    sizes: Sequence[int],
) -> Seen:
    """The gradient behind an answer, the penalty taken off, and the noise that the centers drew."""
    weights = question.state["weights"].astype(np.float64)
    if "gradient" in answer:
        gradient = answer["gradient"] / answer["weight"]
    else:
        options = algorithm.training
        gradient = -answer["update"] / answer["weight"] / options.learning_rate
        gradient -= options.weight_decay * penalty_mask(network).numpy() * weights
    noise = None
    if network.noise:
        drawn = []
        path = entropies(question.seed, algorithm.name, question.task, question.round)
        for name, n in zip(names, sizes, strict=True):
            rng = Streams(path, np.array([entropy(name)], dtype=np.uint64)).generator(0)
            if "gradient" not in answer:
                rng.integers(2**63)
            drawn.append(rng.standard_normal((n, network.noise)))
        noise = np.concatenate(drawn)
    return Seen(weights, gradient, noise, float(question.state["progress"][0]))


def _errors(true: Floats, found: Floats, guess: Floats, scale: Floats) -> Row:
    """Squared errors of each patient in standard deviations, of what was found and of the guess."""
    squared, baseline = (((true - x) / scale) ** 2 for x in (found, guess))
    squared, baseline = np.nansum(squared, axis=1), np.maximum(np.nansum(baseline, axis=1), 1e-12)  # of what is known
    return {
        "error": float(squared.sum() / baseline.sum()),
        "squared": squared.tolist(),
        "baseline": baseline.tolist(),
        "exposed": int((squared < EXPOSED * baseline).sum()),
    }


def summarize(config: AttackConfig, study: Study, rows: Sequence[Row]) -> dict[str, Any]:
    """Relative error by model and defence, for all centers and by their size, with a bootstrap over centers."""
    rng = np.random.default_rng(config.seed)
    table: list[Row] = []
    for model in config.inversion.models:
        for defence in (BARE, FEW_PARAMETERS, *_private(config, model), MASKED):
            mine = [r for r in rows if r["model"] == model and r["defence"] == defence]
            if not mine:
                continue
            entry: Row = {"name": f"{model}, {defence}", "model": model, "defence": defence}
            entry["error"] = _relative(mine, rng)
            bins = {"1 to 4 patients": (1, 4), "5 to 19": (5, 19), "20 to 49": (20, 49), "50 and more": (50, 10**9)}
            for words, (low, high) in bins.items():
                some = [r for r in mine if low <= r["patients"] <= high]
                entry[words] = _relative(some, rng)["mean"] if some else None
            entry["exposed"] = sum(r["exposed"] for r in mine)
            entry["patients"] = sum(r["patients"] for r in mine)
            table.append(entry)
    said = []
    for row in table:
        e = row["error"]
        said.append(
            f"{row['name']}: error {e['mean']:.3f} of that of the mean ({e['low']:.3f} to {e['high']:.3f}), "
            f"{row['exposed']} of {row['patients']} patients exposed."
        )
    centers = [{k: r[k] for k in ("model", "defence", "center", "patients", "error", "exposed")} for r in rows]
    shown = [{k: v for k, v in row.items() if k not in ("model", "defence")} for row in table]
    return {"table": shown, "centers": centers, "findings": said}


def _relative(rows: Sequence[Row], rng: np.random.Generator) -> dict[str, float]:
    above = np.array([np.sum(r["squared"]) for r in rows])
    below = np.array([np.sum(r["baseline"]) for r in rows])
    drawn = rng.integers(len(rows), size=(1000, len(rows)))
    return interval(np.append(above.sum() / below.sum(), above[drawn].sum(1) / below[drawn].sum(1)))
