"""The data file of a target's defaults: JSON with sorted keys, one kernel a line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lincodegen.tune.defaults import OpDefaults
from lincodegen.tune.preference import Candidate

_RESOURCES = ("registers", "stack_bytes", "shared_bytes", "wgmma", "mma", "tcgen05", "mfma")

Entry = dict[str, Any]
Classes = dict[str, dict[str, Entry]]
"""Per class of calls (dtype and sizes), per op: its chunk size and kernels."""


def op_entry(found: OpDefaults) -> Entry:
    """One op's part of the file."""
    kernels = {label: kernel_entry(candidate) for label, candidate in found.chosen.items()}
    return {"chunk_size": found.chunk_size, "kernels": kernels}


def kernel_entry(candidate: Candidate) -> Entry:
    """Configuration and compiled resources; ``exceeds`` where the stack is over the limit."""
    config, found = candidate.config, candidate.resources
    entry: Entry = {
        "tile_k": config.tile_k,
        "tile_v": config.tile_v,
        "num_warps": config.num_warps,
        "num_stages": config.num_stages,
    }
    entry |= {name: getattr(found, name) for name in _RESOURCES if getattr(found, name)}
    entry.setdefault("stack_bytes", 0)
    entry.setdefault("shared_bytes", 0)
    if candidate.exceeds is not None:
        entry["exceeds"] = candidate.exceeds
    return entry


def read_table(path: Path) -> tuple[str, Classes]:
    """Triton's version and the classes of a file; empty if there is none."""
    if not path.is_file():
        return "", {}
    document = json.loads(path.read_text(encoding="utf-8"))
    return document["triton"], document["classes"]


def write_table(
    path: Path, triton_version: str, classes: Mapping[str, Mapping[str, Entry]]
) -> None:
    """Writes the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(table_text(triton_version, classes), encoding="utf-8")


def table_text(triton_version: str, classes: Mapping[str, Mapping[str, Entry]]) -> str:
    """The text of a file: a difference names the kernel on its line."""
    lines = ["{", ' "classes": {']
    for i, (name, ops) in enumerate(sorted(classes.items())):
        lines.append(f"  {json.dumps(name)}: {{")
        for j, (op, entry) in enumerate(sorted(ops.items())):
            size = entry["chunk_size"]
            lines.append(f'   {json.dumps(op)}: {{"chunk_size": {size}, "kernels": {{')
            rows = sorted(entry["kernels"].items())
            texts = [f"    {json.dumps(k)}: {json.dumps(e, sort_keys=True)}" for k, e in rows]
            lines += [",\n".join(texts), "   }}" + ("," if j + 1 < len(ops) else "")]
        lines.append("  }" + ("," if i + 1 < len(classes) else ""))
    lines += [" },", f' "triton": {json.dumps(triton_version)}', "}"]
    return "\n".join(lines) + "\n"
