"""What a segment of tokens does to every state: an affine map, the same kind for any segment.

    S_out = M S_in + L        on the canonical rows: M scalar, diagonal, or a K x K matrix

Without an erasure M is the product of the decays. With one, M is the final state of the same
recurrence without its writes, started from the identity; that is the recurrence itself once
every tensor that only writes depend on is zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import reduce

from lincodegen.derive.events import Group, Rank1, Timeline
from lincodegen.derive.nodes import elementwise, is_number
from lincodegen.errors import NotAffine
from lincodegen.spec.step import Node, Recurrence, Tensor

LINEAR_IN_ANY = frozenset({"mul", "matmul", "dot", "outer"})
"""Zero where any operand is."""
ZERO_AT_ZERO = frozenset(
    (
        *("neg", "add", "sub", "maximum", "minimum", "abs", "sign"),
        *("transpose", "index", "slice", "expand", "ravel", "concat", "diag", "broadcast"),
        *("sum", "mean", "cumsum", "l2norm", "rmsnorm", "layernorm"),
        *("tanh", "relu", "elu", "gelu", "silu"),
    )
)
"""Zero where all operands are."""


@dataclass(frozen=True, slots=True)
class SegmentMap:
    """The map of one state.

    Attributes:
        kind: ``identity``, ``scalar``, ``diagonal`` or ``matrix``.
        axis: the axis of the state that it acts on.
        log_decay: the log of what a token scales the state by; None for the other kinds.
        zeroed: for a matrix, tensors that are zero in the recurrence without writes.
        columns: for a matrix, the dimension of the other axis where only ``zeroed`` tensors and
            outputs have it, so that it may take any size; else None.
        written: whether no tensors tell writes from erasures; then none is ``zeroed``, and what
            a segment writes is to be taken off.
    """

    kind: str
    axis: int = 0
    log_decay: Node | None = None
    zeroed: tuple[str, ...] = ()
    columns: str | None = None
    written: bool = False


def segment_maps(timeline: Timeline) -> tuple[SegmentMap, ...]:
    """The maps of all states, in the spec's order.

    Raises:
        NotAffine: the update of a state depends on another state.
    """
    groups = {group.state.name: group for group in timeline.groups}
    states = timeline.recurrence.states
    return tuple(_segment_map(timeline.recurrence, groups[s.name]) for s in states)


def _segment_map(recurrence: Recurrence, group: Group) -> SegmentMap:
    _refuse_coupled(recurrence, group)
    axis = len(group.state.shape) - 1 if group.flipped else 0
    if any(row.b is not None for row in group.rows):
        return _matrix(recurrence, group, axis)
    logs = [decay.log for decay in group.decays]
    if not logs:
        return SegmentMap("identity", axis)
    channel = any(decay.channel for decay in group.decays)
    total = reduce(_sum, logs)
    rows = group.state.shape[axis : axis + 1] if channel else ()
    if total.shape != rows:
        total = Node("broadcast", (total,), (), rows, total.place)
    return SegmentMap("diagonal" if channel else "scalar", axis, total)


def _sum(a: Node, b: Node) -> Node:
    return elementwise("add", a, b)


def _refuse_coupled(recurrence: Recurrence, group: Group) -> None:
    for event in group.events:
        parts = (event.a, event.b, event.c, event.s) if isinstance(event, Rank1) else (event.log,)
        for node in _reached(recurrence, [p for p in parts if p is not None]):
            if node.op in ("read", "state"):
                raise NotAffine(
                    f"the update of state {group.state.name} depends on another state",
                    event.place.line,
                )


def _matrix(recurrence: Recurrence, group: Group, axis: int) -> SegmentMap:
    """The map of a state that erases: what to zero so that the erasures alone are left."""
    own = [decay.factor for decay in group.decays]
    erasures = [row for row in group.rows if row.b is not None]
    own += [n for row in erasures for n in (row.a, row.b, row.s) if n is not None]
    kept = _tensors(recurrence, own)
    writes = [row for row in group.rows if row.c is not None]
    parts = [n for row in writes for n in (row.a, row.c, row.s) if n is not None]
    zeroed = _tensors(recurrence, parts) - kept
    vanishing = _vanishing(recurrence, zeroed)
    written = not all(any(vanishing(n) for n in (r.a, r.c, r.s) if n is not None) for r in writes)
    if written:
        return SegmentMap("matrix", axis, written=True)
    columns = _free_columns(recurrence, group, axis, (own, kept))
    if columns is not None:
        zeroed |= {t.name for t in _arguments(recurrence) if _has(t.shape, columns)}
    order = tuple(t.name for t in _arguments(recurrence) if t.name in zeroed)
    return SegmentMap("matrix", axis, zeroed=order, columns=columns)


def _free_columns(
    recurrence: Recurrence, group: Group, axis: int, erasure: tuple[list[Node], set[str]]
) -> str | None:
    """The dimension of the columns, if nothing that erasures depend on has it."""
    if len(group.state.shape) < 2:
        return None
    columns, rows = group.state.shape[1 - axis], group.state.shape[axis]
    name = str(columns)
    if name not in recurrence.dims or name in rows.names:
        return None
    nodes, kept = erasure
    used = any(_has(n.shape, name) or _has(n.attr, name) for n in _reached(recurrence, nodes))
    used |= any(_has(t.shape, name) for t in _arguments(recurrence) if t.name in kept)
    return None if used else name


def _has(sizes: Iterable[object], name: str) -> bool:
    return any(name in getattr(size, "names", ()) for size in sizes)


def _arguments(recurrence: Recurrence) -> tuple[Tensor, ...]:
    return (*recurrence.inputs, *recurrence.parameters)


def _reached(recurrence: Recurrence, roots: list[Node]) -> list[Node]:
    """The nodes below some, through the statements that they name."""
    found: list[Node] = []
    waiting: list[Node] = list(roots)
    seen: set[int] = set()
    while waiting:
        for node in waiting.pop().walk():
            found.append(node)
            if node.op == "ref" and node.attr[0] not in seen:
                seen.add(node.attr[0])
                waiting.append(recurrence.step[int(node.attr[0])].value)
    return found


def _tensors(recurrence: Recurrence, roots: list[Node]) -> set[str]:
    leaves = _reached(recurrence, roots)
    return {str(n.attr[0]) for n in leaves if n.op in ("input", "parameter")}


def _vanishing(recurrence: Recurrence, zeroed: set[str]) -> Callable[[Node], bool]:
    """Tells whether an expression is zero where the tensors named are."""

    def vanishes(node: Node) -> bool:
        match node.op:
            case "input" | "parameter":
                return node.attr[0] in zeroed
            case "ref":
                return vanishes(recurrence.step[int(node.attr[0])].value)
            case "zeros":
                return True
            case "number":
                return is_number(node, 0)
            case "div":
                return vanishes(node.args[0])
            case "pow":
                return float(node.attr[0]) >= 1 and vanishes(node.args[0])
        if node.op in LINEAR_IN_ANY:
            return any(vanishes(arg) for arg in node.args)
        return node.op in ZERO_AT_ZERO and all(vanishes(arg) for arg in node.args)

    return vanishes
