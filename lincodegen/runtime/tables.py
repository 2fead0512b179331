"""Tables of tuned configurations: one JSON file a device, every entry with its checksum.

    {"format": 1, "device": "...", "target": "sm_90", "multiprocessors": 132, "entries": [
    {"op": "...", "bucket": "...", "code": "...", "gate": "passed", "config": {...}, "crc": "..."}
    ]}

An entry counts where its checksum holds, its gate passed and its code is the text that is there.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from lincodegen.config import Bucket, OpConfig

FORMAT = 1
GATE_PASSED = "passed"


class Header(NamedTuple):
    """The device that a table is for."""

    device: str
    target: str
    multiprocessors: int


class Entry(NamedTuple):
    """The configuration of an op for a class of calls.

    Attributes:
        code: digest of the text that the gate ran.
        gate: its verdict.
        facts: what else is on record of it: times, versions, resources.
    """

    op: str
    bucket: Bucket
    code: str
    gate: str
    config: OpConfig
    facts: Mapping[str, object]


class Table(NamedTuple):
    """A file as it was read; its entries are looked at when their op is asked for."""

    header: Header
    rows: tuple[object, ...]


class Found(NamedTuple):
    """What a table has for an op and its text.

    Attributes:
        damaged: entries without a sound checksum or with values that no kernel takes.
        ungated: entries whose gate did not pass.
        stale: entries of another text.
    """

    configs: Mapping[Bucket, OpConfig]
    damaged: int
    ungated: int
    stale: int


@cache
def read_table(path: Path) -> Table | None:
    """The table of a file, None where there is none.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged.
    """
    if not path.is_file():
        return None
    try:
        data: Any = json.loads(path.read_bytes())
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    document: dict[str, Any] = data if isinstance(data, dict) else {}
    if document.get("format") != FORMAT:
        raise ValueError(f"no table of format {FORMAT}")
    header: list[Any] = [document.get(n) for n in ("device", "target", "multiprocessors")]
    rows: Any = document.get("entries")
    if [type(x) for x in (*header, rows)] != [str, str, int, list]:
        raise ValueError("it names no device or has no entries")
    return Table(Header(*header), tuple(rows))


def entries_for(table: Table, op: str, codes: frozenset[str]) -> Found:
    """The entries of an op; they count where ``codes`` is the one text that they were run on."""
    configs: dict[Bucket, OpConfig] = {}
    damaged = ungated = stale = 0
    for row in table.rows:
        if not isinstance(row, dict):
            damaged += 1
        elif row.get("op") == op:
            entry = _entry(row)
            if entry is None:
                damaged += 1
            elif entry.gate != GATE_PASSED:
                ungated += 1
            elif codes != frozenset({entry.code}):
                stale += 1
            else:
                configs[entry.bucket] = entry.config
    return Found(configs, damaged, ungated, stale)


def table_text(header: Header, entries: Iterable[Entry]) -> str:
    """The text of a file: sorted, an entry a line."""
    ordered = sorted(entries, key=lambda e: (e.op, e.bucket))
    head = json.dumps(
        {
            "format": FORMAT,
            "device": header.device,
            "target": header.target,
            "multiprocessors": header.multiprocessors,
        }
    )
    rows = ",\n".join(json.dumps(_row(entry), sort_keys=True) for entry in ordered)
    return f'{head[:-1]}, "entries": [\n{rows}\n]}}\n'


def _row(entry: Entry) -> dict[str, object]:
    row: dict[str, object] = {
        **entry.facts,
        "op": entry.op,
        "bucket": str(entry.bucket),
        "code": entry.code,
        "gate": entry.gate,
        "config": entry.config.to_json(),
    }
    return {**row, "crc": _checksum(row)}


def _entry(row: Mapping[str, Any]) -> Entry | None:
    facts = dict(row)
    try:
        if facts.pop("crc", None) != _checksum(facts):
            return None
        op, bucket, code, gate, config = (
            facts.pop(n) for n in ("op", "bucket", "code", "gate", "config")
        )
        return Entry(
            op, Bucket.from_text(str(bucket)), str(code), gate, OpConfig.from_json(config), facts
        )
    except (KeyError, TypeError, ValueError):
        return None


def _checksum(row: Mapping[str, object]) -> str:
    text = json.dumps(row, sort_keys=True, separators=(",", ":"))
    return f"{zlib.crc32(text.encode()):08x}"
