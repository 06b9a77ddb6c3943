"""The errors a user of cohorts and data dictionaries meets, each in the domain's words.

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


class CodeError(ValueError):
    """A code cannot be one of its code system: its form or its check digit is wrong."""


class UnitError(ValueError):
    """A unit of measure cannot be understood or converted, or surely was not meant as it is written.

    Parameters
    ----------
    text
        The unit.
    problem
        What is wrong with it.
    instead
        What to write instead, if that is known.
    """

    def __init__(self, text: str, problem: str, instead: str | None = None) -> None:
        super().__init__(f"unit {text!r} {problem}" + (f"; write {instead!r}" if instead else ""))
        self.text, self.problem, self.instead = text, problem, instead

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.text, self.problem, self.instead))


class DictionaryError(ValueError):
    """A data dictionary is wrong.

    Parameters
    ----------
    problem
        What is wrong and what to do.
    source
        The file.
    feature
        Name of the feature.
    key
        The key in the file.
    value
        The offending value.
    """

    def __init__(
        self,
        problem: str,
        *,
        source: str | None = None,
        feature: str | None = None,
        key: str | None = None,
        value: object = None,
    ) -> None:
        where = [str(source)] if source else []
        where += [f"feature {feature!r}"] if feature is not None else []
        where += [f"key {key!r}"] if key is not None else []
        where += [f"value {value!r}"] if value is not None else []
        super().__init__(f"{', '.join(where)}: {problem}" if where else problem)
        self.source, self.feature, self.key, self.value = source, feature, key, value

    def __reduce__(self) -> tuple[object, ...]:
        fields = {"source": self.source, "feature": self.feature, "key": self.key, "value": self.value}
        return (_restore, (type(self), self.args[0], fields))


def _rebuild(
    kind: type[CohortError], message: str, source: str | None, row: int | None, column: str | None, value: object
) -> CohortError:
    error = kind(message)
    error.source, error.row, error.column, error.value = source, row, column, value
    return error


def _restore(kind: type[DictionaryError], message: str, fields: dict[str, object]) -> DictionaryError:
    error = kind(message)
    error.__dict__.update(fields)
    return error


class ReadingError(ValueError):
    """A source of FHIR resources cannot be read at all: no such file, nothing to read in it.

    Parameters
    ----------
    problem
        What is wrong and what to do.
    source
        The file or directory.
    """

    def __init__(self, problem: str, source: str) -> None:
        super().__init__(f"{source}: {problem}")
        self.problem, self.source = problem, source

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.problem, self.source))


class QuarantineError(ValueError):
    """More resources had to be set aside than a center allows."""


class HarmonizationError(ValueError):
    """No cohort can be made of a source."""
