"""Short windows over the last tokens, in batches, packed sequences and while decoding."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from lincodegen.nn.rule import Layer


class Past:
    """What came before the tokens of one call of a layer.

    Args:
        memory: the layer's entries of a cache, updated; None: no token came before.
        cu_seqlens: [N + 1], where packed sequences start; None: one sequence a batch entry.
    """

    def __init__(self, memory: dict[str, Tensor] | None, cu_seqlens: Tensor | None) -> None:
        self.memory = memory
        self.cu_seqlens = None if cu_seqlens is None else cu_seqlens.long()

    def windowed(
        self, name: str, x: Tensor, before: int, function: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """A function of every token and the ``before`` inputs ahead of it in its sequence.

        Args:
            name: of the entry that keeps the last inputs.
            x: [B, T, C].
            before: at least 1.
            function: takes [*, before + L, C] and gives [*, L, C].

        Returns:
            [B, T, C].
        """
        key = f"window {name}"
        offsets = self.cu_seqlens
        sequences = x.shape[0] if offsets is None else offsets.shape[0] - 1
        last = None if self.memory is None else self.memory.get(key)
        if last is None:
            last = x.new_zeros(sequences, before, x.shape[-1])
        if offsets is None:
            joined = torch.cat((last, x), 1)
            result, kept = function(joined), joined[:, x.shape[1] :].clone()
        else:
            # room for the last inputs ahead of every sequence, all in one row
            number, near = (torch.arange(n, device=x.device) for n in (sequences, before))
            room = (offsets[:-1] + before * number)[:, None] + near
            rows = torch.arange(x.shape[1], device=x.device) + before * (self._owner(x) + 1)
            joined = x.new_zeros(1, x.shape[1] + sequences * before, x.shape[-1])
            joined = joined.index_copy(1, rows, x)
            joined = joined.index_copy(1, room.flatten(), last.flatten(0, 1)[None])
            result = function(joined)[:, rows - before]
            kept = joined[0, (offsets[1:] + before * number)[:, None] + near]
        if self.memory is not None:
            self.memory[key] = kept.detach()
        return result

    def positions(self, x: Tensor) -> Tensor:
        """The number of tokens ahead of every token of x [B, T, C] in its sequence, [B, T]."""
        offsets, place = self.cu_seqlens, torch.arange(x.shape[1], device=x.device)
        sequences = x.shape[0] if offsets is None else offsets.shape[0] - 1
        memory = {} if self.memory is None else self.memory
        seen = memory.get("position")
        if seen is None:
            seen = torch.zeros(sequences, dtype=torch.long, device=x.device)
        if offsets is None:
            memory["position"] = seen + x.shape[1]
            return seen[:, None] + place
        memory["position"] = seen + offsets.diff()
        return (place + (seen - offsets[:-1])[self._owner(x)])[None]

    def _owner(self, x: Tensor) -> Tensor:
        """The packed sequence of every token, [T]."""
        assert self.cu_seqlens is not None
        place = torch.arange(x.shape[1], device=x.device)
        return torch.searchsorted(self.cu_seqlens[1:], place, right=True)


class ShortConvolution(nn.Module):
    """A causal convolution of every channel over ``window`` tokens; [B, T, C] to the same."""

    def __init__(self, name: str, channels: int, window: int, bias: bool) -> None:
        super().__init__()
        self.name, self.before = name, window - 1
        self.taps = nn.Conv1d(channels, channels, window, groups=channels, bias=bias)

    def forward(self, x: Tensor, past: Past) -> Tensor:
        """The convolution at every token."""
        return past.windowed(self.name, x, self.before, lambda joined: self.taps(joined.mT).mT)


class TokenShift(nn.Module):
    """The hidden state of every stream, mixed with that of the token before.

        x + (previous - x) * (mix + low rank of x + (previous - x) * first mix)

    RWKV: Peng et al. 2024, arXiv:2404.05892 (with the low rank); 2025, arXiv:2503.14456.
    """

    def __init__(self, starts: Mapping[str, tuple[float, float]], rank: int, layer: Layer) -> None:
        super().__init__()
        self.names, self.rank = tuple(starts), rank
        share = torch.arange(layer.width) / layer.width

        def start(exponent: float, offset: float) -> Tensor:
            return 1 - share ** (exponent * layer.ahead) - offset * layer.depth

        self.mix = nn.ParameterDict({n: start(*values) for n, values in starts.items()})
        if rank:
            self.first = nn.Parameter(start(1, 0))
            self.down = nn.Parameter(torch.zeros(len(starts), layer.width, rank))
            up = torch.empty(len(starts), rank, layer.width)
            self.up = nn.Parameter(up.uniform_(-1e-2, 1e-2))

    def forward(self, x: Tensor, past: Past) -> dict[str, Tensor]:
        """[B, T, width] for every stream."""
        difference = past.windowed("shift", x, 1, lambda joined: joined[:, :-1]) - x
        mixes = {name: self.mix[name] for name in self.names}
        if self.rank:
            low = torch.tanh(torch.einsum("btc,ncr->nbtr", x + difference * self.first, self.down))
            found = torch.einsum("nbtr,nrc->nbtc", low, self.up)
            mixes = {name: mixes[name] + found[i] for i, name in enumerate(self.names)}
        return {name: x + difference * mix for name, mix in mixes.items()}
