"""The VJP of each token-level operation.

A rule maps the cotangent of a value to one contribution per operand, in the shape of the
value; the sweep sums it to the operand's own. Derivatives at kinks are PyTorch's: 0 for relu,
abs and sign, half to each side where a maximum or minimum is a tie.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from lincodegen.program.token_graph import Graph
from lincodegen.program.token_norms import inverse_norm, kept
from lincodegen.program.token_shapes import ONE
from lincodegen.program.token_sweep import Contributions, Rule, Sweep


def _factor(derivative: Callable[[Sweep, int, int], int]) -> Rule:
    """The rule of a unary function from its derivative, given operand and result."""

    def rule(sweep: Sweep, value: int, cotangent: int) -> Contributions:
        operand = sweep.graph[value].args[0]
        return (sweep.times(value, cotangent, derivative(sweep, operand, value)),)

    return rule


def _add(sweep: Sweep, value: int, cotangent: int) -> Contributions:
    return cotangent, cotangent


def _sub(sweep: Sweep, value: int, cotangent: int) -> Contributions:
    return cotangent, sweep.graph.make("neg", cotangent)


def _mul(sweep: Sweep, value: int, cotangent: int) -> Contributions:
    left, right = sweep.graph[value].args
    return sweep.times(value, cotangent, right), sweep.times(value, cotangent, left)


def _div(sweep: Sweep, value: int, cotangent: int) -> Contributions:
    quotient = sweep.times(value, cotangent, sweep.graph[value].args[1], "div")
    return quotient, sweep.graph.make("neg", sweep.times(value, quotient, value))


def _neg(sweep: Sweep, value: int, cotangent: int) -> Contributions:
    return (sweep.graph.make("neg", cotangent),)


def _pow(sweep: Sweep, value: int, cotangent: int) -> Contributions:
    graph, exponent = sweep.graph, sweep.graph[value].attr[0]
    if not isinstance(exponent, int | float) or exponent == 0:
        return (None,)
    power = graph.make("pow", graph[value].args[0], attr=(exponent - 1,))
    return (sweep.times(value, cotangent, graph.make("mul", graph.number(exponent), power)),)


def _exp_base(sweep: Sweep, value: int, cotangent: int) -> Contributions:
    log_base = sweep.graph.make("log", sweep.graph.number(float(str(sweep.graph[value].attr[0]))))
    product = sweep.times(value, cotangent, value)
    return (sweep.graph.make("mul", product, log_base),)


def _log(sweep: Sweep, value: int, cotangent: int) -> Contributions:
    return (sweep.times(value, cotangent, sweep.graph[value].args[0], "div"),)


def _safe_log(sweep: Sweep, value: int, cotangent: int) -> Contributions:
    """As log, with derivative 0 where the operand is 0: a decay factor that ends a memory."""
    graph, operand = sweep.graph, sweep.graph[value].args[0]
    zero = graph.number(0.0)
    ratio = sweep.times(value, cotangent, operand, "div")
    return (graph.make("where", operand, zero, ratio, zero, attr=(">",)),)


def _log1p(sweep: Sweep, value: int, cotangent: int) -> Contributions:
    shifted = sweep.graph.make("add", sweep.graph.number(1), sweep.graph[value].args[0])
    return (sweep.times(value, cotangent, shifted, "div"),)


def _sigmoid(sweep: Sweep, operand: int, result: int) -> int:
    graph = sweep.graph
    return graph.make("mul", result, graph.make("sub", graph.number(1), result))


def _logsigmoid(sweep: Sweep, operand: int, result: int) -> int:
    return sweep.graph.make("sigmoid", sweep.graph.make("neg", operand))


def _silu(sweep: Sweep, operand: int, result: int) -> int:
    graph = sweep.graph
    gate = graph.make("sigmoid", operand)
    rest = graph.make("mul", operand, graph.make("sub", graph.number(1), gate))
    return graph.make("mul", gate, graph.make("add", graph.number(1), rest))


def _gelu(sweep: Sweep, operand: int, result: int) -> int:
    """Phi(x) + x phi(x), the normal distribution and its density."""
    graph = sweep.graph
    scaled = graph.make("mul", operand, graph.number(math.sqrt(0.5)))
    erf = graph.make("add", graph.number(1), graph.make("erf", scaled))
    square = graph.make("mul", operand, operand)
    bell = graph.make("exp", graph.make("mul", graph.number(-0.5), square))
    density = graph.make("mul", graph.number(1 / math.sqrt(2 * math.pi)), bell)
    half = graph.make("mul", graph.number(0.5), erf)
    return graph.make("add", half, graph.make("mul", operand, density))


def _tanh(sweep: Sweep, operand: int, result: int) -> int:
    graph = sweep.graph
    return graph.make("sub", graph.number(1), graph.make("mul", result, result))


def _rsqrt(sweep: Sweep, operand: int, result: int) -> int:
    graph = sweep.graph
    cube = graph.make("pow", result, attr=(3,))
    return graph.make("mul", graph.number(-0.5), cube)


def _sqrt(sweep: Sweep, value: int, cotangent: int) -> Contributions:
    double = sweep.graph.make("mul", sweep.graph.number(2), value)
    return (sweep.times(value, cotangent, double, "div"),)


def _relu(sweep: Sweep, value: int, cotangent: int) -> Contributions:
    graph, zero = sweep.graph, sweep.graph.number(0.0)
    operand = graph[value].args[0]
    return (graph.make("where", operand, zero, zero, cotangent, attr=("<=",)),)


def _elu(sweep: Sweep, value: int, cotangent: int) -> Contributions:
    graph, zero = sweep.graph, sweep.graph.number(0.0)
    operand = graph[value].args[0]
    decaying = sweep.times(value, cotangent, graph.make("exp", operand))
    return (graph.make("where", operand, zero, cotangent, decaying, attr=(">",)),)


def _flat(sweep: Sweep, value: int, cotangent: int) -> Contributions:
    return (None,)


def _extremum(losing: tuple[str, str]) -> Rule:
    def rule(sweep: Sweep, value: int, cotangent: int) -> Contributions:
        graph, zero = sweep.graph, sweep.graph.number(0.0)
        args = sweep.graph[value].args
        half = graph.make("mul", graph.number(0.5), cotangent)
        shared = graph.make("where", *args, half, cotangent, attr=("==",))
        parts = [graph.make("where", *args, zero, shared, attr=(lost,)) for lost in losing]
        return tuple(parts)

    return rule


def _where(sweep: Sweep, value: int, cotangent: int) -> Contributions:
    graph, zero = sweep.graph, sweep.graph.number(0.0)
    left, right = graph[value].args[:2]
    attr, shape = graph[value].attr, graph.shape(value)
    taken = graph.make("where", left, right, cotangent, zero, attr=attr, shape=shape)
    other = graph.make("where", left, right, zero, cotangent, attr=attr, shape=shape)
    return None, None, taken, other


def _matmul(sweep: Sweep, value: int, cotangent: int) -> Contributions:
    graph = sweep.graph
    left, right = (sweep.partner(value, arg) for arg in graph[value].args)
    ranks = len(graph.shape(left)), len(graph.shape(right))
    if ranks == (1, 1):
        return _dot(sweep, value, cotangent)
    if ranks == (1, 2):
        return graph.make("matmul", right, cotangent), graph.make("outer", left, cotangent)
    transposed = graph.make("transpose", left)
    if ranks == (2, 1):
        return graph.make("outer", cotangent, right), graph.make("matmul", transposed, cotangent)
    right_transposed = graph.make("transpose", right)
    return (
        graph.make("matmul", cotangent, right_transposed),
        graph.make("matmul", transposed, cotangent),
    )


def _outer(sweep: Sweep, value: int, cotangent: int) -> Contributions:
    graph = sweep.graph
    left, right = (sweep.partner(value, arg) for arg in graph[value].args)
    return graph.make("matmul", cotangent, right), graph.make("matmul", left, cotangent)


def _dot(sweep: Sweep, value: int, cotangent: int) -> Contributions:
    left, right = sweep.graph[value].args
    return sweep.times(value, cotangent, right), sweep.times(value, cotangent, left)


def _inverse(op: str) -> Rule:
    def rule(sweep: Sweep, value: int, cotangent: int) -> Contributions:
        shape = sweep.graph.shape(sweep.graph[value].args[0])
        attr = sweep.graph[value].attr
        return (sweep.graph.make(op, cotangent, attr=attr, shape=shape),)

    return rule


def _concat(sweep: Sweep, value: int, cotangent: int) -> Contributions:
    graph, parts = sweep.graph, []
    start = graph.shape(value)[0] - graph.shape(value)[0]
    for arg in graph[value].args:
        stop = start + graph.shape(arg)[0]
        part = graph.make("slice", cotangent, attr=(start, stop), shape=graph.shape(arg))
        parts.append(part)
        start = stop
    return tuple(parts)


def _stack(sweep: Sweep, value: int, cotangent: int) -> Contributions:
    graph = sweep.graph
    count = len(graph[value].args)
    return tuple(graph.make("index", cotangent, attr=(i,)) for i in range(count))


def _sum(sweep: Sweep, value: int, cotangent: int) -> Contributions:
    graph, axis = sweep.graph, sweep.graph[value].attr[0]
    shape = graph.shape(graph[value].args[0])
    if isinstance(axis, int) and axis > 0:
        cotangent = graph.make("expand", cotangent, attr=(axis,))
    return (graph.make("broadcast", cotangent, shape=shape),)


def _mean(sweep: Sweep, value: int, cotangent: int) -> Contributions:
    graph, axis = sweep.graph, sweep.graph[value].attr[0]
    return _sum(sweep, value, graph.make("div", cotangent, _count(graph, value, axis)))


def _count(graph: Graph, value: int, axis: object) -> int:
    """The number of entries that a mean takes together."""
    shape = graph.shape(graph[value].args[0])
    size = ONE
    for i, dim in enumerate(shape):
        if axis is None or i == axis:
            size = size * dim
    if size.constant is not None:
        return graph.number(size.constant)
    return graph.leaf("size", (size,), ())


def _softmax(sweep: Sweep, value: int, cotangent: int) -> Contributions:
    """y (dy - sum(y dy))."""
    result, axis = sweep.partner(value, value), sweep.graph[value].attr[0]
    mean = kept(sweep.graph, "sum", sweep.graph.make("mul", cotangent, result), axis)
    return (sweep.graph.make("mul", result, sweep.graph.make("sub", cotangent, mean)),)


def _norm(mean: bool, centred: bool) -> Rule:
    """(dy - y <y, dy> [- <dy>]) / norm, with <> a sum or a mean over the last axis."""

    def rule(sweep: Sweep, value: int, cotangent: int) -> Contributions:
        graph, axis = sweep.graph, len(sweep.graph.shape(value)) - 1
        result = sweep.partner(value, value)
        reduce = "mean" if mean else "sum"
        along = kept(graph, reduce, graph.make("mul", cotangent, result), axis)
        rest = graph.make("sub", cotangent, graph.make("mul", result, along))
        if centred:
            rest = graph.make("sub", rest, kept(graph, "mean", cotangent, axis))
        definition = graph[value]
        norm = inverse_norm(graph, definition.op, definition.args[0])
        inverse = graph.make("expand", norm, attr=(axis,))
        return (sweep.times(value, rest, inverse),)

    return rule


VJPS: dict[str, Rule] = {
    "add": _add,
    "sub": _sub,
    "mul": _mul,
    "div": _div,
    "neg": _neg,
    "pow": _pow,
    "exp_base": _exp_base,
    "exp": _factor(lambda sweep, operand, result: result),
    "log": _log,
    "safe_log": _safe_log,
    "log1p": _log1p,
    "sigmoid": _factor(_sigmoid),
    "logsigmoid": _factor(_logsigmoid),
    "softplus": _factor(lambda sweep, operand, result: sweep.graph.make("sigmoid", operand)),
    "silu": _factor(_silu),
    "gelu": _factor(_gelu),
    "tanh": _factor(_tanh),
    "relu": _relu,
    "elu": _elu,
    "abs": _factor(lambda sweep, operand, result: sweep.graph.make("sign", operand)),
    "sign": _flat,
    "sqrt": _sqrt,
    "rsqrt": _factor(_rsqrt),
    "maximum": _extremum(("<", ">")),
    "minimum": _extremum((">", "<")),
    "where": _where,
    "matmul": _matmul,
    "transpose": _inverse("transpose"),
    "outer": _outer,
    "dot": _dot,
    "diag": _inverse("diagonal"),
    "index": _inverse("unindex"),
    "slice": _inverse("unslice"),
    "expand": _inverse("squeeze"),
    "ravel": _inverse("unravel"),
    "concat": _concat,
    "stack": _stack,
    # summed to the operand's shape by the sweep
    "broadcast": lambda sweep, value, cotangent: (cotangent,),
    "sum": _sum,
    "mean": _mean,
    "cumsum": _inverse("rcumsum"),
    "softmax": _softmax,
    "l2norm": _norm(mean=False, centred=False),
    "rmsnorm": _norm(mean=True, centred=False),
    "layernorm": _norm(mean=True, centred=True),
}


def reverse_sweep(graph: Graph, seeds: dict[int, int], wrt: Iterable[int]) -> dict[int, int]:
    """Cotangents of every value between ``wrt`` and ``seeds``, by value.

    Args:
        graph: the values; the sweep adds to it.
        seeds: the cotangent that comes from outside, by value.
        wrt: the leaves to differentiate by; those that no seed depends on are absent.
    """
    sweep = Sweep(graph, seeds, set(wrt), VJPS)
    for value in sorted(sweep.active, reverse=True):
        cotangent = sweep.close(value)
        if cotangent is not None and graph[value].args:
            sweep.propagate(value, cotangent)
    return sweep.closed
