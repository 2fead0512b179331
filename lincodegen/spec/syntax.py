"""Expressions and token programs to Python syntax trees, each statement on its own.

Nothing is compiled or run: ``ast.parse`` alone, on text whose characters, length and size
have been checked before. The program is cut into logical lines here, so that a mistake in
one line leaves the others readable and that every node keeps its place in the file.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lincodegen.spec.document import Scalar
from lincodegen.spec.problems import Mistake, Problems, shortened
from lincodegen.spec.step import Place

MAX_CHARACTERS = 512
MAX_EXPRESSION_NODES = 200
MAX_NESTED_LOOPS = 8

_STRANGE = re.compile(r"[^ -~\n]|[\"'\\`$?]")
_OPENING = "([{"
_CLOSING = ")]}"


@dataclass(frozen=True, slots=True)
class Expression:
    """A syntax tree and the text that it was read from."""

    tree: ast.expr
    text: Scalar

    def place(self, node: ast.expr | ast.stmt | ast.keyword) -> Place:
        """Where a node of the tree stands in the file."""
        return self.text.at(node.lineno - 1, node.col_offset)


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement of the program; ``body`` holds what is indented below a header."""

    tree: ast.stmt
    body: tuple[Statement, ...]
    text: Scalar

    def place(self, node: ast.expr | ast.stmt | ast.keyword) -> Place:
        """Where a node of the statement stands in the file."""
        return self.text.at(node.lineno - 1, node.col_offset)


@dataclass(frozen=True, slots=True)
class Program:
    """The statements of a step; ``complete`` unless a mistaken line is left out."""

    statements: tuple[Statement, ...]
    complete: bool


@dataclass(frozen=True, slots=True)
class _Line:
    """A logical line: its text without indentation and comments, and where it starts."""

    number: int
    indent: int
    text: str


def parse_expression(text: Scalar) -> Expression:
    """The syntax tree of one expression; raises Mistake where it is none or too large."""
    if not text.text.strip():
        raise Mistake(text.place, "an empty expression", "a number or an expression")
    indent = len(text.text) - len(text.text.lstrip())
    body = _parse(text, _Line(0, indent, text.text.strip())).body
    if len(body) != 1 or not isinstance(body[0], ast.Expr):
        place = text.at(0, indent)
        raise Mistake(place, f"{shortened(text.text)} is no expression", "one expression")
    _check_size(body[0].value, text)
    return Expression(body[0].value, text)


def parse_program(text: Scalar, problems: Problems) -> Program:
    """The statements of a step; mistaken lines are recorded and left out."""
    before = len(problems)
    if text.text.strip() and not text.lines:
        found = "the step is folded, so that its lines are lost"
        raise Mistake(text.place, found, "a literal block: `step: |`")
    lines = list(_logical_lines(text, problems))
    statements, rest = _block(text, lines, 0, problems)
    while rest < len(lines):
        found = "this line is indented less than the first line of the step"
        problems.add(Mistake(text.at(lines[rest].number, lines[rest].indent), found))
        more, rest = _block(text, lines, rest, problems)
        statements += more
    return Program(statements, len(problems) == before)


def _logical_lines(text: Scalar, problems: Problems) -> Iterator[_Line]:
    pending: list[str] = []
    first = depth = 0
    for number, raw in enumerate(text.text.split("\n")):
        code = raw.split("#", 1)[0].rstrip()
        if not pending:
            first = number
        if not code.strip() and not pending:
            continue
        pending.append(code)
        depth += sum(code.count(c) for c in _OPENING) - sum(code.count(c) for c in _CLOSING)
        if depth <= 0:
            yield _logical_line(first, pending)
            pending, depth = [], 0
    if pending:
        line = _logical_line(first, pending)
        problems.add(Mistake(text.at(first, line.indent), "a bracket that is never closed"))


def _logical_line(number: int, parts: Sequence[str]) -> _Line:
    joined = "\n".join(parts)
    stripped = joined.lstrip()
    return _Line(number, len(joined) - len(stripped), stripped)


def _block(
    text: Scalar, lines: Sequence[_Line], start: int, problems: Problems, depth: int = 0
) -> tuple[tuple[Statement, ...], int]:
    """The statements from ``lines[start]`` on with its indentation, and where they end."""
    statements: list[Statement] = []
    indent = lines[start].indent if start < len(lines) else 0
    i = start
    while i < len(lines) and lines[i].indent >= indent:
        line = lines[i]
        place = text.at(line.number, line.indent)
        i += 1
        if line.indent > indent:
            problems.add(Mistake(place, "unexpected indentation", "the column of the line above"))
            i = _end(lines, i, indent + 1)
            continue
        if depth > MAX_NESTED_LOOPS:
            found = f"loops nested more than {MAX_NESTED_LOOPS} deep"
            problems.add(Mistake(place, found, "fewer loops"))
            return (), _end(lines, i, indent)
        body: tuple[Statement, ...] = ()
        header = line.text.endswith(":")
        if header and i < len(lines) and lines[i].indent > indent:
            body, i = _block(text, lines, i, problems, depth + 1)
        elif header:
            problems.add(Mistake(place, "nothing is indented below this line", "a loop's body"))
            continue
        with problems.collecting():
            statements.extend(_statements(text, line, body))
    return tuple(statements), i


def _end(lines: Sequence[_Line], start: int, indent: int) -> int:
    """The first line from ``start`` on that is indented less than ``indent``."""
    outside = (i for i in range(start, len(lines)) if lines[i].indent < indent)
    return next(outside, len(lines))


def _statements(text: Scalar, line: _Line, body: tuple[Statement, ...]) -> Iterator[Statement]:
    trees = _parse(text, line).body
    for tree in trees:
        _check_size(tree, text)
        yield Statement(tree, body, text)


def _parse(text: Scalar, line: _Line) -> ast.Module:
    """``ast.parse`` of one logical line, its nodes placed as in the whole text."""
    _check_characters(text, line)
    code = line.text + (" pass" if line.text.endswith(":") else "")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = ast.parse(code)
    except SyntaxError as error:
        row, column = (error.lineno or 1) - 1, max(0, (error.offset or 1) - 1)
        place = text.at(line.number + row, column + (line.indent if row == 0 else 0))
        raise Mistake(place, f"{shortened(line.text)}: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError):
        place = text.at(line.number, line.indent)
        raise Mistake(place, f"{shortened(line.text)} cannot be read") from None
    for node in ast.walk(module):
        if isinstance(node, (ast.expr, ast.stmt, ast.keyword)):
            node.col_offset += line.indent if node.lineno == 1 else 0
            node.lineno += line.number
    return module


def _check_characters(text: Scalar, line: _Line) -> None:
    place = text.at(line.number, line.indent)
    if len(line.text) > MAX_CHARACTERS:
        found = f"an expression of {len(line.text)} characters"
        raise Mistake(place, found, f"at most {MAX_CHARACTERS}", "name its parts")
    if strange := _STRANGE.search(line.text):
        before = line.text[: strange.start()]
        row = before.count("\n")
        column = len(before.rsplit("\n", 1)[-1]) + (line.indent if row == 0 else 0)
        found = f"the character {strange.group()!a}"
        expected = "names, numbers, operators and brackets, in ASCII"
        raise Mistake(text.at(line.number + row, column), found, expected)


def _check_size(tree: ast.stmt | ast.expr, text: Scalar) -> None:
    count = sum(isinstance(node, ast.expr) for node in ast.walk(tree))
    if count > MAX_EXPRESSION_NODES:
        place = text.at(tree.lineno - 1, tree.col_offset)
        found = f"an expression of {count} nodes"
        raise Mistake(place, found, f"at most {MAX_EXPRESSION_NODES}", "name its parts")
