"""Expressions of token programs as Triton text on tiles.

A vector is a 1-D tile, a matrix a 2-D tile, padded to powers of two; a value whose axes all
have size 1 is a scalar. Reductions mask padding that is not known to be neutral.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from lincodegen.emit.token_padding import Pad, Pads, pads_of
from lincodegen.emit.token_python import (
    ATOM,
    PRODUCT,
    SIGN,
    SUM,
    Text,
    at_least,
    number_text,
    product_text,
)
from lincodegen.emit.token_tiles import TileAxes, along
from lincodegen.errors import InternalError
from lincodegen.program.token import Statement
from lincodegen.program.token_shapes import ONE, TOKEN_LEAVES
from lincodegen.spec.dims import Dim
from lincodegen.spec.step import Node, Shape

_CALLS = {
    "exp": "tl.exp",
    "log": "tl.log",
    "log1p": "log1p",
    "sigmoid": "tl.sigmoid",
    "logsigmoid": "log_sigmoid",
    "softplus": "softplus",
    "silu": "silu",
    "gelu": "gelu",
    "tanh": "tanh",
    "elu": "elu",
    "abs": "tl.abs",
    "sign": "sign",
    "sqrt": "tl.sqrt",
    "rsqrt": "tl.rsqrt",
    "erf": "tl.erf",
    "finite": "finite",
    "transpose": "tl.trans",
}
"""Functions of one operand; those without a dot are printed into the module."""
_INFIX = {"add": ("+", SUM), "sub": ("-", SUM), "mul": ("*", PRODUCT), "div": ("/", PRODUCT)}


class TileExpressions:
    """Prints expressions of one kernel.

    Args:
        axes: the kernel's axes; those that a text needs are added.
        leaf: the name of the tile that a leaf is loaded into.
        printers: the operations that are more than an infix or a function call.
    """

    def __init__(
        self, axes: TileAxes, leaf: Callable[[Node], str], printers: Mapping[str, Printer]
    ) -> None:
        self._printers = printers
        self.axes = axes
        self.functions: set[str] = set()
        self._leaf = leaf
        self._pads: dict[str, Pads] = {}

    def define(self, statement: Statement) -> str:
        """The text of a statement's value; its padding is remembered."""
        self._pads[statement.name] = self.pads(statement.value)
        return self.print(statement.value)

    def print(self, node: Node) -> str:
        """The expression's text."""
        return self.text(node)[0]

    def text(self, node: Node) -> Text:
        """The expression's text and how strongly it binds."""
        if node.op == "number":
            return number_text(float(str(node.attr[0]))), SIGN
        if node.op == "size":
            dim = node.attr[0]
            return (product_text(dim) if isinstance(dim, Dim) else str(dim)), PRODUCT
        if node.op in TOKEN_LEAVES:
            return self._leaf(node), ATOM
        if node.op in self._printers:
            return self._printers[node.op](self, node)
        if node.op in _INFIX:
            sign, precedence = _INFIX[node.op]
            left = self.operand(node.args[0], node, precedence)
            right = self.operand(node.args[1], node, precedence + 1)
            return f"{left} {sign} {right}", precedence
        if node.op in _CALLS:
            function = _CALLS[node.op]
            if "." not in function:
                self.functions.add(function)
            return f"{function}({self.print(node.args[0])})", ATOM
        raise InternalError(f"{node.op!r} has no Triton text")

    def operand(self, node: Node, result: Node, precedence: int) -> str:
        """An operand with axes put in front as the result's rank asks for."""
        text = self.text(node)
        if len(node.shape) < len(result.shape) and not self.is_scalar(node):
            return f"{at_least(text, ATOM)}[None, :]"
        return at_least(text, precedence)

    def is_scalar(self, node: Node) -> bool:
        """Whether the value is no tile."""
        return all(size == ONE for size in node.shape)

    def pads(self, node: Node) -> Pads:
        """What stands in the padding of a value."""
        if node.op == "value":
            return self._pads.get(str(node.attr[0]), (Pad.ZERO,) * len(node.shape))
        return pads_of(node, self.pads)

    def masked(self, node: Node, axes: list[int], other: str = "0.0") -> str:
        """A tile with ``other`` in the padding of some axes, where it may hold something else."""
        pads = self.pads(node)
        wrong = [a for a in axes if pads[a] is not Pad.ZERO or other != "0.0"]
        mask = self.axes.mask_text(node.shape, wrong)
        text = self.print(node)
        return f"tl.where({mask}, {text}, {other})" if mask else text

    def column(self, node: Node) -> str:
        """A vector along the rows of a matrix."""
        return f"{at_least(self.text(node), ATOM)}[:, None]"

    def row(self, node: Node) -> str:
        """A vector along the columns of a matrix."""
        return f"{at_least(self.text(node), ATOM)}[None, :]"

    def offsets(self, shape: Shape, position: int) -> str:
        """The offsets of one axis, laid along it."""
        return along(self.axes.axis(shape[position]).offsets, position, len(shape))


Printer: TypeAlias = Callable[[TileExpressions, Node], Text]
