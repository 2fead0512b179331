"""Inputs of a timed call: typical for their spec, the same for every contestant."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from lincodegen.bench.shapes import Work
from lincodegen.spec.step import Recurrence
from lincodegen.verify.domains import generator, inside, normal, typical
from lincodegen.verify.inputs import Geometry
from lincodegen.verify.layout import head_counts, tensors_of

DRAWN_TOKENS = 256
"""Tokens of a sequence that are drawn; longer ones repeat them."""
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

Tensors = Mapping[str, Tensor]

HEAD_DEFAULTS = {"retention": ("g",), "lightning_attention": ("g",)}
"""Optional parameters that are given: their defaults depend on which head it is."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """Arguments of a call.

    Attributes:
        tensors: inputs [B, T, Hx, *shape] and parameters [Hx, *shape] by name.
        states: before the token of a decode, [B, H, *shape] by name, else empty.
        cotangents: of the outputs [B, T, H, *shape], in their order.
    """

    recurrence: Recurrence
    work: Work
    tensors: Tensors
    states: Tensors
    cotangents: tuple[Tensor, ...]

    @property
    def state(self) -> Tensor | tuple[Tensor, ...] | None:
        """The states as an op takes them."""
        found = tuple(self.states.values())
        return None if not found else found[0] if len(found) == 1 else found


def draw(
    recurrence: Recurrence, work: Work, dtype: torch.dtype, device: torch.device, seed: int = 0
) -> Inputs:
    """Inputs on a device; what has one value a token is in float32, all else in ``dtype``."""
    shape = work.shape
    tokens = min(shape.tokens, DRAWN_TOKENS)
    heads = {x.name: shape.heads_of(x.name) for x in tensors_of(recurrence)}
    geometry = Geometry(shape.sizes(recurrence), tokens, batch=1, heads=heads)
    given = HEAD_DEFAULTS.get(work.op, ())
    drawn = {
        x.name: typical(x, geometry.shape(recurrence, x), generator(seed, x.name))
        for x in tensors_of(recurrence)
        if x.default is None or x.name in given
    }
    drawn = CONTRACTIONS.get(work.op, _unchanged)(drawn)
    tensors: dict[str, Tensor] = {}
    for x in tensors_of(recurrence):
        if x.name in drawn:
            value = inside(x, drawn[x.name].to(dtype if x.shape else torch.float32)).to(device)
            tensors[x.name] = _repeated(value, work) if x in recurrence.inputs else value
    return Inputs(recurrence, work, tensors, *_states_and_cotangents(recurrence, work, tensors))


def _states_and_cotangents(
    recurrence: Recurrence, work: Work, tensors: Tensors
) -> tuple[dict[str, Tensor], tuple[Tensor, ...]]:
    """N(0, 1) / sqrt(size): states in float32, cotangents in the dtype of the first input."""
    shape, counts = work.shape, head_counts(recurrence, tensors)
    sizes, first = shape.sizes(recurrence), next(iter(tensors.values()))
    states: dict[str, Tensor] = {}
    if work.mode == "decode":
        for s in recurrence.states:
            entries = (counts.states[s.name], *(d.evaluate(sizes) for d in s.shape))
            x = normal((1, *entries), generator(0, f"initial {s.name}")) / entries[-1] ** 0.5
            x = x.to(first.device, torch.float32)
            states[s.name] = x.repeat(shape.batch, *([1] * (x.dim() - 1)))
    cotangents: list[Tensor] = []
    for name, node in recurrence.outputs if work.mode == "forward_backward" else ():
        entries = (counts.outputs[name], *(d.evaluate(sizes) for d in node.shape))
        tokens = min(shape.tokens, DRAWN_TOKENS)
        x = normal((1, tokens, *entries), generator(0, f"cotangent {name}"))
        cotangents.append(_repeated(x.to(first.device, first.dtype), work))
    return states, tuple(cotangents)


def _repeated(x: Tensor, work: Work) -> Tensor:
    """[1, drawn tokens, ...] as [B, T, ...], contiguous."""
    turns = -(-work.shape.tokens // x.shape[1])
    x = x.repeat(1, turns, *([1] * (x.dim() - 2)))[:, : work.shape.tokens]
    return x.repeat(work.shape.batch, *([1] * (x.dim() - 1)))


def _unchanged(drawn: dict[str, Tensor]) -> dict[str, Tensor]:
    return drawn


def _reflections(drawn: dict[str, Tensor]) -> dict[str, Tensor]:
    """b = -rate * a with a of norm 1: the transition does not expand over long sequences."""
    a = -normalize(drawn["a"], dim=-1)
    return drawn | {"a": a, "b": -a * torch.sigmoid(drawn["b"])}


CONTRACTIONS: Mapping[str, Callable[[dict[str, Tensor]], dict[str, Tensor]]] = {
    "dplr": _reflections,
    "rwkv7": _reflections,
}
"""Ops whose spec promises less than models keep: free values would overflow."""
