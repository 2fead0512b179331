"""A pool of compiling processes: a crash, a hang or an endless ptxas costs one job, not the run."""

from __future__ import annotations

import json
import os
import queue
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from lincodegen.compile.job import CompileJob, Resources

_START_SECONDS = 300.0
_LAST_WORDS = 1500
_PACKAGE_PARENT = Path(__file__).parents[2]

OnResult = Callable[[int, Resources], None]


def default_cache_dir() -> Path:
    """Folder of this pool's Triton cache, apart from the user's own ``~/.triton``."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "lincodegen" / "triton"


def compile_kernel(
    job: CompileJob, *, timeout_s: float = 120.0, cache_dir: Path | None = None
) -> Resources:
    """Compiles one job in a child process; see `compile_many`."""
    return compile_many((job,), workers=1, timeout_s=timeout_s, cache_dir=cache_dir)[0]


def compile_many(
    jobs: Sequence[CompileJob],
    *,
    workers: int = 2,
    timeout_s: float = 120.0,
    on_result: OnResult | None = None,
    cache_dir: Path | None = None,
) -> tuple[Resources, ...]:
    """Resources of every job, in the order of the jobs.

    Args:
        jobs: what to compile.
        workers: processes at a time, each with about 400 MB of memory.
        timeout_s: seconds a job may take; then its whole process group is killed.
        on_result: called in this thread with a job's index and resources, as they come.
        cache_dir: Triton cache; by default `default_cache_dir`.
    """
    folder = cache_dir or default_cache_dir()
    folder.mkdir(parents=True, exist_ok=True)
    pending: queue.SimpleQueue[tuple[int, CompileJob]] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[int, Resources]] = queue.SimpleQueue()
    for index, job in enumerate(jobs):
        pending.put((index, job))
    crew = [_Worker(folder, timeout_s) for _ in range(min(workers, len(jobs)))]
    threads = [threading.Thread(target=w.serve, args=(pending, done), daemon=True) for w in crew]
    results: dict[int, Resources] = {}
    try:
        for thread in threads:
            thread.start()
        while len(results) < len(jobs):
            index, result = done.get()
            results[index] = result
            if on_result is not None:
                on_result(index, result)
    finally:
        for worker in crew:
            worker.close()
        for thread in threads:
            thread.join()
    return tuple(results[index] for index in range(len(jobs)))


class _Worker:
    """One child process, started at the first job and again after each death."""

    def __init__(self, cache_dir: Path, timeout_s: float) -> None:
        self._cache_dir = cache_dir
        self._timeout_s = timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = threading.Event()
        self._lock = threading.Lock()
        # the child's standard error: a file, since nobody reads it while the child runs
        self._log, path = tempfile.mkstemp()
        Path(path).unlink()

    def serve(
        self,
        pending: queue.SimpleQueue[tuple[int, CompileJob]],
        done: queue.SimpleQueue[tuple[int, Resources]],
    ) -> None:
        """Takes jobs until none are left."""
        while not self._closed.is_set():
            try:
                index, job = pending.get_nowait()
            except queue.Empty:
                break
            start = time.perf_counter()
            try:
                result = self._compile(job)
            except (OSError, ValueError) as error:
                self._discard()
                text = f"the compiling process failed: {type(error).__name__}: {error}"
                result = Resources.failure(job, text, time.perf_counter() - start)
            done.put((index, result))
        self._discard()
        os.close(self._log)

    def close(self) -> None:
        """Kills the child from another thread; `serve` then ends and tidies up."""
        self._closed.set()
        with self._lock:
            if self._process is not None:
                _kill_group(self._process)

    def _compile(self, job: CompileJob) -> Resources:
        process = self._process or self._start()
        if process.stdin is None:
            raise ValueError("no pipe to the child")
        start = time.perf_counter()
        process.stdin.write(job.to_json().encode() + b"\n")
        process.stdin.flush()
        line = _read_line(process, self._timeout_s)
        seconds = time.perf_counter() - start
        if line is None:
            self._discard()
            return Resources.failure(job, f"no kernel after {self._timeout_s:g} s", seconds)
        if not line:
            status = process.wait()
            self._discard()
            return Resources.failure(job, f"{_death(status)}. {self._last_words()}", seconds)
        return Resources(**json.loads(line))

    def _start(self) -> subprocess.Popen[bytes]:
        environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
        environment["TRITON_CACHE_DIR"] = str(self._cache_dir)
        paths = [str(_PACKAGE_PARENT), *filter(None, [environment.get("PYTHONPATH")])]
        environment["PYTHONPATH"] = os.pathsep.join(paths)
        process = subprocess.Popen(
            [sys.executable, "-m", "lincodegen.compile.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment,
            start_new_session=True,
        )
        with self._lock:
            self._process = process
        if self._closed.is_set():
            raise ChildProcessError("the pool was closed")
        if not _read_line(process, _START_SECONDS):
            raise ChildProcessError(f"it did not start. {self._last_words()}")
        return process

    def _discard(self) -> None:
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
        return f"the compiler died of signal {signal.Signals(-status).name}"
    return f"the compiler ended with status {status}"


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
