"""The table over many experiments: what each model reaches, how it is trained, on which features, beside what is known.

Everything is read from the experiments' ``results.json``; nothing is computed here but medians over centers.
"""

from __future__ import annotations

import csv
import io
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from experiments.files import write_text
from experiments.pages import template
from experiments.reading import (
    HARRELL,
    Interval,
    arms,
    centralized_arm,
    find,
    horizon,
    interval,
    main_arm,
    mapping,
    number,
    sequence,
    signed,
    years,
)

Results = Mapping[str, Any]

START, END = "<!-- results: begin -->", "<!-- results: end -->"
"""What stands around the table in a Markdown file."""

HEADS = ("model", "features", "arm", "Harrell C", "SD", "centers", "Uno C", "IBS", "O/E", "calibration error")
CLAIMS = (
    "model",
    "features",
    "federated − centralized",
    "lower bound",
    "not inferior",
    "federated − alone, mean over centers",
    "gain per tenfold size",
    "over centers",
)
LEGEND = (
    "Harrell C, Uno C, IBS, O/E (observed over predicted risk) and calibration error (mean distance of observed and "
    "predicted risk over fifths; both at the middle horizon): estimate and 95% bootstrap interval over patients "
    "resampled within centers. SD: of Harrell C over all (repeat, fold) test sets. centers: median of Harrell C within "
    "each center, and quartiles over centers. Alone: each center's own model on everybody's patients, median and range "
    "over centers. Lower bound: one-sided, 95%; not inferior: it lies above the margin. Gain per tenfold size: slope "
    "of the gain on log10(center size), with its interval over patients and as of centers drawn at random."
)


@dataclass(frozen=True)
class Run:
    """A run of the comparison: its name, patients, model, features, and the published use case to read beside."""

    name: str
    cohort: str
    title: str
    model: str
    features: str
    published: str | None = None


@dataclass(frozen=True)
class Comparison:
    """All runs of a list.

    Parameters
    ----------
    runs
        In the order of the list.
    results
        Of those that are there, by name.
    errors
        Why others failed, by name.
    """

    runs: Sequence[Run]
    results: Mapping[str, Results]
    errors: Mapping[str, str]

    @property
    def seconds(self) -> float:
        """Wall time of all runs together."""
        return sum(number(r.get("seconds")) for r in self.results.values())

    def cohorts(self) -> Iterator[tuple[str, list[Run]]]:
        """Runs with results by title, in the order of the list."""
        titles = dict.fromkeys(run.title for run in self.runs if run.name in self.results)
        for title in titles:
            yield title, [run for run in self.runs if run.title == title and run.name in self.results]

    def missing(self) -> list[str]:
        """Runs without results, and why."""
        absent = [run.name for run in self.runs if run.name not in self.results]
        failed = [f"{name}: {self.errors[name]}" for name in absent if name in self.errors]
        waiting = [name for name in absent if name not in self.errors]
        return failed + ([f"not run yet: {', '.join(waiting)}"] if waiting else [])


def write_table(comparison: Comparison, out: Path, command: str, update: Path | None = None) -> None:
    """Write ``results.md``, ``results.csv`` and ``results.html``, and the marked section of a Markdown file."""
    out.mkdir(parents=True, exist_ok=True)
    text = markdown(comparison, command)
    write_text(text, out / "results.md")
    write_text(as_csv(comparison), out / "results.csv")
    write_text(as_html(comparison, command), out / "results.html")
    if update is not None:
        whole = update.read_text(encoding="utf-8")
        before, rest = whole.split(START)
        write_text(f"{before}{START}\n\n{text}\n{END}{rest.split(END)[1]}", update)


# Rows -----------------------------------------------------------------------------------------------------------------


def arm_rows(run: Run, results: Results) -> Iterator[list[str]]:
    """A run's arms under `HEADS`; its isolated centers as one row."""
    middle = _middle_horizon(results)
    for name, arm in arms(results).items():
        if arm.get("kind") in ("local", "score"):
            continue
        model, features, label = _named(run, name)
        yield [model, features, label, *_metrics(arm, middle)]
    alone = [interval(arm, "pooled", HARRELL).mean for arm in arms(results, "local").values()]
    alone = sorted(value for value in alone if value == value)
    if alone:
        words = f"{statistics.median(alone):.3f} [{alone[0]:.3f}–{alone[-1]:.3f}]"
        yield [run.model, run.features, f"{len(alone)} centers alone", words, *[""] * 6]


def score_rows(runs: Sequence[Run], results: Mapping[str, Results]) -> Iterator[list[str]]:
    """The clinical scores, once per cohort: on the folds of the run that comes first."""
    seen = set()
    for run in runs:
        for name, arm in arms(results[run.name], "score").items():
            if name not in seen:
                seen.add(name)
                yield ["clinical score", "", name.removeprefix("score/"), *_metrics(arm, "")]


def claim_row(run: Run, results: Results) -> list[str] | None:
    """A run's federated model against the centralized and the isolated ones, under `CLAIMS`."""
    main, pooled = main_arm(results), centralized_arm(results)
    row = next(
        (
            row
            for row in sequence(results, "differences")
            if (find(row, "a"), find(row, "b"), find(row, "metric")) == (main, pooled, HARRELL)
        ),
        None,
    )
    if row is None:
        return None
    verdict = {True: "yes", False: "no"}.get(find(row, "non_inferior"), "–")
    return [
        run.model,
        run.features,
        _signed(interval(row)),
        signed(number(find(row, "lower"))),
        verdict,
        _signed(interval(results, "gain", "mean", "everybody")),
        _signed(interval(results, "gain", "slope")),
        _signed(interval(results, "gain", "slope_over_centers")),
    ]


def score_differences(runs: Sequence[Run], results: Mapping[str, Results]) -> Iterator[str]:
    """The federated models minus each clinical score, as lines."""
    for run in runs:
        main = main_arm(results[run.name])
        for row in sequence(results[run.name], "differences"):
            b = str(find(row, "b"))
            if find(row, "metric") == HARRELL and find(row, "a") == main and b.startswith("score/"):
                yield f"{run.model} ({run.features}) − {b.removeprefix('score/')}: {_signed(interval(row))}"


def block_rows(runs: Sequence[Run], results: Mapping[str, Results]) -> Iterator[str]:
    """What each block of features adds, as lines."""
    for run in runs:
        for row in sequence(results[run.name], "blocks", "steps"):
            gain = interval(row, "gain", HARRELL)
            blocks = [str(block) for block in sequence(row, "blocks")]
            if gain.known and len(blocks) > 1:
                yield f"{run.model}: {blocks[-1]} added to {' + '.join(blocks[:-1])}: {_signed(gain)}"


def published_line(use_case: str) -> str:
    """What the platform published, in one line."""
    cited = published()
    case = cited["use_cases"][use_case]

    def pair(values: Sequence[float], between: str) -> str:
        return between.join(f"{value:.3f}".rstrip("0") for value in values)

    return (
        f"Published ({cited['source']}; {case['patients']:,} patients, {case['model']}): centralized "
        f"{pair(case['centralized'], '/')} (all/partial features), federated {pair(case['federated'], '–')} over "
        f"nodes, largest node alone {pair([case['largest_alone']], '')}, smallest "
        f"{pair([case['smallest_alone']], '')}, {case['score']} {pair([case['score_c']], '')}; no intervals."
    )


@cache
def published() -> dict[str, Any]:
    """`experiments/published.yaml`."""
    found: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("published.yaml").read_text(encoding="utf-8"))
    return found


def _named(run: Run, arm: str) -> tuple[str, str, str]:
    """Model, features and arm in words; an arm on fewer blocks says so in its name."""
    matched = re.fullmatch(r"(.+)\[(.+)\]", arm)
    name, features = (matched[1], matched[2].replace("+", " + ")) if matched else (arm, run.features)
    if name.startswith("exact-cox/"):
        return "exact cox", features, name.removeprefix("exact-cox/")
    return run.model, features, name


def _metrics(arm: Mapping[str, Any], middle: str) -> list[str]:
    """Cells from Harrell's C on."""
    spread = number(find(arm, "pooled", HARRELL, "spread"))
    within = [value.mean for c in mapping(arm, "centers").values() if (value := interval(c, HARRELL)).bounded]
    centers = ""
    if len(within) == 1:
        centers = f"{within[0]:.3f}"
    elif within:
        low, _, high = statistics.quantiles(within, n=4, method="inclusive")
        centers = f"{statistics.median(within):.3f} [{low:.3f}–{high:.3f}], {len(within)}"
    return [
        _words(interval(arm, "pooled", HARRELL)),
        f"{spread:.3f}" if spread == spread else "",
        centers,
        _words(interval(arm, "pooled", "uno_c")),
        _words(interval(arm, "pooled", "ibs")),
        _words(interval(arm, "pooled", f"calibration_ratio_{middle}"), 2),
        _words(interval(arm, "pooled", f"calibration_error_{middle}")),
    ]


def _middle_horizon(results: Results) -> str:
    """The horizon in the middle, e.g. ``3y``."""
    names = {key for arm in arms(results).values() for key in mapping(arm, "pooled")}
    found = {key.removeprefix("brier_") for key in names if key.startswith("brier_")}
    ordered = sorted(found, key=horizon)
    return ordered[len(ordered) // 2] if ordered else ""


def _words(value: Interval, digits: int = 3) -> str:
    if not value.known:
        return ""
    bounds = f" ({value.low:.{digits}f}–{value.high:.{digits}f})" if value.bounded else ""
    return f"{value.mean:.{digits}f}{bounds}"


def _signed(value: Interval) -> str:
    if not value.known:
        return ""
    return signed(value.mean) + (f" ({signed(value.low)} to {signed(value.high)})" if value.bounded else "")


# Pages ----------------------------------------------------------------------------------------------------------------


def sections(comparison: Comparison) -> Iterator[dict[str, Any]]:
    """Per cohort what both pages show."""
    results = comparison.results
    for title, runs in comparison.cohorts():
        first = results[runs[0].name]
        data = mapping(first, "dataset")
        claims = [row for run in runs if (row := claim_row(run, results[run.name])) is not None]
        size = f"{number(data.get('patients')):,.0f} patients, {number(data.get('events')):,.0f} events"
        yield {
            "title": title,
            "about": f"{size}, {len(mapping(data, 'centers'))} centers. {data.get('description') or ''}".strip(),
            "horizon": years(_middle_horizon(first)),
            "rows": [*score_rows(runs, results), *(row for run in runs for row in arm_rows(run, results[run.name]))],
            "claims": claims,
            "scores": list(score_differences(runs, results)),
            "blocks": list(block_rows(runs, results)),
            "published": [published_line(case) for case in dict.fromkeys(r.published for r in runs) if case],
        }


def about(comparison: Comparison) -> str:
    """How many runs there are, and what they took."""
    done = len(comparison.results)
    return f"{done} of {len(comparison.runs)} runs, {comparison.seconds / 60:.0f} minutes together."


def markdown(comparison: Comparison, command: str) -> str:
    """The table for a Markdown page."""
    lines = ["```", command, "```", "", f"{about(comparison)} {LEGEND}", ""]
    for section in sections(comparison):
        lines += [f"### {section['title']}", "", section["about"], ""]
        lines += [*_markdown_table(HEADS, section["rows"]), ""]
        if section["claims"]:
            lines += [*_markdown_table(CLAIMS, section["claims"]), ""]
        for heading, key in (("Federated minus clinical score", "scores"), ("Gain per block", "blocks")):
            if section[key]:
                lines += [f"{heading}, Harrell C: {'; '.join(section[key])}.", ""]
        for line in section["published"]:
            lines += [line, ""]
    if missing := comparison.missing():
        lines += ["Not in the table:", "", *(f"- {line}" for line in missing), ""]
    return "\n".join(lines)


def _markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    cells = [[cell.replace("|", "\\|") or "–" for cell in row] for row in rows]
    return ["| " + " | ".join(line) + " |" for line in (heads, ["---"] * len(heads), *cells)]


def as_csv(comparison: Comparison) -> str:
    """One line per run, arm and metric, with every number of the estimate."""
    page = io.StringIO()
    writer = csv.writer(page, lineterminator="\n")
    writer.writerow(("run", "cohort", "model", "features", "arm", "kind", "center", "metric", *_ESTIMATE))
    for run in comparison.runs:
        for name, arm in arms(comparison.results.get(run.name, {})).items():
            model, features, label = _named(run, name)
            places = {"": mapping(arm, "pooled"), **mapping(arm, "centers")}
            for center, metrics in places.items():
                for metric, estimate in mapping(metrics).items():
                    values = ["" if (x := find(estimate, key)) is None else x for key in _ESTIMATE]
                    row = (run.name, run.cohort, model, features, label, arm.get("kind"), center, metric, *values)
                    writer.writerow(row)
    return page.getvalue()


_ESTIMATE = ("mean", "low", "high", "spread", "n", "events")


def as_html(comparison: Comparison, command: str) -> str:
    """The page of the comparison."""
    return template(Path(__file__).with_name("comparison.html.jinja")).render(
        about=about(comparison),
        legend=LEGEND,
        command=command,
        heads=HEADS,
        claim_heads=CLAIMS,
        sections=list(sections(comparison)),
        missing=comparison.missing(),
        published=published(),
    )
