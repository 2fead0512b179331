"""The event loop in exact arithmetic: what every equation of the chunked form must equal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from lincodegen.derive.events import Decay, Group, Rank1, Timeline
from lincodegen.program.exact import Array, Evaluator, Field
from lincodegen.spec.step import Node


@dataclass(slots=True)
class Trace:
    """One group's token loop: states at every point, z of every rank-1 event, reads."""

    states: dict[tuple[int, int], Array] = field(default_factory=dict)
    z: dict[tuple[int, int], Array] = field(default_factory=dict)
    reads: dict[tuple[int, int], Array] = field(default_factory=dict)
    final: Array | None = None


@dataclass(slots=True)
class Unrolled:
    """Tokens 0 .. count - 1 of a recurrence, as its step and as its events."""

    timeline: Timeline
    ring: Field
    sizes: Mapping[str, int]
    count: int
    initial: Mapping[str, Array]
    traces: list[Trace] = field(default_factory=list)
    evaluators: list[Evaluator] = field(default_factory=list)

    def run(self) -> None:
        """Runs every group's events, earlier groups first."""
        for token in range(self.count):
            reads = partial(self._read, token)
            evaluator = Evaluator(self.timeline.recurrence, self.ring, self.sizes, token, {}, reads)
            self.evaluators.append(evaluator)
        for group in self.timeline.groups:
            self.traces.append(Trace())
            self._run_group(group, self.traces[-1])

    def _read(self, token: int, key: tuple[int, int]) -> Array:
        """The value of a read leaf (group, index) at a token."""
        group, index = key
        return self.traces[group].reads[(token, index)]

    def operand(self, node: Node | None, token: int) -> Array | None:
        """The value of an operand at a token; None stays None."""
        return None if node is None else self.evaluators[token](node)

    def canonical(self, group: Group) -> Array:
        """The initial state of a group in its own orientation."""
        state = self.initial[group.state.name]
        return state.T if group.flipped else state

    def _run_group(self, group: Group, trace: Trace) -> None:
        state = self.canonical(group)
        for token in range(self.count):
            for i, event in enumerate(group.events):
                trace.states[(token, i)] = state
                state = self.apply(event, state, trace, (token, i))
            trace.states[(token, len(group.events))] = state
            for j, read in enumerate(group.reads):
                held = trace.states[(token, read.at)]
                q = self.evaluators[token](read.q)
                value = held @ q if read.column else q @ held
                factor = self.operand(read.factor, token)
                value = value if factor is None else value * factor[()]
                trace.reads[(token, j)] = np.asarray(value, dtype=object)
        trace.final = state

    def apply(self, event: Decay | Rank1, state: Array, trace: Trace, at: tuple[int, int]) -> Array:
        """The state after one event."""
        token, _ = at
        if isinstance(event, Decay):
            w = self.evaluators[token](event.factor)
            return state * (w[:, None] if w.ndim == 1 and state.ndim == 2 else w)
        z = self.operand(event.c, token)
        if event.b is not None:
            b = self.evaluators[token](event.b)
            erased = (b @ trace.states[(token, event.read)]) * event.sign
            z = erased if z is None else z + erased
        s = self.operand(event.s, token)
        z = np.asarray(z if s is None else z * s[()], dtype=object)
        trace.z[at] = z
        return state + np.multiply.outer(self.evaluators[token](event.a), z)

    def injected(self, group: Group, write: tuple[int, int]) -> dict[tuple[int, int], Array]:
        """The key side of the state at every point if only one rank-1 event wrote, with z = 1."""
        trace: dict[tuple[int, int], Array] = {}
        zero = self.ring.element(0)
        size = len(self.canonical(group))
        state = np.full((size,), zero, dtype=object)
        for token in range(self.count):
            for i, event in enumerate(group.events):
                trace[(token, i)] = state
                if isinstance(event, Decay):
                    state = state * self.evaluators[token](event.factor)
                elif (token, i) == write:
                    state = state + self.evaluators[token](event.a)
            trace[(token, len(group.events))] = state
        return trace

    def step_states(self) -> tuple[dict[str, Array], list[dict[str, Array]]]:
        """The recurrence's own step, token by token: final states, and outputs a token."""
        recurrence = self.timeline.recurrence
        states: dict[str, Array] = dict(self.initial)
        outputs: list[dict[str, Array]] = []
        for token in range(self.count):
            evaluator = Evaluator(recurrence, self.ring, self.sizes, token, states)
            outputs.append({name: evaluator(node) for name, node in recurrence.outputs})
            states = {s.name: evaluator(recurrence.final(s.name)) for s in recurrence.states}
        return states, outputs

    def event_outputs(self) -> list[dict[str, Any]]:
        """The outputs as expressions over reads."""
        return [
            {name: evaluator(node) for name, node in self.timeline.outputs}
            for evaluator in self.evaluators
        ]
