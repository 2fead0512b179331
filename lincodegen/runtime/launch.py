"""What generated launchers ask: dtypes, dot precision and the tiles of a kernel."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, reduce
from typing import Any, TypeAlias

import torch

from lincodegen.runtime.defaults import OpDefault, op_default
from lincodegen.runtime.pins import pinned
from lincodegen.runtime.tuned import Chosen, running_choice

LEAST_TILE = 16

Tiles: TypeAlias = Mapping[str, Any]
"""Tile sizes and launch options by name; precision and method of inversion where tuned."""


def common_dtype(*tensors: torch.Tensor) -> torch.dtype:
    """The promoted dtype of the operands: that of every dot."""
    return reduce(torch.promote_types, (t.dtype for t in tensors))


def dot_precision(dtype: torch.dtype, config: Tiles) -> str:
    """How a kernel computes the products of its operands: what was tuned, else as torch says.

    Who asks torch for the ``highest`` precision gets no tf32, whatever a table has.
    """
    if dtype != torch.float32:
        return "ieee"
    relaxed = torch.get_float32_matmul_precision() != "highest"
    chosen = config.get("precision") or "tf32"
    return "ieee" if chosen == "tf32" and not relaxed else chosen


def chunk_tokens(op: str, tokens: int, dtype: torch.dtype, size: int, device: torch.device) -> int:
    """Tokens a chunk of an op on a device; ``tokens`` where no table knows better."""
    fields = pinned(op, None)
    if "chunk_size" in fields:
        return fields["chunk_size"]
    found = op_default(op, dtype, size, device)
    return tokens if found is None else found.chunk_size


def tiles(
    op: str,
    kernel: str,
    cut: str,
    x: torch.Tensor,
    K: int,
    V: int = 1,
) -> Tiles:
    """Tile sizes and launch options of a kernel: pinned ones, tuned ones, or the device's default.

    Args:
        op: name of the op.
        kernel: label of the kernel, as in ``scan_fwd``.
        cut: axes that programs share out or an inner loop goes over, of "k" and "v"; the
            others are one tile.
        x: an operand: its dtype and device count.
        K: keys.
        V: values.
    """
    tuned = running_choice()
    if tuned is not None and kernel in tuned.kernels:
        chosen = _tuned_tiles(tuned, kernel, cut, (K, V))
    else:
        chosen = _tiles(op, kernel, cut, x.dtype, x.device, (K, V))
    fields = pinned(op, kernel)
    if not fields:
        return chosen
    own = {"BK": fields.get("tile_k"), "BV": fields.get("tile_v")}
    tuned = {b: min(own[b] or chosen[b], whole_tile(n)) for b, n in _cut_sizes(cut, K, V)}
    options = {n: fields[n] for n in ("num_warps", "num_stages", "descriptors") if n in fields}
    return {**chosen, **tuned, **options}


def whole_tile(size: int) -> int:
    """The tile that holds an axis."""
    return max(LEAST_TILE, 1 << (size - 1).bit_length())


def _cut_sizes(cut: str, K: int, V: int) -> list[tuple[str, int]]:
    return [(f"B{axis.upper()}", {"k": K, "v": V}[axis]) for axis in cut]


@cache
def _tuned_tiles(tuned: Chosen, kernel: str, cut: str, sizes: tuple[int, int]) -> Tiles:
    whole = {"BK": whole_tile(sizes[0]), "BV": whole_tile(sizes[1])}
    found = tuned.kernels[kernel]
    own = {"BK": found.tile_k, "BV": found.tile_v}
    chosen = {b: min(own[b], whole[b]) for b, _ in _cut_sizes(cut, *sizes)}
    options = found.to_json()
    named = {n: x for n, x in options.items() if not n.startswith("tile")}
    return {**whole, **chosen, **named}


@cache
def _tiles(
    op: str,
    kernel: str,
    cut: str,
    dtype: torch.dtype,
    device: torch.device,
    sizes: tuple[int, int],
) -> Tiles:
    whole = {"BK": whole_tile(sizes[0]), "BV": whole_tile(sizes[1])}
    found = op_default(op, dtype, max(sizes), device)
    entry = None if found is None else found.kernels.get(kernel)
    if found is None or entry is None:
        return {**whole, **_by_rule(kernel, cut, sizes)}
    tuned = {"BK": entry["tile_k"], "BV": entry["tile_v"]}
    narrow = _narrowing(found, max(sizes))
    chosen = {
        b: max(LEAST_TILE, min(tuned[b] // narrow, whole[b])) for b, _ in _cut_sizes(cut, *sizes)
    }
    stages = 1 if narrow > 1 else entry["num_stages"]
    return {**whole, **chosen, "num_warps": entry["num_warps"], "num_stages": stages}


def _narrowing(found: OpDefault, size: int) -> int:
    """By how much cut axes are narrowed where whole ones are longer than the table knows."""
    return max(1, whole_tile(size) // whole_tile(found.size))


def _by_rule(kernel: str, cut: str, sizes: tuple[int, int]) -> Mapping[str, int]:
    """Without a table: tiles of 64, more warps where every gradient lives in one kernel."""
    chosen = {b: min(64, whole_tile(n)) for b, n in _cut_sizes(cut, *sizes)}
    warps = 8 if "gradient" in kernel else 4
    return {**chosen, "num_warps": warps, "num_stages": 2}
