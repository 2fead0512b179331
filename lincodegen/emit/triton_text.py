"""What the templates of kernels fill in, and a printed kernel."""

from __future__ import annotations

from dataclasses import dataclass

from lincodegen.emit.triton_loads import RowTile
from lincodegen.schedule.plan import Kernel


@dataclass(frozen=True, slots=True)
class KernelText:
    """A printed kernel with what its launcher must pass, in order.

    ``pointers`` are the names of tensors, ``heads`` those of operands whose head count the
    kernel is told, ``constants`` all its constexpr parameters, ``tools`` the tile functions
    that it calls, ``row_tiles`` what it loads through a pointer or a descriptor.
    """

    name: str
    text: str
    pointers: tuple[str, ...]
    heads: tuple[str, ...]
    scalars: tuple[str, ...]
    constants: tuple[str, ...]
    tools: frozenset[str]
    row_tiles: tuple[RowTile, ...]
    kernel: Kernel


@dataclass(frozen=True, slots=True)
class ScanContext:
    """What templates/kernels/scan.py.jinja fills in."""

    name: str
    doc: str
    options: str
    parameters: tuple[str, ...]
    place: str | None
    index: tuple[str, ...]
    carry: str
    first: str
    last: str | None
    state: str
    state_mask: str
    state_size: str
    state_offset: str
    reverse: bool
    kept: str | None
    border: str | None
    border_offset: str
    numbered: bool
    chunk: tuple[str, ...]
    body: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ChunkContext:
    """What templates/kernels/chunk.py.jinja fills in."""

    tiled: str | None
    name: str
    doc: str
    parameters: tuple[str, ...]
    index: tuple[str, ...]
    looped: str | None
    before: tuple[str, ...]
    inside: tuple[str, ...]
    after: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ClocksContext:
    """What templates/kernels/clocks.py.jinja fills in."""

    name: str
    doc: str
    parameters: tuple[str, ...]
    index: tuple[str, ...]
    carry: str
    states: tuple[str, str]
    chunk: tuple[str, ...]
    body: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RolesContext:
    """What templates/kernels/roles.py.jinja fills in: a call a role, the last one apart."""

    name: str
    doc: str
    parameters: tuple[str, ...]
    counts: tuple[str, ...]
    total: str
    calls: tuple[tuple[str, str], ...]
    last: str
