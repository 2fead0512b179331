"""A Recurrence as JSON data and back, exactly; the standard library is all it needs.

Nodes stand in one list, operands before the nodes that use them, and are named by their
position there, so that a value used twice is written once. A dimension polynomial is text
such as ``1 + K + K*K``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from lincodegen.errors import SpecError
from lincodegen.spec.dims import Dim
from lincodegen.spec.step import (
    Assign,
    Constant,
    Interval,
    Node,
    Place,
    Recurrence,
    Shape,
    State,
    Tensor,
)

FORMAT = 1

_T = TypeVar("_T")
_INFINITE = {"inf": math.inf, "-inf": -math.inf}


def to_json(recurrence: Recurrence) -> dict[str, Any]:
    """The recurrence as dictionaries, lists, text and numbers that ``json`` writes as they are."""
    nodes = _NodeWriter()
    return {
        "format": FORMAT,
        "name": recurrence.name,
        "title": recurrence.title,
        "reference": recurrence.reference,
        "doc": recurrence.doc,
        "dims": list(recurrence.dims),
        "inputs": [_tensor_data(tensor, nodes) for tensor in recurrence.inputs],
        "parameters": [_tensor_data(tensor, nodes) for tensor in recurrence.parameters],
        "constants": [[c.name, nodes.index(c.default)] for c in recurrence.constants],
        "states": [[state.name, _shape_data(state.shape)] for state in recurrence.states],
        "step": [
            [s.name, nodes.index(s.value), s.state, s.place.line, s.place.column]
            for s in recurrence.step
        ],
        "outputs": [[name, nodes.index(node)] for name, node in recurrence.outputs],
        "nodes": nodes.data,
        "source": recurrence.source,
        "file": recurrence.file,
    }


class _NodeWriter:
    """Lists nodes once each."""

    def __init__(self) -> None:
        self.data: list[list[Any]] = []
        self._known: dict[tuple[Any, ...], int] = {}

    def index(self, root: Node) -> int:
        """The position of a node in the list, after its operands'."""
        of_object: dict[int, int] = {}
        for node in root.walk():
            args = [of_object[id(arg)] for arg in node.args]
            attr = [{"dim": str(a)} if isinstance(a, Dim) else a for a in node.attr]
            place = node.place
            entry = [node.op, args, attr, _shape_data(node.shape), place.line, place.column]
            # repr keeps 2 and 2.0 apart
            key = (node.op, tuple(args), repr(attr), node.shape, place.line, place.column)
            position = self._known.setdefault(key, len(self.data))
            if position == len(self.data):
                self.data.append(entry)
            of_object[id(node)] = position
        return of_object[id(root)]


def _shape_data(shape: Shape) -> list[str]:
    return [str(size) for size in shape]


def _tensor_data(tensor: Tensor, nodes: _NodeWriter) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "shape": _shape_data(tensor.shape),
        "domain": _interval_data(tensor.domain),
        "norm": None if tensor.norm is None else _interval_data(tensor.norm),
        "default": None if tensor.default is None else nodes.index(tensor.default),
        "doc": tensor.doc,
    }


def _interval_data(interval: Interval) -> list[Any]:
    ends = [str(end) if math.isinf(end) else end for end in (interval.low, interval.high)]
    return [*ends, interval.includes_low, interval.includes_high]


def from_json(data: object) -> Recurrence:
    """The recurrence that ``to_json`` wrote; SpecError names what is not as it writes it."""
    fields = _fields(data, _RECURRENCE, "a recurrence")
    if _typed(fields["format"], int, "format") != FORMAT:
        raise SpecError(f"format {fields['format']} of a recurrence; expected: {FORMAT}")
    nodes = _nodes(fields["nodes"])
    texts = {key: _typed(fields[key], str, key) for key in _TEXTS}
    return Recurrence(
        **texts,
        dims=tuple(_typed(name, str, "a dimension") for name in _items(fields["dims"], "dims")),
        inputs=tuple(_tensor(t, nodes) for t in _items(fields["inputs"], "inputs")),
        parameters=tuple(_tensor(t, nodes) for t in _items(fields["parameters"], "parameters")),
        constants=tuple(
            Constant(*_named_node(c, nodes)) for c in _items(fields["constants"], "constants")
        ),
        states=tuple(_state(state) for state in _items(fields["states"], "states")),
        step=tuple(_assign(statement, nodes) for statement in _items(fields["step"], "step")),
        outputs=tuple(_named_node(o, nodes) for o in _items(fields["outputs"], "outputs")),
    )


_TEXTS = ("name", "title", "reference", "doc", "source", "file")
_RECURRENCE = frozenset(
    {*_TEXTS, "format", "dims", "inputs", "parameters", "constants", "states", "step", "outputs"}
) | {"nodes"}
_TENSOR = frozenset({"name", "shape", "domain", "norm", "default", "doc"})


def _typed(value: object, kind: type[_T], what: str) -> _T:
    """The value, if it is of exactly this type: a truth value is no integer."""
    if type(value) is not kind:
        raise SpecError(f"{what} is {value!r:.60}; expected: {kind.__name__}")
    return value


def _fields(value: object, names: frozenset[str], what: str) -> Mapping[str, object]:
    if not isinstance(value, dict) or frozenset(str(key) for key in value) != names:
        raise SpecError(f"{what} is {value!r:.60}; expected: the keys {', '.join(sorted(names))}")
    return value


def _items(value: object, what: str, count: int | None = None) -> Sequence[object]:
    if not isinstance(value, list) or (count is not None and len(value) != count):
        expected = "a list" if count is None else f"a list of {count}"
        raise SpecError(f"{what} is {value!r:.60}; expected: {expected}")
    return value


def _dim(value: object) -> Dim:
    """A polynomial from its text; only the one text that ``str`` makes of it is taken."""
    text = _typed(value, str, "a size")
    total = Dim.of(0)
    for term in text.split(" + "):
        product = Dim.of(1)
        for factor in term.split("*"):
            number = factor.removeprefix("-").isdecimal()
            product = product * (Dim.of(int(factor)) if number else Dim.of(factor))
        total = total + product
    if str(total) != text:
        raise SpecError(f"the size {text!r:.60}; expected: a polynomial such as '1 + 2*K'")
    return total


def _shape(value: object) -> Shape:
    return tuple(_dim(size) for size in _items(value, "a shape"))


def _place(line: object, column: object) -> Place:
    return Place(_typed(line, int, "a line"), _typed(column, int, "a column"))


def _nodes(value: object) -> list[Node]:
    nodes: list[Node] = []
    for entry in _items(value, "nodes"):
        op, args, attr, shape, line, column = _items(entry, "a node", 6)
        node = Node(
            _typed(op, str, "an operation"),
            tuple(_node(arg, nodes) for arg in _items(args, "operands")),
            tuple(_attribute(a) for a in _items(attr, "attributes")),
            _shape(shape),
            _place(line, column),
        )
        nodes.append(node)
    return nodes


def _node(value: object, nodes: Sequence[Node]) -> Node:
    index = _typed(value, int, "the position of a node")
    if not 0 <= index < len(nodes):
        raise SpecError(f"the position {index} of a node; expected: one of {len(nodes)} above")
    return nodes[index]


def _attribute(value: object) -> str | int | float | Dim | None:
    if isinstance(value, dict):
        return _dim(_fields(value, frozenset({"dim"}), "an attribute")["dim"])
    if value is None or (isinstance(value, (str, int, float)) and not isinstance(value, bool)):
        return value
    raise SpecError(f"an attribute is {value!r:.60}; expected: text, a number or a size")


def _named_node(value: object, nodes: Sequence[Node]) -> tuple[str, Node]:
    name, node = _items(value, "a name and a node", 2)
    return _typed(name, str, "a name"), _node(node, nodes)


def _state(value: object) -> State:
    name, shape = _items(value, "a state", 2)
    return State(_typed(name, str, "a name"), _shape(shape))


def _assign(value: object, nodes: Sequence[Node]) -> Assign:
    name, node, state, line, column = _items(value, "a statement", 5)
    return Assign(
        _typed(name, str, "a name"),
        _node(node, nodes),
        _typed(state, bool, "the mark of a state"),
        _place(line, column),
    )


def _tensor(value: object, nodes: Sequence[Node]) -> Tensor:
    fields = _fields(value, _TENSOR, "a tensor")
    return Tensor(
        _typed(fields["name"], str, "a name"),
        _shape(fields["shape"]),
        _interval(fields["domain"]),
        None if fields["norm"] is None else _interval(fields["norm"]),
        None if fields["default"] is None else _node(fields["default"], nodes),
        _typed(fields["doc"], str, "a doc"),
    )


def _interval(value: object) -> Interval:
    low, high, includes_low, includes_high = _items(value, "an interval", 4)
    low, high = (
        _INFINITE[end]
        if isinstance(end, str) and end in _INFINITE
        else _typed(end, float, "an end")
        for end in (low, high)
    )
    includes_low = _typed(includes_low, bool, "the mark of an end")
    return Interval(low, high, includes_low, _typed(includes_high, bool, "the mark of an end"))
