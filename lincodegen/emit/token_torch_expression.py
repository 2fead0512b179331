"""Expressions of token programs as PyTorch text with the brackets that Python needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from lincodegen.emit.token_python import (
    ATOM,
    PRODUCT,
    SUM,
    TERNARY,
    Text,
    at_least,
    size_text,
)
from lincodegen.emit.token_subscript import scalar_below, subscript_text, subscripted
from lincodegen.errors import EmitError, InternalError
from lincodegen.program.token import Argument, Kind, Statement, TokenProgram
from lincodegen.spec.step import Node, Shape

_BINARY = {
    "add": ("+", SUM),
    "sub": ("-", SUM),
    "mul": ("*", PRODUCT),
    "div": ("/", PRODUCT),
    "floordiv": ("//", PRODUCT),
    "mod": ("%", PRODUCT),
}
_FUNCTIONS = {
    "exp": "torch.exp",
    "log": "torch.log",
    "safe_log": "torch.log",
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
    """Prints expressions of one program.

    Args:
        program: the program, which tells tensors from numbers.
        printers: the operations that are more than an infix or a function call; not needed to
            ask what kind of value an expression is.
    """

    def __init__(
        self, program: TokenProgram, printers: Mapping[str, Printer] | None = None
    ) -> None:
        self._printers = printers or {}
        self._tensors = {a.name: a for a in program.inputs if a.kind is not Kind.CONSTANT}
        self._scalars = {a.name for a in program.inputs if a.kind is Kind.CONSTANT}
        self._partial = {a.name for a in program.inputs if a.kind is Kind.PARAMETER}
        for statement in program.statements:
            self.define(statement)

    def define(self, statement: Statement) -> None:
        """Learn what kind of value a statement's name stands for."""
        if not self.is_tensor(statement.value):
            self._scalars.add(statement.name)
        elif not self.has_leading_axes(statement.value):
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

    def has_leading_axes(self, node: Node) -> bool:
        """Whether a tensor has all leading axes, not those of a parameter or none."""
        if not node.args:
            return self.is_tensor(node) and node.attr[:1] != () and not self._is_partial(node)
        return any(self.has_leading_axes(arg) for arg in node.args)

    def _is_partial(self, node: Node) -> bool:
        return node.op in {"ones", "zeros", "eye"} or node.attr[0] in self._partial

    def text(self, node: Node) -> Text:
        """The expression's text and how strongly it binds."""
        printer = self._printers.get(node.op)
        if printer is not None:
            return printer(self, node)
        if node.op in _BINARY:
            return self._infix(node, *_BINARY[node.op])
        if node.op in _FUNCTIONS or node.op in _SCALAR_FUNCTIONS:
            return self.function(node)
        if not node.args:
            return str(node.attr[0]), ATOM
        raise InternalError(f"{node.op!r} has no PyTorch text")

    def operand(self, node: Node, rank: int, precedence: int) -> str:
        """An operand with axes put in front until it has ``rank`` token axes."""
        if not self.is_tensor(node):
            return at_least(self.text(scalar_below(node)), precedence)
        return at_least(self._aligned(node, rank), precedence)

    def tensor(self, node: Node, rank: int | None = None, precedence: int = TERNARY) -> str:
        """An operand that PyTorch needs as a tensor."""
        rank = len(node.shape) if rank is None else rank
        if self.is_tensor(node):
            return self.operand(node, rank, precedence)
        sizes = ", ".join(size_text(d) for d in node.shape) + "," * (len(node.shape) == 1)
        text, _ = self.text(scalar_below(node))
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
            return at_least(self.text(base), ATOM) + subscript, ATOM
        return self.text(base)

    def _infix(self, node: Node, sign: str, precedence: int) -> Text:
        rank = len(node.shape)
        left = self.operand(node.args[0], rank, precedence)
        right = self.operand(node.args[1], rank, precedence + 1)
        return f"{left} {sign} {right}", precedence

    def function(self, node: Node) -> Text:
        """A call of PyTorch, or of Python for numbers."""
        if not self.is_tensor(node):
            args = ", ".join(self.text(scalar_below(arg))[0] for arg in node.args)
            return f"{_SCALAR_FUNCTIONS[node.op]}({args})", ATOM
        return f"{_FUNCTIONS[node.op]}({self.tensor(node.args[0])})", ATOM

    def rows(self, args: tuple[Node, ...], rank: int) -> str:
        """Operands of a concatenation, all with the leading axes that any of them has."""
        full = [self.has_leading_axes(arg) for arg in args]
        texts = []
        for arg, has in zip(args, full, strict=True):
            if has or not any(full):
                texts.append(self.tensor(arg))
                continue
            sizes = "".join(f", {size_text(d)}" for d in arg.shape)
            atom = self.tensor(arg, rank, ATOM)
            texts.append(f"{atom}.expand({self.leading()}{sizes})")
        return ", ".join(texts)


Printer: TypeAlias = Callable[[TorchExpressions, Node], Text]
