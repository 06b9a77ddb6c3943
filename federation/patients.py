"""What an algorithm sees of a center's patients."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from federation.splits import TEST, TRAIN, VALIDATION
from harmonization import Cohort
from models.preprocessing import Preprocessor
from models.training import TrainingData


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
        self._designs: dict[tuple[str, bytes], TrainingData] = {}

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

    def design(self, part: str, preprocessor: Preprocessor) -> TrainingData:
        """Design matrix and endpoint of a part (``train``, ``validation`` or ``test``), computed once."""
        key = (part, b"".join(np.ascontiguousarray(a).tobytes() for a in preprocessor.to_arrays().values()))
        if key not in self._designs:
            cohort: Cohort = getattr(self, part)
            self._designs[key] = TrainingData(preprocessor.transform(cohort), cohort.time, cohort.event)
        return self._designs[key]
