"""Long statements of a token program in pieces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from lincodegen.program.token import Statement, TokenProgram
from lincodegen.program.token_names import VIEWS, Names, describe
from lincodegen.program.token_shapes import TOKEN_LEAVES
from lincodegen.spec.step import Node


def split_statements(program: TokenProgram, fits: Callable[[Statement], bool]) -> TokenProgram:
    """The same program with parts of statements that do not fit in statements of their own.

    A statement is halved until it fits or has nothing left to take out.
    """
    arguments = (argument.name for argument in program.inputs)
    names = Names({*arguments, *program.sizes, *(s.name for s in program.statements)})
    names.taken.update(output.name for output in program.outputs)
    done: list[Statement] = []
    todo = list(reversed(program.statements))
    while todo:
        statement = todo.pop()
        part = None if fits(statement) else _middle(statement.value)
        if part is None:
            done.append(statement)
            continue
        name = names.free(describe(part) or "part")
        leaf = Node("value", (), (name,), part.shape)
        todo.append(Statement(statement.name, _replaced(statement.value, part, leaf)))
        todo.append(Statement(name, part))
    return replace(program, statements=tuple(done))


def _middle(node: Node) -> Node | None:
    """The proper part nearest to half of an expression, None where only views are left."""
    parts = [
        part
        for part in node.walk()
        if part is not node and part.op not in TOKEN_LEAVES and part.op not in VIEWS
    ]
    half = _weight(node) / 2
    return min(parts, key=lambda part: abs(_weight(part) - half), default=None)


def _weight(node: Node) -> int:
    return 1 + sum(_weight(arg) for arg in node.args)


def _replaced(node: Node, part: Node, leaf: Node) -> Node:
    if node == part:
        return leaf
    return replace(node, args=tuple(_replaced(arg, part, leaf) for arg in node.args))
