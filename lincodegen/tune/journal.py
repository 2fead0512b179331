"""Where records are kept: a folder of append-only files of JSON lines, one file a writer.

    {"crc": "1a2b3c4d", "record": {...}}

The checksum covers the bytes of the record as they stand. A writer alone appends to its file,
under a lock that ends with its process, one write and one fsync a record; processes and machines
that share a folder are merged on reading. Reading never raises: what is damaged is left out.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from lincodegen.errors import RecordError, TuningWarning
from lincodegen.tune.records import Record

try:
    import fcntl
except ImportError:  # no locks on Windows: file names of their own keep writers apart
    fcntl = None

SUFFIX = ".jsonl"
_HEAD = b'{"crc": "'
_MIDDLE = b'", "record": '
_PIECE = 65536


@dataclass(frozen=True, slots=True)
class Reading:
    """The records of a folder in the order of their times.

    Attributes:
        damaged: lines and files that hold no sound record.
        torn: files whose last line has no end: a writer was killed, or is at it.
    """

    records: tuple[Record, ...]
    damaged: int
    torn: int


def read_records(folder: Path) -> Reading:
    """Every sound record of a folder's files; empty where there is none.

    One `TuningWarning` says how many lines are damaged.
    """
    found: list[Record] = []
    damaged = torn = 0
    for path in _files(folder):
        try:
            text = path.read_bytes()
        except OSError:
            damaged += 1
            continue
        *lines, tail = text.split(b"\n")
        torn += bool(tail)
        for line in lines:
            record = decode(line)
            damaged += record is None
            found += [] if record is None else [record]
    if damaged:
        message = f"{folder}: {damaged} tuning records are damaged and left out"
        warnings.warn(message, TuningWarning, stacklevel=2)
    # sorting keeps the order of equal times: that of the files' names, then of their lines
    return Reading(tuple(sorted(found, key=lambda r: r.provenance.time)), damaged, torn)


def _files(folder: Path) -> Iterator[Path]:
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError:
        return
    for name in names:
        path = folder / name
        if name.endswith(SUFFIX) and path.is_file():
            yield path


def encode(record: Record) -> bytes:
    """The line of a record, with its end."""
    body = record.to_text().encode()
    return b"%s%08x%s%s}\n" % (_HEAD, zlib.crc32(body), _MIDDLE, body)


def decode(line: bytes) -> Record | None:
    """The record of a line without its end; None where it is damaged."""
    start = len(_HEAD) + 8
    if not (line.startswith(_HEAD) and line[start:].startswith(_MIDDLE) and line.endswith(b"}")):
        return None
    body = line[start + len(_MIDDLE) : -1]
    if line[len(_HEAD) : start] != b"%08x" % zlib.crc32(body):
        return None
    try:
        return Record.from_json(json.loads(body))
    except (ValueError, TypeError, RecursionError):
        return None


class Writer:
    """Appends to a file of its own; what `append` has returned from is on disk.

    Used as a context manager, or closed by hand. It belongs to the process that made it.
    """

    def __init__(self, folder: Path, name: str | None = None) -> None:
        """Opens a new file of the folder, or with ``name`` one that this writer had before.

        What a killed writer left of its last line is cut off.

        Raises:
            RecordError: the folder cannot be written, or another process holds the file.
        """
        self.name = name or _new_name()
        self.path = folder / self.name
        self._pid = os.getpid()
        self._lock = threading.Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise RecordError(
                f"{self.path}: no tuning record can be written: {error.strerror}. Name another "
                "folder by LINCODEGEN_CONFIG_DIR."
            ) from error
        try:
            self._take()
            self._end = _sound_length(self._file)
            os.ftruncate(self._file, self._end)
            _sync_folder(folder)
        except OSError as error:
            os.close(self._file)
            raise RecordError(f"{self.path}: {error.strerror}") from error

    def append(self, record: Record) -> None:
        """Writes one record.

        Raises:
            RecordError: it could not be written; the file is as it was before.
        """
        if os.getpid() != self._pid:
            raise RecordError(f"{self.path} belongs to the process {self._pid}")
        line = encode(record)
        with self._lock:
            try:
                # where an earlier roll-back failed its rest must not become part of this line
                if os.fstat(self._file).st_size != self._end:
                    os.ftruncate(self._file, self._end)
                written = os.write(self._file, line)
                if written != len(line):
                    raise OSError(0, f"{written} of {len(line)} bytes were written")
                os.fsync(self._file)
            except OSError as error:
                with suppress(OSError):
                    os.ftruncate(self._file, self._end)
                raise RecordError(
                    f"{self.path}: the record was not written: {error.strerror}"
                ) from error
            self._end += len(line)

    def close(self) -> None:
        """Gives the lock back."""
        os.close(self._file)

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _take(self) -> None:
        if fcntl is None:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OSError(error.errno, "another process writes to it") from error
        except OSError:
            # a file system without locks: the file's name is the writer's own
            return


def _new_name() -> str:
    host = "".join(c if c.isalnum() or c == "-" else "-" for c in socket.gethostname())
    return f"{host}-{os.getpid()}-{secrets.token_hex(4)}{SUFFIX}"


def _sound_length(file: int) -> int:
    """Bytes up to the end of the last whole line."""
    size = os.fstat(file).st_size
    while size > 0:
        start = max(0, size - _PIECE)
        found = os.pread(file, size - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        size = start
    return 0


def _sync_folder(folder: Path) -> None:
    """Makes the new name last: a file that is synced may still vanish with its entry."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
