"""What generated launchers ask: dtypes, dot precision and the tiles of a kernel."""

from __future__ import annotations

from functools import cache, reduce

import torch


def common_dtype(*tensors: torch.Tensor) -> torch.dtype:
    """The promoted dtype of the operands: that of every dot."""
    return reduce(torch.promote_types, (t.dtype for t in tensors))


def dot_precision(dtype: torch.dtype) -> str:
    """IEEE for float32, unless torch.get_float32_matmul_precision() says otherwise."""
    relaxed = dtype == torch.float32 and torch.get_float32_matmul_precision() != "highest"
    return "tf32" if relaxed else "ieee"


def _power_of_two(n: int) -> int:
    return max(16, 1 << (n - 1).bit_length())


@cache
def tiles(
    role: str,
    direction: str,
    tiled: str | None,
    looped: str | None,
    *,
    K: int,
    V: int = 1,
) -> dict[str, int]:
    """Tile sizes and launch options of a kernel: the model's default.

    An axis that is neither shared out over programs nor looped over is one tile.
    """
    chosen = {"BK": _power_of_two(K), "BV": _power_of_two(V), "num_warps": 4, "num_stages": 2}
    del direction
    if tiled == "v" or looped == "v":
        chosen["BV"] = min(64, chosen["BV"])
    if looped == "k" or tiled == "k":
        chosen["BK"] = min(64, chosen["BK"])
    if role == "gradient":
        chosen["num_warps"] = 8
    return chosen
