"""Property inference: how frequent mutations are at a center, from the updates it sends (Melis 2019; Ganju 2018).

The attacker makes up federations of the same sizes from patients like those of the federation (here: from the very
patients, which gives it more than it would have), computes the updates that their centers would send at the weights
that were really sent out, and learns from them by ridge regression which update goes with which prevalence. Under
secure aggregation it learns from sums over such federations. The sums of a center (standardization) say the prevalence
outright.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
from experiments.config import Config
from experiments.study import Study
from federation.averaging import ParameterAveraging
from federation.in_process import InProcessFederation
from federation.policy import DisclosurePolicy
from federation.preprocessing import FitPreprocessor
from federation.privacy.dp.accounting import Spending, noise_for
from federation.privacy.dp.settings import DifferentialPrivacy
from federation.privacy.dp.statistics import FitScale, Noisy, zero_one
from federation.privacy.dp.training import PrivateAveraging, PrivateGradients
from federation.quorum import QuorumError
from federation.randomness import generator
from federation.splits import Split
from federation.state import State
from harmonization import Cohort
from models.batched.streams import Streams
from models.batched.tables import Tables
from models.batched.training import train_many
from models.per_patient import clipped_sums
from models.preprocessing import encoded_names
from models.steps import TrainingData
from models.survival.network import build_network
from models.survival.perceptron import CoxPerceptron

Floats = NDArray[np.float64]
Row = dict[str, Any]
PENALTIES = (1e-1, 1.0, 1e1, 1e2, 1e3)
"""Of the ridge regression, on standardized updates; chosen on the last fifth of the worlds."""


def pieces(config: AttackConfig, study: Study) -> list[str]:
    """A piece for each model, and the statistics."""
    return [*config.property.models, "sums"]


def measure(config: AttackConfig, study: Study, piece: str) -> list[Row]:
    """True and inferred prevalences of all mutations at all centers."""
    section = config.property
    least, common = section.least
    genes = [f.name for f in study.schema.features if f.kind == "binary" and f.modality == "genomic"]
    columns = np.column_stack([np.nan_to_num(study.cohort.column(g)) for g in genes])
    often = np.flatnonzero(columns.mean(axis=0) >= common)
    columns, genes = columns[:, often], [genes[g] for g in often]
    names = [name for name in study.cohorts if len(study.cohorts[name]) >= least]
    members = [np.flatnonzero(study.center == name) for name in names]
    true = np.array([columns[m].mean(axis=0) for m in members])
    overall = columns.mean(axis=0)

    def rows(channel: str, defence: str, inferred: Floats) -> list[Row]:
        return [
            {
                "channel": channel,
                "defence": defence,
                "center": name,
                "patients": len(members[j]),
                "gene": gene,
                "true": float(true[j, g]),
                "inferred": float(inferred[j, g]),
                "overall": float(overall[g]),
            }
            for j, name in enumerate(names)
            for g, gene in enumerate(genes)
        ]

    if piece == "sums":
        masked = np.tile(_from_sums(study.cohorts, study, genes), (len(names), 1))
        found = rows("sums", "secure aggregation", masked)
        for defence, policy in (("none", DisclosurePolicy()), ("disclosure rules", section.policy)):
            alone = [_from_sums({name: study.cohorts[name]}, study, genes, policy) for name in names]
            found += rows("sums", defence, np.where(np.isnan(alone), overall, alone))
        for defence, privacy in under_privacy(config.target(), section.privacy, sums=True).items():
            found += rows("sums", defence, _from_noisy_sums(privacy, study, names, genes))
        return found
    target = config.target(section.models[piece])
    federation = InProcessFederation(
        centers_of(study.cohorts, target.federation.policy), study.seed(0), Split(), "attacked"
    )
    algorithm = prepared(target, study, federation)
    sent = []
    state = algorithm.start(federation.roster)
    first = question_of(federation, algorithm, state)
    for _ in range(section.rounds):
        sent.append(state["weights"])
        state = algorithm.server_update(state, federation.ask(algorithm, state))
    x = preprocessor_of(algorithm).transform(study.cohort)
    data = TrainingData(x, study.cohort.time, study.cohort.event)
    real = updates(algorithm, sent, data, [members])[0]
    worlds = made_up(config, columns, members)
    bank = updates(algorithm, sent, data, worlds)
    labels = np.array([[columns[d].mean(axis=0) for d in drawn] for drawn in worlds])
    sizes = np.array([len(m) for m in members], dtype=np.float32)
    whole, whole_real = np.einsum("j,wjp->wp", sizes, bank) / sizes.sum(), sizes @ real / sizes.sum()
    inferred, masked = np.empty(true.shape), np.empty(true.shape)
    for j in range(len(names)):
        inferred[j] = regress(bank[:, j], labels[:, j], real[j])
        masked[j] = regress(whole, labels[:, j], whole_real)
    strict = centers_of({name: study.cohorts[name] for name in names}, section.policy)
    answers = np.array([answered(center, first) is not None for center in strict])
    left = np.where(answers[:, None], inferred, overall)  # of who refuses, the federation's frequency is known
    found = rows(piece, "none", inferred) + rows(piece, "disclosure rules", left)
    for defence, privacy in under_privacy(target, section.privacy).items():
        found += rows(piece, defence, _from_noisy_answers(config, target, privacy, study, members, worlds, labels))
    return found + rows(piece, "secure aggregation", masked)


def made_up(
    config: AttackConfig, columns: Floats, members: Sequence[NDArray[np.int64]]
) -> list[list[NDArray[np.int64]]]:
    """Federations of the same sizes from patients with tilted mutation frequencies: who is in which center."""
    rng, worlds = generator(config.seed, "worlds"), []
    for _ in range(config.property.worlds):
        tilt = rng.dirichlet(np.ones(columns.shape[1])) * rng.normal(0, 4, columns.shape[1])
        weight = np.exp(columns @ tilt)
        p = weight / weight.sum()
        worlds.append([rng.choice(len(columns), size=len(m), replace=False, p=p) for m in members])
    return worlds


def _from_noisy_answers(
    config: AttackConfig,
    target: Config,
    privacy: DifferentialPrivacy,
    study: Study,
    members: Sequence[NDArray[np.int64]],
    worlds: Sequence[Sequence[NDArray[np.int64]]],
    labels: Floats,
) -> Floats:
    """Prevalences that the answers of private training say, each center with noise of its own. The attacker makes up
    its answers with noise as well: that is what it has to learn to see through."""
    names = [str(study.center[m[0]]) for m in members]
    cohorts = {name: study.cohorts[name] for name in names}
    centers = centers_of(cohorts, replace(target.federation.policy, secure_noise=False))
    federation = InProcessFederation(centers, study.seed(0), Split(), "attacked")
    algorithm = prepared(target, study, federation, privacy)
    assert isinstance(algorithm, PrivateGradients | PrivateAveraging)
    x = preprocessor_of(algorithm).transform(study.cohort)
    data, rng = TrainingData(x, study.cohort.time, study.cohort.event), generator(config.seed, "noisy worlds")
    state, parts, seen = algorithm.start(federation.roster), [], []
    for _ in range(config.property.rounds):
        question = question_of(federation, algorithm, state)
        array = "gradient" if isinstance(algorithm, PrivateGradients) else "update"
        seen.append(np.array([center.answer(question)[array] for center in centers], dtype=np.float32))
        of_worlds = _clipped(algorithm, state, data, worlds, rng)
        of_worlds += rng.normal(0, float(state["clip"]) * algorithm.noise, of_worlds.shape)
        parts.append(of_worlds.astype(np.float32))
        state = algorithm.server_update(state, federation.ask(algorithm, state))
    bank, real = np.concatenate(parts, axis=2), np.concatenate(seen, axis=1)
    return np.array([regress(bank[:, j], labels[:, j], real[j]) for j in range(len(members))])


def _clipped(
    algorithm: PrivateGradients | PrivateAveraging,
    state: State,
    data: TrainingData,
    worlds: Sequence[Sequence[NDArray[np.int64]]],
    rng: np.random.Generator,
) -> Floats:
    """What centers with these patients would add noise to, shape (worlds, centers, P)."""
    bound = float(state["clip"])
    if isinstance(algorithm, PrivateAveraging):
        change = updates(algorithm, [state["weights"]], data, worlds).astype(np.float64)
        sizes = np.array([len(drawn) for drawn in worlds[0]])
        weight = np.minimum(sizes, algorithm.largest) / algorithm.largest
        shortened = np.minimum(1.0, bound / np.maximum(np.linalg.norm(change, axis=2, keepdims=True), 1e-300))
        return np.asarray(weight[:, None] * shortened * change)
    network = build_network(algorithm.model, data.x.shape[1], algorithm.model_parameters)
    progress = float(algorithm.broadcast(state)["progress"][0])
    draws = rng.standard_normal((len(data), network.noise)) if network.noise else None
    alone_in_table = np.ones(len(data), dtype=np.int64)
    each = clipped_sums(network, state["weights"], data, alone_in_table, bound, draws, progress)
    return np.array([[each[d].sum(axis=0) for d in drawn] for drawn in worlds])


def updates(
    algorithm: ParameterAveraging,
    sent: Sequence[Any],
    data: TrainingData,
    worlds: Sequence[Sequence[NDArray[np.int64]]],
) -> NDArray[np.float32]:
    """What centers with these patients send at each of the weights, shape (worlds, centers, rounds · P)."""
    network: Any = CoxPerceptron.declared(algorithm.model, data.x.shape[1], algorithm.model_parameters)
    if network is None:
        network = build_network(algorithm.model, data.x.shape[1], algorithm.model_parameters)
    found = []
    for world in worlds:
        tables = Tables.of([TrainingData(data.x[m], data.time[m], data.event[m]) for m in world], data.x.shape[1])
        streams = Streams((0, 1), np.arange(len(world), dtype=np.uint64))
        parts = [train_many(network, w, tables, algorithm.training, streams)[0] for w in sent]
        found.append(np.concatenate(parts, axis=1).astype(np.float32))
    return np.array(found)


def regress(features: NDArray[np.float32], labels: Floats, seen: NDArray[np.float32]) -> Floats:
    """Ridge regression of prevalences on updates, the penalty chosen on the last fifth; what it says of one update."""
    mean, scale = features.mean(axis=0), features.std(axis=0) + 1e-12
    z, x = ((features - mean) / scale).astype(np.float64), ((seen - mean) / scale).astype(np.float64)
    cut = int(0.8 * len(z))
    gram = z @ z.T

    def predict(rows: Any, kernel: Floats, penalty: float) -> Floats:
        center = labels[rows].mean(axis=0)
        inside = gram[np.ix_(rows, rows)] + penalty * len(features[0]) * np.eye(len(rows))
        found: Floats = center + kernel @ np.linalg.solve(inside, labels[rows] - center)
        return found

    first, last = np.arange(cut), np.arange(cut, len(z))
    errors = [((predict(first, gram[np.ix_(last, first)], p) - labels[last]) ** 2).sum() for p in PENALTIES]
    return np.clip(predict(np.arange(len(z)), z @ x, PENALTIES[int(np.argmin(errors))]), 0, 1)


def _from_sums(
    cohorts: Mapping[str, Cohort], study: Study, genes: Sequence[str], policy: DisclosurePolicy | None = None
) -> Floats:
    """Prevalences that the sum over these centers for standardization says; NaN where rules keep it back."""
    algorithm = FitPreprocessor(study.schema)
    places = [encoded_names(study.schema).index(g) for g in genes]
    federation = InProcessFederation(centers_of(cohorts, policy), 0, Split())
    try:
        answer = federation.ask(algorithm, algorithm.start(federation.roster))
    except QuorumError:
        return np.full(len(genes), np.nan)
    shown = answer["seen"][places] > 0
    return np.where(shown, answer["total"][places] / answer.patients, np.nan)


def _from_noisy_sums(privacy: DifferentialPrivacy, study: Study, names: Sequence[str], genes: Sequence[str]) -> Floats:
    """The same from sums with noise (`FitScale`), for which a center pays the whole ε."""
    algorithm = FitScale({}, study.schema)
    noisy = Noisy.of(algorithm, noise_for(privacy.epsilon, privacy.delta, (Spending("patient", 1.0),)))
    columns = np.array(encoded_names(study.schema))[zero_one(study.schema)].tolist()
    found = []
    for name in names:
        centers = centers_of({name: study.cohorts[name]}, DisclosurePolicy(secure_noise=False))
        federation = InProcessFederation(centers, study.seed(0), Split(), f"noisy sums of {name}")
        state = algorithm.server_update({}, federation.ask(noisy, noisy.start(federation.roster)))
        found.append(state["frequency"][[columns.index(gene) for gene in genes]])
    return np.array(found)


def summarize(config: AttackConfig, study: Study, rows: Sequence[Row]) -> dict[str, Any]:
    """Skill 1 − Σ(inferred − true)²/Σ(federation − true)², with a bootstrap over centers."""
    rng = np.random.default_rng(config.seed)
    table: list[Row] = []
    for channel, defence in dict.fromkeys((r["channel"], r["defence"]) for r in rows):
        mine = [r for r in rows if (r["channel"], r["defence"]) == (channel, defence)]
        names = list(dict.fromkeys(r["center"] for r in mine))
        error, base = (
            np.array([sum((r[key] - r["true"]) ** 2 for r in mine if r["center"] == name) for name in names])
            for key in ("inferred", "overall")
        )
        drawn = rng.integers(len(names), size=(1000, len(names)))
        skill = interval(np.append(1 - error.sum() / base.sum(), 1 - error[drawn].sum(1) / base[drawn].sum(1)))
        table.append(
            {
                "name": f"{channel}, {defence}",
                "channel": channel,
                "defence": defence,
                "skill": skill,
                "centers": len(names),
            }
        )
    said = [
        f"{r['name']}: skill {r['skill']['mean']:.3f} ({r['skill']['low']:.3f} to {r['skill']['high']:.3f})."
        for r in table
    ]
    return {"table": table, "centers": list(rows), "findings": said}
