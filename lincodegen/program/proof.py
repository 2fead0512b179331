"""Proves a recurrence's tile programs, forward and adjoint, against its unrolled step.

Each of the five equations is checked on its own, so that a wrong one is named: N and P
against the response of the event loop to one written row, Z against its rank-1 values, O
against its reads, S_end against its last state; the event loop against the step itself.
At small sizes differences are the zero polynomial; at larger ones they vanish at random
points modulo primes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from sympy import ZZ
from sympy.polys.rings import ring as polynomial_ring

from lincodegen.derive.events import Rank1, Timeline
from lincodegen.errors import InternalError
from lincodegen.program.claims import Claim, Proof
from lincodegen.program.evaluate import TileEvaluator
from lincodegen.program.exact import Array, Field, Polynomials, Residues, TooManyUnknowns
from lincodegen.program.ir import Tile
from lincodegen.program.program import Operand, Program
from lincodegen.program.unrolled import Unrolled

PRIMES = ((1 << 61) - 1, (1 << 31) - 1)
POINTS = 10
MOST_EVENTS = 6
"""Events and reads, times tokens, up to which differences are expanded as polynomials."""


def prove(timeline: Timeline, programs: tuple[Program, ...]) -> Proof:
    """Checks every equation of every group, symbolically where small, else at random points."""
    claims: list[Claim] = []
    events = max(len(g.events) + len(g.reads) for g in timeline.groups)
    tokens = max(1, min(3, MOST_EVENTS // max(1, events)))
    sizes = _sizes(timeline, 2)
    counter = Residues(PRIMES[0], 0)
    claims += _claims(timeline, programs, _Size(counter, sizes, 2), "residues modulo 2^61 - 1")
    symbolic = _polynomials(timeline, sizes) if events <= MOST_EVENTS else None
    if symbolic is not None:
        how = f"zero polynomial at {tokens} tokens"
        # what has more unknowns than the ring is left to the random points
        with suppress(TooManyUnknowns):
            claims += list(_claims(timeline, programs, _Size(symbolic, sizes, tokens), how))
    for prime in PRIMES:
        for seed in range(POINTS):
            size = _Size(Residues(prime, seed + 1), _sizes(timeline, 3), 3)
            claims += _claims(timeline, programs, size, "random points modulo two primes")
    return Proof(tuple(claims))


@dataclass(frozen=True, slots=True)
class _Size:
    ring: Field
    sizes: dict[str, int]
    tokens: int


def _sizes(timeline: Timeline, base: int) -> dict[str, int]:
    """Distinct small sizes for every dimension."""
    return {name: base + i % 2 for i, name in enumerate(timeline.recurrence.dims)}


def _polynomials(timeline: Timeline, sizes: dict[str, int]) -> Polynomials | None:
    """A ring with a generator for every unknown, unless there are too many."""
    entries = max(int(np.prod([d.evaluate(sizes) for d in g.state.shape])) for g in timeline.groups)
    if entries > 16:
        return None
    names = [f"x{i}" for i in range(400)]
    _, *generators = polynomial_ring(names, ZZ)
    return Polynomials(list(generators), generators[0].ring.one)


def _initial(timeline: Timeline, size: _Size) -> dict[str, Array]:
    states = {}
    for state in timeline.recurrence.states:
        shape = tuple(d.evaluate(size.sizes) for d in state.shape)
        cells = np.empty(shape, dtype=object)
        for i in np.ndindex(*shape):
            cells[i] = size.ring.unknown(f"{state.name}0{list(i)}")
        states[state.name] = cells
    return states


def _claims(
    timeline: Timeline, programs: tuple[Program, ...], size: _Size, how: str
) -> Iterator[Claim]:
    unrolled = Unrolled(timeline, size.ring, size.sizes, size.tokens, _initial(timeline, size))
    unrolled.run()
    states, outputs = unrolled.step_states()
    for group, trace in zip(timeline.groups, unrolled.traces, strict=True):
        name = group.state.name
        final = trace.final.T if group.flipped and trace.final is not None else trace.final
        yield Claim("events", name, how, _equal(final, states[name]))
    for got, want in zip(unrolled.event_outputs(), outputs, strict=True):
        for name, value in want.items():
            yield Claim(f"output {name}", "-", how, _equal(got[name], value))
    for index, program in enumerate(programs):
        check = _GroupCheck(unrolled, index, program, size)
        for equation, holds in check.equations():
            yield Claim(equation, program.form.group.state.name, how, holds)
        if isinstance(size.ring, Residues):
            state = program.form.group.state.name
            yield Claim("adjoint", state, how, check.adjoint(program.gradients))
            one = program.one_sided
            if one is not None:
                holds = check.adjoint((*one.loads, *one.logs))
                yield Claim("one-sided adjoint", state, how, holds)
                yield Claim("dG_start", state, how, check.clock_at_start())


class _GroupCheck:
    """Checks one group's tile program against its trace."""

    def __init__(self, unrolled: Unrolled, index: int, program: Program, size: _Size) -> None:
        self.unrolled, self.program, self.size = unrolled, program, size
        self.group, self.trace = program.form.group, unrolled.traces[index]
        self.leaves = self._leaves()
        scalars = {s.name: unrolled.evaluators[0](s.node)[()] for s in program.scalars}
        carry = self.leaves[program.carry.id]
        state_sizes = dict(zip(program.carry.axes, carry.shape, strict=True))
        self.evaluate = TileEvaluator(
            program.form, size.ring, size.tokens, self.leaves, scalars, state_sizes
        )

    def _leaves(self) -> dict[int, Array]:
        leaves = {self.program.carry.id: self.unrolled.canonical(self.group)}
        for tile, operand in self.program.operands:
            leaves[tile.id] = self._rows(operand)
        for tile, _, decay in self.program.logs:
            values = [self.unrolled.evaluators[t](decay.factor) for t in range(self.size.tokens)]
            leaves[tile.id] = _stacked(values)
        for j, tile in enumerate(self.program.d_outputs):
            shape = _stacked([self.trace.reads[(t, j)] for t in range(self.size.tokens)]).shape
            leaves[tile.id] = self._flat(f"dO{j}", shape)
        leaves[self.program.d_state.id] = self._flat("dS", leaves[self.program.carry.id].shape)
        return leaves

    def _flat(self, key: str, shape: tuple[int, ...]) -> Array:
        """Unknowns without a slope: cotangents are constants of the adjoint."""
        out = np.empty(shape, dtype=object)
        for i in np.ndindex(*shape):
            value = self.size.ring.unknown(f"{key}{list(i)}")
            out[i] = self.size.ring.constant(value)
        return out

    def _rows(self, operand: Operand) -> Array:
        zero = self.size.ring.element(0)
        rows = [
            np.asarray(self.unrolled.evaluators[t](node) + zero, dtype=object)
            for t in range(self.size.tokens)
            for node in operand.nodes
        ]
        return _stacked(rows)

    def equations(self) -> Iterator[tuple[str, bool]]:
        """(name, holds) of every equation, in the order of dependence."""
        rows: dict[str, list[tuple[int, int]]] = {"m": [], "w": []}
        for t in range(self.size.tokens):
            for i, event in enumerate(self.group.events):
                if isinstance(event, Rank1):
                    rows["w" if event.b is None else "m"].append((t, i))
        for equation in self.program.form.equations:
            tile = self._tile(equation.name)
            kind, _, axes = equation.name.partition("_")
            if tile is None:
                yield equation.name, equation.name == "Z_w" and not self.program.value_axis
                continue
            value = self.evaluate(tile)
            match kind:
                case "N":
                    yield (
                        equation.name,
                        _equal(value, self._response(rows["m"], rows[axes[1:]], None)),
                    )
                case "P":
                    yield equation.name, self._read_gram(value, axes, rows)
                case "Z":
                    want = _stacked([self.trace.z[key] for key in rows[axes]])
                    yield equation.name, _equal(value, want)
                case "O":
                    yield equation.name, self._output(int(axes[1:]))
                case _:
                    yield (
                        equation.name,
                        _equal(self.evaluate(self.program.next_state), self.trace.final),
                    )

    def _tile(self, name: str) -> Tile | None:
        return self.program.blocks.get(name)

    def _response(
        self, readers: list[tuple[int, int]], writes: list[tuple[int, int]], read: int | None
    ) -> Array:
        """[row, write]: what a row reads of a written one, by the event loop."""
        columns = []
        for write in writes:
            trace = self.unrolled.injected(self.group, write)
            column = []
            for token, i in readers:
                if read is None:
                    event = self.group.events[i]
                    if not isinstance(event, Rank1) or event.b is None:
                        raise InternalError("a row of the solve erases nothing")
                    x = self.unrolled.evaluators[token](event.b)
                    held = trace[(token, event.read)]
                else:
                    x = self.unrolled.evaluators[token](self.group.reads[read].q)
                    held = trace[(token, self.group.reads[read].at)]
                column.append(x @ held)
            columns.append(column)
        return _stacked(columns).T

    def _read_gram(self, value: Array, axes: str, rows: dict[str, list[tuple[int, int]]]) -> bool:
        """P of a row read by response; of a column read, Z . q."""
        axis = axes[-1]
        read = int(axes[1:-1])
        tokens = [(t, 0) for t in range(self.size.tokens)]
        if not self.group.reads[read].column:
            return _equal(value, self._response(tokens, rows[axis], read))
        q = _stacked([self.unrolled.evaluators[t](self.group.reads[read].q) for t, _ in tokens])
        z = _stacked([self.trace.z[key] for key in rows[axis]])
        return _equal(value, q @ z.T)

    def _output(self, read: int) -> bool:
        want = _stacked([self.trace.reads[(t, read)] for t in range(self.size.tokens)])
        return _equal(self.evaluate(self.program.outputs[read]), want)

    def adjoint(self, gradients: Iterable[tuple[Tile, Tile]]) -> bool:
        """d(loss) along the slopes of all unknowns equals the gradients times the slopes."""
        loss = self._paired(self.program.d_state, self.trace.final)
        for j, tile in enumerate(self.program.d_outputs):
            reads = [self.trace.reads[(t, j)] for t in range(self.size.tokens)]
            loss = loss + self._paired(tile, _stacked(reads))
        want = loss.slope
        got = self._along(self.program.d_carry, self.leaves[self.program.carry.id], log=False)
        for leaf, gradient in gradients:
            got += self._along(gradient, self.leaves[leaf.id], log=leaf.op == "log_decay")
        return (got - want) % loss.prime == 0

    def clock_at_start(self) -> bool:
        """What is handed on to the chunk before is <S_0, dS_0>: its <S_end, dS_end>."""
        one, program = self.program.one_sided, self.program
        if one is None:
            return True
        want: Any = (self.leaves[program.carry.id] * self.evaluate(program.d_carry)).sum()
        got: Any = self.evaluate(one.start)[()]
        return (got.value - want.value) % want.prime == 0

    def _paired(self, cotangent: Tile, value: Array | None) -> Any:
        return (self.leaves[cotangent.id] * value).sum()

    def _along(self, gradient: Tile, leaf: Array, *, log: bool) -> int:
        """sum of gradient * slope; the slope of a log decay is w' / w."""
        total = 0
        for g, x in zip(np.ravel(self.evaluate(gradient)), np.ravel(leaf), strict=True):
            slope = x.slope * pow(x.value, -1, x.prime) if log else x.slope
            total += g.value * slope
        return total


def _stacked(rows: list[Any]) -> Array:
    """Rows of elements, or of arrays of them, as one object array."""
    return np.stack([np.asarray(row, dtype=object) for row in rows])


def _equal(got: Array | None, want: Array | None) -> bool:
    if got is None or want is None or np.shape(got) != np.shape(want):
        return False
    return all(x == y or x - y == 0 for x, y in zip(np.ravel(got), np.ravel(want), strict=True))
