"""What the compiler says of every kernel at its default, a table a target."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lincodegen.cost.launch import MATRIX_UNITS
from lincodegen.report.tables import MISSING, Table, short_name, table
from lincodegen.resources import defaults_dir
from lincodegen.targets import Target, load_target

_HEAD = (
    "kernel",
    "tile K × V",
    "warps",
    "stages",
    "registers a thread",
    "spilled, B a thread",
    "shared memory, B a program",
    "of the limit",
    "matrix instructions",
)


@dataclass(frozen=True, slots=True)
class Resources:
    """The defaults of an op on one target for one class of calls, as compiled ahead of time."""

    target: Target
    device: str
    triton: str
    call: str
    chunk_size: int
    kernels: Table
    exceeds: tuple[str, ...]


def resource_tables(op: str) -> tuple[Resources, ...]:
    """Those of every target and class of calls whose defaults are on record, by target."""
    names = sorted(path.stem for path in defaults_dir().glob("*.json"))
    return tuple(found for name in names for found in _read(name, op))


def _read(name: str, op: str) -> Iterator[Resources]:
    path = defaults_dir() / f"{name}.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    target = load_target(name)
    for call, ops in sorted(document["classes"].items()):
        if op not in ops:
            continue
        dtype, size = call.split()
        kernels: Mapping[str, Mapping[str, Any]] = ops[op]["kernels"]
        rows = [_row(label, kernel, target) for label, kernel in kernels.items()]
        yield Resources(
            target,
            short_name(target.device),
            document["triton"],
            f"{dtype}, {size} channels",
            ops[op]["chunk_size"],
            table(_HEAD, rows, (0, len(_HEAD) - 1)),
            tuple(f"{k} ({e['exceeds']:,} B)" for k, e in kernels.items() if "exceeds" in e),
        )


def _row(label: str, kernel: Mapping[str, Any], target: Target) -> tuple[str, ...]:
    units = [f"{kernel[unit]} {unit}" for unit in MATRIX_UNITS if kernel.get(unit)]
    shared = kernel["shared_bytes"]
    return (
        label,
        f"{kernel['tile_k']} × {kernel['tile_v']}",
        str(kernel["num_warps"]),
        str(kernel["num_stages"]),
        str(kernel.get("registers", MISSING)),
        f"{kernel['stack_bytes']:,}",
        f"{shared:,}",
        f"{shared / target.shared_per_block:.0%}",
        ", ".join(units) or "none",
    )
