"""What a check found, on disk as soon as it is found: a line an event, and the summary of all.

Whoever ends the process, and when, what was logged before stays: lines are appended and synced,
the summary is replaced whole.
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lincodegen.errors import RecordError
from lincodegen.gpu_check.summary import summary, summary_page

Event = Mapping[str, Any]
EVENTS = "events.jsonl"


class Log:
    """The events of a folder, those of earlier runs first; several threads may add to it."""

    def __init__(self, out: Path) -> None:
        """Opens a folder; the rest of a line that a killed run left is dropped.

        Raises:
            RecordError: the folder cannot be written.
        """
        self.out = out
        self._lock = threading.Lock()
        self._start = time.monotonic()
        try:
            (out / "tracebacks").mkdir(parents=True, exist_ok=True)
            path = out / EVENTS
            text = path.read_bytes() if path.exists() else b""
            whole = text[: text.rfind(b"\n") + 1]
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            os.ftruncate(self._file, len(whole))
        except OSError as error:
            raise RecordError(f"{out}: nothing can be written: {error.strerror}") from error
        self.events: list[Event] = _events(whole)

    def add(self, event: str, **facts: object) -> None:
        """Appends an event and writes the summary again.

        Raises:
            RecordError: the disk is full, or the folder is gone.
        """
        at = round(time.monotonic() - self._start, 3)
        found = {"event": event, "at_s": at, **facts}
        line = json.dumps(found, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            try:
                os.write(self._file, line)
                os.fsync(self._file)
                self.events.append(found)
                data = summary(self.events)
                _replace(self.out / "summary.json", json.dumps(data, indent=1) + "\n")
                _replace(self.out / "summary.md", summary_page(data))
            except OSError as error:
                raise RecordError(f"{self.out}: {error.strerror}") from error

    def traceback(self, name: str, text: str) -> str:
        """Keeps a traceback in a file of its own; gives the file's name within the folder."""
        path = Path("tracebacks") / (re.sub(r"[^A-Za-z0-9_.-]+", "-", name) + ".txt")
        with self._lock:
            _replace(self.out / path, text)
        return str(path)

    def close(self) -> None:
        """Closes the file."""
        os.close(self._file)


def _events(text: bytes) -> list[Event]:
    """The events of whole lines; damaged lines are left out."""
    found: list[Event] = []
    for line in text.splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and "event" in event:
            found.append(event)
    return found


def _replace(path: Path, text: str) -> None:
    new = path.with_name(f".{path.name}.new")
    with new.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
