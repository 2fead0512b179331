"""Syntax trees to expression nodes, through a whitelist of what the spec language has."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass

from lincodegen.spec import nodes
from lincodegen.spec.calls import CALLS
from lincodegen.spec.dims import Dim
from lincodegen.spec.folding import checked
from lincodegen.spec.polynomials import Sizes, integer, polynomial
from lincodegen.spec.problems import Mistake
from lincodegen.spec.step import Node, Place
from lincodegen.spec.subscripts import subscript
from lincodegen.spec.syntax import Expression, Statement
from lincodegen.spec.vocabulary import unknown_function

_OPERATORS: dict[type[ast.operator], str] = {
    ast.Add: "add",
    ast.Sub: "sub",
    ast.Mult: "mul",
    ast.Div: "div",
    ast.FloorDiv: "floordiv",
    ast.Mod: "mod",
    ast.Pow: "pow",
}
_COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Eq: "==",
    ast.NotEq: "!=",
}


@dataclass(frozen=True, slots=True)
class Scope:
    """What an expression may say: its names as values and as sizes, and its functions.

    ``arrays`` tells that there are vectors and matrices: ``@ .T``, indices and slices.
    """

    value: Callable[[str, Place], Node]
    size: Sizes
    functions: frozenset[str]
    where: str
    arrays: bool


class Builder:
    """Builds the nodes of the expressions of one text in one scope."""

    def __init__(self, text: Expression | Statement, scope: Scope) -> None:
        self.place = text.place
        self.scope = scope

    def node(self, tree: ast.expr) -> Node:
        """The node of an expression, with its shape."""
        match tree:
            case ast.Constant(value=value):
                return self._literal(value, self.place(tree))
            case ast.Name(id=name):
                return self.scope.value(name, self.place(tree))
            case ast.UnaryOp(op=op, operand=operand):
                return self._unary(op, operand, self.place(tree))
            case ast.BinOp(left=left, op=op, right=right):
                return self.binary(self.node(left), op, self.node(right), self.place(tree))
            case ast.Call():
                return self._call(tree)
            case ast.Attribute() | ast.Subscript() if self.scope.arrays:
                return self._array(tree)
            case ast.Compare():
                hint = "`where(a < b, x, y)`"
                raise Mistake(self.place(tree), "a comparison outside of `where`", hint=hint)
            case _:
                raise self._unknown(tree)

    def dim(self, tree: ast.expr) -> Dim:
        """The polynomial of a size or of the bound of a slice."""
        return polynomial(tree, self.place, self.scope.size)

    def integer(self, tree: ast.expr) -> int:
        """The value of an index, an axis or the bound of a range."""
        return integer(tree, self.place, self.scope.size)

    def comparison(self, tree: ast.expr) -> tuple[str, Node, Node]:
        """The operator and both sides of the one comparison that `where` takes."""
        place = self.place(tree)
        if not isinstance(tree, ast.Compare):
            raise Mistake(place, "`where` without a comparison", "`where(a < b, x, y)`")
        symbol = _COMPARISONS.get(type(tree.ops[0]))
        if len(tree.ops) != 1 or symbol is None:
            raise Mistake(place, "this comparison", "one of `< <= > >= == !=`, once")
        return symbol, self.node(tree.left), self.node(tree.comparators[0])

    def binary(self, a: Node, op: ast.operator, b: Node, place: Place) -> Node:
        """The node of ``a op b``."""
        if isinstance(op, ast.MatMult) and self.scope.arrays:
            return nodes.product(a, b, place)
        name = _OPERATORS.get(type(op))
        if name is None:
            expected = "`+ - * / **`" + (" and `@`" if self.scope.arrays else "")
            raise Mistake(place, "an operator that the spec language does not have", expected)
        integral = name in ("floordiv", "mod")
        if integral and self.scope.arrays and not (a.op == b.op == "number"):
            raise Mistake(place, "`//` and `%` of tensors", "integers known when the spec is read")
        return nodes.binary(name, a, b, place)

    def _literal(self, value: object, place: Place) -> Node:
        if isinstance(value, complex):
            raise Mistake(place, "complex numbers are not yet supported")
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise Mistake(place, f"`{value}` is no number", "a number")
        return nodes.number(checked(value, place), place)

    def _unary(self, op: ast.unaryop, operand: ast.expr, place: Place) -> Node:
        if isinstance(op, ast.USub):
            return nodes.unary("neg", self.node(operand), place)
        if isinstance(op, ast.UAdd):
            return self.node(operand)
        raise Mistake(place, "an operator that the spec language does not have", "`-x`")

    def _call(self, tree: ast.Call) -> Node:
        place = self.place(tree)
        if not isinstance(tree.func, ast.Name):
            hint = "`.T` and `x[i]` are all that a value has; functions stand alone: `exp(x)`"
            raise Mistake(place, "a call of something that is no function name", hint=hint)
        name = tree.func.id
        if name not in self.scope.functions:
            raise unknown_function(name, place, self.scope.functions, self.scope.where)
        return CALLS[name](self, name, tree, place)

    def _array(self, tree: ast.Attribute | ast.Subscript) -> Node:
        operand = self.node(tree.value)
        if isinstance(tree, ast.Subscript):
            return subscript(self, operand, tree)
        if tree.attr != "T":
            raise Mistake(self.place(tree), f"the attribute `.{tree.attr}`", "`.T`")
        return nodes.transpose(operand, self.place(tree))

    def _unknown(self, tree: ast.expr) -> Mistake:
        kinds: dict[type[ast.expr], str] = {
            ast.BoolOp: "`and` and `or`",
            ast.IfExp: "`x if c else y`",
            ast.Lambda: "a lambda",
            ast.NamedExpr: "an assignment inside an expression",
            ast.Attribute: "an attribute",
            ast.Subscript: "an index",
            ast.List: "a list",
            ast.Tuple: "a tuple",
            ast.Starred: "`*` without a left operand",
        }
        found = kinds.get(type(tree), "an expression that the spec language lacks,")
        hint = "`where(a < b, x, y)`" if isinstance(tree, (ast.IfExp, ast.BoolOp)) else ""
        return Mistake(
            self.place(tree), f"{found} in {self.scope.where}", "numbers, names, calls", hint
        )
