"""Actors that let out more than they should under secure aggregation: what a test of secrecy has to notice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray

from actors.center import NOTHING, CenterShell
from federation.center import Question
from federation.privacy.aggregator import MaskedSum
from federation.privacy.fixed_point import Words
from federation.privacy.masks import MaskStream
from federation.privacy.secure import SecureAggregation

_whole = MaskStream._drawn


def short(self: MaskStream, seeds: Sequence[bytes]) -> Iterator[Words]:
    """Masks without the highest byte of every word; who takes them off has to draw the same."""
    for words in _whole(self, seeds):
        words >>= np.uint64(8)
        yield words


class ShortMasks(CenterShell):
    """Draws masks that are too short."""

    def __init__(self, *arguments: Any) -> None:
        MaskStream._drawn = short  # type: ignore[method-assign]
        super().__init__(*arguments)


@dataclass(frozen=True)
class WithNorm(MaskedSum):
    """Masked numbers, and how long the bare ones are."""

    norm: NDArray[np.float64]


class NormBeside(CenterShell):
    """Sends the norm of the bare numbers beside the masked ones."""

    def secure(
        self,
        step: str,
        arguments: Sequence[Any],
        settings: SecureAggregation | None,
        question: str = "",
        state: Mapping[str, NDArray[Any]] = NOTHING,
    ) -> Any:
        answer = super().secure(step, arguments, settings, question, state)
        if step != "answer":
            return answer
        masked, failed = answer
        bare, _ = self._held().answer(Question.from_json(question, state))
        norm = np.sqrt(sum(np.square(array).sum() for array in bare.result().values()))
        return WithNorm(**vars(masked), norm=np.array(norm)), failed


ShortMasksActor, NormBesideActor = ray.remote(ShortMasks), ray.remote(NormBeside)
