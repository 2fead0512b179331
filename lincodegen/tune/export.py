"""The table of a device: what its records chose, written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from lincodegen.config import Bucket
from lincodegen.errors import RecordError
from lincodegen.runtime.tables import Entry, Header, table_text
from lincodegen.runtime.tuned import table_name
from lincodegen.tune.measure import USUAL, pick
from lincodegen.tune.records import Record


def chosen_entries(records: Iterable[Record], device: str) -> tuple[Entry, ...]:
    """For each op, text and bucket of a device the best record; only those that passed count.

    Of several records of a configuration the last counts, and of those the ones with the most
    runs: a lucky screening does not beat a comparison in turns.
    """
    groups: dict[tuple[str, str, Bucket], dict[object, Record]] = {}
    for record in records:
        if record.provenance.device == device:
            key = record.op, record.provenance.code, record.bucket
            groups.setdefault(key, {})[record.config] = record
    entries: dict[tuple[str, Bucket], Entry] = {}
    for group in groups.values():
        entry = _entry(tuple(r for r in group.values() if r.usable))
        if entry is not None:
            # a later text of an op takes the place of an earlier one
            entries[entry.op, entry.bucket] = entry
    return tuple(entries.values())


def write_table(folder: Path, header: Header, entries: Iterable[Entry]) -> Path:
    """Writes the table of a device and gives its path.

    Raises:
        RecordError: it could not be written; the one that was there is as it was.
    """
    path = folder / table_name(header.device)
    text = table_text(header, entries).encode()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=folder, prefix=path.name)
    except OSError as error:
        raise RecordError(f"{path}: no table can be written: {error.strerror}") from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except OSError as error:
        with suppress(OSError):
            Path(name).unlink()
        raise RecordError(f"{path}: the table was not written: {error.strerror}") from error
    return path


def _entry(usable: tuple[Record, ...]) -> Entry | None:
    most = max((r.times.runs for r in usable if r.times is not None), default=0)
    compared = {r.config: r for r in usable if r.times is not None and r.times.runs == most}
    if not compared:
        return None
    times = {c: r.times for c, r in compared.items() if r.times is not None}
    needs = {c: r.resources for c, r in compared.items()}
    record = compared[pick(times, needs, USUAL.band)]
    found, where = times[record.config], record.provenance
    facts: dict[str, object] = {
        "median_us": round(1e6 * found.median, 3),
        "p20_us": round(1e6 * found.p20, 3),
        "p80_us": round(1e6 * found.p80, 3),
        "check": record.gate.check,
        "shared_bytes": record.resources.shared_bytes,
        "torch": where.torch,
        "triton": where.triton,
        "driver": where.driver,
        "seed": where.seed,
    }
    return Entry(record.op, record.bucket, where.code, record.gate.verdict, record.config, facts)
