"""What ``haemfed conform`` does: ask all centers for counts, and say which center does not fit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from actors.cluster import ray_session
from actors.coordinator import Coordinator, Task
from experiments.config import Config
from experiments.datasets import resolve_data_dir
from experiments.drawing import STYLE, WIDTH
from experiments.experiment import start_federation
from experiments.files import write_json, write_text
from experiments.pages import embedded, template
from experiments.study import Declared, Study
from federation.conformance import LEAST, PRESENT, VALUES, CompareCenters
from federation.deviations import KINDS, VISIBLE, deviations, median
from federation.splits import Split
from federation.state import State
from harmonization import Dictionary, Schema
from harmonization.dictionary_file import available

RESULTS, PAGE = "conformance.json", "conformance.html"
SUSPECT, FITS = "#b2182b", "#0072b2"


def run_conform(
    config: Config,
    out: Path,
    data_dir: Path | None = None,
    dictionary: str | None = None,
    address: str | None = None,
) -> dict[str, Any]:
    """Compare the centers of a configuration; write ``conformance.json`` and ``conformance.html``.

    Parameters
    ----------
    config
        Of an experiment; its data set, partition, and federation are used.
    out
        Directory of the results and of the centers' audit logs.
    data_dir
        Where downloaded data sets are.
    dictionary
        Name or file; by default the data set's, or the one whose schema the data have.
    address
        Of a Ray cluster; None starts Ray here.

    Raises
    ------
    ValueError
        If no dictionary describes the data.
    CohortError, QuorumError
        If too few centers can be asked.
    """
    out, data_dir = out.absolute(), resolve_data_dir(data_dir)
    config = config.model_copy(update={"dataset": config.dataset.model_copy(update={"modalities": None})})
    centers: Study | Declared = Declared.of(config, data_dir) or Study.load(config, data_dir)
    described = _dictionary(dictionary or config.dataset.options.get("dictionary"), centers.schema)
    algorithm = CompareCenters.of(described)
    names = tuple(spec.name for spec in centers.specs())
    out.mkdir(parents=True, exist_ok=True)
    with ray_session(address), closing(start_federation(centers, out)) as coordinator:
        absent = coordinator.load()
        state = _ask(coordinator, algorithm, config.seed)
        absent = absent | coordinator.dropouts
    results = describe(algorithm, state, names, absent)
    results = {"name": config.name, "dictionary": {"name": described.name, "hash": described.hash}, **results}
    write_json(results, out / RESULTS)
    _write_page(results, out / PAGE)
    return results


def describe(
    algorithm: CompareCenters, state: State, names: tuple[str, ...], absent: Mapping[str, str]
) -> dict[str, Any]:
    """A final state as plain data.

    Returns
    -------
    dict
        ``centers`` (why each was not compared, empty if it was), ``medians`` by feature and center (None where too few
        counts could leave), ``alpha``, ``tests`` (sorts of tests that share it), ``deviations`` (with ``words``).
    """
    answered = state[LEAST] > 0
    why = {
        name: absent.get(name, "" if here else "too few patients") for name, here in zip(names, answered, strict=True)
    }
    medians = {}
    for i, bins in enumerate(algorithm.measured):
        counts = state[VALUES + bins.feature]
        enough = (counts.sum(axis=1) >= VISIBLE * state[PRESENT][:, i, 0]) & (counts[:, 1:].sum(axis=1) > 0)
        medians[bins.feature] = {
            name: median(row[1:], bins.edges) if use else None
            for name, row, use in zip(names, counts, enough, strict=True)
        }
    found = [
        {**vars(one), "ratio": None if math.isnan(one.ratio) else one.ratio, "words": one.words}
        for one in deviations(algorithm, state, names)
    ]
    return {"centers": why, "medians": medians, "alpha": algorithm.alpha, "tests": KINDS, "deviations": found}


@rc_context(STYLE)
def medians_figure(results: Mapping[str, Any]) -> Figure | None:
    """A row per feature: each center's median over the median of all centers' medians."""
    rows = {
        feature: {name: value for name, value in medians.items() if value is not None}
        for feature, medians in results["medians"].items()
    }
    rows = {feature: medians for feature, medians in rows.items() if len(medians) > 1}
    if not rows:
        return None
    suspects = {(one["center"], one["feature"]) for one in results["deviations"] if one["kind"] == "unit"}
    figure = Figure(figsize=(WIDTH, 1.2 + 0.42 * len(rows)))
    ax: Axes = figure.subplots()
    ax.axvline(1, color="#1a1a1a", linewidth=0.9)
    for place, (feature, medians) in enumerate(rows.items()):
        middle = float(np.median(list(medians.values())))
        for name, value in medians.items():
            wrong = (name, feature) in suspects
            style: dict[str, Any] = {"color": SUSPECT, "marker": "D"} if wrong else {"color": FITS, "marker": "o"}
            ax.plot(value / middle, place, markersize=6, alpha=1 if wrong else 0.5, linestyle="", **style)
            if wrong:
                ax.annotate(name, (value / middle, place), (0, 7), textcoords="offset points", ha="center", fontsize=8)
    ax.set_xscale("log")
    spread = max(max(abs(np.log10(v / np.median(list(m.values())))) for v in m.values()) for m in rows.values())
    reach = 10 ** (max(spread, 0.5) * 1.1)
    ax.set_xlim(1 / reach, reach)
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_yticks(range(len(rows)), list(rows))
    ax.set_ylim(len(rows) - 0.5, -0.6)
    ax.grid(axis="x")
    ax.set_xlabel("median of a center over the middle one of all centers")
    return figure


def in_words(results: Mapping[str, Any]) -> str:
    """One sentence on the whole."""
    compared = sum(not why for why in results["centers"].values())
    found = results["deviations"]
    said = f"{compared} of {len(results['centers'])} centers were compared"
    if not found:
        return f"{said}; none deviates."
    suspects = list(dict.fromkeys(one["center"] for one in found))
    named = ", ".join(suspects[:5]) + (f" and {len(suspects) - 5} more" if len(suspects) > 5 else "")
    verb = "does" if len(suspects) == 1 else "do"
    return f"{said}; {named} {verb} not fit ({len(found)} deviation{'s' * (len(found) > 1)})."


def _ask(coordinator: Coordinator, algorithm: CompareCenters, seed: int) -> State:
    *_, last = coordinator.run(Task("conform", algorithm, Split(seed), seed))
    assert last.final is not None
    return last.final


def _dictionary(name: str | None, schema: Schema) -> Dictionary:
    if name is not None:
        return Dictionary.read(name)
    for known in available():
        dictionary = Dictionary.read(known)
        if dictionary.columns and dictionary.schema().hash == schema.hash:
            return dictionary
    raise ValueError(f"no dictionary of this package describes schema {schema.name!r}; name one with --dictionary")


def _write_page(results: Mapping[str, Any], path: Path) -> None:
    figure = medians_figure(results)
    page = template(Path(__file__).with_name("conformance.html.jinja")).render(
        results=results, summary=in_words(results), image=None if figure is None else embedded(figure)
    )
    write_text(page, path)
