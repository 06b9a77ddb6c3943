"""The figures and the page, from results that were made up: what they show, and that holes do not break them."""

from __future__ import annotations

import copy
import json
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from experiments import plots
from experiments.plots import Interval
from experiments.report import metric_name, render, summary, verdict, write_report

HORIZONS = (1, 2, 5)
TRAINED = ("centralized", "federated/fedavg", "federated/fedprox", "federated/fedavg+fine-tuned", "left-out/fedavg")
KINDS = {"federated/fedavg+fine-tuned": "fine_tuned"}


def fake_results(
    n_centers: int = 3,
    difference: tuple[float, float, float] = (-0.004, -0.011, 0.003),
    slope: tuple[float, float, float] = (-0.05, -0.07, -0.03),
    names: list[str] | None = None,
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
        bounds = {"mean": mean, "low": max(0.0, mean - half), "high": min(1.0, mean + half), "spread": 0.5 * half}
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
    arms |= {f"score/{name}": arm("score", c, centers, survival=False) for name, c in (("ELN-2011", 0.63), ("age", 0.6))}

    def interval(mean, low, high):
        return {"mean": mean, "low": low, "high": high}

    pairs = [("federated/fedavg", "centralized", difference), ("federated/fedavg", "score/ELN-2011", (0.06, 0.04, 0.08))]
    differences = [
        {"a": a, "b": b, "metric": metric, **interval(*(sign * x for x in (values if sign > 0 else (values[0], values[2], values[1]))))}
        for a, b, values in pairs
        for metric, sign in (("harrell_c", 1), ("ibs", -0.5), ("auc_1y", 1))
    ]
    differences += [
        {"a": "federated/fedavg", "b": f"local/{center}", "metric": "harrell_c", **interval(0.03, 0.01, 0.05)}
        for center in centers
    ]

    def scored(c, size):
        gain, half = 0.691 - c, 0.6 / math.sqrt(size + 200)
        return {"federated": 0.691, "local": c, "gain": interval(gain, gain - half, gain + half)}

    def scored_on_own(size):
        if size < 8:
            return {"federated": None, "local": None, "gain": interval(None, None, None)}
        gain, half = 0.04 + rng.normal(0, 0.4) / math.sqrt(size), 1 / math.sqrt(size)
        return {"federated": 0.69, "local": 0.69 - gain, "gain": interval(gain, gain - half, gain + half)}

    gain = {
        "federated": "federated/fedavg",
        "centers": [
            {"center": center, **counts, "everybody": scored(alone[center], counts["patients"]),
             "own": scored_on_own(counts["patients"])}
            for center, counts in centers.items()
        ],
        "slope": interval(*slope),
    }

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
            "schema_hash": "0123456789abcdef0123456789abcdef",
            "time_unit": "years",
            **total,
            "features": [f"feature_{i}" for i in range(83)],
            "centers": centers,
        },
        "arms": arms,
        "differences": differences,
        "gain": gain,
        "curves": {"centralized": curve(3.0), "federated/fedavg": curve(6.0), "federated/fedprox": curve(7.0)},
        "kaplan_meier": {"centralized": groups(), "federated/fedavg": groups()},
        "calibration": {"centralized": calibration(1.0), "federated/fedavg": calibration(-0.8)},
        "notes": ["Centers are real; their network was simulated."],
        "timings": {"load": 1.25, "train": 702.0, "evaluate": 50.9},
    }
