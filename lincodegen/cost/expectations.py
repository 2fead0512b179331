"""What a cost is expected to be: bytes per token and head of every launch, by direction.

A committed file holds the expectations, so that a change that moves bytes or adds a launch is seen.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from lincodegen.cost.model import LaunchCost, OpCost

Launches = Mapping[str, float]
"""Bytes per token and head by the launch's label, in order."""
Expected = Mapping[str, Launches]
"""Launches by direction."""
Table = Mapping[str, Mapping[str, Expected]]
"""Expectations by target and op."""


def expectation(cost: OpCost) -> Expected:
    """What a file holds of a cost."""
    n = cost.sizes.token_heads
    return {
        direction.name: {x.label: round(x.bytes / n, 2) for x in direction.launches}
        for direction in cost.directions
    }


def differences(expected: Expected, cost: OpCost) -> list[str]:
    """One line for every launch that is new, gone or moves other bytes than expected.

    Where bytes were added the line names the tensors that the launch touches now.
    """
    lines: list[str] = []
    for direction in cost.directions:
        here = f"{cost.op} on {cost.target.name}, {direction.name}"
        known, found = expected.get(direction.name, {}), expectation(cost)[direction.name]
        if known == found:
            continue
        launches = {x.label: x for x in direction.launches}
        for label in dict.fromkeys((*known, *found)):
            before, after = known.get(label), found.get(label)
            if before != after:
                lines.append(f"{here}, {label}: {_bytes(before)} expected, {_bytes(after)} found")
            if before != after and label in launches:
                lines.append(f"    {_tensors(launches[label], cost.sizes.token_heads)}")
        totals = sum(known.values()), sum(found.values())
        lines.append(f"{here}, in all: {_bytes(totals[0])} expected, {_bytes(totals[1])} found")
    return lines


def _bytes(value: float | None) -> str:
    return "no launch" if value is None else f"{value:g} bytes a token and head"


def _tensors(launch: LaunchCost, n: int) -> str:
    parts = [
        f"{'writes' if a.written else 'reads'} {a.tensor} {a.bytes / n:g}" for a in launch.accesses
    ]
    return ", ".join(parts)


def read_expectations(path: Path) -> Table:
    """The table of a file; empty if there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def expectations_text(table: Table) -> str:
    """The text of a file, an op and direction a line: a difference names both."""
    targets: list[str] = []
    for target, ops in sorted(table.items()):
        rows = [
            f"  {json.dumps(op)}: {{\n"
            + ",\n".join(f"   {json.dumps(d)}: {json.dumps(x)}" for d, x in directions.items())
            + "\n  }"
            for op, directions in sorted(ops.items())
        ]
        targets.append(f" {json.dumps(target)}: {{\n" + ",\n".join(rows) + "\n }")
    return "{\n" + ",\n".join(targets) + "\n}\n"
