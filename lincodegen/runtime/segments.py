"""How a segment of tokens maps the states of an op, as a generated package says it."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


class SegmentMap(SimpleNamespace):
    """How a segment maps one state.

    Attributes:
        kind: ``identity``, ``scalar``, ``diagonal`` or ``matrix``.
        axis: the axis of the state, behind its heads, that the map acts on.
        log_decay: gives the log of what a token scales the state by.
        tensors: what ``log_decay`` takes first; then ``constants`` and ``sizes``.
        constants: names of floats.
        sizes: names of dimensions.
        zeroed: for a matrix, tensors that are zero where nothing is to be written.
        columns: a dimension that only these and outputs have, or none.
        written: whether the state is written to all the same, as it is from zeros.
    """

    kind: str
    axis: int = 0
    log_decay: Callable[..., Tensor] | None = None
    tensors: tuple[str, ...] = ()
    constants: tuple[str, ...] = ()
    sizes: tuple[str, ...] = ()
    zeroed: tuple[str, ...] = ()
    columns: str = ""
    written: bool = False

    def __init__(self, kind: str, **others: object) -> None:
        super().__init__(kind=kind, **others)


class Segments:
    """The maps of all states in the spec's order; ``refusal`` says why there are none."""

    def __init__(self, maps: tuple[SegmentMap, ...] = (), refusal: str = "") -> None:
        self.maps, self.refusal = maps, refusal
