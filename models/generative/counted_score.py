"""pgmpy's structure score from summed counts: its own searches (GES, hill climbing) on patients nobody pooled.

A question for the family of a child and some parents has the counts by one further parent of every kind in its answer
(`models.generative.search`), so that one broadcast scores as many families as there are features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from models.generative.discretization import Discretizer
from models.generative.scores import family_score
from models.generative.search import FAMILIES, NetworkSearch

try:
    from pgmpy.structure_score import BaseStructureScore
except ImportError as error:  # pragma: no cover
    raise ImportError("a score for pgmpy needs pgmpy: pip install 'haemfed[synthetic]'") from error

Floats = NDArray[np.float64]
State = Mapping[str, NDArray[Any]]


class CountedScore(BaseStructureScore):  # type: ignore[misc]
    """BIC or BDeu of the features' families (not of times).

    Parameters
    ----------
    search
        Says schema, score and equivalent sample size.
    state
        Of the search, once bins are known.
    ask
        Gives the sum of all centers' answers to a question (`NetworkSearch.answer`), e.g.
        ``lambda state: federation.ask(algorithm, state)``.
    patients
        Behind the sums.

    Attributes
    ----------
    asked
        Broadcasts so far.

    References
    ----------
    Chickering (2002), Optimal structure identification with greedy search, JMLR 3 (GES).
    """

    def __init__(
        self, search: NetworkSearch, state: State, ask: Callable[[State], Mapping[str, Floats]], patients: int
    ) -> None:
        self.search, self.state, self.ask, self.patients = search, state, ask, patients
        self.variables = list(search.schema.names)
        super().__init__(self.frame)
        self._cards = Discretizer.from_arrays(state).cards(search.schema)
        self._known: dict[tuple[int, ...], Floats] = {}
        self.asked = 0

    @property
    def frame(self) -> pd.DataFrame:
        """Stands for the data that pgmpy's searches want to see: the features' names, and no patient."""
        return pd.DataFrame(np.zeros((2, len(self.variables)), np.int64), columns=self.variables)

    def _local_score(self, variable: str, parents: tuple[str, ...]) -> float:
        names = self.search.schema.names
        child, given = names.index(variable), tuple(sorted(names.index(p) for p in parents))
        options = self.search.options
        return family_score(self._table(child, given), "categorical", self.patients, options.score, options.ess)

    def _table(self, child: int, given: tuple[int, ...]) -> Floats:
        """Counts by state of the child and configuration of its parents."""
        states, cards = int(self._cards[child]), self._cards[:-1]
        if not given:
            alone: Floats = self._counts(child, ()).reshape(states, -1)[:, : cards[0]].sum(axis=1, keepdims=True)
            return alone
        without = [tuple(p for p in given if p != last) for last in given]
        base = next((b for b in without if (child, *b) in self._known), without[-1])
        last = next(p for p in given if p not in base)
        start = int(cards[:last].sum())
        columns = self._counts(child, base).reshape(states, -1, int(cards.sum()))[:, :, start : start + cards[last]]
        table: Floats = columns.reshape(states, -1)
        return table

    def _counts(self, child: int, given: tuple[int, ...]) -> Floats:
        family = (child, *given)
        if family not in self._known:
            question = {**self.state, "phase": np.array(FAMILIES), "asked": np.array([[*family, -1]])}
            self._known[family] = np.asarray(self.ask(question)["family0"], np.float64)
            self.asked += 1
        return self._known[family]
