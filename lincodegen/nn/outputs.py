"""From the op's output o [B, T, heads, V] to what is projected back: norms and gates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from lincodegen.nn.rule import Layer

EPS = 1e-5


def head_norm(_: Layer, shape: tuple[int, ...]) -> nn.Module:
    """RMS norm of every head, one weight a channel for all heads."""
    return nn.RMSNorm([*shape[1:]], eps=EPS)


def weightless_head_norm(_: Layer, shape: tuple[int, ...]) -> nn.Module:
    """RMS norm of every head, no weights."""
    return nn.RMSNorm([*shape[1:]], eps=EPS, elementwise_affine=False)


def full_norm(_: Layer, shape: tuple[int, ...]) -> nn.Module:
    """RMS norm over all heads at once."""
    return nn.RMSNorm([*shape], eps=EPS)


def no_norm(_: Layer, __: tuple[int, ...]) -> nn.Module:
    """For ops that normalise their output themselves."""
    return nn.Identity()


class GroupNorm(nn.GroupNorm):
    """Group norm with a group a head; weights start smaller in the first layers, as RWKV's."""

    def __init__(self, layer: Layer, shape: tuple[int, ...]) -> None:
        heads, size = shape
        super().__init__(heads, heads * size, eps=EPS * size)
        nn.init.constant_(self.weight, ((layer.index + 1) / layer.count) ** 0.7)

    def forward(self, input: Tensor) -> Tensor:
        """[B, T, heads, V] to the same."""
        return super().forward(input.flatten(0, 1).flatten(1)).view_as(input)


def normed(o: Tensor, _: Mapping[str, Tensor], norm: nn.Module) -> Tensor:
    """The norm alone."""
    return norm(o)


def normed_gated(o: Tensor, tensors: Mapping[str, Tensor], norm: nn.Module) -> Tensor:
    """The norm, then the gate."""
    return norm(o) * tensors["gate"]


def gated_normed(o: Tensor, tensors: Mapping[str, Tensor], norm: nn.Module) -> Tensor:
    """The gate, then the norm: Mamba-2."""
    return norm(o * tensors["gate"])


def silu_normed(o: Tensor, _: Mapping[str, Tensor], norm: nn.Module) -> Tensor:
    """silu, then the norm: gated slot attention."""
    return norm(functional.silu(o))


def own_write_gated(o: Tensor, tensors: Mapping[str, Tensor], norm: nn.Module) -> Tensor:
    """The norm, the token's own value weighted by r, k and ``bonus``, then the gate: RWKV-7."""
    own = (tensors["r"] * tensors["k"] * tensors["bonus"]).sum(-1, keepdim=True)
    return (norm(o) + own * tensors["v"]) * tensors["gate"]
