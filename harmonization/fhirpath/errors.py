"""The error of every FHIRPath expression: where it is, what is wrong, what to do."""

from __future__ import annotations


class FHIRPathError(ValueError):
    """An expression cannot be read, or cannot be evaluated on a resource.

    Parameters
    ----------
    problem
        What is wrong and what to do.
    expression
        The whole expression.
    position
        Index of the offending character in it, from 0.
    """

    def __init__(self, problem: str, expression: str, position: int) -> None:
        super().__init__(f"FHIRPath {expression!r}, character {position + 1}: {problem}")
        self.problem, self.expression, self.position = problem, expression, position

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.problem, self.expression, self.position))
