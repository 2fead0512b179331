"""Expressions of token programs as PyTorch text with the brackets that Python needs."""

from __future__ import annotations

from collections.abc import Callable

from lincodegen.emit.token_python import number_text, power_text, product_text, size_text
from lincodegen.emit.token_subscript import is_kept_reduction, subscript_text, subscripted
from lincodegen.errors import EmitError, InternalError
from lincodegen.program.token import Argument, Kind, TokenProgram
from lincodegen.spec.dims import Dim
from lincodegen.spec.step import Node, Shape

TERNARY, COMPARISON, SUM, PRODUCT, SIGN, POWER, ATOM = range(7)
Text = tuple[str, int]

_BINARY = {"add": ("+", SUM), "sub": ("-", SUM), "mul": ("*", PRODUCT), "div": ("/", PRODUCT)}
_FUNCTIONS = {
    "exp": "torch.exp",
    "log": "torch.log",
    "log1p": "torch.log1p",
    "sigmoid": "torch.sigmoid",
    "logsigmoid": "F.logsigmoid",
    "silu": "F.silu",
    "gelu": "F.gelu",
    "tanh": "torch.tanh",
    "relu": "torch.relu",
    "elu": "F.elu",
    "abs": "torch.abs",
    "sign": "torch.sign",
    "sqrt": "torch.sqrt",
    "rsqrt": "torch.rsqrt",
    "erf": "torch.erf",
    "diag": "torch.diag_embed",
    "zeros_like": "torch.zeros_like",
}
_SCALAR_FUNCTIONS = {
    "exp": "math.exp",
    "log": "math.log",
    "log1p": "math.log1p",
    "sqrt": "math.sqrt",
    "tanh": "math.tanh",
    "erf": "math.erf",
    "abs": "abs",
    "maximum": "max",
    "minimum": "min",
}
_SCALAR = frozenset(("neg", "pow", "exp_base", "where", *_BINARY, *_SCALAR_FUNCTIONS))


class TorchExpressions:
    """Prints expressions of one program."""

    def __init__(self, program: TokenProgram) -> None:
        self._tensors = {a.name: a for a in program.inputs if a.kind is not Kind.CONSTANT}
        self._scalars = {a.name for a in program.inputs if a.kind is Kind.CONSTANT}
        self._partial = {a.name for a in program.inputs if a.kind is Kind.PARAMETER}
        for statement in program.statements:
            if not self.is_tensor(statement.value):
                self._scalars.add(statement.name)
            elif not self._has_leading_axes(statement.value):
                self._partial.add(statement.name)

    def print(self, node: Node) -> str:
        """The expression's text."""
        return self.text(node)[0]

    def is_tensor(self, node: Node) -> bool:
        """Whether the text is a tensor rather than a Python number."""
        if node.op in {"number", "size", "constant"}:
            return False
        if node.op == "value":
            return node.attr[0] not in self._scalars
        if not node.args or node.op not in _SCALAR | {"expand", "broadcast", "squeeze"}:
            return True
        return any(self.is_tensor(arg) for arg in node.args)

    def _has_leading_axes(self, node: Node) -> bool:
        """Whether a tensor has all leading axes, not those of a parameter or none."""
        if not node.args:
            return self.is_tensor(node) and node.attr[:1] != () and not self._is_partial(node)
        return any(self._has_leading_axes(arg) for arg in node.args)

    def _is_partial(self, node: Node) -> bool:
        return node.op in {"ones", "zeros", "eye"} or node.attr[0] in self._partial

    def text(self, node: Node) -> Text:
        printer = _PRINTERS.get(node.op)
        if printer is not None:
            return printer(self, node)
        if node.op in _BINARY:
            return self._infix(node, *_BINARY[node.op])
        if node.op in _FUNCTIONS or node.op in _SCALAR_FUNCTIONS:
            return self.function(node)
        if not node.args:
            return str(node.attr[0]), ATOM
        raise InternalError(f"{node.op!r} has no PyTorch text")

    def at_least(self, text: Text, precedence: int) -> str:
        """Text that binds as ``precedence`` does, bracketed where it binds weaker."""
        return text[0] if text[1] >= precedence else f"({text[0]})"

    def operand(self, node: Node, rank: int, precedence: int) -> str:
        """An operand with axes put in front until it has ``rank`` token axes."""
        if not self.is_tensor(node):
            return self.at_least(self.text(_scalar_below(node)), precedence)
        return self.at_least(self._aligned(node, rank), precedence)

    def tensor(self, node: Node, rank: int | None = None, precedence: int = TERNARY) -> str:
        """An operand that PyTorch needs as a tensor."""
        rank = len(node.shape) if rank is None else rank
        if self.is_tensor(node):
            return self.operand(node, rank, precedence)
        sizes = ", ".join(size_text(d) for d in node.shape) + "," * (len(node.shape) == 1)
        text, _ = self.text(_scalar_below(node))
        return f"{self.reference()}.new_full(({sizes}), {text})"

    def reference(self) -> str:
        """A tensor argument from which others take dtype and device."""
        order = (Kind.TOKEN, Kind.STATE, Kind.PARAMETER)
        ranked = sorted(self._tensors.values(), key=lambda a: order.index(a.kind))
        if not ranked:
            raise EmitError("a program without tensor arguments has no dtype and device")
        return ranked[0].name

    def like(self, shape: Shape) -> Argument | None:
        """A token or state argument of a shape, from which a value takes its axes."""
        full = (a for a in self._tensors.values() if a.kind is not Kind.PARAMETER)
        return next((a for a in full if a.shape == shape), None)

    def leading(self) -> str:
        """The leading axes, to be spread into a call."""
        full = [a for a in self._tensors.values() if a.kind is not Kind.PARAMETER]
        if not full:
            raise EmitError("a program without token arguments has no leading axes")
        best = min(full, key=lambda a: len(a.shape))
        return f"*{best.name}.shape" + (f"[:-{len(best.shape)}]" if best.shape else "")

    def _aligned(self, node: Node, rank: int) -> Text:
        base, items = subscripted(node, rank)
        if subscript := subscript_text(items):
            return self.at_least(self.text(base), ATOM) + subscript, ATOM
        return self.text(base)

    def _infix(self, node: Node, sign: str, precedence: int) -> Text:
        rank = len(node.shape)
        left = self.operand(node.args[0], rank, precedence)
        right = self.operand(node.args[1], rank, precedence + 1)
        return f"{left} {sign} {right}", precedence

    def function(self, node: Node) -> Text:
        if not self.is_tensor(node):
            args = ", ".join(self.text(_scalar_below(arg))[0] for arg in node.args)
            return f"{_SCALAR_FUNCTIONS[node.op]}({args})", ATOM
        return f"{_FUNCTIONS[node.op]}({self.tensor(node.args[0])})", ATOM

    def rows(self, args: tuple[Node, ...], rank: int) -> str:
        """Operands of a concatenation, all with the leading axes that any of them has."""
        full = [self._has_leading_axes(arg) for arg in args]
        texts = []
        for arg, has in zip(args, full, strict=True):
            if has or not any(full):
                texts.append(self.tensor(arg))
                continue
            sizes = "".join(f", {size_text(d)}" for d in arg.shape)
            atom = self.tensor(arg, rank, ATOM)
            texts.append(f"{atom}.expand({self.leading()}{sizes})")
        return ", ".join(texts)


def _scalar_below(node: Node) -> Node:
    """A Python number behind the axes that broadcasting would give it."""
    while node.op in {"expand", "broadcast", "squeeze"}:
        node = node.args[0]
    return node


def _number(text: TorchExpressions, node: Node) -> Text:
    value = node.attr[0]
    if not isinstance(value, int | float):
        raise InternalError(f"literal {value!r} is no number")
    return number_text(value), SIGN if str(value).startswith("-") else ATOM


def _size(text: TorchExpressions, node: Node) -> Text:
    dim = node.attr[0]
    if not isinstance(dim, Dim):
        raise InternalError(f"size {dim!r} is no dimension")
    return size_text(dim), ATOM if size_text(dim) == product_text(dim) else SUM


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
    return (text.at_least(inner, ATOM) + subscript, ATOM) if subscript else inner


def _reduction(text: TorchExpressions, node: Node, keep: bool = False) -> Text:
    operand, axis = node.args[0], node.attr[0]
    rank = len(operand.shape)
    if axis is None:
        where = "-1" if rank == 1 else "(-2, -1)"
    else:
        where = str(int(str(axis)) - rank)
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
    condition = f"{text.operand(left, rank, SUM)} {node.attr[0]} {text.operand(right, rank, SUM)}"
    if not (text.is_tensor(left) or text.is_tensor(right)):
        first = text.operand(taken, rank, COMPARISON)
        return f"{first} if {condition} else {text.operand(other, rank, COMPARISON)}", TERNARY
    first = text.operand(taken, rank, TERNARY)
    if not (text.is_tensor(taken) or text.is_tensor(other)):
        first = text.tensor(_scalar_below(taken))
    return f"torch.where({condition}, {first}, {text.operand(other, rank, TERNARY)})", ATOM


def _matmul(text: TorchExpressions, node: Node) -> Text:
    left, right = node.args
    ranks = len(left.shape), len(right.shape)
    if ranks == (1, 1):
        return _dot(text, node)
    if ranks == (1, 2):
        return f"({text.tensor(left, 2, PRODUCT)} @ {text.tensor(right, None, SIGN)}).squeeze(-2)", ATOM
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


def _method(call: str) -> Callable[[TorchExpressions, Node], Text]:
    def printer(text: TorchExpressions, node: Node) -> Text:
        return f"{text.tensor(node.args[0], precedence=ATOM)}{call}", ATOM

    return printer


def _along(form: str) -> Callable[[TorchExpressions, Node], Text]:
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


_PRINTERS: dict[str, Callable[[TorchExpressions, Node], Text]] = {
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
