"""Derived equations as LaTeX."""

from __future__ import annotations

import sympy as sp  # noqa: TC002  (subclassed printer)
from sympy.printing.latex import LatexPrinter

from lincodegen.derive.chunkform import Equation

_STATES = {"S_0": "S_0", "S_end": r"S_{\mathrm{end}}"}


class _Printer(LatexPrinter):
    """Prints a span E(to, from) as a decay matrix with the two points as indices."""

    def _print_Function(self, expr: sp.Expr, exp: str | None = None) -> str:
        to, origin = (self._point(arg) for arg in expr.args)
        return f"E_{{{to},{origin}}}"

    def _point(self, arg: sp.Basic) -> str:
        text = str(arg)
        return r"\mathrm{end}" if text == "end" else text[:1] + (f"_{text[1:]}" if text[1:] else "")

    def _print_Symbol(self, expr: sp.Symbol, style: str = "plain") -> str:
        name = str(expr.name)
        if name in _STATES:
            return _STATES[name]
        letter, _, index = name.partition("_")
        letter = r"\sigma" if letter == "sigma" else letter
        return f"{letter}_{{{index}}}" if index else letter


def equation_latex(equation: Equation) -> str:
    """``left = right`` in LaTeX."""
    printer = _Printer({"mul_symbol": None})
    return f"{printer.doprint(equation.left)} = {printer.doprint(equation.right)}"
