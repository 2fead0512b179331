"""Which schedule a call follows, and what its forward keeps.

``scan``, ``split`` for few heads, ``segment`` for very few of long sequences, ``recurrent``.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import TypeAlias

import torch
from torch import Tensor

from lincodegen.runtime.lazy import Lazy
from lincodegen.runtime.tuned import running_choice

config, targets = Lazy("lincodegen.config"), Lazy("lincodegen.targets")


Named: TypeAlias = tuple[str, int]
"""A schedule that was asked for, and the chunks of its segments; 0 where a rule decides."""

_pinned: ContextVar[Named | None] = ContextVar("lincodegen_schedule", default=None)


@contextmanager
def use_schedule(name: str, segment_chunks: int = 0) -> Generator[None]:
    """Pins the schedule of every op called inside.

    ``split`` and ``segment`` are schedules of the kernels alone: the PyTorch form scans.

    Args:
        name: the schedule.
        segment_chunks: chunks of a segment under ``segment``; as many as suit the GPU if 0.

    Raises:
        ValueError: there is no such schedule, or there are no such segments.
    """
    names: tuple[str, ...] = config.module.SCHEDULES
    if name not in names:
        raise ValueError(f"schedule {name!r}: expected one of {', '.join(names)}")
    if segment_chunks < 0 or (segment_chunks and name != "segment"):
        raise ValueError(
            f"segment_chunks = {segment_chunks} with schedule {name!r}; expected: the chunks of a "
            "segment, under 'segment' alone"
        )
    token = _pinned.set((name, segment_chunks))
    try:
        yield
    finally:
        _pinned.reset(token)


def pinned_schedule() -> str | None:
    """The schedule that ``use_schedule`` named, if any."""
    pinned = _pinned.get()
    return None if pinned is None else pinned[0]


def splits(programs: int, chunks: int, device: torch.device) -> bool:
    """Whether reads go to a chunk-parallel kernel of their own: pinned, tuned, or by the rule."""
    named = _named()
    if named is not None:
        return named[0] == "split"
    if device.type != "cuda":
        return False
    return bool(targets.splits_reads(programs, chunks, _multiprocessors(device)))


def segment_chunks(programs: int, chunks: int, device: torch.device) -> int | None:
    """Chunks of a segment where sequences are cut into them: pinned, tuned, or by the rule."""
    named = _named()
    schedule, chosen = named or ("", 0)
    if named is not None and schedule != "segment":
        return None
    if chosen:
        return chosen
    if device.type == "cuda":
        found: int | None = targets.segment_chunks(programs, chunks, _multiprocessors(device))
        if found is not None:
            return found
    least: int = targets.module.LEAST_SEGMENT
    return None if named is None else least


def keep(what: str, *made: Tensor | None) -> tuple[Tensor | None, ...]:
    """What a forward made, as its backward gets it: None for what that makes again.

    Args:
        what: of `lincodegen.config.KEEPS`.
        made: tensors, all of which are left out where the schedule of the call lacks one.
    """
    tuned = running_choice()
    names: tuple[str, ...] = config.module.KEEPS
    chosen = config.module.KEPT if tuned is None else tuned.config.keep
    wanted = names.index(what) <= names.index(chosen) and all(x is not None for x in made)
    return made if wanted else (None,) * len(made)


def _named() -> Named | None:
    """What is pinned, else what a table has for the call."""
    tuned = running_choice()
    if tuned is None or tuned.config.schedule is None:
        return _pinned.get()
    return _pinned.get() or (tuned.config.schedule, tuned.config.segment_chunks)


@cache
def _multiprocessors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count
