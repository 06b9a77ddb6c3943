"""Synthetic patients judged by held-out ones who stay in their centers (docs/synthetic.md, Held-out patients who stay).

The centers answer with counts and sums, behind their walls, and the numbers are those of the pooled measures where they
are made of such sums.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from actors.coordinator import Coordinator, Task
from experiments.files import write_json
from experiments.running import Listener
from experiments.study import Study
from experiments.synthetic.arms import Draw, Files, Map, Patients, Work, draws_of, read_sample
from experiments.synthetic.associations import OFTEN_MISSING, Pairs, correlations_of, similarities
from experiments.synthetic.config import HELDOUT, SyntheticConfig
from experiments.synthetic.fitting import kept
from experiments.synthetic.genomic import mean_of_pairs, similarities_of_pairs
from experiments.synthetic.marginals import half_lines, total_variation
from experiments.synthetic.survival_utility import curves_of_counts, trained_cox
from federation.algorithm import Algorithm
from federation.generative import JudgeHeldout, SumHeldout
from federation.state import State
from harmonization import Cohort, Schema
from harmonization.schema import EVENT, TIME
from models.generative.heldout_sums import (
    Floats,
    Sums,
    associations_of,
    classes_of,
    counts_of,
    numbers_of,
    ranks_of,
    scale_names,
)
from models.preprocessing import Preprocessor

PREFIX = "federated_"


# -- from sums to numbers -------------------------------------------------------------------------------------------


def sums_of(cohort: Cohort, algorithm: SumHeldout) -> Sums:
    """Of synthetic patients, what `SumHeldout` sums of the held-out ones."""
    counts = counts_of(cohort, algorithm.grid)
    return {**counts, **associations_of(cohort, ranks_of(counts["cells"])), "patients": np.array(float(len(cohort)))}


def heldout_measures(real: Sums, synthetic: Sums, schema: Schema, algorithm: SumHeldout) -> dict[str, float]:
    """Fidelity and curves.

    Parameters
    ----------
    real
        Final state of `SumHeldout`.
    synthetic
        Of `sums_of`.
    schema
        Of the synthetic patients.

    Returns
    -------
    dict
        ``federated_csf`` and its two parts, ``federated_gsf`` and its three, ``federated_km_distance``,
        ``federated_logrank_p``, ``federated_patients``: how many held-out patients were counted. NaN where there is
        nothing to compare.
    """
    similar = _marginals(real, synthetic, schema)
    genomic = {feature.name for feature in schema.features if feature.modality == "genomic"}
    clinical = {
        "csf_marginals": _mean([value for name, value in similar.items() if name not in genomic]),
        "csf_correlations": _correlations(real, synthetic, schema),
    }
    lesions = _lesions(real, synthetic)
    rates = {"gsf_mutation_rates": _mean([value for name, value in similar.items() if name in genomic])}
    parts = {**rates, **lesions} if lesions else dict.fromkeys(("gsf_mutation_rates", *_LESIONS), math.nan)
    found = {
        "csf": _mean(list(clinical.values())),
        **clinical,
        "gsf": _mean(list(parts.values())),
        **parts,
        **_curves(real, synthetic, schema, algorithm),
        "patients": float(real["patients"]),
    }
    return {PREFIX + name: value for name, value in found.items()}


_PAIRS = ("known", "totals", "squares", "products")
_LESIONS = ("gsf_comutations", "gsf_burden")


def _mean(values: list[float]) -> float:
    """Of those that are known: a center's rules may hide all counts of a column."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def _marginals(real: Sums, synthetic: Sums, schema: Schema) -> dict[str, float]:
    """`marginal_similarities`, by name."""
    found = {}
    for i, name in enumerate([*(schema.names[j] for j in numbers_of(schema)), TIME]):
        laws = [sums["cells"][i] for sums in (real, synthetic)]
        if not all(law.any() for law in laws):
            found[name] = math.nan
            continue
        difference = laws[0] / laws[0].sum() - laws[1] / laws[1].sum()
        found[name] = 1 - half_lines(np.cumsum(difference[:-1]), float(difference[-1]))
    for i, name in enumerate([*(schema.names[j] for j in classes_of(schema)), EVENT]):
        counts = real["states"][i], synthetic["states"][i]
        found[name] = 1 - total_variation(*counts) if all(c.any() for c in counts) else math.nan
    return found


def _correlations(real: Sums, synthetic: Sums, schema: Schema) -> float:
    """Mean of `correlation_similarities`, by ranks of cells in place of those of numbers; hidden pairs do not count."""
    both = real, synthetic
    scales = scale_names(schema)
    names = list(dict.fromkeys(name for name, _ in scales))
    numbers = [*(schema.names[j] for j in numbers_of(schema)), TIME]
    classes = [*(schema.names[j] for j in classes_of(schema)), EVENT]
    chosen = []
    for name in names:
        mine = [i for i, (of, _) in enumerate(scales) if of == name]
        counts = [
            s["cells"][numbers.index(name)] if name in numbers else s["states"][classes.index(name)] for s in both
        ]
        missing = [c[-1] / max(c.sum(), 1) for c in counts]
        if name in classes:
            occurs = np.flatnonzero((counts[0] + counts[1])[:-1])
            occurs = occurs[1:] if len(occurs) == 2 else occurs
            mine = [i for i in mine if scales[i][1] in (-1, *occurs)]
        chosen += mine if max(missing) >= OFTEN_MISSING else [i for i in mine if scales[i][1] != -1]
    source = np.array([names.index(scales[i][0]) for i in chosen])
    chosen_pairs = np.ix_(chosen, chosen)
    found = [correlations_of({name: sums[name][chosen_pairs] for name in _PAIRS}) for sums in both]
    shown = real["fewest"][chosen_pairs] > 0
    return _mean(similarities(found[0], found[1], source, len(names), shown).ravel().tolist())


def _lesions(real: Sums, synthetic: Sums) -> dict[str, float]:
    """Co-mutations and burden; nothing with fewer than two lesions."""
    lesions = len(real["both"])
    burdens = [np.cumsum(sums["burden"]) / max(sums["burden"].sum(), 1) for sums in (real, synthetic)]
    if lesions < 2:
        return {}
    small = int(min(real["patients"], synthetic["patients"]))
    similar, weight = similarities_of_pairs(Pairs.of_sums(real), Pairs.of_sums(synthetic), small)
    values = mean_of_pairs(similar, weight), 1 - float(np.abs(burdens[0] - burdens[1]).max())
    return dict(zip(_LESIONS, values, strict=True))


def _curves(real: Sums, synthetic: Sums, schema: Schema, algorithm: SumHeldout) -> dict[str, float]:
    """`compared_curves`, of times on the grid."""
    if not real["leaving"].any():
        return {"km_distance": math.nan, "logrank_p": math.nan}
    cells = np.flatnonzero(real["leaving"] + synthetic["leaving"])
    events, leaving = (np.array([s[name][cells] for s in (real, synthetic)]) for name in ("events", "leaving"))
    return curves_of_counts(algorithm.grid.times(cells, schema.time_unit), events, leaving)


# -- the measure of a run -------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Judged:
    """What the coordinator knows of a sample.

    Parameters
    ----------
    schema, sums
        Of the synthetic patients.
    cox
        Model of them; None if there is none.
    """

    schema: Schema
    sums: Sums
    cox: tuple[Preprocessor, Floats] | None


def run_heldout(
    config: SyntheticConfig,
    study: Study,
    data_dir: Path | None,
    files: Files,
    start: Callable[[], Coordinator],
    apply: Map,
    listen: Listener,
) -> dict[str, str]:
    """Measure what has not been measured yet on the actor system: who dropped out, and why.

    A seed's held-out patients are summed once, for all samples, and asked once more for the pairs that models of the
    samples put in order.

    Parameters
    ----------
    start
        Starts the actors; called if there is something to measure.
    """
    todo: dict[int, list[tuple[Draw, int]]] = defaultdict(list)
    for draw in draws_of(config, study) if HELDOUT in config.measures else ():
        for sample in range(config.samples):
            if not (files.failed(draw).exists() or files.found(HELDOUT, draw, sample).exists()):
                todo[draw.repeat].append((draw, sample))
    if not todo:
        return {}
    text = json.dumps(config.to_dict())
    work = [(Work(text, data_dir, files.out, draw), sample) for samples in todo.values() for draw, sample in samples]
    # Before the actors are there, which take the CPUs.
    judged = {(item[0].draw, item[1]): found for item, found in apply(do_judge, work)}
    coordinator = start()
    try:
        dropouts = coordinator.load()
        for done, (repeat, samples) in enumerate(todo.items()):
            listen("federated measures", done / len(todo), f"seed {repeat}")

            def run_task(step: str, algorithm: Algorithm, repeat: int = repeat) -> State:
                name = f"{HELDOUT}/{repeat}/{step}"
                states = coordinator.run(Task(name, algorithm, study.split(repeat, 0), study.seed(repeat)))
                (final,) = [progress.final for progress in states if progress.final is not None]
                return final

            algorithm = SumHeldout()
            real = kept(run_task, files.out / HELDOUT / str(repeat))("sums", algorithm)
            able = [item for item in samples if judged[item].cox is not None]
            models = tuple(cox for item in able if (cox := judged[item].cox) is not None)
            pairs = run_task("pairs", JudgeHeldout(models)) if models else {}
            for draw, sample in samples:
                one = judged[draw, sample]
                found = heldout_measures(real, one.sums, one.schema, algorithm)
                at = able.index((draw, sample)) if one.cox is not None else None
                comparable = 0.0 if at is None else float(pairs["comparable"][at])
                found[PREFIX + "tstr_c"] = float(pairs["concordant"][at]) / comparable if comparable else math.nan
                path = files.found(HELDOUT, draw, sample)
                path.parent.mkdir(parents=True, exist_ok=True)
                write_json({k: v if math.isfinite(v) else None for k, v in found.items()}, path)
        listen("federated measures", 1.0, "")
        return dropouts | coordinator.dropouts
    finally:
        coordinator.close()


def do_judge(item: tuple[Work, int]) -> Judged:
    """Sums and a model of one sample. Runs in another process."""
    work, sample = item
    patients = Patients.load(work.config, work.data_dir, work.draw.repeat)
    synthetic = read_sample(patients, Files(work.out), work.draw, sample)
    return Judged(synthetic.schema, sums_of(synthetic, SumHeldout()), trained_cox(synthetic))
