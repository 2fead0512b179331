"""Results: a row a contestant and timing, in a file that is whole after every row."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lincodegen.bench.contestants import Status
from lincodegen.bench.measure import Timing
from lincodegen.bench.shapes import Mode, Work
from lincodegen.errors import BenchError

SCHEMA = 1
KEYS = {"schema", "provenance", "dtype", "device", "limits", "rows", "growth", "left", "complete"}


@dataclass(frozen=True, slots=True)
class Row:
    """One contestant on one work.

    Attributes:
        shape: fields of `Shape`.
        reason: why it is not ``ok``, else empty.
        seconds: ``median``, ``p20``, ``p80`` and ``runs``; None if it was not timed.
        error: ``worst`` and the ``tensor`` it is of, ``tokens``, ``bound`` and all ``tensors``.
        ratio: its time over ours: how many times faster the generated op is.
        bytes: least that a call moves; ``of_bandwidth`` the part of the measured rate it reaches.
        flops: of the schedule's products; ``of_matmul`` the part of the measured rate.
    """

    op: str
    mode: Mode
    shape: Mapping[str, Any]
    timing: Timing
    contestant: str
    library: str
    version: str
    status: Status
    reason: str = ""
    seconds: Mapping[str, float] | None = None
    error: Mapping[str, Any] | None = None
    ratio: float | None = None
    bytes: int | None = None
    flops: int | None = None
    of_bandwidth: float | None = None
    of_matmul: float | None = None

    @property
    def key(self) -> tuple[str, ...]:
        """What two files have in common of one measurement."""
        shape = json.dumps(self.shape, sort_keys=True)
        return self.op, self.mode, shape, self.timing, self.contestant

    @property
    def median(self) -> float | None:
        """Seconds."""
        return None if self.seconds is None else self.seconds["median"]


@dataclass(slots=True)
class Record:
    """All results of a run.

    Attributes:
        provenance: of the machine and the code; ``target`` is whose schedule's FLOPs are counted.
        limits: fields of `Limits`.
        growth: fits of `growth`.
        left: the works that the budget did not reach.
    """

    provenance: dict[str, Any]
    dtype: str
    device: str
    limits: Mapping[str, float]
    rows: list[Row] = field(default_factory=list[Row])
    growth: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    left: list[str] = field(default_factory=list[str])
    complete: bool = False

    def to_json(self) -> dict[str, Any]:
        """Values that ``json.dumps`` takes; infinite errors as strings."""
        return {"schema": SCHEMA, **_printable(asdict(self))}


@dataclass(frozen=True, slots=True)
class Journal:
    """A record and the file that always holds all of it; no file if ``path`` is None."""

    record: Record
    path: Path | None = None

    def add(self, rows: Iterable[Row]) -> None:
        """Enters rows."""
        self.record.rows.extend(rows)
        self.write()

    def write(self) -> None:
        """Replaces the file at once: a cut-off leaves the old one or the new one."""
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_name(f"{self.path.name}.part")
        part.write_text(json.dumps(self.record.to_json(), indent=1) + "\n", encoding="utf-8")
        part.replace(self.path)


def shape_json(work: Work) -> dict[str, Any]:
    """The sizes of a work as JSON values."""
    return {**asdict(work.shape), "dims": dict(work.shape.dims)}


def read(path: Path) -> Record:
    """The record in a file.

    Raises:
        BenchError: it is no record of this schema.
    """
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BenchError(f"{path}: no JSON: {error}") from error
    if not isinstance(found, dict) or set(found) != KEYS or found["schema"] != SCHEMA:
        raise BenchError(f"{path}: no record of `lincodegen bench`; expected schema {SCHEMA}")
    values = {name: value for name, value in found.items() if name not in ("schema", "rows")}
    return Record(**values, rows=[Row(**row) for row in found["rows"]])


def _printable(value: Any) -> Any:
    match value:
        case float() if not math.isfinite(value):
            return str(value)
        case dict():
            return {str(name): _printable(entry) for name, entry in value.items()}
        case list() | tuple():
            return [_printable(entry) for entry in value]
        case _:
            return value
