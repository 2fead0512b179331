"""Python text as a formatter leaves it: numbers, sizes, slices, powers, wrapped lists."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TypeAlias

from lincodegen.spec.dims import Dim

WIDTH = 100
TERNARY, COMPARISON, SUM, PRODUCT, SIGN, POWER, ATOM = range(7)
"""How strongly Python text binds."""
Text: TypeAlias = tuple[str, int]
"""An expression's text and how strongly it binds."""
_SIMPLE = re.compile(r"[A-Za-z_][\w.]*|\d[\d.]*(e-?\d+)?")


def number_text(value: float) -> str:
    """A literal; infinities through ``float``."""
    if math.isinf(value) or math.isnan(value):
        return f'float("{value}")'
    return re.sub(r"e([-+])0*(\d)", lambda m: "e" + m[1].replace("+", "") + m[2], repr(value))


def size_text(dim: Dim) -> str:
    """A dimension polynomial as an integer expression: ``1 + K + K * K``."""
    text = ""
    for monomial, count in dim.terms:
        factors = [*([] if abs(count) == 1 and monomial else [str(abs(count))]), *monomial]
        sign = ("-" if count < 0 else "") if not text else (" - " if count < 0 else " + ")
        text += sign + " * ".join(factors)
    return text or "0"


def product_text(dim: Dim) -> str:
    """A dimension polynomial as a factor: bracketed where it is a sum."""
    text = size_text(dim)
    return f"({text})" if len(dim.terms) > 1 else text


def power_text(base: str, exponent: str) -> str:
    """``base ** exponent``, without spaces between simple operands."""
    hugged = _SIMPLE.fullmatch(base) and _SIMPLE.fullmatch(exponent.removeprefix("-"))
    return f"{base}**{exponent}" if hugged else f"{base} ** {exponent}"


def slice_text(start: Dim, stop: Dim, size: Dim) -> str:
    """``start:stop`` of an axis, ends that are the axis's own left out."""
    low = "" if start == Dim.of(0) else size_text(start)
    high = "" if stop == size else size_text(stop)
    if all(_SIMPLE.fullmatch(end) for end in (low, high) if end):
        return f"{low}:{high}"
    return f"{low} :{high}".replace(":", ": ").strip()


def wrapped(head: str, items: Sequence[str], tail: str, indent: str = "") -> str:
    """``head`` + items + ``tail`` on one line, on three, or one item a line.

    Args:
        head: text up to and with the opening bracket, without indent.
        items: what stands in the brackets.
        tail: text from the closing bracket on.
        indent: leading blanks of the first and the last line.
    """
    line = f"{indent}{head}{', '.join(items)}{tail}"
    if len(line) <= WIDTH:
        return line
    inner = f"{indent}    {', '.join(items)}"
    if len(inner) <= WIDTH:
        return f"{indent}{head}\n{inner}\n{indent}{tail}"
    rows = "".join(f"{indent}    {item},\n" for item in items)
    return f"{indent}{head}\n{rows}{indent}{tail}"


def at_least(text: Text, precedence: int) -> str:
    """Text that binds as ``precedence`` does, bracketed where it binds weaker."""
    return text[0] if text[1] >= precedence else f"({text[0]})"


def result_text(results: Sequence[str], indent: str = "    ") -> str:
    """A return statement, one result a line where they do not fit on one."""
    line = f"{indent}return {', '.join(results)}"
    if len(line) <= WIDTH or len(results) == 1:
        return line
    rows = "".join(f"{indent}    {result},\n" for result in results)
    return f"{indent}return (\n{rows}{indent})"


def assignment_text(targets: Sequence[str], function: str, args: Sequence[str], indent: str) -> str:
    """``targets = function(args)``, broken where it does not fit on one line."""
    left = f"{', '.join(targets)} = {function}("
    if len(indent + left) <= WIDTH:
        return wrapped(left, args, ")", indent)
    rows = "".join(f"{indent}    {target},\n" for target in targets)
    return f"{indent}(\n{rows}" + wrapped(f") = {function}(", args, ")", indent)


def words(text: str) -> frozenset[str]:
    """The names that occur in a text, attributes left out."""
    return frozenset(re.findall(r"(?<![.\w])[A-Za-z_]\w*", text))
