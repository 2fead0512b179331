"""One point of a kernel's search space, as chosen ahead of time, tuned or pinned."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Config:
    """Tile sizes and launch options of one kernel.

    Attributes:
        chunk_size: tokens a chunk, the same for every kernel of an op.
        tile_k: channels of K a program holds at a time.
        tile_v: likewise of V.
        num_warps: warps a program.
        num_stages: depth of software pipelining; 1 is none.
    """

    chunk_size: int
    tile_k: int
    tile_v: int
    num_warps: int
    num_stages: int
