"""What a spec's domains prove about a state-free expression: an enclosing interval."""

from __future__ import annotations

from dataclasses import replace
from math import exp, inf, isnan, log, log1p, tanh

from lincodegen.derive.nodes import is_number, neg, number, times
from lincodegen.spec.step import Node, Recurrence, Tensor

Range = tuple[float, float]

REAL = (-inf, inf)
_MONOTONE = {
    "exp": lambda x: exp(min(x, 709.0)) if x > -inf else 0.0,
    "sigmoid": lambda x: 0.0 if x < -700 else 1 / (1 + exp(-x)),
    "softplus": lambda x: x if x > 700 else log1p(exp(x)) if x > -inf else 0.0,
    "tanh": tanh,
    "relu": lambda x: max(x, 0.0),
    "log": lambda x: log(x) if x > 0 and x < inf else (inf if x > 0 else -inf),
    "safe_log": lambda x: log(x) if x > 0 and x < inf else (inf if x > 0 else -inf),
    "log1p": lambda x: log1p(x) if -1 < x < inf else (inf if x > 0 else -inf),
    "sqrt": lambda x: max(x, 0.0) ** 0.5,
}


def enclose(node: Node, recurrence: Recurrence) -> Range:
    """An interval [low, high] that holds every entry of a state-free expression."""
    tensors = {t.name: t for t in recurrence.inputs + recurrence.parameters}
    memo: dict[int, Range] = {}
    for n in node.walk():
        memo[id(n)] = _rule(n, [memo[id(a)] for a in n.args], tensors, recurrence)
    return memo[id(node)]


def _rule(
    n: Node, ranges: list[Range], tensors: dict[str, Tensor], recurrence: Recurrence
) -> Range:
    """The interval of one node from those of its operands."""
    if not n.args:
        return _leaf(n, tensors, recurrence)
    match n.op:
        case "neg":
            return -ranges[0][1], -ranges[0][0]
        case "add":
            return _clean(ranges[0][0] + ranges[1][0], ranges[0][1] + ranges[1][1])
        case "sub":
            return _clean(ranges[0][0] - ranges[1][1], ranges[0][1] - ranges[1][0])
        case "mul":
            if n.args[0] == n.args[1]:
                ends = [_product(x, x) for x in ranges[0]]
                return 0.0 if ranges[0][0] <= 0 <= ranges[0][1] else min(ends), max(ends)
            ends = [_product(x, y) for x in ranges[0] for y in ranges[1]]
            return min(ends), max(ends)
        case "div" if ranges[1][0] > 0 or ranges[1][1] < 0:
            ends = [_product(x, 1 / y) for x in ranges[0] for y in ranges[1]]
            return min(ends), max(ends)
        case "maximum":
            return max(ranges[0][0], ranges[1][0]), max(ranges[0][1], ranges[1][1])
        case "minimum":
            return min(ranges[0][0], ranges[1][0]), min(ranges[0][1], ranges[1][1])
        case "where":
            return min(ranges[2][0], ranges[3][0]), max(ranges[2][1], ranges[3][1])
        case "index" | "slice" | "expand" | "transpose" | "ravel":
            return ranges[0]
        case "concat":
            return min(r[0] for r in ranges), max(r[1] for r in ranges)
        case "abs":
            low, high = ranges[0]
            return 0.0 if low <= 0 <= high else min(abs(low), abs(high)), max(abs(low), abs(high))
        case "exp_base":
            ends = sorted(_power(n.attr[0], x) for x in ranges[0])
            return ends[0], ends[1]
        case "pow" if ranges[0][0] >= 0:
            ends = sorted(_raised(x, float(n.attr[0])) for x in ranges[0])
            return ends[0], ends[1]
        case "pow" if n.attr[0] == int(n.attr[0]) and int(n.attr[0]) % 2 == 0 and n.attr[0] > 0:
            return 0.0, inf
        case "softmax":
            return 0.0, 1.0
        case "rsqrt":
            return 0.0, inf
        case "l2norm":
            return -1.0, 1.0
        case op if op in _MONOTONE:
            return _MONOTONE[op](ranges[0][0]), _MONOTONE[op](ranges[0][1])
    return REAL


def _leaf(n: Node, tensors: dict[str, Tensor], recurrence: Recurrence) -> Range:
    """The interval of a leaf: its domain, its value, or that of the statement it names."""
    match n.op:
        case "input" | "parameter":
            domain = tensors[n.attr[0]].domain
            norm = tensors[n.attr[0]].norm
            bound = norm.high if norm else inf
            return max(domain.low, -bound), min(domain.high, bound)
        case "number":
            return float(n.attr[0]), float(n.attr[0])
        case "size":
            return 1.0, inf
        case "ref":
            return enclose(recurrence.step[n.attr[0]].value, recurrence)
        case "ones":
            return 1.0, 1.0
        case "zeros":
            return 0.0, 0.0
    return REAL


def _clean(low: float, high: float) -> Range:
    return -inf if isnan(low) else low, inf if isnan(high) else high


def _product(x: float, y: float) -> float:
    """x * y with 0 * inf = 0, the convention of interval ends."""
    return 0.0 if x == 0 or y == 0 else x * y


def _raised(x: float, exponent: float) -> float:
    """x ** exponent for x >= 0, at 0 and infinity the limit."""
    if exponent == 0:
        return 1.0
    if x in (0.0, inf):
        return 0.0 if (x == 0) == (exponent > 0) else inf
    return exp(min(exponent * log(x), 709.0))


def _power(base: float, x: float) -> float:
    return (
        exp(min(x * log(base), 709.0)) if abs(x) < inf else (inf if (x > 0) == (base > 1) else 0.0)
    )


def log_of(node: Node, recurrence: Recurrence) -> Node | None:
    """The log of a factor that is proved >= 0, in its stable form; None if it is not proved.

    log exp x = x, log sigmoid x = -softplus(-x), log of a product is the sum of the logs.
    What remains is ``safe_log``: -inf at 0, with derivative 0 there.
    """
    match node.op:
        case "exp":
            return node.args[0]
        case "sigmoid":
            soft = Node("softplus", (neg(node.args[0]),), (), node.shape, node.place)
            return neg(soft)
        case "exp_base":
            return times(node.args[0], number(log(float(node.attr[0]))))
        case "number" if float(node.attr[0]) > 0:
            return number(log(float(node.attr[0])))
        case "expand" | "index" | "slice":
            inner = log_of(node.args[0], recurrence)
            return inner and Node(node.op, (inner,), node.attr, node.shape, node.place)
        case "where":
            left, right = (log_of(a, recurrence) for a in node.args[2:])
            if left is not None and right is not None:
                return replace(node, args=(*node.args[:2], left, right))
        case "sqrt" | "pow" if (inner := log_of(node.args[0], recurrence)) is not None:
            return times(number(node.attr[0] if node.op == "pow" else 0.5), inner)
        case "mul":
            left, right = (log_of(a, recurrence) for a in node.args)
            if left is not None and right is not None:
                return Node("add", (left, right), (), node.shape, node.place)
        case "ref":
            return log_of(recurrence.step[int(node.attr[0])].value, recurrence)
    if enclose(node, recurrence)[0] >= 0 and not is_number(node, 0):
        return Node("safe_log", (node,), (), node.shape, node.place)
    return None
