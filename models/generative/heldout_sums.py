"""What fidelity asks of patients, as counts and sums that add over centers.

Numbers are counted in cells that everybody knows (`models.generative.cells`), and correlated by the rank of their cell
among all patients; all else is counted as it is.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from harmonization import Cohort, Schema
from harmonization.schema import EVENT, TIME
from models.generative.cells import SIZE, cell_of
from models.generative.discretization import states_of
from models.survival.time_grid import TimeGrid, event_counts

Floats = NDArray[np.float64]
Sums = Mapping[str, Floats]


def pair_sums(values: Floats) -> dict[str, Floats]:
    """What correlations of every two columns are made of, among the rows that have both.

    Parameters
    ----------
    values
        Shape (n, q), missing as NaN.

    Returns
    -------
    dict
        Each of shape (q, q): ``known`` rows; ``totals`` and ``squares`` of the row's column, and ``products``.
    """
    known = ~np.isnan(values)
    x, m = np.where(known, values, 0.0), known.astype(np.float64)
    return {"known": m.T @ m, "totals": x.T @ m, "squares": (x * x).T @ m, "products": x.T @ x}


def fewest(values: Floats, zero_one: NDArray[np.bool_]) -> Floats:
    """Patients in the smallest cell that is not empty of the table of every two columns, shape (q, q).

    Cells are 0 and 1 of either column, or known at all of one that is not ``zero_one``, and who lacks one of the two: a
    sum over few of them would tell of these.
    """
    known = ~np.isnan(values)
    groups = [known & (~zero_one | (values == 1)), known & zero_one & (values == 0)]
    a, b = (group.astype(np.float64) for group in groups)
    cells = np.array([a.T @ a, a.T @ b, b.T @ a, b.T @ b])
    cells = np.concatenate([cells, len(values) - cells.sum(axis=0, keepdims=True)])
    result: Floats = np.where(cells > 0, cells, np.inf).min(axis=0)
    return result


def lesion_pairs(lesions: Floats) -> dict[str, Floats]:
    """Patients with both of two lesions, the first only, or neither, each of shape (g, g), from (n, g) of 0, 1, NaN."""
    present, absent = (lesions == 1).astype(np.float64), (lesions == 0).astype(np.float64)
    return {"both": present.T @ present, "first_only": present.T @ absent, "neither": absent.T @ absent}


def numbers_of(schema: Schema) -> list[int]:
    """Positions of the features that are numbers."""
    return [j for j, feature in enumerate(schema.features) if feature.numeric]


def classes_of(schema: Schema) -> list[int]:
    """Positions of the features that are classes."""
    return [j for j, feature in enumerate(schema.features) if not feature.numeric]


def lesions_of(schema: Schema) -> list[int]:
    """Positions of genomic features that are present or absent."""
    return [j for j, f in enumerate(schema.features) if f.modality == "genomic" and f.kind == "binary"]


def counts_of(cohort: Cohort, grid: TimeGrid) -> dict[str, Floats]:
    """Laws of single columns, lesions by twos, and who leaves when.

    Returns
    -------
    dict
        ``cells``: of the numbers, then of time, shape (numbers + 1, `SIZE` + 1); ``states``: of the classes, then of
        the event, (classes + 1, k + 1); last who lack it. ``both``, ``first_only``, ``neither``: see `lesion_pairs`;
        ``fewest_lesions``: see `fewest`. ``burden``: patients with so many lesions, (g + 1,). ``leaving``, ``events``:
        on the grid.
    """
    schema = cohort.schema
    numbers = np.column_stack([cohort.values[:, numbers_of(schema)], cohort.time])
    classes = np.column_stack([cohort.values[:, classes_of(schema)], cohort.event])
    widest = max([2, *(states_of(schema.features[j]) for j in classes_of(schema))])
    unknown = np.isnan(numbers)
    cells = np.where(unknown, SIZE, cell_of(np.where(unknown, 0.0, numbers)))
    states = np.where(np.isnan(classes), widest, classes).astype(np.int64)
    lesions = cohort.values[:, lesions_of(schema)]
    cell, event = grid.cells(cohort.time, cohort.event, schema.time_unit)
    return {
        "cells": _rows(cells, SIZE + 1),
        "states": _rows(states, widest + 1),
        **lesion_pairs(lesions),
        "fewest_lesions": fewest(lesions, np.ones(lesions.shape[1], dtype=bool)),
        "burden": np.bincount((lesions == 1).sum(axis=1), minlength=lesions.shape[1] + 1).astype(np.float64),
        **event_counts(cell, event, grid.size),
    }


def _rows(codes: NDArray[np.int64], size: int) -> Floats:
    return np.array([np.bincount(code, minlength=size) for code in codes.T], dtype=np.float64).reshape(-1, size)


def ranks_of(cells: Floats) -> Floats:
    """Of each cell the middle of its patients' ranks, as a share of all, from -1/2 to 1/2; without the last column."""
    known = cells[:, :-1]
    total = np.maximum(known.sum(axis=1, keepdims=True), 1)
    result: Floats = (np.cumsum(known, axis=1) - known / 2) / total - 0.5
    return result


def associations_of(cohort: Cohort, ranks: Floats) -> dict[str, Floats]:
    """`pair_sums` and `fewest` of the clinical columns and the outcome (`scale_names`): numbers by the rank of their
    cell, all classes and missing as indicators."""
    values = _scales(cohort, ranks)
    zero_one = np.array([code is not None for _, code in scale_names(cohort.schema)])
    return {**pair_sums(values), "fewest": fewest(values, zero_one)}


def scale_names(schema: Schema) -> list[tuple[str, int | None]]:
    """The columns of `associations_of`: of which feature, and which class; None for a rank, -1 for being missing."""
    found: list[tuple[str, int | None]] = []
    for feature in schema.features:
        if feature.modality != "genomic":
            codes = (None,) if feature.numeric else range(states_of(feature))
            found += [(feature.name, code) for code in (*codes, -1)]
    return [*found, (TIME, None), (EVENT, 0), (EVENT, 1)]


def _scales(cohort: Cohort, ranks: Floats) -> Floats:
    schema, columns = cohort.schema, []
    place = {j: i for i, j in enumerate(numbers_of(schema))}
    for j, feature in enumerate(schema.features):
        if feature.modality == "genomic":
            continue
        x = cohort.values[:, j]
        missing = np.isnan(x)
        if feature.numeric:
            columns.append(np.where(missing, np.nan, ranks[place[j]][cell_of(np.where(missing, 0.0, x))]))
        else:
            columns += [np.where(missing, np.nan, x == code) for code in range(states_of(feature))]
        columns.append(missing.astype(np.float64))
    columns += [ranks[-1][cell_of(cohort.time)], ~cohort.event, cohort.event]
    return np.column_stack(columns).astype(np.float64)
