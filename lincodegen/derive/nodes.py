"""Building state-free expression nodes: the operands of events, kept small by local rules."""

from __future__ import annotations

from itertools import zip_longest

from lincodegen.errors import InternalError
from lincodegen.spec.dims import Dim
from lincodegen.spec.step import Node, Place, Shape

ONE = Dim.of(1)
NOWHERE = Place(0, 0)


def number(value: float, place: Place = NOWHERE) -> Node:
    """A literal of shape []."""
    return Node("number", (), (value,), (), place)


def is_number(node: Node, value: float) -> bool:
    """Tells whether a node is the literal ``value``."""
    return node.op == "number" and node.attr[0] == value


def broadcast(a: Shape, b: Shape) -> Shape:
    """NumPy's broadcast shape of two shapes that the spec stage found compatible."""
    pairs = zip_longest(reversed(a), reversed(b), fillvalue=ONE)
    return tuple(reversed([y if x == ONE else x for x, y in pairs]))


def elementwise(op: str, *args: Node) -> Node:
    """A broadcasting operation of one or two operands."""
    shape = args[0].shape
    for arg in args[1:]:
        shape = broadcast(shape, arg.shape)
    return Node(op, args, (), shape, args[0].place)


def mul(a: Node | None, b: Node | None) -> Node | None:
    """a * b, None standing for the number one."""
    if a is None or b is None:
        return b if a is None else a
    if is_number(a, 1) or is_number(b, 1):
        one, other = (a, b) if is_number(a, 1) else (b, a)
        if broadcast(one.shape, other.shape) == other.shape:
            return other
    return elementwise("mul", a, b)


def times(a: Node | None, b: Node) -> Node:
    """a * b with b present."""
    result = mul(a, b)
    if result is None:
        raise InternalError("a product of nothing")
    return result


def add(a: Node | None, b: Node | None) -> Node | None:
    """a + b, None standing for zero."""
    if a is None or b is None:
        return b if a is None else a
    return elementwise("add", a, b)


def neg(a: Node) -> Node:
    """-a, with - - a = a."""
    if a.op == "neg":
        return a.args[0]
    if a.op == "number":
        return number(-a.attr[0], a.place)
    return elementwise("neg", a)


def dot(a: Node, b: Node) -> Node:
    """The inner product of two vectors."""
    return Node("dot", (a, b), (), (), a.place)


def split_scalar(node: Node) -> tuple[Node | None, Node]:
    """``node = s * rest`` with every scalar factor of a vector in s (None: one)."""
    if node.op == "neg":
        s, rest = split_scalar(node.args[0])
        return times(s, number(-1)) if s is None or s.op != "number" else neg(s), rest
    if node.op == "mul" and node.shape:
        left, right = node.args
        for scalar, vector in ((left, right), (right, left)):
            if not scalar.shape and vector.shape == node.shape:
                s, rest = split_scalar(vector)
                return mul(scalar, s), rest
    if node.op == "div" and not node.args[1].shape and node.args[0].shape == node.shape:
        s, rest = split_scalar(node.args[0])
        return elementwise("div", s or number(1), node.args[1]), rest
    return None, node


def split_sign(node: Node | None) -> tuple[int, Node | None]:
    """``node = sign * rest``; None is the number one."""
    if node is None:
        return 1, None
    if node.op == "neg":
        sign, rest = split_sign(node.args[0])
        return -sign, rest
    if node.op == "number" and isinstance(node.attr[0], int | float) and node.attr[0] < 0:
        rest = neg(node)
        return -1, None if is_number(rest, 1) else rest
    if node.op == "mul":
        s1, left = split_sign(node.args[0])
        s2, right = split_sign(node.args[1])
        if s1 * s2 != 1 or left is not node.args[0] or right is not node.args[1]:
            return s1 * s2, mul(left, right)
    return 1, None if is_number(node, 1) else node
