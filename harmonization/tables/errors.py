"""What is wrong with a mapping, or with a table as a whole. A wrong cell is no error but a `reading.Refusal`."""

from __future__ import annotations


class MappingError(ValueError):
    """A mapping cannot be used, or a table is not as its mapping says.

    Parameters
    ----------
    problem
        What is wrong and what to do.
    source
        The mapping, or the table.
    table
        Name of the table in the mapping.
    column
        Name of the column, or of the row's concept.
    key
        The key in the mapping.
    value
        The offending value.
    """

    def __init__(
        self,
        problem: str,
        *,
        source: str | None = None,
        table: str | None = None,
        column: str | None = None,
        key: str | None = None,
        value: object = None,
    ) -> None:
        where = [str(source)] if source else []
        where += [f"{name} {what!r}" for name, what in (("table", table), ("column", column), ("key", key)) if what]
        where += [f"value {value!r}"] if value is not None else []
        super().__init__(f"{', '.join(where)}: {problem}" if where else problem)
        self.source, self.table, self.column, self.key, self.value = source, table, column, key, value

    def __reduce__(self) -> tuple[object, ...]:
        return (_restore, (type(self), self.args[0], dict(self.__dict__)))


def _restore(kind: type[MappingError], message: str, fields: dict[str, object]) -> MappingError:
    error = kind(message)
    error.__dict__.update(fields)
    return error
