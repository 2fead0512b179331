"""A token mixer put together from the description of its rule."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lincodegen.nn.cache import Cache
from lincodegen.nn.op_call import run
from lincodegen.nn.projection import Projection, at_least_single
from lincodegen.nn.rotary import rotated
from lincodegen.nn.rule import Layer, Rule, Stream, Tensors
from lincodegen.nn.windows import Past, TokenShift
from lincodegen.runtime.op import Op
from lincodegen.runtime.packing import read_packing
from lincodegen.runtime.sizes import evaluate


class TokenMixer(nn.Module):
    """[B, T, width] to the same, every token from those up to it."""

    def __init__(self, rule: Rule, op: Op, layer: Layer) -> None:
        super().__init__()
        self.rule, self.op, self.layer = rule, op, layer
        signature = op.signature
        shapes = {x.name: x.shape for x in signature.inputs}
        for name, stream in rule.streams.items():
            if stream.shape is None and name not in shapes:
                raise ValueError(
                    f"mixer of {signature.name}: the stream {name} has no shape; expected: one, or "
                    f"the name of an input, {', '.join(shapes)}"
                )
        self.streams = nn.ModuleDict(
            {
                name: Projection(name, rule, layer, _shape(stream, shapes.get(name, ()), layer))
                for name, stream in rule.streams.items()
            }
        )
        self.learned = nn.ParameterDict({n: start(layer) for n, start in rule.learned.items()})
        self.shift = TokenShift(rule.shift, rule.shift_rank, layer) if rule.shift else None
        inner = tuple(evaluate(x, layer.sizes) for x in signature.outputs[0].shape)
        self.norm = rule.norm(layer, (layer.heads, *inner))
        self.out = nn.Linear(layer.heads * math.prod(inner), layer.width, bias=False)
        with torch.no_grad():
            rule.out(self.out.weight)

    def forward(
        self, x: Tensor, cache: Cache | None = None, cu_seqlens: Tensor | None = None
    ) -> Tensor:
        """The mixture at every token.

        With a cache the tokens follow those that it has seen, and it is updated. One token of
        every sequence, without gradients, goes through the op's ``step``. No gradient reaches
        what came before the call.

        Args:
            x: [B, T, width].
            cache: what came before; None: nothing, and nothing is kept.
            cu_seqlens: [N + 1], rows at which N packed sequences start; B is 1 then.

        Raises:
            ValueError: a shape does not fit, or the cache holds another number of sequences.
        """
        self._check(x, cache, cu_seqlens)
        if not x.shape[1]:
            return x
        memory = None if cache is None else cache.layer(self.layer.index)
        past = Past(memory, cu_seqlens)
        hidden = self.shift(x, past) if self.shift is not None else {}
        found = {name: part(hidden.get(name, x), past) for name, part in self.streams.items()}
        if self.rule.rotary:
            positions = past.positions(x)
            found |= {name: rotated(found[name], positions) for name in self.rule.rotary}
        learned = {name: at_least_single(value) for name, value in self.learned.items()}
        tensors = self.rule.arguments({**found, **learned}, self.layer)
        dtype = self._dtype(found, x)
        constants = self.rule.constants(self.layer)
        o = run(self.op, self._lowered(tensors, dtype), constants, memory, cu_seqlens)
        return self.out(self.rule.output(o, tensors, self.norm).to(dtype).flatten(2))

    def _dtype(self, found: Mapping[str, Tensor], x: Tensor) -> torch.dtype:
        """The dtype of streams that are not precise: autocast has one of its own."""
        plain = (y.dtype for name, y in found.items() if not self.rule.streams[name].precise)
        return next(plain, x.dtype)

    def _lowered(self, tensors: Tensors, dtype: torch.dtype) -> Tensors:
        """Inputs of the op in one dtype, but for those that are precise."""
        exact = {name for name, stream in self.rule.streams.items() if stream.precise}
        named = {x.name for x in self.op.signature.inputs} - exact
        return {name: x.to(dtype) if name in named else x for name, x in tensors.items()}

    def _check(self, x: Tensor, cache: Cache | None, cu_seqlens: Tensor | None) -> None:
        name = f"mixer of {self.op.signature.name}"
        if x.dim() != 3 or x.shape[-1] != self.layer.width:
            raise ValueError(
                f"{name}: x has the shape {list(x.shape)}; expected: [B, T, {self.layer.width}]"
            )
        if cu_seqlens is not None and not torch.compiler.is_compiling():
            read_packing(name, (cu_seqlens, None), (x.shape[0], x.shape[1]), x.device)
        sequences = x.shape[0] if cu_seqlens is None else cu_seqlens.shape[0] - 1
        if cache is not None and cache.sequences not in (None, sequences):
            raise ValueError(
                f"{name}: {sequences} sequences; expected: {cache.sequences} as the cache holds"
            )


def _shape(stream: Stream, own: tuple[int | str, ...], layer: Layer) -> tuple[int, ...]:
    """[heads, *shape] of a stream."""
    shape = own if stream.shape is None else stream.shape
    heads = layer.heads if stream.heads is None else stream.heads
    return heads, *(evaluate(x, layer.sizes) for x in shape)
