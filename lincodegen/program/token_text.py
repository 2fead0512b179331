"""Expressions of token programs as one line of mathematics, for ``show`` and for messages."""

from __future__ import annotations

from lincodegen.program.token_shapes import TOKEN_LEAVES
from lincodegen.spec.step import Node

_INFIX = {"add": "+", "sub": "-", "mul": "*", "div": "/", "matmul": "@"}


def node_text(node: Node) -> str:
    """The expression in the notation of the spec, every operation bracketed."""
    if node.op in TOKEN_LEAVES:
        return str(node.attr[0])
    args = [node_text(arg) for arg in node.args]
    if node.op in _INFIX:
        return f"({args[0]} {_INFIX[node.op]} {args[1]})"
    if node.op == "neg":
        return f"-{args[0]}"
    if node.op == "pow":
        return f"{args[0]} ** {node.attr[0]}"
    if node.op == "transpose":
        return f"{args[0]}.T"
    if node.op == "where":
        return f"where({args[0]} {node.attr[0]} {args[1]}, {args[2]}, {args[3]})"
    return f"{node.op}({', '.join([*args, *map(str, node.attr)])})"
