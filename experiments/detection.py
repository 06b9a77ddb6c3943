"""Which centers' updates look unlike the others': detection statistics of arms with a robust aggregator."""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.arms import Fits, folds_of
from experiments.study import Study
from federation.robust import DETECTION

ODD = 3.0
"""Times the median distance beyond which a center is worth a look."""


def detection_tables(study: Study, fits: Fits) -> dict[str, list[dict[str, Any]]] | None:
    """Of each arm with a robust aggregator its centers, the oddest first; None without such an arm.

    A row has ``center``, the medians over rounds and folds of `federation.robust.detection` (an infinite one, of
    updates that were not finite, is null), and ``odd``: a distance above `ODD`, or an update that points away from
    the others'.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for strategy in study.config.strategies:
        if strategy.aggregator is None:
            continue
        fitted = [fits.get(strategy.arm, repeat, fold) for repeat, fold in folds_of(study.config)]
        seen = [f.detection for f in fitted if f is not None and f.detection is not None]
        if not seen:
            continue
        rows = []
        stacked = np.concatenate(seen)
        for j, name in enumerate(study.names):
            mine = stacked[:, j][~np.isnan(stacked[:, j]).any(axis=1)]
            if len(mine) == 0:
                continue
            values = dict(zip(DETECTION, np.median(mine, axis=0).tolist(), strict=True))
            odd = values["distance"] > ODD or values["cosine"] < 0
            rows.append({"center": name, **{k: v if np.isfinite(v) else None for k, v in values.items()}, "odd": odd})
        found[strategy.arm] = sorted(rows, key=lambda r: -(np.inf if r["distance"] is None else r["distance"]))
    return found or None
