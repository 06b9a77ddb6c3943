"""The figures and the page, from results that were made up: what they show, and that holes do not break them."""

from __future__ import annotations

import base64
import html
import json
import math
import re
import warnings
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from experiments import plots
from experiments.findings import summary, verdict
from experiments.reading import Interval
from experiments.report import render, write_report
from experiments.report_tables import metric_name

HORIZONS = (1, 2, 5)
TRAINED = ("centralized", "federated/fedavg", "federated/fedprox", "federated/fedavg+fine-tuned", "left-out/fedavg")
KINDS = {"federated/fedavg+fine-tuned": "fine_tuned"}


def fake_results(
    n_centers: int = 3,
    difference: tuple[float, float, float] = (-0.004, -0.011, 0.003),
    slope: tuple[float, float, float] | None = None,
    names: list[str] | None = None,
    blocks: bool = False,
) -> dict:
    """Results as a run writes them, for centers of falling size; small ones have no pair to compare on their own."""
    rng = np.random.default_rng(n_centers)
    sizes = np.maximum(1, 400 * 0.89 ** np.arange(n_centers)).astype(int)
    centers = {
        name: {"patients": int(size), "events": int(0.6 * size)}
        for name, size in zip(names or [f"center {i:02d}" for i in range(n_centers)], sizes, strict=True)
    }
    total = {key: sum(counts[key] for counts in centers.values()) for key in ("patients", "events")}

    def estimate(mean, n=total["patients"], scale=0.6):
        half = scale / math.sqrt(n)
        if n < 8:
            return {"mean": None, "low": None, "high": None, "spread": None, "n": n, "events": int(0.6 * n)}
        bounds = {"mean": mean, "low": max(0.0, mean - half), "high": mean + half, "spread": 0.5 * half}
        return {**bounds, "n": n, "events": int(0.6 * n)}

    def metrics(c, survival):
        found = {"harrell_c": estimate(c), "uno_c": estimate(c - 0.01)}
        found |= {f"auc_{h}y": estimate(c + 0.03) for h in HORIZONS}
        if survival:
            found["ibs"] = estimate(0.4 - 0.3 * c, scale=0.3)
            for h in HORIZONS:
                found[f"brier_{h}y"] = estimate(0.1 + 0.02 * h, scale=0.3)
                found[f"calibration_ratio_{h}y"] = estimate(1.02)
                found[f"calibration_error_{h}y"] = estimate(0.03, scale=0.3)
        return found

    def arm(kind, c, tested, survival=True):
        own = {
            center: {"harrell_c": estimate(float(np.clip(c + rng.normal(0, 0.5) / math.sqrt(size), 0.05, 0.95)), size)}
            for center in tested
            for size in [centers[center]["patients"]]
        }
        return {
            "kind": kind,
            "pooled": metrics(c, survival),
            "centers": own,
            "seconds": None if kind == "score" else 12.5,
            "selected_rounds": [] if kind == "score" else [int(r) for r in rng.integers(4, 28, 6)],
        }

    alone = {center: 0.69 - 0.6 / math.sqrt(counts["patients"]) for center, counts in centers.items()}
    arms = {"centralized": arm("centralized", 0.695, centers)}
    for name, c in zip(TRAINED[1:], (0.691, 0.688, 0.692, 0.684), strict=True):
        arms[name] = arm(KINDS.get(name, name.split("/")[0].replace("-", "_")), c, centers)
    for center, c in alone.items():
        arms[f"local/{center}"] = arm("local", c, centers)
    arms |= {
        f"score/{name}": arm("score", c, centers, survival=False) for name, c in (("ELN-2011", 0.63), ("age", 0.6))
    }

    def interval(mean, low, high):
        return {"mean": mean, "low": low, "high": high}

    pairs = [
        ("federated/fedavg", "centralized", difference),
        ("federated/fedavg", "score/ELN-2011", (0.06, 0.04, 0.08)),
    ]
    differences = [
        {"a": a, "b": b, "metric": metric, **interval(*values)}
        for a, b, (mean, low, high) in pairs
        for metric, values in (
            ("harrell_c", (mean, low, high)),
            ("ibs", tuple(None if x is None else -x / 2 for x in (mean, high, low))),
            ("auc_1y", (mean, low, high)),
        )
    ]
    differences += [
        {"a": "federated/fedavg", "b": f"local/{center}", "metric": "harrell_c", **interval(0.03, 0.01, 0.05)}
        for center in centers
    ]

    def scored(c, size):
        gain, half = 0.691 - c, 1.6 / math.sqrt(size + 200)
        return {"federated": 0.691, "local": c, "gain": interval(gain, gain - half, gain + half)}

    def scored_on_own(size):
        if size < 8:
            return {"federated": None, "local": None, "gain": interval(None, None, None)}
        gain, half = 0.04 + rng.normal(0, 0.4) / math.sqrt(size), 1 / math.sqrt(size)
        return {"federated": 0.69, "local": 0.69 - gain, "gain": interval(gain, gain - half, gain + half)}

    if slope is None:
        fitted = np.polyfit(np.log10(sizes), [0.691 - c for c in alone.values()], 1)[0] if n_centers > 1 else math.nan
        slope = (fitted, fitted - 0.02, fitted + 0.02)
    gain = {
        "federated": "federated/fedavg",
        "centers": [
            {
                "center": center,
                **counts,
                "everybody": scored(alone[center], counts["patients"]),
                "own": scored_on_own(counts["patients"]),
            }
            for center, counts in centers.items()
        ],
        "slope": interval(*slope),
    }

    compared = {
        "federated": "federated/fedavg",
        "steps": [
            {"arm": "federated/fedavg[clinical]", "blocks": ["clinical"], "gain": None},
            {
                "arm": "federated/fedavg",
                "blocks": ["clinical", "genomic"],
                "gain": {"harrell_c": interval(0.03, 0.01, 0.05)},
            },
        ],
        "single": [
            {
                "arm": "federated/fedavg[clinical]",
                "blocks": ["clinical"],
                "gain": {"harrell_c": interval(0.03, 0.01, 0.05)},
            }
        ],
        "centers": [
            {
                "center": center,
                **counts,
                "lacks": ["genomic"] if counts["patients"] % 2 else [],
                "all": interval(0.69, 0.66, 0.72),
                "single": {"federated/fedavg[clinical]": interval(0.67, 0.64, 0.7)},
                "best": "federated/fedavg[clinical]",
                "difference": interval(0.02, -0.3 / math.sqrt(counts["patients"]), 0.06),
            }
            for center, counts in centers.items()
        ],
        "means": {"lacking": interval(0.0, -0.01, 0.01), "complete": None},
    }
    if blocks:
        arms["federated/fedavg[clinical]"] = arm("block", 0.66, centers)

    rounds = np.arange(31)

    def band(values, width):
        noise = rng.normal(0, width / 8, values.size)
        return {
            "mean": (values + noise).tolist(),
            "low": (values + noise - width).tolist(),
            "high": (values + noise + width).tolist(),
        }

    def curve(speed):
        return {
            "round": rounds.tolist(),
            "train_loss": band(3.9 + 0.9 * np.exp(-rounds / speed), 0.03),
            "validation_loss": band(4.1 + 0.8 * np.exp(-rounds / speed) + 0.004 * rounds, 0.1),
            "validation_concordance": band(0.70 - 0.2 * np.exp(-rounds / speed), 0.02),
            "centers": {
                center: (0.70 - 0.2 * np.exp(-rounds / speed) + rng.normal(0, 0.08)).tolist() for center in centers
            },
        }

    def groups():
        found = []
        for i, (name, rate) in enumerate(zip(("low", "middle", "high"), (0.06, 0.15, 0.4), strict=True)):
            times = np.sort(rng.uniform(0.02, 9, 120))
            survival = np.exp(-rate * times)
            half = 0.015 + 0.008 * times
            found.append(
                {
                    "group": name,
                    "times": times.tolist(),
                    "survival": survival.tolist(),
                    "low": np.maximum(0, survival - half).tolist(),
                    "high": np.minimum(1, survival + half).tolist(),
                    "at_risk_times": list(range(10)),
                    "at_risk": [int(total["patients"] / 3 * math.exp(-(rate + 0.1) * t)) + i for t in range(10)],
                }
            )
        return found

    def calibration(shift):
        found = {}
        for h in HORIZONS:
            predicted = 1 - np.exp(-h * np.array([0.04, 0.08, 0.13, 0.22, 0.45]))
            observed = np.clip(predicted + shift * np.array([0.02, -0.03, 0.02, 0.04, -0.06]), 0, 1)
            found[f"{h}y"] = {
                "predicted": predicted.tolist(),
                "observed": observed.tolist(),
                "low": np.clip(observed - 0.06, 0, 1).tolist(),
                "high": np.clip(observed + 0.06, 0, 1).tolist(),
                "n": [total["patients"] // 5] * 5,
            }
        return found

    return {
        "schema_version": 1,
        "name": "AML, clinical and genomic",
        "seed": 7,
        "started": "2026-11-20T10:00:00+00:00",
        "seconds": 754.2,
        "config": {"name": "aml", "dataset": {"name": "aml", "modalities": ["clinical", "genomic"]}, "folds": 3},
        "versions": {"haemfed": "0.1.0", "python": "3.11.9", "numpy": "2.4.6"},
        "dataset": {
            "name": "aml",
            "description": "Adults with acute myeloid leukaemia, from three trials.",
            "source": "Papaemmanuil et al. 2016",
            "licence": "CC BY 4.0",
            "schema_hash": "0123456789abcdef0123456789abcdef",  # pragma: allowlist secret
            "time_unit": "years",
            **total,
            "features": [f"feature_{i}" for i in range(83)],
            "centers": centers,
        },
        "arms": arms,
        "differences": differences,
        "gain": gain,
        "blocks": compared if blocks else None,
        "curves": {"centralized": curve(3.0), "federated/fedavg": curve(6.0), "federated/fedprox": curve(7.0)},
        "kaplan_meier": {"centralized": groups(), "federated/fedavg": groups()},
        "calibration": {"centralized": calibration(1.0), "federated/fedavg": calibration(-0.8)},
        "notes": ["Centers are real; their network was simulated."],
        "timings": {"load": 1.25, "train": 702.0, "evaluate": 50.9},
    }


@cache
def results_of(n_centers: int, blocks: bool) -> str:
    return json.dumps(fake_results(n_centers, blocks=blocks))


def results(n_centers: int = 3, blocks: bool = False) -> dict:
    """A fresh copy, as read from a file."""
    return json.loads(results_of(n_centers, blocks))


def page(n_centers: int) -> str:
    """The words and tables alone: most of the time goes into the figures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "ALL", {})
        return render(results(n_centers))


@pytest.fixture
def few_figures(monkeypatch):
    monkeypatch.setattr(plots, "ALL", {name: plots.ALL[name] for name in ("arms", "centers")})


def lines(ax, label):
    return [line for line in ax.lines if line.get_label() == label]


def texts(ax):
    return [text.get_text() for text in ax.texts]


# The figures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "n_centers"),
    [*((name, 45) for name in plots.ALL), *((name, n) for n in (1, 3) for name in ("arms", "gain", "centers"))],
)
def test_every_figure_fits_its_page(name, n_centers):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a layout that gives up only warns
        figure = plots.ALL[name](results(n_centers, blocks=True))
        assert isinstance(figure, Figure)
        figure.set_dpi(60)
        FigureCanvasAgg(figure).draw()
    inside, page_size = figure.get_tightbbox(), figure.get_size_inches()
    assert min(inside.x0, inside.y0) > -0.02, "cut off on the left or below"
    assert inside.x1 < page_size[0] + 0.02, "cut off on the right"
    assert inside.y1 < page_size[1] + 0.02, "cut off above"


@pytest.mark.parametrize("n_centers", [1, 3, 45])
def test_arms_figure_has_a_row_per_arm_and_one_for_the_isolated_centers(n_centers):
    (ax,) = plots.arms_figure(results(n_centers)).axes
    isolated = "1 isolated center" if n_centers == 1 else f"{n_centers} isolated centers"
    labels = [tick.get_text() for tick in ax.get_yticklabels()]
    assert labels == ["score/ELN-2011", "score/age", isolated, *TRAINED]
    assert len(lines(ax, "isolated centers")[0].get_xdata()) == n_centers
    (federated,) = lines(ax, "federated/fedavg")
    assert federated.get_xdata()[0] == 0.691
    assert len([text for text in texts(ax) if re.fullmatch(r"0\.\d{3} \(0\.\d{3}–0\.\d{3}\)", text)]) == len(labels) - 1


def test_gain_figure_has_a_point_per_center_and_the_given_slope():
    found = results(45)
    everybody, own = plots.gain_figure(found).axes
    assert len(lines(everybody, "_center")) == 45
    measured = [row for row in found["gain"]["centers"] if row["own"]["gain"]["mean"] is not None]
    assert 0 < len(lines(own, "_center")) == len(measured) < 45
    (line,) = lines(everybody, "regression")
    x, y = np.log10(line.get_xdata()), line.get_ydata()
    assert (y[1] - y[0]) / (x[1] - x[0]) == pytest.approx(found["gain"]["slope"]["mean"])
    assert "per tenfold size" in texts(everybody)[0]
    filled = [line for line in lines(everybody, "_center") if line.get_markerfacecolor() != "white"]
    assert len(filled) == sum(row["everybody"]["gain"]["low"] > 0 for row in found["gain"]["centers"])


def test_gain_figure_of_one_center_has_no_line():
    everybody, _ = plots.gain_figure(results(1)).axes
    assert len(lines(everybody, "_center")) == 1
    assert not lines(everybody, "regression")


def test_centers_figure_sorts_by_size_and_says_who_is_missing():
    found = results(45)
    found["dataset"]["centers"] = dict(reversed(found["dataset"]["centers"].items()))
    (ax,) = plots.centers_figure(found).axes
    labels = [tick.get_text() for tick in ax.get_yticklabels()]
    measured = [c for c, own in found["arms"]["centralized"]["centers"].items() if own["harrell_c"]["mean"] is not None]
    assert [label.split("  ")[0] for label in labels] == measured
    assert labels[0].endswith("400/240")
    assert f"{45 - len(measured)} centers have no pair" in ax.get_xlabel()
    assert len(lines(ax, "federated/fedavg")) == len(lines(ax, "center alone")) == len(lines(ax, "centralized")) == 1
    assert sum(line.get_marker() in "vos" for line in ax.lines) == 3 * len(measured)


def test_curves_figure_has_a_row_per_trained_arm_the_main_one_first():
    figure = plots.curves_figure(results(3))
    assert len(figure.axes) == 9
    titles = [ax.get_title(loc="left") for ax in figure.axes[::3]]
    assert titles == ["federated/fedavg", "federated/fedprox", "centralized"]
    for train, validation, concordance in zip(*(figure.axes[i::3] for i in range(3)), strict=True):
        assert len(lines(train, "training")) == len(lines(validation, "validation")) == 1
        assert [len(ax.collections) for ax in (train, validation, concordance)] == [1, 1, 1]
        assert len(lines(concordance, "_center")) == 3
        assert len(lines(concordance, "_chosen")[0].get_xdata()) == 6


def test_kaplan_meier_figure_has_three_curves_bands_and_numbers_at_risk():
    figure = plots.kaplan_meier_figure(results())
    curves, at_risk = figure.axes[::2], figure.axes[1::2]
    assert [ax.get_title(loc="left") for ax in curves] == ["federated/fedavg", "centralized"]
    for ax, table in zip(curves, at_risk, strict=True):
        assert [line.get_label() for line in ax.lines] == ["low", "middle", "high"]
        assert all((line.get_xdata()[0], line.get_ydata()[0]) == (0, 1) for line in ax.lines)
        assert len(ax.collections) == 3
        assert texts(table)[:2] == ["357", "259"]
        assert len(table.texts) == 3 * 5


def test_calibration_figure_has_a_panel_per_horizon_in_order():
    found = results()
    found["calibration"]["federated/fedavg"] = dict(reversed(found["calibration"]["federated/fedavg"].items()))
    figure = plots.calibration_figure(found)
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["Within 1 year", "Within 2 years", "Within 5 years"]
    for ax in figure.axes:
        assert sum(line.get_marker() in ("o", "s") for line in ax.lines) == 2 * 5
        assert len(lines(ax, "_diagonal")) == 1


def test_an_interval_that_misses_its_estimate_is_drawn_as_it_is():
    found = results()
    found["arms"]["centralized"]["pooled"]["harrell_c"] |= {"mean": 0.6, "low": 0.65, "high": 0.7}
    assert plots.arms_figure(found) is not None


# Holes --------------------------------------------------------------------------------------------------------------


def emptied(value, hole):
    """Every leaf replaced."""
    if isinstance(value, dict):
        return {key: emptied(child, hole) for key, child in value.items()}
    if isinstance(value, list):
        return [emptied(child, hole) for child in value]
    return hole


def riddled(value, rng, share):
    """Parts of any size replaced by None, or missing."""
    if rng.random() < share:
        return None
    if isinstance(value, dict):
        kept = {key: child for key, child in value.items() if rng.random() > share / 3}
        return {key: riddled(child, rng, share) for key, child in kept.items()}
    if isinstance(value, list):
        return [riddled(child, rng, share) for child in value]
    return value


def check(found, monkeypatch, *, draw=False):
    """All figures and the page can be made, whatever is missing."""
    for figure in [figure for make in plots.ALL.values() if (figure := make(found)) is not None and draw]:
        figure.set_dpi(40)
        FigureCanvasAgg(figure).draw()
    with monkeypatch.context() as patch:
        patch.setattr(plots, "ALL", {})
        text = render(found)
    assert not re.search(r"\bnan\b|None", text)
    return text


@pytest.mark.parametrize("hole", [None, math.nan])
def test_results_without_any_number(hole, monkeypatch):
    found = results()
    kinds = {name: arm["kind"] for name, arm in found["arms"].items()}
    found = emptied(found, hole) | {"name": "empty", "config": {}, "versions": {}}
    for name, kind in kinds.items():
        found["arms"][name]["kind"] = kind
    if hole is not None:
        found |= {"notes": [], "differences": [], "seed": 1, "started": None, "dataset": {}}
    assert all(make(found) is None for make in plots.ALL.values())
    assert summary(found) == []
    assert "No arm of this run has a result." in check(found, monkeypatch)


def test_no_results_at_all(monkeypatch):
    assert "No arm was evaluated." in check({}, monkeypatch)


@pytest.mark.parametrize("key", fake_results(1))
def test_any_section_may_be_missing(key, monkeypatch):
    if key not in ("dataset", "arms", "gain", "curves", "kaplan_meier", "calibration"):
        monkeypatch.setattr(plots, "ALL", {})  # no figure looks at it
    found = results(2)
    del found[key]
    check(found, monkeypatch)


@pytest.mark.parametrize("seed", range(6))
def test_holes_anywhere(seed, monkeypatch):
    rng = np.random.default_rng(seed)
    found = riddled(results(3), rng, share=(0.02, 0.1)[seed % 2]) or {}
    check(found, monkeypatch, draw=seed < 2)


# The page -----------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Checks that tags are closed in order, and collects what a browser would load."""

    VOID = ("meta", "img", "link", "br", "hr", "input")

    def __init__(self, text):
        super().__init__()
        self.open, self.loads, self.tags = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.loads += [value for name, value in attrs if name in ("src", "href", "srcset", "data")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.parametrize("n_centers", [1, 3, 45])
def test_page_names_every_arm_center_and_note(n_centers):
    found, text = results(n_centers), html.unescape(page(n_centers))
    for name in (*found["arms"], *found["dataset"]["centers"], *found["notes"]):
        assert name in text
    for fact in ("0123456789ab", "haemfed run config.yaml", "numpy 2.4.6", "12 min 34 s", "train 11 min 42 s"):
        assert fact in text
    assert "modalities:\n  - clinical" in text


def test_what_is_simulated_is_said_above_the_results():
    plain = results()
    assert "Simulated data" not in render(plain)
    found = {**plain, "dataset": {**plain["dataset"], "simulated": "The images are drawn at random."}}
    page = render(found)
    assert page.index("The images are drawn at random.") < page.index('id="summary"')


def test_page_loads_nothing_and_closes_its_tags():
    text = render(results(blocks=True))
    parsed = Page(text)
    assert len(parsed.loads) == len(plots.ALL)
    assert not {"script", "link", "iframe", "object"} & set(parsed.tags)
    assert not re.search(r"url\(|@import", text)
    for address in parsed.loads:
        kind, data = address.split(",", 1)
        assert kind == "data:image/svg+xml;base64"
        assert set(re.findall(r'href="(.)', base64.b64decode(data).decode())) <= {"#"}


def test_isolated_centers_are_folded_away():
    folded = re.sub(r"<details(?! open).*?</details>", "", page(45), flags=re.DOTALL)
    assert "local/" not in folded
    assert "45 isolated centers: median" in folded


@pytest.mark.usefixtures("few_figures")
def test_names_are_escaped():
    evil = ['<script>alert("1")</script>', "St. Mary's & Söhne $x^2$ {{ 7 * 7 }}", "a" * 90]
    found = fake_results(3, names=evil) | {"name": "<b>bold</b>", "notes": ["<img src=x>"]}
    text = render(found)
    parsed = Page(text)
    assert not {"script", "b"} & set(parsed.tags)
    assert len(parsed.loads) == len(plots.ALL)
    assert "St. Mary&#39;s &amp; Söhne $x^2$ {{ 7 * 7 }}" in text


@pytest.mark.usefixtures("few_figures")
def test_same_results_same_bytes():
    assert render(results(1)) == render(results(1))


def test_page_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "run" / "report.html"
    monkeypatch.setattr(plots, "ALL", {})
    write_report(results(), path)
    before = path.read_text(encoding="utf-8")
    assert before.startswith("<!DOCTYPE html>")
    assert before.rstrip().endswith("</html>")
    real = Path.write_text

    def fails(self, text, **options):
        real(self, text[:100], **options)
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_text", fails)
    with pytest.raises(OSError, match="disk full"):
        write_report(results(), path)
    assert path.read_text(encoding="utf-8") == before
    assert list(path.parent.iterdir()) == [path]


# The words ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("difference", "said"),
    [
        ((0.02, 0.01, 0.03), "is +0.020 (+0.010 to +0.030): federated is better than pooled."),
        ((-0.02, -0.03, -0.01), "is −0.020 (−0.030 to −0.010): federated is worse than pooled."),
        ((-0.004, -0.011, 0.003), "is −0.004 (−0.011 to +0.003): the two are not distinguishable."),
        ((0.01, 0.0, 0.02), "is +0.010 (0.000 to +0.020): the two are not distinguishable."),
        ((0.01, None, None), "is +0.010: the two are not distinguishable."),
        ((None, None, None), "no paired difference between the two was computed."),
    ],
)
def test_summary_of_federated_against_pooled(difference, said):
    sentences = summary(fake_results(3, difference))
    assert sentences[0] == (
        "The federated model (federated/fedavg) reaches a Harrell C of 0.691 (0.673–0.709) across 3 centers, tested on "
        "1,072 patients with 643 events."
    )
    assert sentences[1].startswith("Training on the pooled patients (centralized) reaches 0.695 (0.677–0.713); ")
    assert sentences[1].endswith(said)


def test_summary_reads_a_difference_either_way_round():
    found = fake_results(3, (0.02, 0.01, 0.03))
    for row in found["differences"]:
        row["a"], row["b"] = row["b"], row["a"]
    assert summary(found)[1].endswith("is −0.020 (−0.030 to −0.010): federated is worse than pooled.")


@pytest.mark.parametrize(
    ("slope", "said"),
    [
        ((-0.05, -0.07, -0.03), "−0.050 (−0.070 to −0.030): confirmed, the gain falls with size."),
        ((0.05, 0.03, 0.07), "+0.050 (+0.030 to +0.070): contradicted, the gain grows with size."),
        ((-0.05, -0.12, 0.02), "−0.050 (−0.120 to +0.020): not confirmed, the trend is not distinguishable from none."),
    ],
)
def test_summary_says_whether_small_centers_gain_most(slope, said):
    (sentence,) = [s for s in summary(fake_results(3, slope=slope)) if s.startswith("Do small centers gain most?")]
    assert sentence.endswith(said)


def test_summary_counts_centers_and_compares_with_scores():
    found = results(45)
    sentences = summary(found)
    gains = [row["everybody"]["gain"] for row in found["gain"]["centers"]]
    better = sum(gain["low"] > 0 for gain in gains)
    assert 0 < better < 45
    assert sentences[2] == (
        "The median of 45 centers training alone reaches 0.580 (from 0.266 to 0.660) on everybody's patients; compared "
        f"with each center's own model, the federated one is better for {better} of 45, worse for 0 and not "
        f"distinguishable for {45 - better}."
    )
    assert sentences[4].startswith(
        "For comparison, score/ELN-2011 reaches 0.630 (0.620–0.640) (federated minus score +0.060 (+0.040 to "
        "+0.080): federated is better); score/age reaches "
    )
    assert sentences[5] == (
        "At centers that took no part in training the model reaches 0.684 (0.674–0.694) (left-out/fedavg)."
    )


def test_summary_says_when_other_patients_were_scored():
    found = results()
    for name in ("score/age", "left-out/fedavg"):
        found["arms"][name]["pooled"]["harrell_c"]["n"] = 395
    sentences = summary(found)
    assert sentences[4].endswith("; score/age reaches 0.600 (0.582–0.618) on 395 patients.")
    assert sentences[5].endswith("the model reaches 0.684 (0.666–0.702) on 395 patients (left-out/fedavg).")


def test_summary_without_a_federation():
    found = results(1)
    found["arms"] = {"centralized": found["arms"]["centralized"]}
    found["gain"] = None
    assert summary(found) == ["The pooled model (centralized) reaches a Harrell C of 0.695 (0.665–0.725)."]


def test_a_lower_error_is_better():
    assert verdict(Interval(-0.02, -0.03, -0.01), lower_is_better=True) == "better"
    assert verdict(Interval(-0.02, -0.03, -0.01)) == "worse"
    assert verdict(Interval(-0.02, -0.03, 0.01), lower_is_better=True) == "not distinguishable"
    assert "federated/fedavg better" in re.sub(r"\s+", " ", page(3))


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ("harrell_c", "Harrell C"),
        ("auc_1y", "AUC at 1 year"),
        ("brier_0.5y", "Brier at 0.5 years"),
        ("calibration_ratio_2y", "Observed / predicted at 2 years"),
        ("new_metric", "new metric"),
    ],
)
def test_metrics_have_names(metric, words):
    assert metric_name(metric) == words


def test_the_gain_of_each_block_is_in_words_table_and_figure():
    found = results(blocks=True)
    (said,) = [sentence for sentence in summary(found) if "blocks of features" in sentence]
    assert "genomic +0.030 (+0.010 to +0.050) (better)" in said
    assert "worse at 0 of 3 centers" in said
    assert "0.000 (−0.010 to +0.010) on average where a block is absent." in said
    page = render(found)
    assert "clinical + genomic" in page
    assert 'id="blocks"' not in render(results())
    left, right = plots.blocks_figure(found).axes
    assert [tick.get_text() for tick in left.get_yticklabels()] == ["clinical", "+ genomic"]
    assert len(right.get_yticklabels()) == 3
