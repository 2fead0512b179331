"""PyTorch text of the token operations that are more than an infix or a function call."""

from __future__ import annotations

from lincodegen.emit.token_python import (
    ATOM,
    COMPARISON,
    POWER,
    PRODUCT,
    SIGN,
    SUM,
    TERNARY,
    Text,
    at_least,
    number_text,
    power_text,
    product_text,
    size_text,
)
from lincodegen.emit.token_subscript import (
    is_kept_reduction,
    scalar_below,
    subscript_text,
    subscripted,
)
from lincodegen.emit.token_torch_expression import Printer, TorchExpressions
from lincodegen.errors import InternalError
from lincodegen.program.token import TokenProgram
from lincodegen.spec.dims import Dim
from lincodegen.spec.step import Node

_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}


def _number(text: TorchExpressions, node: Node) -> Text:
    value = node.attr[0]
    if not isinstance(value, int | float):
        raise InternalError(f"literal {value!r} is no number")
    return number_text(value), SIGN if str(value).startswith("-") else ATOM


def _size(text: TorchExpressions, node: Node) -> Text:
    dim = node.attr[0]
    if not isinstance(dim, Dim):
        raise InternalError(f"size {dim!r} is no dimension")
    if size_text(dim) != product_text(dim):
        return size_text(dim), SUM
    return size_text(dim), PRODUCT if "*" in size_text(dim) else ATOM


def _neg(text: TorchExpressions, node: Node) -> Text:
    operand = text.operand(node.args[0], len(node.shape), PRODUCT)
    return f"-{operand}" if not operand.startswith("-") else f"-({operand})", SIGN


def _view(text: TorchExpressions, node: Node) -> Text:
    if is_kept_reduction(node):
        return _reduction(text, node.args[0], keep=True)
    if not text.is_tensor(node):
        return text.tensor(node), ATOM
    base, items = subscripted(node, len(node.shape))
    subscript = subscript_text(items)
    inner = text.text(base)
    return (at_least(inner, ATOM) + subscript, ATOM) if subscript else inner


def _reduction(text: TorchExpressions, node: Node, keep: bool = False) -> Text:
    operand, axis = node.args[0], node.attr[0]
    rank = len(operand.shape)
    everything = "-1" if rank == 1 else "(-2, -1)"
    where = everything if axis is None else str(int(str(axis)) - rank)
    kept = ", keepdim=True" if keep else ""
    return f"{text.tensor(operand, precedence=ATOM)}.{node.op}({where}{kept})", ATOM


def _power(text: TorchExpressions, node: Node) -> Text:
    exponent = node.attr[0]
    if not isinstance(exponent, int | float):
        raise InternalError(f"exponent {exponent!r} is no number")
    base = text.operand(node.args[0], len(node.shape), ATOM)
    return power_text(base, number_text(exponent)), POWER


def _exp_base(text: TorchExpressions, node: Node) -> Text:
    base = node.attr[0]
    if base == 2 and text.is_tensor(node):
        return f"torch.exp2({text.tensor(node.args[0])})", ATOM
    exponent = text.operand(node.args[0], len(node.shape), SIGN)
    return power_text(str(base), exponent), POWER


def _softplus(text: TorchExpressions, node: Node) -> Text:
    negated = _neg(text, Node("neg", node.args, (), node.shape))[0]
    return f"-F.logsigmoid({negated})", SIGN


def _finite(text: TorchExpressions, node: Node) -> Text:
    return f"torch.nan_to_num({text.tensor(node.args[0])}, 0.0, 0.0, 0.0)", ATOM


def _extremum(text: TorchExpressions, node: Node) -> Text:
    if not text.is_tensor(node):
        return text.function(node)
    rank = len(node.shape)
    tensors = [arg for arg in node.args if text.is_tensor(arg)]
    if len(tensors) == 2:
        args = ", ".join(text.tensor(arg, rank) for arg in node.args)
        return f"torch.{node.op}({args})", ATOM
    bound = next(arg for arg in node.args if not text.is_tensor(arg))
    side = "min" if node.op == "maximum" else "max"
    value = text.tensor(tensors[0], rank, ATOM)
    return f"{value}.clamp({side}={text.operand(bound, 0, TERNARY)})", ATOM


def _where(text: TorchExpressions, node: Node) -> Text:
    rank, (left, right, taken, other) = len(node.shape), node.args
    comparison = str(node.attr[0])
    if left.op == "number" and right.op != "number":
        left, right, comparison = right, left, _MIRRORED[comparison]
    condition = f"{text.operand(left, rank, SUM)} {comparison} {text.operand(right, rank, SUM)}"
    if not (text.is_tensor(left) or text.is_tensor(right)):
        first, second = (_branch(text, arg, rank, node.args[2:]) for arg in node.args[2:])
        return f"{first} if {condition} else {second}", TERNARY
    first = text.operand(taken, rank, TERNARY)
    if not (text.is_tensor(taken) or text.is_tensor(other)):
        first = text.tensor(scalar_below(taken))
    return f"torch.where({condition}, {first}, {text.operand(other, rank, TERNARY)})", ATOM


def _branch(text: TorchExpressions, node: Node, rank: int, both: tuple[Node, ...]) -> str:
    """One of two values of a Python conditional: a tensor if the other is."""
    tensors = [arg for arg in both if text.is_tensor(arg)]
    if text.is_tensor(node) or not tensors:
        return text.operand(node, rank, COMPARISON)
    value = text.operand(node, rank, TERNARY)
    return f"torch.full_like({text.tensor(tensors[0], rank)}, {value})"


def _matmul(text: TorchExpressions, node: Node) -> Text:
    left, right = node.args
    ranks = len(left.shape), len(right.shape)
    if ranks == (1, 1):
        return _dot(text, node)
    if ranks == (1, 2):
        return (
            f"({text.tensor(left, 2, PRODUCT)} @ {text.tensor(right, None, SIGN)}).squeeze(-2)",
            ATOM,
        )
    if ranks == (2, 1):
        column = text.tensor(Node("expand", (right,), (1,), (*right.shape, Dim.of(1))), 2, SIGN)
        if left.op == "transpose":
            row = text.tensor(right, 2, PRODUCT)
            return f"({row} @ {text.tensor(left.args[0], None, SIGN)}).squeeze(-2)", ATOM
        return f"({text.tensor(left, None, PRODUCT)} @ {column}).squeeze(-1)", ATOM
    return f"{text.tensor(left, None, PRODUCT)} @ {text.tensor(right, None, SIGN)}", PRODUCT


def _dot(text: TorchExpressions, node: Node) -> Text:
    left, right = node.args
    product = f"{text.operand(left, 1, PRODUCT)} * {text.operand(right, 1, SIGN)}"
    return f"({product}).sum(-1)", ATOM


def _outer(text: TorchExpressions, node: Node) -> Text:
    left, right = node.args
    column = Node("expand", (left,), (1,), (*left.shape, Dim.of(1)))
    return f"{text.operand(column, 2, PRODUCT)} * {text.operand(right, 2, SIGN)}", PRODUCT


def _method(call: str) -> Printer:
    def printer(text: TorchExpressions, node: Node) -> Text:
        return f"{text.tensor(node.args[0], precedence=ATOM)}{call}", ATOM

    return printer


def _along(form: str) -> Printer:
    """A function of one axis; ``form`` has ``{x}`` and ``{axis}``."""

    def printer(text: TorchExpressions, node: Node) -> Text:
        axis = int(str(node.attr[0])) - len(node.shape)
        precedence = ATOM if form.startswith("{x}") else TERNARY
        operand = text.tensor(node.args[0], precedence=precedence)
        return form.format(x=operand, axis=axis), ATOM

    return printer


def _ravel(text: TorchExpressions, node: Node) -> Text:
    operand = text.tensor(node.args[0], precedence=ATOM)
    return (f"{operand}.flatten(-2)" if len(node.args[0].shape) == 2 else operand), ATOM


def _unravel(text: TorchExpressions, node: Node) -> Text:
    operand = text.tensor(node.args[0], precedence=ATOM)
    sizes = ", ".join(size_text(d) for d in node.shape)
    return (f"{operand}.unflatten(-1, ({sizes}))" if len(node.shape) == 2 else operand), ATOM


def _concat(text: TorchExpressions, node: Node) -> Text:
    rank = len(node.shape)
    return f"torch.cat(({text.rows(node.args, rank)}), -{rank})", ATOM


def _stack(text: TorchExpressions, node: Node) -> Text:
    rank = len(node.shape)
    rows = text.rows(node.args, rank - 1) + "," * (len(node.args) == 1)
    return f"torch.stack(({rows}), -{rank})", ATOM


def _padded(text: TorchExpressions, node: Node) -> Text:
    """Zeros around a row or a slice."""
    operand, size = node.args[0], node.shape[0]
    if node.op == "unindex":
        index = int(str(node.attr[0]))
        start = Dim.of(index) if index >= 0 else size + index
        stop = start + 1
        operand = Node("expand", (operand,), (0,), (Dim.of(1), *operand.shape))
    else:
        start, stop = (bound for bound in node.attr if isinstance(bound, Dim))
    pads = [size_text(start), size_text(size - stop)]
    if len(node.shape) == 2:
        pads = ["0", "0", *pads]
    return f"F.pad({text.tensor(operand)}, ({', '.join(pads)}))", ATOM


def _filled(text: TorchExpressions, node: Node) -> Text:
    reference = text.reference()
    sizes = ", ".join(size_text(d) for d in node.shape)
    if node.op == "eye":
        sizes = size_text(node.shape[0]) if node.shape[0] == node.shape[1] else sizes
        return f"torch.eye({sizes}, dtype={reference}.dtype, device={reference}.device)", ATOM
    return f"{reference}.new_{node.op}({sizes or '()'})", ATOM


def _broadcast(text: TorchExpressions, node: Node) -> Text:
    rank = len(node.shape)
    operand = text.tensor(node.args[0] if text.is_tensor(node) else node, rank, ATOM)
    if (like := text.like(node.shape)) is not None:
        return f"{operand}.expand_as({like.name})", ATOM
    sizes = ", ".join(size_text(d) for d in node.shape)
    return f"{operand}.expand({text.leading()}, {sizes})", ATOM


PRINTERS: dict[str, Printer] = {
    "number": _number,
    "size": _size,
    "neg": _neg,
    "expand": _view,
    "squeeze": _view,
    "index": _view,
    "slice": _view,
    "sum": _reduction,
    "mean": _reduction,
    "pow": _power,
    "exp_base": _exp_base,
    "softplus": _softplus,
    "finite": _finite,
    "maximum": _extremum,
    "minimum": _extremum,
    "where": _where,
    "matmul": _matmul,
    "dot": _dot,
    "outer": _outer,
    "transpose": _method(".mT"),
    "diagonal": _method(".diagonal(dim1=-2, dim2=-1)"),
    "cumsum": _along("{x}.cumsum({axis})"),
    "rcumsum": _along("{x}.flip({axis}).cumsum({axis}).flip({axis})"),
    "softmax": _along("torch.softmax({x}, {axis})"),
    "ravel": _ravel,
    "unravel": _unravel,
    "concat": _concat,
    "stack": _stack,
    "unindex": _padded,
    "unslice": _padded,
    "ones": _filled,
    "zeros": _filled,
    "eye": _filled,
    "broadcast": _broadcast,
}


def torch_expressions(program: TokenProgram) -> TorchExpressions:
    """The printer of a program's expressions."""
    return TorchExpressions(program, PRINTERS)
