"""Numbers: exact decimal arithmetic over what JSON parsers give, and the interval that a decimal's digits stand for.

A JSON parser gives int, float, or Decimal where it is asked to keep digits. Floats are taken at their shortest decimal
spelling, so 0.1 + 0.2 is 0.3; a result is a Decimal if an operand was one, and otherwise a float or int.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal, DivisionByZero, InvalidOperation, Overflow

Number = int | float | Decimal

_EXACT = Context(prec=28, traps=[DivisionByZero, InvalidOperation, Overflow])
_MOST_DIGITS = 28
"""The specification asks for at least 28 digits, of which 8 after the point."""


def is_number(value: object) -> bool:
    """Whether a value is a number; true and false are none."""
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def exact(value: Number) -> Decimal:
    """The decimal that a number is written as."""
    return Decimal(repr(value)) if isinstance(value, float) else Decimal(value)


def calculate(operator: str, a: Number, b: Number) -> Number | None:
    """``+ - * / div mod`` on two numbers; None (empty) for a division by zero or a result out of range.

    ``/`` is always a decimal; ``div`` truncates towards zero, and ``mod`` has the sign of its left operand.
    """
    try:
        if isinstance(a, int) and isinstance(b, int) and operator != "/":
            return _whole(operator, a, b)
        x, y = exact(a), exact(b)
        if operator == "+":
            result = _EXACT.add(x, y)
        elif operator == "-":
            result = _EXACT.subtract(x, y)
        elif operator == "*":
            result = _EXACT.multiply(x, y)
        elif operator == "/":
            result = _EXACT.divide(x, y)
        elif operator == "div":
            return int(_EXACT.divide_int(x, y))
        else:
            result = _EXACT.remainder(x, y)
    except (DivisionByZero, InvalidOperation, Overflow, ZeroDivisionError):
        return None
    return result if isinstance(a, Decimal) or isinstance(b, Decimal) else float(result)


def _whole(operator: str, a: int, b: int) -> int:
    if operator == "+":
        return a + b
    if operator == "-":
        return a - b
    if operator == "*":
        return a * b
    quotient = abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)  # exact, which int(a / b) is not
    return quotient if operator == "div" else a - b * quotient


def decimal_boundary(value: Number, high: bool, precision: int | None, text: str | None = None) -> Number | None:
    """The least or greatest number that a decimal may stand for: half a unit of its last digit away.

    Parameters
    ----------
    value
        The decimal; 1.0 stands for [0.95, 1.05] and 1 for [0.5, 1.5].
    high
        The greatest rather than the least.
    precision
        Digits after the point of the answer, rounded outwards; as many as it takes by default.
    text
        The digits as written, where ``value`` has lost them.

    Returns
    -------
    int | float | Decimal | None
        Of the kind of ``value`` (an int gives a float); None for a precision below 0 or above 28.
    """
    if precision is not None and not 0 <= precision <= _MOST_DIGITS:
        return None
    number = Decimal(text) if text is not None else exact(value)
    exponent = number.as_tuple().exponent
    if not isinstance(exponent, int):  # infinity or not a number
        return None
    half = Decimal(5).scaleb(min(exponent, 0) - 1)
    edge = number + half if high else number - half
    if precision is not None:
        unit = Decimal(1).scaleb(-precision)
        edge = edge.quantize(unit, rounding=ROUND_CEILING if high else ROUND_FLOOR, context=Context(prec=60))
    return edge if isinstance(value, Decimal) else float(edge)
