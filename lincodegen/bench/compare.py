"""Two records of one benchmark: what became faster, slower, wrong or new."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lincodegen.bench.contestants import OURS
from lincodegen.bench.record import Record, Row

Verdict = Literal["slower", "faster", "same", "broken", "new", "gone"]
BAND = 1.05
"""A change by less is none, however quiet the machine was."""
LOAD = 1.0
"""Processes more or fewer that make times hard to compare."""


@dataclass(frozen=True, slots=True)
class Change:
    """One row in both records; ``ratio`` is the new median over the old one."""

    row: Row
    verdict: Verdict
    ratio: float | None = None

    @property
    def fails(self) -> bool:
        """Whether the generated op has become slower or ceased to work."""
        return self.row.contestant == OURS and self.verdict in ("slower", "broken")


@dataclass(frozen=True, slots=True)
class Comparison:
    """All changes; ``notes`` say what makes the records hard to compare."""

    changes: tuple[Change, ...]
    notes: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether no row of the generated op got worse beyond noise."""
        return not any(change.fails for change in self.changes)

    def to_json(self) -> dict[str, Any]:
        """Values that ``json.dumps`` takes."""
        changes = [
            {
                "op": change.row.op,
                "mode": change.row.mode,
                "shape": dict(change.row.shape),
                "timing": change.row.timing,
                "contestant": change.row.contestant,
                "verdict": change.verdict,
                "ratio": change.ratio,
            }
            for change in self.changes
        ]
        return {"ok": self.ok, "changes": changes, "notes": list(self.notes)}


def compare(base: Record, now: Record) -> Comparison:
    """The changes from one record to another, row by row; what neither timed is left out."""
    old, new = ({row.key: row for row in record.rows} for record in (base, now))
    changes = [
        _change(old.get(key), row)
        for key, row in new.items()
        if row.seconds is not None or (key in old and old[key].seconds is not None)
    ]
    works = {key[:-1] for key in new}
    missing = [row for key, row in old.items() if key not in new and row.seconds is not None]
    changes += [Change(row, "gone") for row in missing if row.key[:-1] in works]
    notes = _notes(base, now)
    others = len({row.key[:-1] for row in missing} - works)
    if others:
        notes.append(f"works of the base that were not timed now: {others}")
    return Comparison(tuple(changes), tuple(notes))


def _change(old: Row | None, new: Row) -> Change:
    if old is None:
        return Change(new, "new")
    if old.status == "ok" and new.status != "ok":
        return Change(new, "broken")
    if old.seconds is None or new.seconds is None:
        return Change(new, "same")
    ratio = new.seconds["median"] / old.seconds["median"]
    if ratio > BAND and new.seconds["p20"] > old.seconds["p80"]:
        return Change(new, "slower", ratio)
    if ratio < 1 / BAND and new.seconds["p80"] < old.seconds["p20"]:
        return Change(new, "faster", ratio)
    return Change(new, "same", ratio)


def _notes(base: Record, now: Record) -> list[str]:
    machine: Mapping[str, object] = base.provenance
    notes = [
        f"{name}: {machine.get(name)} then, {now.provenance.get(name)} now"
        for name in ("cpu", "gpu", "driver", "threads", "packages")
        if machine.get(name) != now.provenance.get(name)
    ]
    loads = [record.provenance.get("load_before", 0.0) for record in (base, now)]
    if abs(loads[0] - loads[1]) > LOAD:
        notes.append(f"load: {loads[0]} then, {loads[1]} now")
    if base.dtype != now.dtype:
        notes.append(f"dtype: {base.dtype} then, {now.dtype} now")
    return notes
