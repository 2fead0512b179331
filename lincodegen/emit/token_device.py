"""What of a token program runs in a kernel: numbers moved to the host, rows of inputs to loads.

before   b = exp(rate) * l2norm(k[0])        dk = stack(x, y)
after    host: exp_rate = math.exp(rate)     two stores, K entries apart
         load: k_0, the first K entries of k
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

from lincodegen.emit.token_tiles import numel
from lincodegen.emit.token_torch_expression import TorchExpressions
from lincodegen.emit.token_torch_ops import torch_expressions
from lincodegen.errors import InternalError
from lincodegen.program.token import Statement, TokenProgram, opened_norms
from lincodegen.program.token_names import Names, describe
from lincodegen.spec.dims import Dim
from lincodegen.spec.step import Node

_ARRAYS = frozenset(("input", "parameter", "part"))
NOWHERE = Dim.of(0)


@dataclass(frozen=True, slots=True)
class Load:
    """A tile read from an argument: all of it, or ``node.shape`` from entry ``start`` on."""

    argument: str
    start: Dim
    node: Node


@dataclass(frozen=True, slots=True)
class Store:
    """A tile of an output, from its entry ``start`` on."""

    output: str
    start: Dim
    value: Node


@dataclass(frozen=True, slots=True)
class DeviceProgram:
    """Loads, statements and stores of one token."""

    loads: tuple[Load, ...]
    statements: tuple[Statement, ...]
    stores: tuple[Store, ...]
    constants: frozenset[str]
    states: frozenset[str]

    def nodes(self) -> Iterator[Node]:
        """Every expression of the kernel, operands first."""
        for statement in self.statements:
            yield from statement.value.walk()
        for store in self.stores:
            yield from store.value.walk()
        for load in self.loads:
            yield load.node


@dataclass(slots=True)
class HostNumbers:
    """Names of the numbers that the host computes for a kernel, by their expressions."""

    names: Names
    given: dict[str, str] = field(default_factory=dict)

    def name(self, text: str, wish: str) -> str:
        """The name of an expression, near ``wish`` if it is new."""
        if text not in self.given:
            self.given[text] = self.names.free(wish)
        return self.given[text]


def device_program(
    program: TokenProgram,
    host: HostNumbers,
    stored: Collection[str],
    carried: Collection[str] = (),
) -> DeviceProgram:
    """The kernel's part of a program; its host numbers are added to ``host``.

    ``stored`` are the outputs that may be stored in parts; any other is one value. ``carried``
    are arguments that are tiles already, so that no part of them can be loaded.
    """
    program = opened_norms(program)
    labels = Names({*(a.name for a in program.inputs), *(s.name for s in program.statements)})
    return _Mover(program, host, labels, frozenset(stored), frozenset(carried)).moved()


@dataclass(slots=True)
class _Mover:
    program: TokenProgram
    numbers: HostNumbers
    labels: Names
    stored: frozenset[str]
    carried: frozenset[str]
    host: dict[Node, str] = field(default_factory=dict)
    parts: dict[tuple[str, Dim, Node], Load] = field(default_factory=dict)

    def moved(self) -> DeviceProgram:
        text = torch_expressions(self.program)
        statements = []
        for statement in self.program.statements:
            if text.is_tensor(statement.value):
                statements.append(replace(statement, value=self._rewritten(statement.value, text)))
            else:
                number = self.numbers.name(self._host_text(statement.value, text), statement.name)
                self.host[_value(statement)] = number
        stores = self._stores(statements)
        direct = {id(s) for s in statements if s.name in self._unpacked(statements)}
        statements = [s for s in statements if id(s) not in direct]
        found = DeviceProgram((), tuple(statements), tuple(stores), frozenset(), frozenset())
        leaves = {node for node in found.nodes() if not node.args}
        loads = [Load(str(n.attr[0]), NOWHERE, n) for n in leaves if n.op in {"input", "parameter"}]
        loads += [load for load in self.parts.values() if load.node in leaves]
        order = {a.name: i for i, a in enumerate(self.program.inputs)}
        loads.sort(key=lambda load: (order[load.argument], str(load.node.attr)))
        return replace(
            found,
            loads=tuple(loads),
            constants=frozenset(str(n.attr[0]) for n in leaves if n.op == "constant"),
            states=frozenset(str(n.attr[0]) for n in leaves if n.op == "state"),
        )

    def _rewritten(self, node: Node, text: TorchExpressions) -> Node:
        if node in self.host:
            return Node("constant", (), (self.host[node],), ())
        if not node.args:
            return node
        if node.shape == () and not text.is_tensor(node):
            number = self.numbers.name(self._host_text(node, text), describe(node) or "factor")
            self.host[node] = number
            return Node("constant", (), (number,), ())
        args = tuple(self._rewritten(arg, text) for arg in node.args)
        return self._part(replace(node, args=args))

    def _host_text(self, node: Node, text: TorchExpressions) -> str:
        """A number's expression, its statements by the names the host gives them."""
        return text.print(_renamed(node, self.host))

    def _part(self, node: Node) -> Node:
        """A row or a slice of an argument as a leaf of its own."""
        if node.op not in {"index", "slice"} or node.args[0].op not in _ARRAYS:
            return node
        array = node.args[0]
        argument, start, label = str(array.attr[0]), NOWHERE, str(array.attr[0])
        if argument in self.carried:
            return node
        if array.op == "part":
            known = next(load for load in self.parts.values() if load.node == array)
            argument, start = known.argument, known.start
        first = node.attr[0]
        if isinstance(first, int) and first < 0:
            first = array.shape[0] + first
        row = numel(array.shape[1:])
        start = start + row * (first if isinstance(first, int | Dim) else 0)
        key = (argument, start, replace(node, args=()))
        if key not in self.parts:
            suffix = str(node.attr[0]).replace("-", "last_") if node.op == "index" else "part"
            leaf = Node("part", (), (self.labels.free(f"{label}_{suffix}"),), node.shape)
            self.parts[key] = Load(argument, start, leaf)
        return self.parts[key].node

    def _unpacked(self, statements: list[Statement]) -> set[str]:
        """Statements that only put an output together: their parts are stored instead."""
        read = {n.attr for s in statements for n in s.value.walk() if n.op == "value"}
        results = {o.value.attr for o in self.program.outputs if o.name in self.stored}
        results -= {o.value.attr for o in self.program.outputs if o.name not in self.stored}
        return {
            s.name
            for s in statements
            if s.value.op in {"stack", "concat"} and (s.name,) not in read and (s.name,) in results
        }

    def _stores(self, statements: list[Statement]) -> list[Store]:
        unpacked = self._unpacked(statements)
        values = {s.name: s.value for s in statements}
        stores: list[Store] = []
        for output in self.program.outputs:
            value = self.host_leaf(output.value)
            name = str(value.attr[0])
            if value.op == "value" and name in unpacked:
                stores += _unpacked_stores(output.name, NOWHERE, values[name])
            else:
                stores.append(Store(output.name, NOWHERE, value))
        return stores

    def host_leaf(self, value: Node) -> Node:
        """An output that is a number of the host, as an argument of the kernel."""
        return Node("constant", (), (self.host[value],), ()) if value in self.host else value


def _unpacked_stores(output: str, start: Dim, node: Node) -> list[Store]:
    if node.op not in {"stack", "concat"}:
        return [Store(output, start, node)]
    stores: list[Store] = []
    for part in node.args:
        stores += _unpacked_stores(output, start, part)
        start = start + numel(part.shape)
    return stores


def _renamed(node: Node, names: Mapping[Node, str]) -> Node:
    if node in names:
        return Node("constant", (), (names[node],), ())
    return replace(node, args=tuple(_renamed(arg, names) for arg in node.args))


def _value(statement: Statement) -> Node:
    if statement.value.shape != ():
        raise InternalError(f"{statement.name} is a number with axes")
    return Node("value", (), (statement.name,), ())
