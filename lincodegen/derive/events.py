"""The normal form of a group of states: events on one token's timeline, and reads.

    decay    S <- Diag(exp g) S            g: scalar, or one value a key channel
    rank-1   S <- S + a z^T                z = s (c + sign * S(read)^T b)
    read     o  = factor * S(at)^T q       a row read;  S(at) q is a column read

S is canonical: decays and transitions act on its rows, of axis K; a state whose
transitions act from the right is held transposed (``flipped``). A vector state has no
second axis: its z are scalars. Operands are state-free expressions.

A point of the timeline is the number of events passed; its clocks, the number of scalar
and of channel decays among them, follow. Masks compare (token, events passed), decays
compare clocks: the two are independent.
"""

from __future__ import annotations

from dataclasses import dataclass

from lincodegen.spec.step import Node, Place, Recurrence, State


@dataclass(frozen=True, slots=True)
class Decay:
    """S <- factor * S. ``log`` is the log of ``factor``; ``channel``: one value a row of S."""

    factor: Node
    log: Node
    channel: bool
    bound: float
    place: Place


@dataclass(frozen=True, slots=True)
class Rank1:
    """S <- S + a z^T with z = s (c + sign * S(read)^T b).

    ``b`` None is a plain write, ``c`` None a plain transition, ``s`` None the number one.
    ``read`` is the point whose state the erased value is read from; the write happens at the
    event's own place in the timeline.
    """

    a: Node
    b: Node | None
    c: Node | None
    s: Node | None
    sign: int
    read: int
    place: Place


@dataclass(frozen=True, slots=True)
class Read:
    """o = factor * S(at)^T q, or factor * S(at) q for a column read; factor None is one."""

    q: Node
    at: int
    column: bool
    factor: Node | None
    place: Place


Event = Decay | Rank1


@dataclass(frozen=True, slots=True)
class Group:
    """One state, its events in order and the reads of it.

    ``locals`` are the names that the step's statements assign, for operands to be called by.
    """

    state: State
    flipped: bool
    events: tuple[Event, ...]
    reads: tuple[Read, ...]
    locals: tuple[str, ...] = ()

    def clocks(self, point: int) -> tuple[int, int]:
        """Scalar and channel decays passed at a point."""
        passed = [e for e in self.events[:point] if isinstance(e, Decay)]
        return sum(not d.channel for d in passed), sum(d.channel for d in passed)

    @property
    def rows(self) -> tuple[Rank1, ...]:
        """The rank-1 events."""
        return tuple(e for e in self.events if isinstance(e, Rank1))

    @property
    def decays(self) -> tuple[Decay, ...]:
        """The decays."""
        return tuple(e for e in self.events if isinstance(e, Decay))


@dataclass(frozen=True, slots=True)
class Timeline:
    """A recurrence in normal form: its groups in the order of dependence.

    ``outputs`` are state-free expressions in the recurrence's own leaves and in
    ``Node("read", (), (group, index), shape)``, the value of read ``index`` of a group;
    operands of a later group may hold reads of an earlier one.
    """

    recurrence: Recurrence
    groups: tuple[Group, ...]
    outputs: tuple[tuple[str, Node], ...]
