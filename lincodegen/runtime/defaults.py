"""The packaged defaults: which configuration an op's kernels take on a device."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from lincodegen.resources import defaults_dir
from lincodegen.runtime.lazy import Lazy

if TYPE_CHECKING:
    from lincodegen.targets import Target

Entry = Mapping[str, Any]
targets = Lazy("lincodegen.targets")


class OpDefault(NamedTuple):
    """An op's entry in a table, for K and V of ``size``."""

    size: int
    chunk_size: int
    kernels: Mapping[str, Entry]


@cache
def op_default(op: str, dtype: torch.dtype, size: int, device: torch.device) -> OpDefault | None:
    """The entry for a device and the larger of K and V; None where no table has one that fits.

    Of the sizes that a table has, the least that is not below the one asked for, else the
    largest. The device's own architecture comes first, then older ones, then newer ones.
    """
    target = target_of(device)
    return None if target is None else target_default(op, dtype, size, target)


def target_default(op: str, dtype: torch.dtype, size: int, target: Target) -> OpDefault | None:
    """The entry for a target that need not be there."""
    tables = [path.stem for path in defaults_dir().glob("*.json")]
    for name in targets.nearest_tables(target, tables):
        found = _entry(name, op, "fp32" if dtype == torch.float32 else "bf16", size)
        if found is not None and _fits(found, target):
            return found
    return None


def _entry(table: str, op: str, dtype: str, size: int) -> OpDefault | None:
    sizes = {
        int(key.split()[1]): ops[op]
        for key, ops in _table(table).items()
        if key.split()[0] == dtype and op in ops
    }
    if not sizes:
        return None
    chosen = min((s for s in sizes if s >= size), default=max(sizes))
    return OpDefault(chosen, sizes[chosen]["chunk_size"], sizes[chosen]["kernels"])


def _fits(found: OpDefault, target: Target) -> bool:
    return all(k["shared_bytes"] <= target.shared_per_block for k in found.kernels.values())


@cache
def _table(name: str) -> Mapping[str, Mapping[str, Entry]]:
    path = defaults_dir() / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8"))["classes"]


@cache
def target_of(device: torch.device) -> Target | None:
    """The target of a device; None for what is no GPU."""
    if device.type != "cuda" or not torch.cuda.is_available():
        return None
    return targets.from_device(torch.cuda.get_device_properties(device))
