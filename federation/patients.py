"""What an algorithm sees of a center's patients, or of those of many centers in one process."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from federation.splits import TEST, TRAIN, VALIDATION
from harmonization import Cohort
from models.batched.tables import Tables
from models.preprocessing import Preprocessor
from models.steps import TrainingData


class Patients:
    """What an algorithm sees of a center's patients: the parts of one split.

    Parameters
    ----------
    cohort
        All patients of the center.
    parts
        Which of them train, validate and test (`federation.splits`), shape (n,).
    position, centers
        The center's place in the roster, and the roster's length.
    min_patients
        A validation part smaller than this is shown as empty; counts smaller than this are not to leave.
    """

    def __init__(self, cohort: Cohort, parts: NDArray[np.int64], position: int, centers: int, min_patients: int):
        self.position, self.centers, self.min_patients = position, centers, min_patients
        self._cohort, self._parts = cohort, parts
        if (parts == VALIDATION).sum() < min_patients:
            self._parts = np.where(parts == VALIDATION, -1, parts)
        self._designs: dict[tuple[str, bytes, int], TrainingData] = {}

    @cached_property
    def train(self) -> Cohort:
        """Training patients."""
        return self._cohort[self._parts == TRAIN]

    @cached_property
    def validation(self) -> Cohort:
        """Validation patients; may be empty."""
        return self._cohort[self._parts == VALIDATION]

    @cached_property
    def test(self) -> Cohort:
        """Test patients; for evaluation alone."""
        return self._cohort[self._parts == TEST]

    @cached_property
    def alone(self) -> PatientGroup:
        """As a group of one center."""
        return PatientGroup([self])

    def design(self, part: str, preprocessor: Preprocessor, causes: int = 1) -> TrainingData:
        """Design matrix and endpoint of a part, computed once.

        Parameters
        ----------
        part
            ``train``, ``validation`` or ``test``.
        causes
            Competing causes that the network knows (`SurvivalNetwork.causes`): with several, the endpoint is which of
            them it was, else whether there was an event of any.
        """
        key = (part, _key(preprocessor), causes)
        if key not in self._designs:
            self._designs[key] = training_data(getattr(self, part), preprocessor, causes)
        return self._designs[key]


class PatientGroup:
    """The patients of many centers whose answers are computed together.

    Parameters
    ----------
    members
        The patients of each center.
    device
        Where to compute, ``cpu`` or ``cuda``.

    Attributes
    ----------
    positions
        The centers' places in the roster, shape (k,).
    centers
        The roster's length.
    """

    def __init__(self, members: Sequence[Patients], device: str = "cpu") -> None:
        self.members, self.device = members, device
        self.positions = np.array([p.position for p in members], dtype=np.int64)
        self.centers = members[0].centers if members else 0
        self._tables: dict[tuple[str, bytes, int], Tables] = {}

    def __len__(self) -> int:
        return len(self.members)

    def tables(self, part: str, preprocessor: Preprocessor, causes: int = 1) -> Tables:
        """Design matrices and endpoints of a part, computed once; arguments as of `Patients.design`."""
        key = (part, _key(preprocessor), causes)
        if key not in self._tables:
            if len(self._tables) >= 4:  # a sweep over many preprocessors need not keep them all
                self._tables.clear()
            data = [training_data(getattr(p, part), preprocessor, causes) for p in self.members]
            with np.errstate(over="ignore"):  # what is too large for float32 is found by the wall
                self._tables[key] = Tables.of(data, preprocessor.n_features)
        return self._tables[key]


def training_data(cohort: Cohort, preprocessor: Preprocessor, causes: int = 1) -> TrainingData:
    """Design matrix and endpoint of a cohort, for a network that knows so many competing causes.

    Raises
    ------
    ValueError
        If the cohort has another number of them.
    """
    if causes == 1:
        return TrainingData(preprocessor.transform(cohort), cohort.time, cohort.event)
    if cohort.cause is None or len(cohort.schema.causes) != causes:
        named = ", ".join(cohort.schema.causes) or "none"
        raise ValueError(
            f"the network has causes {causes}, the patients' schema {len(cohort.schema.causes)} ({named}); "
            "set the model's parameter causes to that number, or to 1 for an event of any cause"
        )
    return TrainingData(preprocessor.transform(cohort), cohort.time, cohort.cause)


def _key(preprocessor: Preprocessor) -> bytes:
    return b"".join(np.ascontiguousarray(a).tobytes() for a in preprocessor.to_arrays().values())
