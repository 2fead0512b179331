"""Single changes of emitted kernels: an operator, a sign, a mask, an offset, a decay's point.

Changes that could address memory outside a tensor are left out: their effect on a host is chance.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass

_INDEX = re.compile(r"(i|o|p|s|t|row|m)_\w+|row")
_MASK = re.compile(r"m_\w+")
LOADS = ("tl.load", "load_rows")


@dataclass(frozen=True)
class Mutant:
    """A module's text with one change: ``line`` became ``changed`` in ``kernel``."""

    kernel: str
    what: str
    line: str
    changed: str
    text: str

    def __str__(self) -> str:
        return f"{self.kernel}: {self.what}\n  was  {self.line}\n  is   {self.changed}"


def mutants(text: str) -> Iterator[Mutant]:
    """Every change of every kernel of a module, in the order of the text."""
    lines = text.splitlines(keepends=True)
    for function in ast.parse(text).body:
        if not isinstance(function, ast.FunctionDef) or not function.decorator_list:
            continue
        for statement in _statements(function):
            old = ast.unparse(statement)
            for what, index in _sites(statement):
                changed = deepcopy(statement)
                _apply(changed, what, index)
                new = ast.unparse(changed)
                if new != old:
                    yield Mutant(function.name, what, old, new, _replaced(lines, statement, new))


def _replaced(lines: list[str], statement: ast.stmt, new: str) -> str:
    """The text with other words for one statement, which has its lines to itself."""
    first, last = statement.lineno - 1, statement.end_lineno
    return "".join([*lines[:first], " " * statement.col_offset, new, "\n", *lines[last:]])


def _statements(function: ast.FunctionDef) -> list[ast.stmt]:
    return [s for s in ast.walk(function) if isinstance(s, ast.Assign | ast.AugAssign)]


def _nodes(statement: ast.stmt) -> list[ast.AST]:
    """The nodes of a value, but for addresses and masks of loads."""
    found: list[ast.AST] = []
    todo: list[ast.AST] = [statement.value]  # type: ignore[attr-defined]
    while todo:
        node = todo.pop(0)
        found.append(node)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in LOADS:
            continue
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith((".to", "arange")):
            todo.append(node.func)
            continue
        todo.extend(ast.iter_child_nodes(node))
    return found


def _sites(statement: ast.stmt) -> Iterator[tuple[str, int]]:
    """(kind of change, index among the nodes)."""
    target = ast.unparse(
        statement.targets[0] if isinstance(statement, ast.Assign) else statement.target  # type: ignore[attr-defined]
    )
    if isinstance(statement, ast.AugAssign):
        yield "accumulation dropped", -1
    index = bool(_INDEX.fullmatch(target)) or target.startswith(("NT", "(", "dtype"))
    for i, node in enumerate(_nodes(statement)):
        match node:
            case ast.BinOp(op=ast.Add()) if index:
                if not target.startswith("("):
                    yield "offset dropped", i
            case ast.BinOp(op=ast.Add()):
                yield "+ to -", i
            case ast.BinOp(op=ast.Sub()) if not index:
                yield "- to +", i
            case ast.BinOp(op=ast.Mult()) if not index:
                yield "factor dropped", i
            case ast.UnaryOp(op=ast.USub()) if not isinstance(node.operand, ast.Constant):
                yield "sign dropped", i
            case ast.Compare() if _MASK.fullmatch(target):
                yield "bound moved", i
            case ast.Call(func=ast.Attribute(attr="where")) if not index:
                yield "mask dropped", i
            case ast.Call(func=ast.Attribute(attr="exp2")):
                yield "decay dropped", i
            case ast.Call(func=ast.Attribute(attr="cumsum")) if node.keywords:
                yield "direction turned", i
            case ast.Call(func=ast.Attribute(attr="trans")):
                yield "transpose dropped", i


def _apply(statement: ast.stmt, what: str, index: int) -> None:
    if index < 0:
        # x += y - x: only the last pass counts
        own = ast.Name(statement.target.id, ast.Load())  # type: ignore[attr-defined]
        statement.value = ast.BinOp(statement.value, ast.Sub(), own)  # type: ignore[attr-defined]
        return
    node = _nodes(statement)[index]
    match what:
        case "+ to -":
            node.op = ast.Sub()  # type: ignore[attr-defined]
        case "- to +":
            node.op = ast.Add()  # type: ignore[attr-defined]
        case "offset dropped" | "factor dropped":
            _become(statement, node, node.left)  # type: ignore[attr-defined]
        case "sign dropped":
            _become(statement, node, node.operand)  # type: ignore[attr-defined]
        case "bound moved":
            _move_bound(node)  # type: ignore[arg-type]
        case "mask dropped":
            _become(statement, node, node.args[1])  # type: ignore[attr-defined]
        case "decay dropped":
            node.args[0] = ast.BinOp(node.args[0], ast.Mult(), ast.Constant(0.0))  # type: ignore[attr-defined]
        case "direction turned":
            node.keywords = []  # type: ignore[attr-defined]
        case "transpose dropped":
            _become(statement, node, node.args[0])  # type: ignore[attr-defined]


def _move_bound(node: ast.Compare) -> None:
    """>= and > exchanged between rows; the last row or channel cut off at an end."""
    swapped = {ast.GtE: ast.Gt, ast.Gt: ast.GtE}
    kind = type(node.ops[0])
    if kind in swapped:
        node.ops[0] = swapped[kind]()
    else:
        node.left = ast.BinOp(node.left, ast.Add(), ast.Constant(1))


def _become(statement: ast.stmt, node: ast.AST, new: ast.AST) -> None:
    """Puts a node in the place of another one below a statement."""
    for parent in ast.walk(statement):
        for name, value in ast.iter_fields(parent):
            if value is node:
                setattr(parent, name, new)
                return
            if isinstance(value, list) and any(x is node for x in value):
                setattr(parent, name, [new if x is node else x for x in value])
                return
