"""The functions of the spec language on tensors ``[batch, heads, *shape]``.

Broadcasting is NumPy's, from the right, on the axes after the first two. Everything is
composed of pointwise functions, sums and moves of entries, so that one rule makes ``where``
exact: in a guarded call a cotangent of exactly 0 stays 0 whatever it is multiplied with, hence
nothing flows out of a branch not taken, be its derivative infinite or NaN.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from lincodegen.spec.step import Node
from lincodegen.verify.attributes import axes_of, dims_of, index_of, name_of, number_of

Pointwise: TypeAlias = Callable[..., Tensor]
EPSILON = 1e-6


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """How to compute: ``zero`` gives dtype and device, ``guarded`` the rule above.

    ``operands`` is a dtype that the operands of products are rounded to, or None.
    """

    zero: Tensor
    guarded: bool
    operands: torch.dtype | None = None


def apply(
    node: Node, args: list[Tensor], sizes: Mapping[str, int], arithmetic: Arithmetic
) -> Tensor:
    """The value of an inner node from its operands."""
    zero, guarded = arithmetic.zero, arithmetic.guarded
    call = _guarded if guarded else _plain
    args = align_heads(args)
    if node.op in _POINTWISE:
        ranks = [len(arg.shape) for arg in node.args]
        args = [widen(x, r, max(ranks)) for x, r in zip(args, ranks, strict=True)]
        return call(_POINTWISE[node.op](node), *args)
    if node.op in _FILLED:
        shape = [d.evaluate(sizes) for d in node.shape]
        return _FILLED[node.op](*shape, dtype=zero.dtype, device=zero.device)[None, None]
    if node.op in _PRODUCTS:
        if arithmetic.operands is not None:
            args = [x.to(arithmetic.operands).to(zero.dtype) for x in args]
        return _product(node, args, call)
    if node.op in _NORMS:
        return _NORMS[node.op](args[0], call)
    if node.op == "slice":
        start, stop = (d.evaluate(sizes) for d in dims_of(node))
        return args[0][:, :, start:stop]
    return _MOVES[node.op](node, args, call)


def align_heads(args: list[Tensor]) -> list[Tensor]:
    """Operands with one head count; head h of n becomes the next ones of the larger count."""
    return [repeat_heads(x, max(y.shape[1] for y in args)) for x in args]


def repeat_heads(x: Tensor, count: int) -> Tensor:
    """``[b, Hx, ...]`` to ``[b, count, ...]``: head h is the tensor's head h // (count / Hx)."""
    if x.shape[1] in (1, count):
        return x.expand(x.shape[0], count, *x.shape[2:])
    if count % x.shape[1]:
        raise ValueError(f"{x.shape[1]} heads do not divide {count}")
    return x.repeat_interleave(count // x.shape[1], 1)


def widen(x: Tensor, rank: int, target: int) -> Tensor:
    """Insert axes of size 1 after batch and heads, so that shapes align from the right."""
    return x.reshape(*x.shape[:2], *(1,) * (target - rank), *x.shape[2:])


def _plain(function: Pointwise, *args: Tensor) -> Tensor:
    return function(*args)


def _guarded(function: Pointwise, *args: Tensor) -> Tensor:
    return _ZeroStaysZero.apply(function, *torch.broadcast_tensors(*args))


class _Context(Protocol):
    """What autograd keeps between forward and backward."""

    function: Pointwise
    saved_tensors: tuple[Tensor, ...]

    def save_for_backward(self, *tensors: Tensor) -> None:
        """Keep tensors."""
        ...


class _ZeroStaysZero(torch.autograd.Function):
    """A pointwise function whose vector-Jacobian product takes 0 times infinity for 0."""

    @staticmethod
    def forward(ctx: _Context, function: Pointwise, *args: Tensor) -> Tensor:
        ctx.function = function
        ctx.save_for_backward(*args)
        return function(*args)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride] - the decorator's type
        ctx: _Context, *cotangents: Tensor
    ) -> tuple[Tensor | None, ...]:
        (dy,) = cotangents
        with torch.enable_grad():
            args = [x.detach().requires_grad_() for x in ctx.saved_tensors]
            y = ctx.function(*args)
        gradients = torch.autograd.grad(y, args, dy, allow_unused=True, materialize_grads=True)
        return None, *(torch.where(dy == 0, 0.0, dx) for dx in gradients)


def _softplus(x: Tensor) -> Tensor:
    """max(x, 0) + log1p(exp(-|x|)); the derivative at 0 is 1/2, as the halves add up."""
    return torch.maximum(x, torch.zeros_like(x)) + torch.log1p(torch.exp(-x.abs()))


_COMPARISONS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}


def _where(node: Node) -> Pointwise:
    compare = _COMPARISONS[name_of(node)]
    return lambda a, b, x, y: torch.where(compare(a, b), x, y)


_NAMED: Mapping[str, Pointwise] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
    "floordiv": torch.floor_divide,
    "mod": torch.remainder,
    "neg": torch.neg,
    "exp": torch.exp,
    "log": torch.log,
    "log1p": torch.log1p,
    "sigmoid": torch.sigmoid,
    "softplus": _softplus,
    "silu": F.silu,
    "gelu": F.gelu,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "elu": F.elu,
    "abs": torch.abs,
    "sign": torch.sign,
    "sqrt": torch.sqrt,
    "rsqrt": torch.rsqrt,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
}
_POINTWISE: Mapping[str, Callable[[Node], Pointwise]] = {
    **{name: lambda node: _NAMED[node.op] for name in _NAMED},
    "pow": lambda node: lambda x: torch.pow(x, number_of(node)),
    "exp_base": lambda node: lambda x: torch.pow(number_of(node), x),
    "where": _where,
}
_FILLED: Mapping[str, Callable[..., Tensor]] = {
    "ones": torch.ones,
    "zeros": torch.zeros,
    "eye": lambda n, m=None, **kind: torch.eye(n, m or n, **kind),
}
_PRODUCTS = frozenset({"matmul", "dot", "outer"})


def _product(node: Node, args: list[Tensor], call: Pointwise) -> Tensor:
    """Matrix product of operands of rank 1 or 2; outer is a column times a row."""
    a, b = args
    left, right = (len(arg.shape) for arg in node.args)
    if node.op == "outer":
        return call(torch.mul, a[..., :, None], b[..., None, :])
    a = a if left == 2 else a[..., None, :]
    b = b if right == 2 else b[..., :, None]
    if call is _plain:
        y = torch.matmul(a, b)
    else:
        y = call(torch.mul, a[..., :, :, None], b[..., None, :, :]).sum(-2)
    y = y if right == 2 else y.squeeze(-1)
    return y if left == 2 else y.squeeze(-1 if right == 1 else -2)


def _l2norm(x: Tensor, call: Pointwise) -> Tensor:
    square = call(torch.mul, x, x).sum(-1, keepdim=True)
    return call(torch.mul, x, call(torch.rsqrt, square + EPSILON))


def _rmsnorm(x: Tensor, call: Pointwise) -> Tensor:
    square = call(torch.mul, x, x).mean(-1, keepdim=True)
    return call(torch.mul, x, call(torch.rsqrt, square + EPSILON))


def _layernorm(x: Tensor, call: Pointwise) -> Tensor:
    return _rmsnorm(x - x.mean(-1, keepdim=True), call)


_NORMS: Mapping[str, Callable[[Tensor, Pointwise], Tensor]] = {
    "l2norm": _l2norm,
    "rmsnorm": _rmsnorm,
    "layernorm": _layernorm,
}


def _softmax(node: Node, args: list[Tensor], call: Pointwise) -> Tensor:
    (x,), (axis,) = args, axes_of(node)
    e = call(torch.exp, x - x.detach().amax(axis, keepdim=True))
    return call(torch.div, e, e.sum(axis, keepdim=True))


def _concat(_: Node, args: list[Tensor], call: Pointwise) -> Tensor:
    batch = max(x.shape[0] for x in args)
    return torch.cat([x.expand(batch, *x.shape[1:]) for x in args], 2)


_MOVES: Mapping[str, Callable[[Node, list[Tensor], Pointwise], Tensor]] = {
    "transpose": lambda node, args, call: args[0].transpose(-1, -2),
    "diag": lambda node, args, call: torch.diag_embed(args[0]),
    "index": lambda node, args, call: args[0].select(2, index_of(node)),
    "expand": lambda node, args, call: args[0].unsqueeze(2 + index_of(node)),
    "ravel": lambda node, args, call: args[0].flatten(2) if args[0].ndim > 2 else args[0],
    "concat": _concat,
    "sum": lambda node, args, call: args[0].sum(axes_of(node)) if node.args[0].shape else args[0],
    "mean": lambda node, args, call: args[0].mean(axes_of(node)) if node.args[0].shape else args[0],
    "cumsum": lambda node, args, call: args[0].cumsum(axes_of(node)[0]),
    "softmax": _softmax,
}
