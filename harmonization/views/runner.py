"""Running a ViewDefinition over resources: compiled once, then one call per resource gives its rows.

The processing algorithm of the specification, with its nouns: a *selection structure* is evaluated at *foci* (the
items of ``forEach``, ``forEachOrNull`` or ``repeat``, or the node itself); at each focus the rows of its columns,
nested selections and union are combined as a Cartesian product. Everything that depends on the definition alone is
decided when the view is compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from typing import Any

from harmonization.fhirpath import Environment, FHIRPathError, Many, Path, Truth, compile_path
from harmonization.fhirpath.elements import PRIMITIVES
from harmonization.views.definition import Column, Definition, Select, read_definition
from harmonization.views.errors import ViewError

Row = dict[str, Any]
Rows = Callable[[Any, Environment], list[Row]]
"""From a node and (resource, row index) to rows."""

_WHOLE = frozenset({"integer", "integer64", "positiveInt", "unsignedInt"})
_JSON_TYPES: dict[str, frozenset[type]] = {
    **dict.fromkeys(PRIMITIVES, frozenset({str})),
    **dict.fromkeys(_WHOLE, frozenset({int})),
    "boolean": frozenset({bool}),
    "decimal": frozenset({int, float, Decimal}),
}
"""What JSON has for each primitive type; all other types are objects."""
_PRIMITIVE: frozenset[type] = frozenset({bool, int, float, Decimal, str})
_OBJECT: frozenset[type] = frozenset({dict})


class View:
    """A ViewDefinition, ready to run.

    Parameters
    ----------
    definition
        The definition, read and checked.

    Attributes
    ----------
    columns : tuple of Column
        In the order of the output.

    Raises
    ------
    ViewError
        If an expression in the definition cannot be compiled.
    """

    def __init__(self, definition: Definition) -> None:
        self.definition = definition
        self.name, self.resource = definition.name, definition.resource
        self.columns: tuple[Column, ...] = tuple(definition.select.all_columns())
        self._where = [self._condition(path, f"where[{i}].path") for i, path in enumerate(definition.where)]
        self._rows = self._select(definition.select)

    def __reduce__(self) -> tuple[object, ...]:  # closures cannot be sent to another process; it compiles its own
        return (View, (self.definition,))

    def rows(self, resource: dict[str, Any]) -> list[Row]:
        """The rows of one resource: column name to value.

        Parameters
        ----------
        resource
            As parsed from JSON. A resource of another type than the view's has no rows.

        Returns
        -------
        list of dict
            A value is as in JSON (str, bool, int, float, Decimal, dict), a list of such for a collection, or None.

        Raises
        ------
        ViewError
            If a column that is no collection has several values, a value is not of the column's type, or a ``where``
            is not boolean; it names the column and the resource.
        """
        if resource.get("resourceType") != self.resource:
            return []
        environment = (resource, 0)
        try:
            for condition in self._where:
                if not condition(resource, environment):
                    return []
            return self._rows(resource, environment)
        except ViewError as error:
            place = f"{self.resource}/{resource.get('id', '?')}"
            raise ViewError(error.problem, self.name, error.element, place) from None

    def run(self, resources: Iterable[dict[str, Any]]) -> Iterator[Row]:
        """The rows of many resources, one after the other."""
        for resource in resources:
            yield from self.rows(resource)

    # -- compiling -------------------------------------------------------------------------------------------------

    def _compile(self, path: str, element: str) -> Path:
        try:
            return compile_path(path, self.definition.constants)
        except FHIRPathError as error:
            raise ViewError(str(error), self.name, element) from None

    def _condition(self, path: str, element: str) -> Truth:
        """A condition of the view, which unlike others in FHIRPath must be boolean."""
        one = self._compile(path, element).one

        def condition(node: Any, environment: Environment) -> bool | None:
            try:
                kept = one(node, environment)
            except FHIRPathError as error:
                raise ViewError(str(error), element=element) from None
            if kept is None or isinstance(kept, bool):
                return kept
            raise ViewError(f"the condition gives {kept!r}; it must be true or false", element=element)

        return condition

    def _select(self, select: Select) -> Rows:
        """Rows of a selection structure: ``Process(S, N)`` of the specification."""
        at_focus = self._at_focus(select)
        if select.repeat:
            return self._iterate(self._repeat(select), at_focus, f"{select.element}.repeat")
        if select.for_each is not None:
            element = f"{select.element}.forEach"
            return self._iterate(self._compile(select.for_each, element).many, at_focus, element)
        if select.for_each_or_null is not None:
            element = f"{select.element}.forEachOrNull"
            nothing = {c.name: 0 if c.path.strip() == "%rowIndex" else None for c in select.all_columns()}
            return self._iterate(self._compile(select.for_each_or_null, element).many, at_focus, element, nothing)
        return at_focus

    def _iterate(self, foci: Many, at_focus: Rows, element: str, nothing: Row | None = None) -> Rows:
        """Rows at every focus; where there is none, the row ``nothing`` if it is given."""

        def rows(node: Any, environment: Environment) -> list[Row]:
            try:
                found = foci(node, environment)
            except FHIRPathError as error:
                raise ViewError(str(error), element=element) from None
            except RecursionError:
                raise ViewError("its paths come to no end; do they lead back?", element=element) from None
            if not found and nothing is not None:
                return [nothing.copy()]
            resource = environment[0]
            return [row for i, focus in enumerate(found) for row in at_focus(focus, (resource, i))]

        return rows

    def _repeat(self, select: Select) -> Many:
        """All nodes that the paths reach, again and again, each before those below it."""
        paths = [self._compile(p, f"{select.element}.repeat[{i}]").many for i, p in enumerate(select.repeat)]

        def reach(node: Any, environment: Environment, found: list[Any]) -> None:
            for path in paths:
                for child in path(node, environment):
                    found.append(child)
                    reach(child, environment, found)

        def foci(node: Any, environment: Environment) -> list[Any]:
            found: list[Any] = []
            reach(node, environment, found)
            return found

        return foci

    def _at_focus(self, select: Select) -> Rows:
        """Rows at one focus: the product of its columns, nested selections and union."""
        cells = [(column.name, self._cell(column), _json_types(column), column) for column in select.columns]
        parts = [self._select(nested) for nested in select.selects]
        if select.unions:
            branches = [self._select(branch) for branch in select.unions]
            parts.append(lambda node, environment: [row for rows in branches for row in rows(node, environment)])

        def at_focus(node: Any, environment: Environment) -> list[Row]:
            row: Row = {}
            column = None
            try:
                for name, read, types, column in cells:
                    value = row[name] = read(node, environment)
                    if value is not None and type(value) not in types:
                        _check(value, column)
            except FHIRPathError as error:
                raise _cell_error(error, column) from None
            rows = [row]
            for part in parts:
                found = part(node, environment)
                rows = [{**a, **b} for a in rows for b in found]
            return rows

        return at_focus

    def _cell(self, column: Column) -> Callable[[Any, Environment], Any]:
        path = self._compile(column.path, f"{column.element}.path")
        return path.many if column.collection else path.one


def _json_types(column: Column) -> frozenset[type]:
    """What a cell may be without a closer look."""
    return frozenset() if column.collection else _declared(column)


def _declared(column: Column) -> frozenset[type]:
    return _PRIMITIVE if column.type is None else _JSON_TYPES.get(column.type, _OBJECT)


def _check(value: Any, column: Column) -> None:
    types = _declared(column)
    for one in value if column.collection else (value,):
        if type(one) not in types:
            raise ViewError(f"column {column.name!r} {_mismatch(one, column.type)}", element=column.element)


def _cell_error(error: FHIRPathError, column: Column | None) -> ViewError:
    assert column is not None
    hint = "; or set collection to true" if " where one is needed" in error.problem and not column.collection else ""
    return ViewError(f"column {column.name!r}: {error}{hint}", element=column.element)


def _mismatch(value: Any, declared: str | None) -> str:
    if declared is None:
        return "gives an object; declare its type, or take a part of it"
    found = "an object" if isinstance(value, dict) else repr(value)
    return f"is declared {declared} and gives {found}; correct the type or the path"


def compile_view(definition: object) -> View:
    """Compile a ViewDefinition of SQL on FHIR v2.

    Parameters
    ----------
    definition
        The ViewDefinition as parsed from JSON.

    Returns
    -------
    View
        With ``columns``, and ``rows(resource)``.

    Raises
    ------
    ViewError
        If the definition is not as the specification says; it names the place.
    """
    return View(read_definition(definition))
