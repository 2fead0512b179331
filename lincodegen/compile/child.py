"""A child process that answers lines by lines: a crash or a hang in it costs one answer."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

_START_SECONDS = 300.0
_LAST_WORDS = 1500
_PACKAGE_PARENT = Path(__file__).parents[2]


class Child:
    """A module of lincodegen run in a process group of its own.

    It is started when it is first asked, and again after each death. A child writes one line
    when it is ready, then one for each line that it reads, to its standard output; what it
    writes to standard error goes to a file, since nobody reads it while the child runs.
    """

    def __init__(self, module: str, environment: Mapping[str, str]) -> None:
        self._module = module
        paths = [str(_PACKAGE_PARENT), *filter(None, [environment.get("PYTHONPATH")])]
        self._environment = {**environment, "PYTHONPATH": os.pathsep.join(paths)}
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._log, path = tempfile.mkstemp()
        Path(path).unlink()

    def ask(self, line: bytes, timeout_s: float) -> bytes:
        """The answer to a line without its end.

        Raises:
            TimeoutError: there was none in time; the child was killed.
            ChildProcessError: the child died; the message says how, and its last words.
            OSError: it could not be started.
        """
        process = self._process or self._start()
        if process.stdin is None:
            raise ChildProcessError("no pipe to the child")
        try:
            process.stdin.write(line + b"\n")
            process.stdin.flush()
            answer = _read_line(process, timeout_s)
        except BrokenPipeError:
            answer = b""
        if answer is None:
            self.discard()
            raise TimeoutError(f"no answer after {timeout_s:g} s")
        if not answer:
            status = process.wait()
            self.discard()
            raise ChildProcessError(f"{_death(status)}. {self._last_words()}")
        return answer

    def kill(self) -> None:
        """Kills the child from another thread; it is not started again."""
        self._closed.set()
        with self._lock:
            if self._process is not None:
                _kill_group(self._process)

    def discard(self) -> None:
        """Ends the child; the next question starts another one."""
        with self._lock:
            process, self._process = self._process, None
            if process is None:
                return
            _kill_group(process)
            process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                # a broken pipe may still hold what was never read
                with suppress(OSError):
                    pipe.close()

    def close(self) -> None:
        """Ends the child for good."""
        self._closed.set()
        self.discard()
        os.close(self._log)

    def _start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", self._module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=self._environment,
            start_new_session=True,
        )
        with self._lock:
            self._process = process
        if self._closed.is_set():
            raise ChildProcessError("the child was closed")
        if not _read_line(process, _START_SECONDS):
            self.discard()
            raise ChildProcessError(f"did not start. {self._last_words()}")
        return process

    def _last_words(self) -> str:
        size = os.fstat(self._log).st_size
        text = os.pread(self._log, _LAST_WORDS, max(0, size - _LAST_WORDS))
        return text.decode(errors="replace").strip()


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """The child and what it started, such as an assembler that does not end."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _death(status: int) -> str:
    if status < 0:
        return f"died of signal {signal.Signals(-status).name}"
    return f"ended with status {status}"


def _read_line(process: subprocess.Popen[bytes], timeout_s: float) -> bytes | None:
    """A line from the child, b"" at its end, None after the timeout."""
    if process.stdout is None:
        raise ValueError("no pipe from the child")
    deadline = time.monotonic() + timeout_s
    text = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while not text.endswith(b"\n"):
            if not selector.select(max(0.0, deadline - time.monotonic())):
                return None
            piece = os.read(process.stdout.fileno(), 65536)
            if not piece:
                return b""
            text += piece
    return text
