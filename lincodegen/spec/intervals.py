"""Domains and norms: ``[0, 1]``, ``(-inf, 0]``, ends as expressions of constants."""

from __future__ import annotations

import math

from lincodegen.spec import nodes
from lincodegen.spec.constants import constant_value
from lincodegen.spec.document import Scalar
from lincodegen.spec.expressions import Builder, Scope
from lincodegen.spec.names import Names
from lincodegen.spec.problems import Mistake, shortened
from lincodegen.spec.step import Interval, Node, Place
from lincodegen.spec.syntax import parse_expression
from lincodegen.spec.vocabulary import CONSTANT_FUNCTIONS

_EXAMPLE = '`"[0, 1]"`, `"(-inf, 0]"`'
_INFINITE = {"inf": math.inf, "+inf": math.inf, "-inf": -math.inf}


def read_interval(text: Scalar, names: Names) -> Interval:
    """The interval that a domain or norm writes; a mistake where it holds no number."""
    raw = text.text.strip()
    comma = _comma(raw)
    if len(raw) < 5 or raw[0] not in "[(" or raw[-1] not in "])" or comma is None:
        raise Mistake(text.place, f"{shortened(text.text)} is no interval", _EXAMPLE)
    offset = len(text.text) - len(text.text.lstrip())
    low = _end(text, 1, raw[1:comma], offset, names)
    high = _end(text, comma + 1, raw[comma + 1 : -1], offset, names)
    interval = Interval(low, high, raw[0] == "[", raw[-1] == "]")
    closed = interval.includes_low and interval.includes_high
    if low > high or (low == high and not (closed and math.isfinite(low))):
        raise Mistake(text.place, f"{shortened(text.text)} holds no number", "low end <= high end")
    return interval


def _comma(raw: str) -> int | None:
    """The position of the comma between the ends: the one inside no inner bracket."""
    depth = 0
    found: list[int] = []
    for i, character in enumerate(raw):
        depth += (character in "[(") - (character in ")]")
        if character == "," and depth == 1:
            found.append(i)
    return found[0] if len(found) == 1 else None


def _end(text: Scalar, start: int, part: str, offset: int, names: Names) -> float:
    """The number at one end."""
    word = part.strip().replace(" ", "")
    if word in _INFINITE:
        return _INFINITE[word]
    place = text.at(0, offset + start)
    inner = Scalar(part, place, (place,) if text.lines else ())
    expression = parse_expression(inner)

    def value(name: str, at: Place) -> Node:
        if name == "inf":
            raise Mistake(at, "`inf` inside of an expression", "`inf` or `-inf` alone")
        constant_value(names, name, at)
        return names.floats[name] if name in names.floats else constant_value(names, name, at)

    scope = Scope(value, names.size, CONSTANT_FUNCTIONS, "the end of an interval", arrays=False)
    end = nodes.value_of(Builder(expression, scope).node(expression.tree))
    if end is None:
        found = f"{shortened(part)} is not known when the spec is read"
        raise Mistake(place, found, "a number, `inf` or constants that are numbers")
    return float(end)
