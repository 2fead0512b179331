"""Arithmetic on numbers that are known when a spec is read, with its failures as mistakes."""

from __future__ import annotations

import math

from lincodegen.spec.problems import Mistake
from lincodegen.spec.step import Place

Number = int | float

INTEGER_LIMIT = 2**53


def binary(op: str, a: Number, b: Number, place: Place) -> Number:
    """``a op b`` for add, sub, mul, div, floordiv, mod and pow, as Python computes it."""
    try:
        return checked(_binary(op, a, b), place)
    except ZeroDivisionError:
        raise Mistake(place, "a division by zero", "a divisor other than 0") from None
    except (OverflowError, ValueError):
        raise Mistake(place, "a number that is too large", "less than 1.8e308") from None


def unary(op: str, a: Number, place: Place) -> Number:
    """``op(a)`` for neg, sqrt, exp and log."""
    try:
        if op == "neg":
            return -a
        return checked({"sqrt": math.sqrt, "exp": math.exp, "log": math.log}[op](a), place)
    except OverflowError:
        raise Mistake(place, "a number that is too large", "less than 1.8e308") from None
    except ValueError:
        raise Mistake(place, f"`{op}` of {a}", "a number in its domain") from None


def checked(value: object, place: Place) -> Number:
    """A finite real number, an integer of at most 53 bits, or a mistake."""
    if isinstance(value, int) and abs(value) <= INTEGER_LIMIT:
        return int(value)
    if isinstance(value, int):
        raise Mistake(place, "an integer that is too large", "at most 2**53")
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, float):
        raise Mistake(place, "a number that is not finite", "less than 1.8e308")
    raise Mistake(place, "a number that is not real", "a real number")


def _binary(op: str, a: Number, b: Number) -> object:
    match op:
        case "add":
            return a + b
        case "sub":
            return a - b
        case "mul":
            return a * b
        case "div":
            return a / b
        case "floordiv":
            return a // b
        case "mod":
            return a % b
        case _:
            return _power(a, b)


def _power(a: Number, b: Number) -> object:
    """``a ** b``; an integer power is bounded before it is computed."""
    if isinstance(a, int) and isinstance(b, int) and abs(a) > 1 and b > 64:
        raise OverflowError
    return a**b
