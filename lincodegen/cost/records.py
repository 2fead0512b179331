"""Which configurations a call runs with on a target, from the tables of defaults."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Set
from functools import cache
from typing import Any

from lincodegen.config import Config
from lincodegen.cost.launch import Default, read_compiled
from lincodegen.cost.sizes import LEAST_TILE, CallSizes
from lincodegen.resources import defaults_dir
from lincodegen.targets import Target, nearest_tables

ROWS = 64
"""Rows of a chunk's tiles where no table knows better."""
RULE_TILE = 64

Entry = Mapping[str, Any]
Labels = Mapping[str, int]
"""Kernels of an op by label, and the most rows a token that each has."""


def op_defaults(
    op: str, labels: Labels, sizes: CallSizes, channels: Set[int], target: Target
) -> Mapping[str, Default]:
    """The default of every kernel of an op, as a launch would find it.

    The target's own table comes first, then those of its vendor's older and newer ones. What the
    compiler said is taken over only where a table has the very dtype and sizes of the call.

    Args:
        op: its name.
        labels: its kernels.
        sizes: of the call.
        channels: every length of the states' axes.
        target: that the kernels run on.
    """
    dtype = "fp32" if sizes.dtype == "fp32" else "bf16"
    names = [path.stem for path in defaults_dir().glob("*.json")]
    for table in nearest_tables(target, names):
        found = _entry(table, op, dtype, max(channels))
        if found is not None and _fits(found[1], target) and labels.keys() <= set(_kernels(found)):
            compiled = dtype == sizes.dtype and channels == {found[0]}
            source = table if compiled else None
            return {label: _default(found, label, max(channels), source) for label in labels}
    return {label: _by_rule(label, labels.values()) for label in labels}


def _entry(table: str, op: str, dtype: str, channels: int) -> tuple[int, Entry] | None:
    """(size, entry) of the least size that is not below the call's, else of the largest."""
    keys = {tuple(key.split()): ops for key, ops in _table(table).items() if op in ops}
    known = {int(size): ops[op] for (kind, size), ops in keys.items() if kind == dtype}
    if not known:
        return None
    size = min((s for s in known if s >= channels), default=max(known))
    return size, known[size]


@cache
def _table(name: str) -> Mapping[str, Mapping[str, Entry]]:
    path = defaults_dir() / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8"))["classes"]


def _kernels(found: tuple[int, Entry]) -> Mapping[str, Entry]:
    return found[1]["kernels"]


def _fits(entry: Entry, target: Target) -> bool:
    return all(k["shared_bytes"] <= target.shared_per_block for k in entry["kernels"].values())


def _default(
    found: tuple[int, Entry], label: str, channels: int, compiled_for: str | None
) -> Default:
    size, entry = found
    kernel = entry["kernels"][label]
    narrow = max(1, channels // size)
    tiles = [max(LEAST_TILE, kernel[name] // narrow) for name in ("tile_k", "tile_v")]
    stages = kernel["num_stages"] if narrow == 1 else 1
    config = Config(entry["chunk_size"], tiles[0], tiles[1], kernel["num_warps"], stages)
    compiled = None if compiled_for is None else read_compiled(compiled_for, kernel)
    return Default(config, compiled)


def _by_rule(label: str, slots: Iterable[int]) -> Default:
    chunk_size = max(LEAST_TILE, ROWS // max(slots))
    warps = 8 if "gradient" in label else 4
    return Default(Config(chunk_size, RULE_TILE, RULE_TILE, warps, 2), None)
