"""Chunked rows, two-part clocks and decayed contractions of the generated PyTorch forms.

Layout: [N, B * H, R, D], chunks first; R = chunk_size * slots rows of a chunk, token-major.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lincodegen.runtime.tuned import torch_config

LOG2_E = 1.4426950408889634
LIMIT = 124.0
VECTORS = 64
"""Elements that fill whole vectors of every CPU."""


def to_rows(x: Tensor, chunk_size: int, heads: int, slots: int, dims: int) -> Tensor:
    """[B, T, Hx, (slots,) *dims] as [N, B * H, chunk_size * slots, *dims], zeros past T.

    Zeros are neutral: no write, no erase, log decay 0. Hx divides ``heads``.
    """
    batch, length, own = x.shape[:3]
    shape = x.shape[x.dim() - dims :]
    x = x.reshape(batch, length, own, 1, slots, *shape)
    pad = -length % chunk_size
    if pad:
        x = torch.cat([x, x.new_zeros(batch, pad, *x.shape[2:])], 1)
    # heads of a group are rows of their own from here on, by the one copy that lays rows out
    x = x.expand(-1, -1, -1, heads // own, *(-1,) * (x.dim() - 4))
    x = x.reshape(batch, -1, chunk_size, *x.shape[2:])
    x = x.permute(1, 0, 3, 4, 2, *range(5, 6 + dims))
    return x.reshape(x.shape[0], batch * heads, chunk_size * slots, *shape).contiguous()


def from_rows(x: Tensor, batch: int, length: int, slots: int) -> Tensor:
    """The inverse of ``to_rows`` for as many heads: [B, T, H, (slots,) *dims]."""
    chunks, both, rows = x.shape[:3]
    heads, shape = both // batch, x.shape[3:]
    x = x.reshape(chunks, batch, heads, rows // slots, slots, *shape)
    x = x.permute(1, 0, 3, 2, 4, *range(5, 5 + len(shape)))
    x = x.reshape(batch, -1, heads, slots, *shape)[:, :length]
    return x.reshape(batch, length, heads, *((slots,) if slots > 1 else ()), *shape).contiguous()


class Clock(NamedTuple):
    """Cumulative log2 decay at points: a part in whole 256ths, exact, and a small rest."""

    whole: Tensor
    rest: Tensor

    def at(self, index: tuple[Any, ...]) -> Clock:
        """The clock at some of the points."""
        return Clock(self.whole[index], self.rest[index])


def log2_parts(log_decay: Tensor) -> Clock:
    """g log2 e, clamped where its power of two is zero, as whole 256ths and rests.

    Sums of the whole parts are exact, those of the rests stay so small that their roundings do
    not matter, even where all gates are alike and the roundings add up: a hard gate costs its
    neighbours no digit, and -inf becomes an exact zero. NaN stays NaN.
    """
    least = -2048.0 if log_decay.dtype == torch.float64 else -256.0
    scaled = torch.maximum(log_decay * LOG2_E, log_decay.new_tensor(least))
    whole = (scaled * 256.0).round() / 256.0
    return Clock(whole, scaled - whole)


def row_clock(logs: Sequence[Tensor], passed: Sequence[int], rows_axis: int) -> Clock:
    """The clock at every row; ``passed[slot]`` decays of its own token lie before a row.

    logs: [..., C] or [..., C, K], ``rows_axis`` counted from the end.
    """
    parts = [log2_parts(g) for g in logs]
    result = []
    for which in (0, 1):
        values = [p[which] for p in parts]
        total = torch.stack(values).sum(0) if len(values) > 1 else values[0]
        before = _before(total, rows_axis)
        slots = []
        for count in passed:
            point = before
            for value in values[:count]:
                point = point + value
            slots.append(point)
        result.append(_interleaved(slots, rows_axis))
    return Clock(result[0], result[1])


def _before(total: Tensor, axis: int) -> Tensor:
    """The exclusive running sum without a subtraction."""
    axis = total.dim() + axis
    shifted = torch.cat([torch.zeros_like(total.narrow(axis, 0, 1)), total], axis)
    return shifted.narrow(axis, 0, total.shape[axis]).cumsum(axis)


def _interleaved(slots: list[Tensor], axis: int) -> Tensor:
    if len(slots) == 1:
        return slots[0]
    axis = slots[0].dim() + axis
    return torch.stack(slots, axis + 1).flatten(axis, axis + 1)


def end_clock(logs: Sequence[Tensor], rows_axis: int) -> Clock:
    """The clock at the end of the chunk."""
    parts = [log2_parts(g) for g in logs]
    whole = sum(p.whole.sum(rows_axis, keepdim=True) for p in parts)
    rest = sum(p.rest.sum(rows_axis, keepdim=True) for p in parts)
    return Clock(whole, rest)  # type: ignore[arg-type]


def span(to: Clock, origin: Clock | None) -> Tensor:
    """The decay between two points; None is the chunk's start."""
    if origin is None:
        return _exp2(to.whole + to.rest)
    return _exp2((to.whole - origin.whole) + (to.rest - origin.rest))


def pair_span(to: Clock, origin: Clock, visible: Tensor) -> Tensor:
    """[..., R, C] decays between rows and columns; 0 where the write is not visible."""
    whole = to.whole[..., :, None] - origin.whole[..., None, :]
    rest = to.rest[..., :, None] - origin.rest[..., None, :]
    return _exp2((whole + rest).masked_fill_(~visible, float("-inf")))


def _exp2(x: Tensor) -> Tensor:
    """2^x, the same bits wherever in a tensor an element lies.

    On a CPU the last elements, which fill no vector, come from another function than the rest.
    """
    count = x.numel()
    if not count % VECTORS:
        return torch.exp2(x)
    padded = torch.nn.functional.pad(x.flatten(), (0, -count % VECTORS))
    return torch.exp2(padded)[:count].view(x.shape)


def visibility(tokens: int, reads: Sequence[int], writes: Sequence[int], like: Tensor) -> Tensor:
    """[R, C]: whether the write of a column lies before the read of a row."""
    token = torch.arange(tokens, device=like.device)
    row, column = token.repeat_interleave(len(reads)), token.repeat_interleave(len(writes))
    # `repeat` copies its one row time after time, which takes longer than the products
    read = torch.tensor(reads, device=like.device).expand(tokens, -1).flatten()
    write = torch.tensor(writes, device=like.device).expand(tokens, -1).flatten()
    earlier = column[None, :] < row[:, None]
    return earlier | ((column[None, :] == row[:, None]) & (write[None, :] < read[:, None]))


class ChannelSpan:
    """The decays per key channel between a row axis and a column axis of a chunk.

    Blocks of tokens are halved down to single ones. Between the halves of a block every decay
    goes through the first reading point of the later half: both factors are at most 1, and one
    product serves all blocks of a size. What is left are the pairs within a token. Factors are
    made once for all products.

    Args:
        to: the clock at the rows.
        origin: that at the columns.
        tokens: of a chunk, a power of two.
        bound: the least log2 decay of a token, as a magnitude.
    """

    def __init__(self, to: Clock, origin: Clock, tokens: int, bound: float = math.inf) -> None:
        self.to, self.origin, self.tokens = to, origin, tokens
        self._halves: dict[int, tuple[Tensor, Tensor]] = {}
        self._first: tuple[Tensor, Tensor] | None = None
        if bound * tokens <= LIMIT:
            # a later reference would do, but for a rounding that depends on tokens after a row
            first = to.at((..., slice(0, 1), slice(None)))
            self._first = span(to, first), span(first, origin)

    def _levels(self) -> Iterator[tuple[int, Tensor, Tensor]]:
        """(blocks, decays to their later rows, from their earlier columns), small blocks first."""
        for n in range(self.tokens.bit_length() - 1):
            if n not in self._halves:
                self._halves[n] = self._between(self.tokens >> n + 1)
            yield self.tokens >> n + 1, *self._halves[n]

    def _between(self, blocks: int) -> tuple[Tensor, Tensor]:
        """Decays from the reference of each block to its later rows, and from earlier columns."""
        later = Clock(*(_half(x, blocks, 1) for x in self.to))
        earlier = Clock(*(_half(x, blocks, 0) for x in self.origin))
        slots = self.to.whole.shape[-2] // self.tokens
        first = later.at((..., slice(0, slots), slice(None)))
        if slots > 1:
            lead = (first.whole + first.rest).argmax(-2, keepdim=True)
            first = Clock(*(torch.gather(x, -2, lead) for x in first))
        return span(later, first), span(first, earlier)

    def _within(self, visible: Tensor) -> Tensor:
        """[..., C, r, c, K] decays between the rows and the columns of each token."""
        seen = _diagonal_blocks(visible, self.tokens)[..., None]
        if self.to is self.origin and seen.shape[-3:-1] == (1, 1):
            return seen.to(self.to.whole.dtype)
        difference = self.to.whole.new_zeros(())
        for to, origin in zip(self.to, self.origin, strict=True):
            rows, columns = (x.unflatten(-2, (self.tokens, -1)) for x in (to, origin))
            difference = difference + (rows[..., :, None, :] - columns[..., None, :, :])
        return _exp2(difference.masked_fill_(~seen, float("-inf")))

    def gram(self, x: Tensor, y: Tensor, visible: Tensor) -> Tensor:
        """[..., R, C]: sum_k x y decay, 0 where the write is not visible."""
        if self._first is not None:
            late, early = self._first
            return ((x * late) @ (y * early).mT).masked_fill_(~visible, 0.0)
        out = x.new_zeros(*x.shape[:-1], y.shape[-2])
        rows, columns = (t.unflatten(-2, (self.tokens, -1)) for t in (x, y))
        pairs = self._within(visible) * rows[..., :, None, :] * columns[..., None, :, :]
        _diagonal_blocks(out, self.tokens).copy_(pairs.sum(-1))
        for blocks, late, early in self._levels():
            left, right = _half(x, blocks, 1) * late, _half(y, blocks, 0) * early
            _corners(out, blocks).copy_(left @ right.mT)
        return out

    def rows(self, weight: Tensor, y: Tensor, visible: Tensor) -> Tensor:
        """[..., R, K]: sum over columns of W y decay."""
        if self._first is not None:
            late, early = self._first
            return (weight.masked_fill(~visible, 0.0) @ (y * early)) * late
        own = _diagonal_blocks(weight, self.tokens)[..., None] * self._within(visible)
        out = (own * y.unflatten(-2, (self.tokens, 1, -1))).sum(-2).flatten(-3, -2)
        for blocks, late, early in self._levels():
            part = _corners(weight, blocks) @ (_half(y, blocks, 0) * early)
            _half(out, blocks, 1).add_(part * late)
        return out

    def columns(self, weight: Tensor, x: Tensor, visible: Tensor) -> Tensor:
        """[..., C, K]: sum over rows of W x decay."""
        if self._first is not None:
            late, early = self._first
            return (weight.masked_fill(~visible, 0.0).mT @ (x * late)) * early
        own = _diagonal_blocks(weight, self.tokens)[..., None] * self._within(visible)
        rows = x.unflatten(-2, (self.tokens, -1))
        out = (own * rows[..., :, None, :]).sum(-3).flatten(-3, -2)
        for blocks, late, early in self._levels():
            part = _corners(weight, blocks).mT @ (_half(x, blocks, 1) * late)
            _half(out, blocks, 0).add_(part * early)
        return out


def _half(x: Tensor, blocks: int, which: int) -> Tensor:
    """[..., blocks, R / (2 blocks), K]: the earlier or the later rows of every block."""
    return x.unflatten(-2, (blocks, 2, -1))[..., which, :, :]


def _corners(x: Tensor, blocks: int) -> Tensor:
    """[..., blocks, r, c]: of each diagonal block its later rows and its earlier columns."""
    own = _diagonal_blocks(x, blocks)
    rows, columns = (n // 2 for n in own.shape[-2:])
    return own[..., rows:, :columns]


def unit_lower_inverse(matrix: Tensor) -> Tensor:
    """(I - N)^{-1} of strictly lower triangular N, [..., R, R].

    Neighbouring blocks merge to [[T11, 0], [T22 N21 T11, T22]], all of a size at once, up to the
    ``solve_block`` rows of the configuration that runs; block rows follow by substitution. On
    equal keys that is a thousand times as accurate as LAPACK's triangular solve, and faster.
    Products are written ``torch.matmul``, as they are in full float32 in kernels of 16-bit
    operands, too.
    """
    rows = matrix.shape[-1]
    pad = (1 << (rows - 1).bit_length()) - rows
    matrix = torch.nn.functional.pad(matrix, (0, pad, 0, pad))
    inverse = torch.eye(rows + pad, dtype=matrix.dtype, device=matrix.device)
    inverse = inverse.expand_as(matrix).clone()
    own = torch_config()
    block = rows + pad if own is None else own.solve_block
    half = 1
    while half < min(rows, block):
        blocks = (rows + pad) // (2 * half)
        n, t = _diagonal_blocks(matrix, blocks), _diagonal_blocks(inverse, blocks)
        right = torch.matmul(n[..., half:, :half], t[..., :half, :half])
        t[..., half:, :half] = torch.matmul(t[..., half:, half:], right)
        half *= 2
    for start in range(block, rows, block):
        before, here = slice(0, start), slice(start, start + block)
        right = torch.matmul(matrix[..., here, before], inverse[..., before, before])
        inverse[..., here, before] = torch.matmul(inverse[..., here, here], right)
    return inverse[..., :rows, :rows]


def _diagonal_blocks(x: Tensor, count: int) -> Tensor:
    """[..., count, R / count, C / count], a view of [..., R, C]."""
    blocks = x.unflatten(-2, (count, -1)).unflatten(-1, (count, -1))
    return blocks.diagonal(dim1=-4, dim2=-2).movedim(-1, -3)


def running_sum(
    parts: Sequence[tuple[Tensor, Sequence[int] | None, int]], slot: int, tokens: int, channel: bool
) -> Tensor:
    """The gradient of log decay ``slot`` of each token from sums at points.

    Each part is (values, decays passed a slot of its rows or None for the chunk's end,
    sign); a value at a point goes to every log decay that lies before the point.
    """
    axis = -2 if channel else -1
    total: Tensor | None = None
    for values, passed, sign in parts:
        if passed is None:
            part = values.unsqueeze(axis).expand(*_with_tokens(values, axis, tokens))
        else:
            part = _before_points(values, passed, slot, axis)
        part = part if sign > 0 else -part
        total = part if total is None else total + part
    if total is None:
        raise ValueError("a running sum of no parts")
    return total


def _with_tokens(values: Tensor, axis: int, tokens: int) -> list[int]:
    shape = list(values.shape)
    shape.insert(len(shape) + axis + 1, tokens)
    return shape


def _before_points(values: Tensor, passed: Sequence[int], slot: int, axis: int) -> Tensor:
    """Sums over the rows of later tokens, and of those of the own token past the decay."""
    axis = values.dim() + axis
    split = values.unflatten(axis, (-1, len(passed)))
    token = split.sum(axis + 1)
    flipped = token.flip(axis)
    later = torch.cat([torch.zeros_like(flipped.narrow(axis, 0, 1)), flipped], axis)
    later = later.narrow(axis, 0, token.shape[axis]).cumsum(axis).flip(axis)
    own = [split.select(axis + 1, j) for j, p in enumerate(passed) if p > slot]
    for value in own:
        later = later + value
    return later
