"""Configurations that a caller pins instead of the defaults."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeAlias

FIELDS = ("chunk_size", "tile_k", "tile_v", "num_warps", "num_stages", "descriptors")
_LEAST = {"chunk_size": 16, "tile_k": 16, "tile_v": 16, "num_warps": 1, "num_stages": 1}


Pin: TypeAlias = tuple[str, str | None, Mapping[str, int]]
"""An op, one of its kernels or None for all of them, and their fields."""

_pins: ContextVar[tuple[Pin, ...]] = ContextVar("lincodegen_pins", default=())


@contextmanager
def use_config(op: str, kernel: str | None = None, **fields: int) -> Generator[None]:
    """Inside the block an op's kernels take these tiles and launch options.

    Args:
        op: its name, as in the spec.
        kernel: one kernel, as in ``scan_fwd`` (``S_scan_fwd`` where several groups of states
            have kernels); all of the op if it is not given.
        fields: any of ``chunk_size`` (of the whole op), ``tile_k``, ``tile_v``, ``num_warps``,
            ``num_stages`` and ``descriptors`` (0 or 1). Axes that a kernel holds whole stay whole.

    A backward that autograd runs in a thread of its own, as for CUDA tensors, sees no pin
    but the chunk size of its forward.

    Raises:
        ValueError: a field is unknown, not a power of two, or nothing that a kernel takes.
    """
    for name, value in fields.items():
        if name not in FIELDS:
            raise ValueError(f"use_config: {name!r} is none of {', '.join(FIELDS)}")
        if name == "descriptors":
            if value not in (0, 1):
                raise ValueError(f"use_config: descriptors = {value}; expected: 0 or 1")
        elif value < _LEAST[name] or (name != "num_stages" and value & (value - 1)):
            expected = "a power of two" if name != "num_stages" else "a number"
            raise ValueError(
                f"use_config: {name} = {value}; expected: {expected} of at least {_LEAST[name]}"
            )
    if kernel is not None and "chunk_size" in fields:
        raise ValueError("use_config: chunk_size belongs to the whole op; leave out the kernel")
    token = _pins.set((*_pins.get(), (op, kernel, fields)))
    try:
        yield
    finally:
        _pins.reset(token)


def any_pinned() -> bool:
    """Whether a caller pins a configuration."""
    return bool(_pins.get())


def pinned(op: str, kernel: str | None) -> dict[str, int]:
    """The fields pinned for a kernel, or for the op as a whole; inner blocks count."""
    fields: dict[str, int] = {}
    for owner, label, own in _pins.get():
        if owner == op and label in (None, kernel):
            fields |= own
    return fields
