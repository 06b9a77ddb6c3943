"""Units of measure: what a UCUM expression means, how it converts, and which ones nobody means as they are written.

The grammar is that of ucumvert; the values are the standard's own tables, which ucumvert ships, kept exact as
fractions. Three things go beyond a conversion by dimensions:

- arbitrary units (``[IU]``) convert to nothing but themselves (UCUM section 3.2), and neither do ``mol``, ``eq`` and
  ``osm``, which UCUM defines as numbers: a count is no amount, an equivalent needs a charge, and mass to amount needs
  the molar mass of a substance;
- units on a scale of their own (``Cel``, ``[pH]``) have no factor;
- what is valid and surely not meant is refused: ``K/uL`` is kelvin, ``G/L`` gauss, ``u/L`` daltons, ``Mg/dL``
  megagrams, and ``mg/24.h`` is (mg/24)·h.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache, lru_cache
from typing import Any

from harmonization.errors import UnitError

Dimensions = tuple[tuple[str, int], ...]
"""Base units and their exponents, sorted, none of them 0."""

_OWN_DIMENSION = ("mol", "eq", "osm")

_PER_VOLUME: Dimensions = (("m", -3),)
_TAKEN_FOR = {
    "K": ("kelvin", "10*3"),
    "G": ("gauss", "10*9"),
    "T": ("tesla", "10*12"),
    "u": ("dalton", "U"),
}
"""Units that per volume are always a count or an activity in another alphabet."""

_HUGE = ("M", "G", "T", "P", "E", "Z", "Y")
_OF_A_LABORATORY = ("g", "l", "L", "mol", "eq", "osm", "U", "kat")
"""With such a prefix these are a matter of upper and lower case."""


@dataclass(frozen=True)
class Unit:
    """A UCUM expression and what it means.

    Parameters
    ----------
    text
        The expression.
    scale
        How many of the base units it is, exactly as in the standard's tables.
    dimensions
        The base units: metre, second, gram, radian, kelvin, coulomb and candela, and beside these mole, equivalent,
        osmole and every arbitrary unit.
    special
        Whether it has a scale of its own, so that no factor converts it.
    """

    text: str
    scale: Fraction
    dimensions: Dimensions
    special: bool = False

    def __mul__(self, other: Unit) -> Unit:
        exponents = dict(self.dimensions)
        for base, exponent in other.dimensions:
            exponents[base] = exponents.get(base, 0) + exponent
        dimensions = tuple(sorted((base, exponent) for base, exponent in exponents.items() if exponent))
        return Unit(f"{self.text}.{other.text}", self.scale * other.scale, dimensions, self.special or other.special)

    def __pow__(self, power: int) -> Unit:
        dimensions = tuple((base, exponent * power) for base, exponent in self.dimensions if power)
        return Unit(f"({self.text}){power}", self.scale**power, dimensions, self.special)


@lru_cache(maxsize=4096)
def parse_unit(text: str) -> Unit:
    """Read a UCUM expression (case-sensitive).

    Parameters
    ----------
    text
        E.g. ``g/dL``, ``10*9/L``.

    Raises
    ------
    UnitError
        If it is not UCUM, or means something that surely was not meant; saying what to write instead.
    """
    try:
        unit = _read(text)
    except UnitError as error:
        raise UnitError(text, error.problem, error.instead or _likely(text)) from None
    if pitfall := _pitfall(unit):
        raise UnitError(text, *pitfall)
    return unit


@lru_cache(maxsize=4096)
def is_ucum(text: str) -> bool:
    """Whether a text is a valid UCUM expression, surely meant or not."""
    try:
        _read(text)
    except UnitError:
        return False
    return True


def _pitfall(unit: Unit) -> tuple[str, str | None] | None:
    """Why a unit surely is not meant, and what to write instead."""
    text = unit.text
    bare = re.sub(r"\{[^}]*\}", "{}", text)  # what stands in braces is a remark: mL/min/{1.73_m2}
    if found := re.search(r"(\d+)\.(\d+)", bare):
        return f"has {found[0]}, which UCUM reads as {found[1]} times {found[2]}; it has no decimal numbers", None
    if found := re.search(r"/(\d+)\.([^/]+)", text):
        number, rest = found.groups()
        right = f"{text[: found.start()]}/({number}.{rest}){text[found.end() :]}"
        return f"divides by {number} and multiplies by {rest}", right
    for prefix, atom in _factors(text):
        if atom in _TAKEN_FOR and (unit * _simple(prefix, atom) ** -1).dimensions == _PER_VOLUME:
            name, instead = _TAKEN_FOR[atom]
            return f"is {prefix and prefix + '-'}{name} per volume", text.replace(prefix + atom, instead, 1)
        if prefix in _HUGE and atom in _OF_A_LABORATORY:
            instead = prefix.lower() if prefix == "M" else ""
            return f"has the prefix {prefix}, a million times or more", text.replace(prefix, instead, 1)
    return None


def factor(source: str, target: str, molar_mass: float | None = None) -> float:
    """What a number in one unit is multiplied by to be in another.

    Parameters
    ----------
    source, target
        UCUM expressions.
    molar_mass
        Of the substance, in g/mol: needed between mass and amount.

    Raises
    ------
    UnitError
        If either is not a unit, or they measure different things, naming both and what each measures.
    """
    a, b = parse_unit(source), parse_unit(target)
    if source == target:
        return 1.0
    for unit in (a, b):
        if unit.special:
            raise UnitError(unit.text, "has a scale of its own: no factor converts it; convert the values")
    if a.dimensions != b.dimensions and molar_mass is not None:
        a, b = (_as_mass(unit, molar_mass) for unit in (a, b))
    if a.dimensions != b.dimensions:
        more = ""
        if {base for base, _ in a.dimensions} ^ {base for base, _ in b.dimensions} == {"g", "mol"}:
            more = "; between mass and amount declare the molar mass of the substance"
        raise UnitError(source, f"({_spell(a)}) cannot be converted to {target!r} ({_spell(b)}){more}")
    return float(a.scale / b.scale)


def _as_mass(unit: Unit, molar_mass: float) -> Unit:
    """The same with moles counted in grams."""
    exponent = dict(unit.dimensions).get("mol", 0)
    grams = Unit("g", Fraction(repr(molar_mass)), (("g", 1), ("mol", -1)))
    return replace(unit * grams**exponent, text=unit.text)


def _spell(unit: Unit) -> str:
    return " ".join(base if exponent == 1 else f"{base}^{exponent}" for base, exponent in unit.dimensions) or "a number"


@lru_cache(maxsize=4096)
def _read(text: str) -> Unit:
    """What an expression means, by the standard alone."""
    return replace(_evaluate(_tree(text), text), text=text)


@cache
def _grammar() -> Callable[[str], Any]:
    from ucumvert import get_ucum_parser, parse_ucum  # a fifth of a second, and not for those who read no units

    parser = get_ucum_parser()
    return lambda text: parse_ucum(text, parser)


@lru_cache(maxsize=4096)
def _tree(text: str) -> Any:
    from lark.exceptions import LarkError

    try:
        return _grammar()(text)
    except LarkError:
        raise UnitError(text, "is not UCUM") from None


def _children(node: Any) -> tuple[str, list[Any]]:
    """A node of the parse tree: its rule and its children; a token has its type and none."""
    return (str(node.data), node.children) if hasattr(node, "data") else (str(node.type), [])


def _evaluate(node: Any, text: str) -> Unit:
    rule, children = _children(node)
    if rule == "ANNOTATION":
        return _ONE
    if rule == "simple_unit":
        *prefix, atom = map(str, children)
        if atom.isdigit():
            return Unit(atom, Fraction(int(atom)), ())
        return _simple("".join(prefix), atom)
    if rule == "annotatable" and len(children) == 2:
        if str(children[0].children[-1]).isdigit():  # 10+3: the grammar lets it pass, the standard does not
            raise UnitError(text, "has a number with an exponent", text.replace("10", "10*", 1))
        return _evaluate(children[0], text) ** int(children[1])
    unit = _ONE
    for exponent, component in _components(node):
        unit *= _evaluate(component, text) ** exponent
    return unit


def _components(node: Any) -> Iterator[tuple[int, Any]]:
    """What a term multiplies and divides by, from left to right (section 7.4: 1/a.b is (1/a).b)."""
    rule, children = _children(node)
    if rule == "main_term" and len(children) == 2:
        (_, first), *rest = _components(children[1])
        yield -1, first
        yield from rest
    elif rule == "term" and len(children) == 3:
        yield from _components(children[0])
        yield (-1 if children[1] == "/" else 1), children[2]
    elif rule in ("main_term", "component", "term"):  # a component's second child is an annotation
        yield 1, children[0]
    else:
        yield 1, node


def _factors(text: str) -> Iterator[tuple[str, str]]:
    """Prefix and atom of every unit in an expression."""
    for node in _tree(text).iter_subtrees():
        if node.data == "simple_unit":
            *prefix, atom = map(str, node.children)
            yield "".join(prefix), atom


_ONE = Unit("1", Fraction(1), ())


@cache
def _tables() -> tuple[Mapping[str, Fraction], Mapping[str, Any], frozenset[str]]:
    """Prefixes, defined units and base units of the standard."""
    from ucumvert import xml_util

    prefixes = {
        prefix.attrib["Code"]: Fraction(value.attrib["value"])
        for prefix in xml_util.root.findall(".//{*}prefix")
        for value in prefix.findall("{*}value")
    }
    units = {unit.code_cs: unit for unit in xml_util.get_units_with_full_definition()}
    return prefixes, units, frozenset(xml_util.get_base_units())


@cache
def _simple(prefix: str, atom: str) -> Unit:
    """A unit with its prefix, by the tables."""
    prefixes, units, base = _tables()
    scale = prefixes[prefix] if prefix else Fraction(1)
    if atom in base or atom in _OWN_DIMENSION:
        return Unit(prefix + atom, scale, ((atom, 1),))
    definition = units[atom]
    if definition.is_special:
        return Unit(prefix + atom, scale, ((atom, 1),), special=True)
    if definition.is_arbitrary and definition.defining_unit == "1":
        return Unit(prefix + atom, scale, ((atom, 1),))
    unit = _read(definition.defining_unit)
    return replace(unit, text=prefix + atom, scale=unit.scale * scale * Fraction(str(definition.conversion_factor)))


_HABITS = (
    (r"[µμ]", "u"),
    (r"\s+", ""),
    (r"³", "3"),
    (r"²", "2"),
    (r"^[x×*](?=10)", ""),
    (r"10[eE^](?=\d)", "10*"),
    (r"^1?[eE](?=\d)", "10*"),
    (r"mmHg", "mm[Hg]"),
    (r"mc(?=[gmLl])", "u"),
    (r"\bIU\b", "[IU]"),
    (r"\bmIU\b", "m[IU]"),
    (r"\bcells?\b", "{cells}"),
    (r"^(K|k|thou|thousand|Tsd\.?|T/)(?=/)", "10*3"),
    (r"^(G|Gpt|Giga|giga)(?=/)", "10*9"),
    (r"^(Mio\.?|million)(?=/)", "10*6"),
    (r"(?<=/)(mm3|cmm|cumm|mmc)\b", "uL"),
    (r"\bgm\b", "g"),
    (r"\bcc\b", "mL"),
    (r"\b(hr|hrs|hour|hours)\b", "h"),
    (r"\b(sec|secs)\b", "s"),
    (r"\b(year|years|yr|yrs)\b", "a"),
    (r"\b(day|days)\b", "d"),
    (r"\bmEq\b", "meq"),
)
"""What hospitals write and UCUM does not know, and what it stands for."""


def _likely(text: str) -> str | None:
    """What an expression that is not UCUM probably stands for, if that is UCUM."""
    rewritten = text
    for habit, standard in _HABITS:
        rewritten = re.sub(habit, standard, rewritten)
    capitals = [text.lower()] if text.isupper() else []
    for candidate in (*capitals, rewritten, rewritten.lower()):
        if candidate and candidate != text:
            try:
                if not _pitfall(_read(candidate)):
                    return candidate
            except UnitError:
                continue
    return None
