"""How a mixer is put together for one recurrence: a description, no code of any rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from lincodegen.nn.outputs import head_norm, normed
from lincodegen.nn.starts import normal
from lincodegen.runtime.sizes import Size

Tensors = Mapping[str, Tensor]
Map = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Layer:
    """The sizes of a mixer and its place among the layers of a model, the first being 0."""

    width: int
    heads: int
    sizes: Mapping[str, int]
    index: int = 0
    count: int = 1

    @property
    def depth(self) -> float:
        """0 in the first layer, 1 in the last."""
        return self.index / max(self.count - 1, 1)

    @property
    def ahead(self) -> float:
        """The share of the layers that follows, this one included: 1 in the first."""
        return 1 - self.index / self.count


Start = Callable[[Layer], Tensor]


def same(x: Tensor) -> Tensor:
    """No activation."""
    return x


def as_they_are(tensors: Tensors, _: Layer) -> Tensors:
    """The streams are the arguments."""
    return tensors


def no_constants(_: Layer) -> Mapping[str, float]:
    """The op's own constants."""
    return {}


def square_heads(head: int) -> Mapping[str, int]:
    """Keys and values of width / heads channels."""
    return {"K": head, "V": head}


@dataclass(frozen=True, slots=True)
class Stream:
    """How one tensor [B, T, heads, *shape] is made of the hidden state.

    A projection, a short causal convolution if ``convolved``, then the activation.

    Attributes:
        activation: works on [B, T, heads, *shape].
        rank: channels between two projections; None: one projection.
        between: the activation at ``rank`` channels.
        bias: the bias of the projection, [heads, *shape] or flat; None: no bias.
        shape: sizes of a head; None: those of the op's input of the same name.
        heads: None: all of the mixer.
        precise: float32 at least from the activation on, as decays need it.
        weight: initialises the projection.
        first: initialises the first of two projections; None: as ``weight``.
    """

    activation: Map = same
    convolved: bool = False
    rank: Callable[[Layer], int] | None = None
    between: Map = same
    bias: Start | None = None
    shape: tuple[Size, ...] | None = None
    heads: int | None = None
    precise: bool = False
    weight: Map = normal
    first: Map | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """A token mixer around one op: streams and learned tensors, their way in and out.

    Attributes:
        streams: tensors made of the hidden state; ``gate`` is the output gate.
        learned: initial values of tensors that do not depend on the token.
        arguments: what the op takes, of all streams and learned tensors.
        output: o [B, T, H, V], those tensors and the norm to what is projected back.
        norm: the output norm, for o [B, T, *shape].
        constants: the op's constants.
        sizes: defaults of the op's dimensions, for width / heads.
        rotary: streams with rotary position embedding.
        shift: streams that see a mixture of their token and the one before, with exponent and
            offset of its start, 1 - (c / width)^(exponent * ahead) - offset * depth.
        shift_rank: channels at which the mixture depends on the token; 0: it does not.
        shared: learned tensors that the layers of a model have in common.
        window: tokens that a convolution sees, its own included; 0: no convolution.
        window_bias: whether convolutions have a bias.
        out: initialises the projection back.
    """

    streams: Mapping[str, Stream]
    learned: Mapping[str, Start] = field(default_factory=dict[str, Start])
    arguments: Callable[[Tensors, Layer], Tensors] = as_they_are
    output: Callable[[Tensor, Tensors, nn.Module], Tensor] = normed
    norm: Callable[[Layer, tuple[int, ...]], nn.Module] = head_norm
    constants: Callable[[Layer], Mapping[str, float]] = no_constants
    sizes: Callable[[int], Mapping[str, int]] = square_heads
    rotary: tuple[str, ...] = ()
    shift: Mapping[str, tuple[float, float]] | None = None
    shift_rank: int = 0
    shared: tuple[str, ...] = ()
    window: int = 4
    window_bias: bool = False
    out: Map = normal
