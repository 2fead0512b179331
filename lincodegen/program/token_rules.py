"""Simplifications of token-level values, applied as each value is made.

    before   diag(w) @ S      x + -y   log(sigmoid(x))   (scale * S.T) @ q   beta * outer(k, v)
    after    w[:, None] * S   x - y    logsigmoid(x)     scale * (S.T @ q)   outer(k, beta * v)

Scalar factors move to the smaller operand. ``0 * x`` stays: it is NaN where x is not finite.
"""

from __future__ import annotations

from lincodegen.program.token_graph import Graph, Rule
from lincodegen.program.token_shapes import infer_shape
from lincodegen.spec.step import Attr, Shape


def _literal(graph: Graph, value: int) -> int | float | None:
    """The number of a literal, else None."""
    definition = graph[value]
    number = definition.attr[0] if definition.op == "number" else None
    return number if isinstance(number, int | float) else None


def _operand(graph: Graph, value: int, op: str) -> int | None:
    """The operand of a unary ``op``, None for any other value."""
    definition = graph[value]
    return definition.args[0] if definition.op == op else None


def _neg(graph: Graph, args: tuple[int, ...], attr: Attr, shape: Shape) -> int | None:
    number = _literal(graph, args[0])
    if number is not None:
        return graph.number(-number)
    if (inner := _operand(graph, args[0], "neg")) is not None:
        return inner
    if graph[args[0]].op == "sub":
        left, right = graph[args[0]].args
        return graph.make("sub", right, left)
    if (inner := _operand(graph, args[0], "softplus")) is not None:
        return graph.make("logsigmoid", graph.make("neg", inner))
    return None


def _softplus(graph: Graph, args: tuple[int, ...], attr: Attr, shape: Shape) -> int | None:
    inner = _operand(graph, args[0], "neg")
    return None if inner is None else graph.make("neg", graph.make("logsigmoid", inner))


def _add(graph: Graph, args: tuple[int, ...], attr: Attr, shape: Shape) -> int | None:
    left, right = args
    a, b = _literal(graph, left), _literal(graph, right)
    if a is not None and b is not None:
        return graph.number(a + b)
    if a == 0 and graph.shape(right) == shape:
        return right
    if b == 0 and graph.shape(left) == shape:
        return left
    if (inner := _operand(graph, right, "neg")) is not None:
        return graph.make("sub", left, inner)
    if (inner := _operand(graph, left, "neg")) is not None:
        return graph.make("sub", right, inner)
    return _without_broadcast(graph, "add", args, shape)


def _sub(graph: Graph, args: tuple[int, ...], attr: Attr, shape: Shape) -> int | None:
    left, right = args
    a, b = _literal(graph, left), _literal(graph, right)
    if a is not None and b is not None:
        return graph.number(a - b)
    if b == 0 and graph.shape(left) == shape:
        return left
    if (inner := _operand(graph, right, "neg")) is not None:
        return graph.make("add", left, inner)
    return _without_broadcast(graph, "sub", args, shape)


def _mul(graph: Graph, args: tuple[int, ...], attr: Attr, shape: Shape) -> int | None:
    left, right = args
    a, b = _literal(graph, left), _literal(graph, right)
    if a is not None and b is not None:
        return graph.number(a * b)
    for number, other in ((a, right), (b, left)):
        if number == 1 and graph.shape(other) == shape:
            return other
        if number is not None and number < 0:
            positive = graph.make("mul", graph.number(-number), other, shape=shape)
            return graph.make("neg", positive)
    for scalar, other in ((left, right), (right, left)):
        if graph.shape(scalar) == () and graph[other].op == "outer":
            a, b = graph[other].args
            return graph.make("outer", a, graph.make("mul", scalar, b))
    return _outer_sign(graph, "mul", args, shape)


def _div(graph: Graph, args: tuple[int, ...], attr: Attr, shape: Shape) -> int | None:
    if _literal(graph, args[1]) == 1 and graph.shape(args[0]) == shape:
        return args[0]
    return _outer_sign(graph, "div", args, shape)


def _outer_sign(graph: Graph, op: str, args: tuple[int, ...], shape: Shape) -> int | None:
    negative = _product_sign(graph, op, args, shape)
    return _without_broadcast(graph, op, args, shape) if negative is None else negative


def _product_sign(graph: Graph, op: str, args: tuple[int, ...], shape: Shape) -> int | None:
    """-x * y as -(x * y), and the same for the other operand and other products."""
    for i, arg in enumerate(args):
        if (inner := _operand(graph, arg, "neg")) is not None:
            positive = (inner, args[1]) if i == 0 else (args[0], inner)
            return graph.make("neg", graph.make(op, *positive, shape=shape))
    return None


def _outer(graph: Graph, args: tuple[int, ...], attr: Attr, shape: Shape) -> int | None:
    return _product_sign(graph, "outer", args, shape)


def _without_broadcast(graph: Graph, op: str, args: tuple[int, ...], shape: Shape) -> int | None:
    """Elementwise operations broadcast by themselves: an explicit broadcast is dropped."""
    for i, arg in enumerate(args):
        if (inner := _operand(graph, arg, "broadcast")) is not None:
            bare = (*args[:i], inner, *args[i + 1 :])
            if infer_shape(op, [graph.shape(a) for a in bare], ()) == shape:
                return graph.make(op, *bare, shape=shape)
    return None


def _pow(graph: Graph, args: tuple[int, ...], attr: Attr, shape: Shape) -> int | None:
    return args[0] if attr[0] == 1 else None


def _log(graph: Graph, args: tuple[int, ...], attr: Attr, shape: Shape) -> int | None:
    inner = _operand(graph, args[0], "sigmoid")
    return None if inner is None else graph.make("logsigmoid", inner)


def _matmul(graph: Graph, args: tuple[int, ...], attr: Attr, shape: Shape) -> int | None:
    left, right = args
    if (negative := _product_sign(graph, "matmul", args, shape)) is not None:
        return negative
    for i, arg in enumerate(args):
        factors = graph[arg].args if graph[arg].op == "mul" else ()
        scalars = [f for f in factors if graph.shape(f) == ()]
        if len(scalars) == 1:
            tensor = factors[1 - factors.index(scalars[0])]
            operands = (tensor, right) if i == 0 else (left, tensor)
            return graph.make("mul", scalars[0], graph.make("matmul", *operands, shape=shape))
    return _diagonal_product(graph, left, right)


def _diagonal_product(graph: Graph, left: int, right: int) -> int | None:
    """diag(w) @ x as w[:, None] * x, and x @ diag(w) as x * w."""
    if (weights := _operand(graph, left, "diag")) is not None:
        if len(graph.shape(right)) == 2:
            weights = graph.make("expand", weights, attr=(1,))
        return graph.make("mul", weights, right)
    if (weights := _operand(graph, right, "diag")) is not None:
        return graph.make("mul", left, weights)
    return None


def _transpose(graph: Graph, args: tuple[int, ...], attr: Attr, shape: Shape) -> int | None:
    definition = graph[args[0]]
    if definition.op == "transpose":
        return definition.args[0]
    if definition.op == "outer":
        return graph.make("outer", *definition.args[::-1])
    if definition.op == "neg":
        return graph.make("neg", graph.make("transpose", definition.args[0]))
    return None


def _cancels(inverse: str) -> Rule:
    def rule(graph: Graph, args: tuple[int, ...], attr: Attr, shape: Shape) -> int | None:
        definition = graph[args[0]]
        same_axis = definition.op == inverse and definition.attr == attr
        if same_axis and graph.shape(definition.args[0]) == shape:
            return definition.args[0]
        return None

    return rule


def _broadcast(graph: Graph, args: tuple[int, ...], attr: Attr, shape: Shape) -> int | None:
    if graph.shape(args[0]) == shape:
        return args[0]
    inner = _operand(graph, args[0], "broadcast")
    return None if inner is None else graph.make("broadcast", inner, shape=shape)


def _reduction(graph: Graph, args: tuple[int, ...], attr: Attr, shape: Shape) -> int | None:
    return args[0] if graph.shape(args[0]) == () else None


def _index(graph: Graph, args: tuple[int, ...], attr: Attr, shape: Shape) -> int | None:
    definition = graph[args[0]]
    if definition.op == "stack" and isinstance(attr[0], int):
        return definition.args[attr[0]]
    return None


RULES: dict[str, Rule] = {
    "neg": _neg,
    "add": _add,
    "sub": _sub,
    "mul": _mul,
    "div": _div,
    "pow": _pow,
    "log": _log,
    "softplus": _softplus,
    "matmul": _matmul,
    "outer": _outer,
    "transpose": _transpose,
    "squeeze": _cancels("expand"),
    "expand": _cancels("squeeze"),
    "ravel": _cancels("unravel"),
    "unravel": _cancels("ravel"),
    "diagonal": _cancels("diag"),
    "broadcast": _broadcast,
    "sum": _reduction,
    "mean": _reduction,
    "index": _index,
}


def new_graph() -> Graph:
    """An empty graph whose values are simplified by these rules."""
    return Graph(RULES)
