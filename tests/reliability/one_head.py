"""The smallest cases: one head, so that interpreted kernels cost little."""

from functools import cache
from itertools import accumulate

import torch
from op_cases import recurrence_of, sizes_of

from lincodegen.verify.inputs import Case, Geometry, draw


@cache
def one_head(name: str, length: int = 9, dtype: torch.dtype = torch.float32) -> Case:
    """One sequence of one head."""
    geometry = Geometry(sizes_of(name), length, batch=1, heads=1)
    return draw(recurrence_of(name), geometry, dtype=dtype)


@cache
def packed(name: str, lengths: tuple[int, ...], seed: int = 0) -> Case:
    """Sequences of the lengths given in one batch entry, with states and their cotangents."""
    offsets = tuple(accumulate(lengths, initial=0))
    geometry = Geometry(sizes_of(name), offsets[-1], batch=1, heads=1, cu_seqlens=offsets)
    return draw(recurrence_of(name), geometry, seed=seed)
