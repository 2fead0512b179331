"""A pool of compiling processes: a crash, a hang or an endless ptxas costs one job, not the run."""

from __future__ import annotations

import json
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

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
    """One child process and the thread that asks it."""

    def __init__(self, cache_dir: Path, timeout_s: float) -> None:
        environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
        environment["TRITON_CACHE_DIR"] = str(cache_dir)
        self._child = Child("lincodegen.compile.worker", environment)
        self._timeout_s = timeout_s
        self._closed = threading.Event()

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
            done.put((index, self._compile(job)))
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
            text = f"no kernel after {self._timeout_s:g} s"
        except ChildProcessError as error:
            text = f"the compiler {error}"
        except (OSError, ValueError) as error:
            self._child.discard()
            text = f"the compiling process failed: {type(error).__name__}: {error}"
        return Resources.failure(job, text, time.perf_counter() - start)
