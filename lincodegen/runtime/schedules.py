"""Which schedule a call follows: ``scan``, ``split`` for few heads, or ``recurrent``."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache

import torch

from lincodegen.runtime.lazy import Lazy
from lincodegen.runtime.tuned import running_choice

config, targets = Lazy("lincodegen.config"), Lazy("lincodegen.targets")
_pinned: ContextVar[str | None] = ContextVar("lincodegen_schedule", default=None)


@contextmanager
def use_schedule(name: str) -> Generator[None]:
    """Pins the schedule of every op called inside; ``split`` is one of the kernels alone.

    Raises:
        ValueError: the name is none of ``scan``, ``split`` and ``recurrent``.
    """
    names: tuple[str, ...] = config.module.SCHEDULES
    if name not in names:
        raise ValueError(f"schedule {name!r}: expected one of {', '.join(names)}")
    token = _pinned.set(name)
    try:
        yield
    finally:
        _pinned.reset(token)


def pinned_schedule() -> str | None:
    """The schedule that ``use_schedule`` named, if any."""
    return _pinned.get()


def splits(programs: int, chunks: int, device: torch.device) -> bool:
    """Whether reads go to a chunk-parallel kernel of their own: pinned, tuned, or by the rule."""
    tuned = running_choice()
    named = _pinned.get() or (None if tuned is None else tuned.config.schedule)
    if named is not None:
        return named == "split"
    if device.type != "cuda":
        return False
    return bool(targets.splits_reads(programs, chunks, _multiprocessors(device)))


@cache
def _multiprocessors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count
