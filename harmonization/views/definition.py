"""Reading a ViewDefinition (SQL on FHIR v2): every element checked, every mistake named by its place.

The structure is that of the StructureDefinition of ViewDefinition; the rules about columns are those of the function
``ValidateColumns`` of the specification's processing algorithm.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NoReturn, TypeVar

from harmonization.fhirpath import BUILT_IN, Value
from harmonization.views.errors import ViewError

T = TypeVar("T")

_SQL_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_TYPE_PREFIX = "http://hl7.org/fhir/StructureDefinition/"
_TEXT, _FLAG, _WHOLE, _DECIMAL = (str,), (bool,), (int,), (int, float, Decimal)
_CONSTANT_TYPES: dict[str, tuple[str, tuple[type, ...]]] = {
    f"value{kind[0].upper()}{kind[1:]}": (kind, types)
    for types, kinds in {
        _TEXT: "base64Binary canonical code date dateTime id instant oid string time uri url uuid",
        _FLAG: "boolean",
        _WHOLE: "integer integer64 positiveInt unsignedInt",
        _DECIMAL: "decimal",
    }.items()
    for kind in kinds.split()
}
_ITERATIONS = ("forEach", "forEachOrNull", "repeat")
_ANYWHERE = {"id", "extension", "modifierExtension"}
_METADATA = (
    "resourceType meta implicitRules language text contained url identifier version versionAlgorithmString "
    "versionAlgorithmCoding name title status experimental date publisher contact description useContext jurisdiction "
    "purpose copyright copyrightLabel approvalDate lastReviewDate effectivePeriod topic author editor reviewer "
    "endorser relatedArtifact resource resourceVersion profile fhirVersion constant select where"
)
_VIEW = _ANYWHERE | set(_METADATA.split())
_SELECT = _ANYWHERE | {"column", "select", "unionAll", *_ITERATIONS}
_COLUMN = _ANYWHERE | {"name", "path", "type", "collection", "description", "tag"}


@dataclass(frozen=True)
class Column:
    """One column.

    Parameters
    ----------
    name
        Its name, fit for SQL.
    path
        FHIRPath expression of its values.
    type
        FHIR type of its values, without the ``http://hl7.org/fhir/StructureDefinition/`` prefix; None if not declared.
    collection
        Whether a cell is a list of values.
    description
        What it is, in words.
    tags
        Pairs of name and value, e.g. ``("ansi/type", "DATE")``.
    element
        Where in the definition it stands.
    """

    name: str
    path: str
    type: str | None = None
    collection: bool = False
    description: str = ""
    tags: tuple[tuple[str, str], ...] = ()
    element: str = ""


@dataclass(frozen=True)
class Select:
    """A selection structure: what to iterate over, columns, nested selections, and a union of selections.

    At most one of ``for_each``, ``for_each_or_null`` and ``repeat`` is given.
    """

    columns: tuple[Column, ...]
    selects: tuple[Select, ...]
    unions: tuple[Select, ...]
    for_each: str | None
    for_each_or_null: str | None
    repeat: tuple[str, ...]
    element: str

    def all_columns(self) -> Iterator[Column]:
        """Columns in the order of the output: its own, those of nested selections, those of the union."""
        yield from self.columns
        for select in self.selects:
            yield from select.all_columns()
        if self.unions:
            yield from self.unions[0].all_columns()


@dataclass(frozen=True)
class Definition:
    """A ViewDefinition.

    Parameters
    ----------
    name
        Name of the view, ``""`` if it has none.
    resource
        Type of the resources it is about.
    select
        The selection structures at the top, as one.
    where
        Conditions on the resource.
    constants
        What ``%name`` stands for in every expression.
    """

    name: str
    resource: str
    select: Select
    where: tuple[str, ...]
    constants: Mapping[str, Value]


def read_definition(definition: object) -> Definition:
    """Read a ViewDefinition from parsed JSON.

    Raises
    ------
    ViewError
        At the first thing that is not as the specification says, unknown names included.
    """
    return _Reader(definition).view()


class _Reader:
    def __init__(self, definition: object) -> None:
        self.definition = definition
        named = definition.get("name") if isinstance(definition, Mapping) else None
        self.name = named if isinstance(named, str) else ""

    def fail(self, element: str, problem: str) -> NoReturn:
        raise ViewError(problem, self.name, element)

    def view(self) -> Definition:
        view = self.mapping(self.definition, "", _VIEW)
        if view.get("resourceType", "ViewDefinition") != "ViewDefinition":
            self.fail("resourceType", f"it is {view['resourceType']!r}, not a ViewDefinition")
        resource = self.text(view, "resource", "", "the type of resource, e.g. Observation")
        constants: dict[str, Value] = {}
        for i, (name, value) in enumerate(self.each(view, "constant", "", self.constant)):
            if name in constants:
                self.fail(f"constant[{i}].name", f"constant {name!r} is there already; rename one")
            constants[name] = value
        where = tuple(self.each(view, "where", "", self.condition))
        selects = tuple(self.each(view, "select", "", self.select))
        if not selects:
            self.fail("select", "it is missing; give at least one selection with columns")
        top = Select((), selects, (), None, None, (), "select")
        self.check_columns(top, [])
        if not any(True for _ in top.all_columns()):
            self.fail("select", "it has no columns; give at least one")
        return Definition(self.name, resource, top, where, constants)

    # -- parts -----------------------------------------------------------------------------------------------------

    def select(self, given: object, element: str) -> Select:
        select = self.mapping(given, element, _SELECT)
        iterations = [name for name in _ITERATIONS if name in select]
        if len(iterations) > 1:
            self.fail(element, f"it has {' and '.join(iterations)}; only one of them is possible, nest two selections")
        paths = tuple(self.each(select, "repeat", element, self.path))
        if "repeat" in select and not paths:
            self.fail(f"{element}.repeat", "it is empty; give the paths to follow")
        return Select(
            tuple(self.each(select, "column", element, self.column)),
            tuple(self.each(select, "select", element, self.select)),
            tuple(self.each(select, "unionAll", element, self.select)),
            self.path(select["forEach"], f"{element}.forEach") if "forEach" in select else None,
            self.path(select["forEachOrNull"], f"{element}.forEachOrNull") if "forEachOrNull" in select else None,
            paths,
            element,
        )

    def column(self, given: object, element: str) -> Column:
        column = self.mapping(given, element, _COLUMN)
        name = self.sql_name(column, element)
        path = self.text(column, "path", element, "a FHIRPath expression")
        type_ = self.text(column, "type", element, "a FHIR type, e.g. string") if "type" in column else None
        collection = column.get("collection", False)
        if not isinstance(collection, bool):
            self.fail(f"{element}.collection", f"it is {collection!r}; give true or false")
        description = column.get("description", "")
        tags = tuple(self.each(column, "tag", element, self.tag))
        short_type = type_.removeprefix(_TYPE_PREFIX) if type_ is not None else None
        return Column(name, path, short_type, collection, str(description), tags, element)

    def tag(self, given: object, element: str) -> tuple[str, str]:
        tag = self.mapping(given, element, _ANYWHERE | {"name", "value"})
        return self.text(tag, "name", element, "the tag's name"), self.text(tag, "value", element, "the tag's value")

    def condition(self, given: object, element: str) -> str:
        condition = self.mapping(given, element, _ANYWHERE | {"path", "description"})
        return self.text(condition, "path", element, "a FHIRPath condition")

    def constant(self, given: object, element: str) -> tuple[str, Value]:
        constant = self.mapping(given, element, _ANYWHERE | {"name", *_CONSTANT_TYPES})
        name = self.sql_name(constant, element)
        if name in BUILT_IN:
            self.fail(f"{element}.name", f"%{name} is there already; choose another name")
        keys = [key for key in constant if key in _CONSTANT_TYPES]
        if len(keys) != 1:
            found = " and ".join(keys) or "none"
            self.fail(element, f"constant {name!r} needs one value, e.g. valueString; it has {found}")
        kind, types = _CONSTANT_TYPES[keys[0]]
        value = constant[keys[0]]
        if not isinstance(value, types) or (isinstance(value, bool) and types is not _FLAG):
            self.fail(f"{element}.{keys[0]}", f"{value!r} is no {kind}")
        return name, Value(value, kind)

    def path(self, given: object, element: str) -> str:
        if not isinstance(given, str):
            self.fail(element, f"it is {given!r}; give a FHIRPath expression as text")
        return given

    # -- checks ----------------------------------------------------------------------------------------------------

    def check_columns(self, select: Select, before: Sequence[Column]) -> list[Column]:
        """``ValidateColumns(S, C)``: no name twice, and the same columns in all branches of a union."""
        seen = list(before)

        def add(column: Column) -> None:
            if any(column.name == other.name for other in seen):
                self.fail(f"{column.element}.name", f"column {column.name!r} is there already; rename one")
            seen.append(column)

        for column in select.columns:
            add(column)
        for nested in select.selects:
            for column in self.check_columns(nested, seen)[len(seen) :]:
                add(column)
        branches = [self.check_columns(branch, seen)[len(seen) :] for branch in select.unions]
        for branch, columns in zip(select.unions[1:], branches[1:], strict=True):
            self.check_branch(branch, branches[0], columns)
        return seen + branches[0] if branches else seen

    def check_branch(self, branch: Select, first: Sequence[Column], columns: Sequence[Column]) -> None:
        names, expected = [c.name for c in columns], [c.name for c in first]
        if names != expected:
            self.fail(
                branch.element,
                f"its columns are {', '.join(names) or 'none'}, those of the union's first branch "
                f"{', '.join(expected) or 'none'}; a union needs the same names in the same order",
            )
        for column, other in zip(columns, first, strict=True):
            if column.type and other.type and column.type != other.type:
                self.fail(
                    f"{column.element}.type",
                    f"column {column.name!r} is {column.type} here and {other.type} in the union's first branch",
                )
            if column.collection != other.collection:
                self.fail(
                    f"{column.element}.collection",
                    f"column {column.name!r} is a collection in one branch of the union only",
                )

    # -- JSON ------------------------------------------------------------------------------------------------------

    def mapping(self, given: object, element: str, known: set[str]) -> Mapping[str, Any]:
        if not isinstance(given, Mapping):
            self.fail(element, f"it is {given!r}; give an object")
        for key in given:
            if key not in known and not key.startswith("_"):
                self.fail(f"{element}.{key}".strip("."), "there is no such element; is it spelt right?")
        return given

    def each(self, parent: Mapping[str, Any], key: str, element: str, read: Callable[[object, str], T]) -> Iterator[T]:
        items = parent.get(key, [])
        place = f"{element}.{key}".strip(".")
        if not isinstance(items, list):
            self.fail(place, f"it is {items!r}; give a list")
        for i, item in enumerate(items):
            yield read(item, f"{place}[{i}]")

    def text(self, parent: Mapping[str, Any], key: str, element: str, what: str) -> str:
        value = parent.get(key)
        if not isinstance(value, str) or not value.strip():
            said = f"it is {value!r}" if key in parent else "it is missing"
            self.fail(f"{element}.{key}".strip("."), f"{said}; give {what}")
        return value

    def sql_name(self, parent: Mapping[str, Any], element: str) -> str:
        name = self.text(parent, "name", element, "a name")
        if not _SQL_NAME.fullmatch(name):
            self.fail(
                f"{element}.name",
                f"it is {name!r}; a name starts with a letter and has letters, digits and underscores only",
            )
        return name
