"""What calls and subscripts ask of the builder of the expression that they stand in."""

from __future__ import annotations

import ast
from typing import Protocol

from lincodegen.spec.dims import Dim
from lincodegen.spec.step import Node, Place


class Reader(Protocol):
    """Reads the parts of an expression."""

    def place(self, node: ast.expr | ast.keyword, /) -> Place:
        """Where a part stands in the file."""
        ...

    def node(self, tree: ast.expr) -> Node:
        """A part as a value."""
        ...

    def dim(self, tree: ast.expr) -> Dim:
        """A part as the polynomial of a size."""
        ...

    def integer(self, tree: ast.expr) -> int:
        """A part as an integer known when the spec is read."""
        ...

    def comparison(self, tree: ast.expr) -> tuple[str, Node, Node]:
        """A part as the operator and both sides of a comparison."""
        ...
