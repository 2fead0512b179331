"""One token in PyTorch with its states updated in place, where nothing reads their old values.

before   S_1 = exp(g) * S + outer(b, S.T @ a)
after    S_a = (a[..., None, :] @ S).squeeze(-2)
         S_1 = S.mul_(torch.exp(g)[..., None, None]).addcmul_(b[..., None], S_a[..., None, :])
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from lincodegen.emit.token_python import TERNARY, result_text
from lincodegen.emit.token_torch import function_text, prepared
from lincodegen.emit.token_torch_expression import TorchExpressions
from lincodegen.emit.token_torch_ops import torch_expressions
from lincodegen.program.token import Kind, Statement, TokenProgram
from lincodegen.program.token_names import Names, describe
from lincodegen.program.token_shapes import ONE
from lincodegen.spec.step import Node

_SHARING = frozenset(
    (
        "expand",
        "squeeze",
        "transpose",
        "index",
        "slice",
        "broadcast",
        "ravel",
        "unravel",
        "diagonal",
    )
)
"""Operations whose result may lie in the memory of their operand."""


@dataclass(frozen=True, slots=True)
class Update:
    """A tensor method that changes its tensor, and the operands that it is called with."""

    method: str
    operands: tuple[Node, ...]
    sign: int = 1


def print_in_place(name: str, program: TokenProgram, states: int, doc: str) -> str:
    """:func:`print_torch_function` of a program that writes its states where it can.

    The last outputs, as many as there are ``states``, are the next states: a state's argument
    itself where it was written. The other outputs share no memory with states.
    """
    program = prepared(program)
    return function_text(name, program, _Printer(program, states).lines(), doc)


@dataclass(slots=True)
class _Printer:
    program: TokenProgram
    count: int
    text: TorchExpressions = field(init=False)
    names: Names = field(init=False)
    held: dict[str, str] = field(init=False)
    states: list[Node] = field(init=False)

    def __post_init__(self) -> None:
        arguments = (a.name for a in self.program.inputs)
        statements = (s.name for s in self.program.statements)
        self.text = torch_expressions(self.program)
        self.names = Names({*arguments, *statements, *self.program.sizes})
        self.states = [a.leaf for a in self.program.inputs if a.kind is Kind.STATE]
        # by name, the value in whose memory it lies
        self.held = {str(s.attr[0]): str(s.attr[0]) for s in self.states}

    def lines(self) -> list[str]:
        """The function's body."""
        lines: list[str] = []
        for position, statement in enumerate(self.program.statements):
            lines += self._written(statement, position) or [self._plain(statement)]
        return [*lines, result_text(self._results())]

    def _plain(self, statement: Statement) -> str:
        if (name := self._memory(statement.value)) is not None:
            self.held[statement.name] = name
        return f"    {statement.name} = {self.text.print(statement.value)}"

    def _memory(self, node: Node) -> str | None:
        """The state in whose memory a value may lie."""
        while node.op in _SHARING:
            node = node.args[0]
        return self.held.get(str(node.attr[0])) if node.op in {"state", "value"} else None

    def _written(self, statement: Statement, position: int) -> list[str]:
        """A statement that overwrites a state, as lines; none if it cannot."""
        for i, state in enumerate(self.states):
            updates = updates_of(statement.value, state)
            if not updates or statement.value.shape != state.shape:
                continue
            if self._is_read_later(str(state.attr[0]), position):
                continue
            first = self._hoisted(updates, str(state.attr[0]))
            if first is None:
                continue
            lines, updates = first
            calls = "".join(self._call(u, len(state.shape)) for u in updates)
            lines.append(f"    {statement.name} = {state.attr[0]}{calls}")
            self.held[statement.name] = self.held[str(state.attr[0])]
            self.states[i] = Node("value", (), (statement.name,), state.shape)
            return lines
        return []

    def _is_read_later(self, name: str, position: int) -> bool:
        """Whether a value, or what shares its memory, is read after a statement."""
        memory = {n for n, owner in self.held.items() if owner == self.held[name]}
        later = [s.value for s in self.program.statements[position + 1 :]]
        later += [o.value for o in self.program.outputs]
        return any(_reads(value, memory) for value in later)

    def _hoisted(
        self, updates: Sequence[Update], name: str
    ) -> tuple[list[str], list[Update]] | None:
        """Operands that read the old state, computed before; None where one is a view of it."""
        memory = {n for n, owner in self.held.items() if owner == self.held[name]}
        lines: list[str] = []
        found: list[Update] = []
        for update in updates:
            operands: list[Node] = []
            for operand in update.operands:
                if not _reads(operand, memory):
                    operands.append(operand)
                    continue
                if self._memory(operand) is not None:
                    return None
                operands.append(self._named(operand, lines))
            found.append(Update(update.method, tuple(operands), update.sign))
        return lines, found

    def _named(self, operand: Node, lines: list[str]) -> Node:
        """An operand whose value is computed by a line before."""
        if operand.op in _SHARING:
            return replace(operand, args=(self._named(operand.args[0], lines),))
        part = self.names.free(describe(operand) or "part")
        statement = Statement(part, operand)
        self.text.define(statement)
        lines.append(self._plain(statement))
        return Node("value", (), (part,), operand.shape)

    def _call(self, update: Update, rank: int) -> str:
        """``.mul_(x)``; a sum with a product of two tensors in one call."""
        if update.method != "addcmul_":
            return f".{update.method}({self.text.operand(update.operands[0], rank, TERNARY)})"
        left, right = update.operands
        if not (self.text.is_tensor(left) and self.text.is_tensor(right)):
            product = self.text.print(Node("mul", (left, right), (), left.shape))
            return f".{'add_' if update.sign > 0 else 'sub_'}({product})"
        both = ", ".join(self.text.operand(x, rank, TERNARY) for x in (left, right))
        return f".addcmul_({both}{'' if update.sign > 0 else ', value=-1'})"

    def _results(self) -> list[str]:
        """The results; an output of its own where it would lie in a state's memory."""
        values = [o.value for o in self.program.outputs]
        own = len(values) - self.count
        texts = [self.text.print(value) for value in values]
        for i, value in enumerate(values[:own]):
            if self._memory(value) is not None or value in values[own:]:
                texts[i] += ".clone()"
        return texts


def updates_of(node: Node, state: Node) -> list[Update] | None:
    """The updates that turn a state into a value, None where there are none."""
    if (node.op, node.attr) == (state.op, state.attr):
        return []
    if node.op not in {"add", "sub", "mul", "div"} or node.shape != state.shape:
        return None
    left, right = node.args
    before = updates_of(left, state)
    if before is not None:
        return [*before, _update(node.op, right)]
    if node.op not in {"add", "mul"}:
        return None
    before = updates_of(right, state)
    return None if before is None else [*before, _update(node.op, left)]


def _update(op: str, operand: Node) -> Update:
    if op in {"mul", "div"}:
        return Update(f"{op}_", (operand,))
    sign = 1 if op == "add" else -1
    if operand.op == "outer":
        left, right = operand.args
        column = Node("expand", (left,), (1,), (*left.shape, ONE))
        return Update("addcmul_", (column, right), sign)
    if operand.op == "mul":
        return Update("addcmul_", operand.args, sign)
    return Update("add_" if sign > 0 else "sub_", (operand,))


def _reads(node: Node, names: set[str]) -> bool:
    return any(_leaves(node, names))


def _leaves(node: Node, names: set[str]) -> Iterator[Node]:
    for part in node.walk():
        if part.op in {"state", "value"} and part.attr[0] in names:
            yield part
