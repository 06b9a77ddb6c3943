"""The errors a user of cohorts meets, each in the domain's words.

Every message names where the trouble is (file, row, column), the value, and what to do about it.
"""

from __future__ import annotations


class CohortError(ValueError):
    """A table cannot become a cohort: some value breaks its schema.

    Parameters
    ----------
    problem
        What is wrong and what to do.
    source
        File or other origin of the table.
    row
        1-based row of the first offending patient (the header is not counted).
    column
        Column name.
    value
        The offending value.
    """

    def __init__(
        self,
        problem: str,
        *,
        source: str | None = None,
        row: int | None = None,
        column: str | None = None,
        value: object = None,
    ) -> None:
        where = [str(source)] if source else []
        if row is not None:
            where.append(f"row {row}")
        if column is not None:
            where.append(f"column {column!r}")
        if value is not None:
            where.append(f"value {value!r}")
        super().__init__(f"{', '.join(where)}: {problem}" if where else problem)
        self.source, self.row, self.column, self.value = source, row, column, value

    def __reduce__(self) -> tuple[object, ...]:  # keyword-only arguments do not survive the default pickling
        return (_rebuild, (type(self), self.args[0], self.source, self.row, self.column, self.value))


class SchemaError(CohortError):
    """A schema file is wrong, or two centers' schemas differ and so cannot train together."""


def _rebuild(
    kind: type[CohortError], message: str, source: str | None, row: int | None, column: str | None, value: object
) -> CohortError:
    error = kind(message)
    error.source, error.row, error.column, error.value = source, row, column, value
    return error
