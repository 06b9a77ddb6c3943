"""Blocks of features that some centers do not have, as an experiment asks for: which, and a cohort without them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.partition import PartitionError, unknown
from federation.randomness import generator
from harmonization import Cohort

Hide = Mapping[Any, float | Sequence[str]]
"""Modality -> names of the centers that lack it, or the fraction of centers that do."""


def hidden_blocks(hide: Hide, centers: Sequence[str], seed: int) -> dict[str, tuple[str, ...]]:
    """The modalities that each center lacks; centers that lack none are left out.

    Parameters
    ----------
    centers
        The roster. It and the seed alone decide who is drawn for a fraction, for each modality anew.

    Raises
    ------
    PartitionError
        If a center is unknown, naming the nearest.
    """
    lacking: dict[str, tuple[str, ...]] = {}
    for modality, where in sorted(hide.items()):
        if isinstance(where, float | int):
            order = generator(seed, "hide", modality).permutation(len(centers))
            chosen = [centers[i] for i in sorted(order[: round(where * len(centers))])]
        else:
            chosen = list(where)
        for name in chosen:
            if name not in centers:
                raise PartitionError(f"dataset.hide.{modality}: {unknown('center', name, centers)}")
            lacking[name] = (*lacking.get(name, ()), modality)
    return lacking


def without(cohort: Cohort, modalities: Sequence[str]) -> Cohort:
    """The cohort with whole blocks missing.

    Raises
    ------
    PartitionError
        If the cohort has no feature of a modality.
    """
    known = {feature.modality for feature in cohort.schema.features}
    for modality in modalities:
        if modality not in known:
            raise PartitionError(
                f"dataset.hide: the data have no {modality} features; they have {', '.join(sorted(known))}"
            )
    return cohort.hide(modalities) if modalities else cohort
