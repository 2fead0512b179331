"""A recurrence in normal form: states grouped by dependence, each group read as events."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lincodegen.derive.affine import WrongSide
from lincodegen.derive.events import Decay, Event, Group, Read, Timeline
from lincodegen.derive.reader import GroupReader
from lincodegen.errors import NotChunkable
from lincodegen.spec.step import Node, Recurrence, State


def read_timeline(recurrence: Recurrence) -> Timeline:
    """The events and reads of every state.

    Raises:
        NotChunkable: a state is coupled to another, or its update or a read of it has no
            exact chunked form; the message has the line and the reason.
    """
    readers: list[GroupReader] = []
    for state in _ordered_states(recurrence):
        readers.append(_best_side(recurrence, state, len(readers), readers))
    outputs = tuple((name, _posted(node, readers)) for name, node in recurrence.outputs)
    # a later group's operands may add reads to an earlier one: last group first
    groups = tuple(reversed([_settled(reader, readers) for reader in reversed(readers)]))
    return Timeline(recurrence, groups, outputs)


@dataclass(frozen=True, slots=True)
class _Attempt:
    reader: GroupReader
    column_reads: int


def _best_side(
    recurrence: Recurrence, state: State, number: int, earlier: list[GroupReader]
) -> GroupReader:
    """The reader of the orientation that works; of two, the one with fewer column reads."""
    attempts: list[_Attempt] = []
    refusals: list[NotChunkable] = []
    for flipped in (False, True) if len(state.shape) == 2 else (False,):
        reader = GroupReader(recurrence, state, flipped, number)
        try:
            reader.read_updates()
            for _, node in recurrence.outputs:
                _posted(node, [*earlier, reader])
        except NotChunkable as error:
            refusals.append(error)
            continue
        probe = sum(read.column for read in reader.reads)
        attempts.append(_Attempt(reader, probe))
    if not attempts:
        plain = [e for e in refusals if not isinstance(e, WrongSide)] or refusals
        raise NotChunkable(f"state {state.name}: {plain[0].reason}", plain[0].line)
    return min(attempts, key=lambda a: a.column_reads).reader


def _posted(node: Node, readers: list[GroupReader]) -> Node:
    """The expression over read leaves of the given groups."""
    for reader in readers:
        node = reader.post(node)
    return node


def _settled(reader: GroupReader, readers: list[GroupReader]) -> Group:
    """The group with reads of earlier groups in its operands as leaves."""
    earlier = readers[: reader.number]
    group = reader.group()

    def post(node: Node | None) -> Node | None:
        return None if node is None else _posted(node, earlier)

    def settle(event: Event) -> Event:
        if isinstance(event, Decay):
            return replace(
                event, factor=_posted(event.factor, earlier), log=_posted(event.log, earlier)
            )
        a = _posted(event.a, earlier)
        return replace(event, a=a, b=post(event.b), c=post(event.c), s=post(event.s))

    def settle_read(read: Read) -> Read:
        return replace(read, q=_posted(read.q, earlier))

    events = tuple(settle(e) for e in group.events)
    return replace(group, events=events, reads=tuple(settle_read(r) for r in group.reads))


def _ordered_states(recurrence: Recurrence) -> list[State]:
    """The states, each after those that its updates depend on.

    Raises:
        NotChunkable: two states depend on each other.
    """
    needs = {s.name: _states_below(recurrence, s) - {s.name} for s in recurrence.states}
    ordered: list[State] = []
    waiting = list(recurrence.states)
    while waiting:
        ready = [s for s in waiting if needs[s.name] <= {o.name for o in ordered}]
        if not ready:
            names = ", ".join(s.name for s in waiting)
            line = next(a.place.line for a in recurrence.step if a.name == waiting[0].name)
            raise NotChunkable(f"the states {names} depend on each other", line)
        ordered.extend(ready)
        waiting = [s for s in waiting if s not in ready]
    return ordered


def _states_below(recurrence: Recurrence, state: State) -> set[str]:
    """The states that the updates of a state depend on."""
    found: set[str] = set()
    seen: set[int] = set()
    todo = [a.value for a in recurrence.step if a.state and a.name == state.name]
    while todo:
        for node in todo.pop().walk():
            if node.op == "state":
                found.add(str(node.attr[0]))
            elif node.op == "ref" and node.attr[0] not in seen:
                seen.add(int(node.attr[0]))
                assign = recurrence.step[int(node.attr[0])]
                if assign.state:
                    found.add(assign.name)
                todo.append(assign.value)
    return found
