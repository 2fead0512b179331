"""Workers that several items share: starting one takes seconds, so none is started twice."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import TypeVar

from lincodegen.errors import LincodegenError
from lincodegen.gpu_check.site import Bench, Site
from lincodegen.tune.gate import Subject

Item = TypeVar("Item")
LEAST_S = 0.05
"""With less time left nothing is begun."""


class Crew:
    """The workers of a site, kept from one phase to the next."""

    def __init__(self, site: Site, workers: int) -> None:
        """Starts nothing yet; at most ``workers`` items are under way at a time."""
        self._site, self._workers = site, workers
        self._idle: list[tuple[Subject, Bench]] = []
        self._lock = threading.Lock()

    @contextmanager
    def lent(self, subject: Subject, timeout_s: float) -> Generator[Bench]:
        """A worker for a subject, one that knows it already if any is idle.

        It has ``timeout_s`` for each answer, and as long for its references.
        """
        bench = self._taken(subject) or self._site.bench(subject)
        bench.turn_to(subject)
        bench.timeout_s = bench.prepare_s = max(LEAST_S, timeout_s)
        try:
            yield bench
        finally:
            with self._lock:
                self._idle.append((subject, bench))

    def each(
        self, items: Iterable[Item], work: Callable[[Item], None], until: float
    ) -> tuple[list[Item], list[str]]:
        """Works on items in their order, several at a time, until ``time.monotonic`` is there.

        Returns:
            Items that were not begun, and what ended the work on others.
        """
        todo: queue.SimpleQueue[Item] = queue.SimpleQueue()
        for item in items:
            todo.put(item)
        failed: list[str] = []

        def run() -> None:
            while until - time.monotonic() > LEAST_S:
                try:
                    work(todo.get_nowait())
                except queue.Empty:
                    return
                except LincodegenError as error:
                    failed.append(str(error))

        crew = [threading.Thread(target=run, daemon=True) for _ in range(self._workers)]
        for thread in crew:
            thread.start()
        for thread in crew:
            thread.join()
        left: list[Item] = []
        while not todo.empty():
            left.append(todo.get_nowait())
        return left, failed

    def close(self) -> None:
        """Ends the workers."""
        with self._lock:
            for _, bench in self._idle:
                bench.close()
            self._idle.clear()

    def _taken(self, subject: Subject) -> Bench | None:
        with self._lock:
            for i, (known, _) in enumerate(self._idle):
                if known == subject:
                    return self._idle.pop(i)[1]
            return self._idle.pop()[1] if self._idle else None
