"""A pool of compiling processes: a crash, a hang or an endless ptxas costs one job, not the run."""

from __future__ import annotations

import json
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from lincodegen.compile.bounds import Bounds, may_follow, volume
from lincodegen.compile.child import Child
from lincodegen.compile.job import CompileJob, Resources

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
    bounds: Bounds | None = None,
) -> tuple[Resources, ...]:
    """Resources of every job, in the order of the jobs.

    Args:
        jobs: what to compile.
        workers: processes at a time, each with about 400 MB of memory.
        timeout_s: seconds a job may take; then its whole process group is killed.
        on_result: called in this thread with a job's index and resources, as they come.
        cache_dir: Triton cache; by default `default_cache_dir`.
        bounds: what is known of jobs, and learned from these, the smallest first; what it settles
            fails with its reason and is not compiled. Without it every job is compiled.
    """
    folder = cache_dir or default_cache_dir()
    folder.mkdir(parents=True, exist_ok=True)
    pending = _Pending(jobs, bounds)
    done: queue.SimpleQueue[tuple[int, Resources]] = queue.SimpleQueue()
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


class _Pending:
    """The jobs that wait; with bounds the smallest first."""

    def __init__(self, jobs: Sequence[CompileJob], bounds: Bounds | None) -> None:
        self._bounds = bounds
        self._waiting = list(enumerate(jobs))
        if bounds is not None:
            self._waiting.sort(key=lambda entry: volume(entry[1]))
        self._running: dict[int, CompileJob] = {}
        self._lock = threading.Lock()

    def take(self) -> tuple[int, CompileJob, str | None] | None:
        """A job and why it is not compiled, if it is not; None where none is left.

        One that a running job may settle waits while there are others.
        """
        with self._lock:
            if not self._waiting:
                return None
            place = 0
            if self._bounds is not None:
                free = (i for i, entry in enumerate(self._waiting) if not self._held(entry[1]))
                place = next(free, 0)
            index, job = self._waiting.pop(place)
            reason = None if self._bounds is None else self._bounds.reason(job)
            if reason is None:
                self._running[index] = job
            return index, job, reason

    def settle(self, index: int, found: Resources) -> None:
        """Learns what a job that was taken needed."""
        with self._lock:
            job = self._running.pop(index)
            if self._bounds is not None:
                self._bounds.note(job, found)

    def _held(self, job: CompileJob) -> bool:
        return any(may_follow(job, other) for other in self._running.values())


class _Worker:
    """One child process and the thread that asks it."""

    def __init__(self, cache_dir: Path, timeout_s: float) -> None:
        environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
        environment["TRITON_CACHE_DIR"] = str(cache_dir)
        self._child = Child("lincodegen.compile.worker", environment)
        self._timeout_s = timeout_s
        self._closed = threading.Event()

    def serve(self, pending: _Pending, done: queue.SimpleQueue[tuple[int, Resources]]) -> None:
        """Takes jobs until none are left."""
        while not self._closed.is_set():
            taken = pending.take()
            if taken is None:
                break
            index, job, reason = taken
            if reason is not None:
                done.put((index, Resources.failure(job, reason, 0.0)))
                continue
            found = self._compile(job)
            pending.settle(index, found)
            done.put((index, found))
        self._child.close()

    def close(self) -> None:
        """Kills the child from another thread; `serve` then ends and tidies up."""
        self._closed.set()
        self._child.kill()

    def _compile(self, job: CompileJob) -> Resources:
        start = time.perf_counter()
        try:
            return Resources(**json.loads(self._child.ask(job.to_json().encode(), self._timeout_s)))
        except TimeoutError:
            return Resources.late(job, self._timeout_s, time.perf_counter() - start)
        except ChildProcessError as error:
            text = f"the compiler {error}"
        except (OSError, ValueError) as error:
            self._child.discard()
            text = f"the compiling process failed: {type(error).__name__}: {error}"
        return Resources.failure(job, text, time.perf_counter() - start)
