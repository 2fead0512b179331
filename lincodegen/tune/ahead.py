"""Verdicts on many candidates at a time, before any of them is timed.

Judging waits for the compiler and for references on the processor: several workers do it side by
side, and what they compiled lies in Triton's cache when the clock, which wants the device for
itself, comes to it.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager

from lincodegen.config import OpConfig
from lincodegen.errors import LincodegenError
from lincodegen.tune.records import Gate
from lincodegen.tune.search import TimeIsUp
from lincodegen.tune.tuner import Examiner

Open = Callable[[], AbstractContextManager[Examiner]]


def judge_ahead(
    configs: Sequence[OpConfig], opened: Open, workers: int, until: float
) -> dict[OpConfig, Gate]:
    """The verdicts that several examiners give until a time, as ``time.monotonic`` has it.

    Configurations are taken in their order; an examiner that cannot work ends alone.
    """
    todo: queue.SimpleQueue[OpConfig] = queue.SimpleQueue()
    for config in dict.fromkeys(configs):
        todo.put(config)
    found: dict[OpConfig, Gate] = {}

    def work() -> None:
        try:
            with opened() as examiner:
                while time.monotonic() < until:
                    config = todo.get_nowait()
                    gate = examiner.judge(config)
                    # who had not enough time is no worse than who had none
                    if gate.verdict != "timeout" or time.monotonic() < until:
                        found[config] = gate
        except (queue.Empty, LincodegenError):
            return

    crew = [threading.Thread(target=work, daemon=True) for _ in range(min(workers, len(configs)))]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()
    return found


class Judged:
    """An examiner that need not judge again what is known, and has time until ``until``."""

    def __init__(self, examiner: Examiner, known: Mapping[OpConfig, Gate], until: float) -> None:
        self._examiner, self._known, self._until = examiner, known, until

    def judge(self, config: OpConfig) -> Gate:
        """The verdict that is known, else the examiner's.

        Raises:
            TimeIsUp: there was none in the time that was left.
        """
        gate = self._known.get(config) or self._examiner.judge(config)
        if gate.verdict == "timeout" and time.monotonic() >= self._until:
            raise TimeIsUp
        return gate

    def times(self, config: OpConfig, repeats: int) -> Sequence[float]:
        """The examiner's times."""
        return self._examiner.times(config, repeats)
