"""Eliminates the state from a chunk: affine maps of events composed in sympy.

Every event is an affine map of the state with non-commuting symbols,

    decay    S -> D_{t,i} S             rank-1   S -> S + a_{t,i} z_{t,i}

Composing them over two tokens gives the state at every point as a sum of products of
decays, a and z. The product between a write and a later point depends on the two points
alone and is a span E(point, write): this is what makes all pairs of a chunk one formula.
Multiplying by b^T and q^T and collecting gives the five equations of the chunked form, for
any number of decays, events and reads a token:

    N[m,i] = b_m E(m,i) a_i
    Z_m    = s_m (c_m + sign (b_m E(m,0) S_0 + sum_i N[m,i] Z_i))
    P[t,i] = q_t E(t,i) a_i
    O_t    = q_t E(t,0) S_0 + sum_i P[t,i] Z_i
    S_end  = E(end,0) S_0 + sum_i E(end,i) a_i Z_i
"""

from __future__ import annotations

from dataclasses import dataclass

import sympy as sp

from lincodegen.derive.events import Decay, Group, Rank1
from lincodegen.errors import InternalError

SPAN = sp.Function("E", commutative=False)
STATE = sp.Symbol("S_0", commutative=False)


@dataclass(frozen=True, slots=True)
class Slot:
    """One row of a row axis within its token: its events passed when it reads and writes."""

    read: int | None
    write: int | None

    @property
    def first(self) -> int:
        """The point before all events of the token."""
        return 0


@dataclass(frozen=True, slots=True)
class Equation:
    """``left = right``; the name is the one that a failed proof gives."""

    name: str
    left: sp.Expr
    right: sp.Expr

    def __str__(self) -> str:
        return f"{self.name}: {self.left} = {self.right}"


@dataclass(frozen=True, slots=True)
class ChunkForm:
    """The chunked form of one group: row axes with their slots, and the equations."""

    group: Group
    axes: tuple[tuple[str, tuple[Slot, ...]], ...]
    equations: tuple[Equation, ...]

    def slots(self, axis: str) -> tuple[Slot, ...]:
        """The slots of a row axis or of its copy as columns."""
        return dict(self.axes).get(axis.rstrip("'"), ())

    def equation(self, name: str) -> Equation:
        """The equation of a name."""
        return next(e for e in self.equations if e.name == name)

    def __str__(self) -> str:
        return "\n".join(str(e) for e in self.equations)


def symbol(name: str) -> sp.Symbol:
    """A non-commuting symbol: an operand of a row axis, a block or a state."""
    return sp.Symbol(name, commutative=False)


def derive_group(group: Group) -> ChunkForm:
    """The chunked form of a group of events."""
    solved = [i for i, e in enumerate(group.events) if isinstance(e, Rank1) and e.b is not None]
    plain = [i for i, e in enumerate(group.events) if isinstance(e, Rank1) and e.b is None]
    axes: list[tuple[str, tuple[Slot, ...]]] = []
    for axis, indices in (("m", solved), ("w", plain)):
        if indices:
            events = [(i, group.events[i]) for i in indices]
            slots = [Slot(e.read, i) for i, e in events if isinstance(e, Rank1)]
            axes.append((axis, tuple(slots)))
    axes.extend((f"t{j}", (Slot(read.at, None),)) for j, read in enumerate(group.reads))
    form = ChunkForm(group, tuple(axes), ())
    return ChunkForm(group, tuple(axes), tuple(_equations(form)))


def _equations(form: ChunkForm) -> list[Equation]:
    """The equations, each collected from the composed maps."""
    snapshots = _compose(form.group)
    equations: list[Equation] = []
    writes = [axis for axis in ("m", "w") if form.slots(axis)]
    if form.slots("w"):
        equations.append(Equation("Z_w", symbol("Z_w"), symbol("s_w") * symbol("c_w")))
    if form.slots("m"):
        for i in writes:
            grams = [
                symbol("b_m") * _collected(form, snapshots, (slot.read, "m"), i)
                for slot in form.slots("m")
            ]
            equations.append(Equation(f"N_m{i}", symbol(f"N_m{i}"), _same(grams, "m")))
        inflow = symbol("b_m") * SPAN(sp.Symbol("m"), 0) * STATE
        inflow += sum(symbol(f"N_m{i}") * symbol(f"Z_{i}") for i in writes)
        right = symbol("s_m") * symbol("c_m") + symbol("s_m") * sp.Symbol("sigma") * inflow
        equations.append(Equation("Z_m", symbol("Z_m"), sp.expand(right)))
    for j, read in enumerate(form.group.reads):
        equations.extend(_read_equations(form, snapshots, f"t{j}", read.column))
    end = SPAN(sp.Symbol("end"), 0) * STATE
    for i in writes:
        end += _collected(form, snapshots, (None, "end"), i) * symbol(f"Z_{i}")
    equations.append(Equation("S_end", symbol("S_end"), end))
    return equations


def _read_equations(
    form: ChunkForm, snapshots: dict[int, sp.Expr], axis: str, column: bool
) -> list[Equation]:
    """P and O of one read; a column read weighs the writes by Z_i . q instead."""
    q, row = symbol(f"q_{axis}"), sp.Symbol(axis)
    writes = [i for i in ("m", "w") if form.slots(i)]
    point = form.slots(axis)[0].read
    found = {i: _collected(form, snapshots, (point, axis), i) for i in writes}
    if column:
        out = SPAN(row, 0) * STATE * q
        grams = [
            Equation(f"P_{axis}{i}", symbol(f"P_{axis}{i}"), symbol(f"Z_{i}") * q) for i in writes
        ]
        out += sum(found[i] * symbol(f"P_{axis}{i}") for i in writes)
        return [*grams, Equation(f"O_{axis}", symbol(f"O_{axis}"), out)]
    grams = [Equation(f"P_{axis}{i}", symbol(f"P_{axis}{i}"), q * found[i]) for i in writes]
    out = q * SPAN(row, 0) * STATE + sum(symbol(f"P_{axis}{i}") * symbol(f"Z_{i}") for i in writes)
    return [*grams, Equation(f"O_{axis}", symbol(f"O_{axis}"), out)]


def _compose(group: Group) -> dict[int, sp.Expr]:
    """The state at every point of the second of two tokens; key -1: after the second."""
    state: sp.Expr = STATE
    snapshots: dict[int, sp.Expr] = {}
    for token in (1, 2):
        for i, event in enumerate(group.events):
            if token == 2:
                snapshots[i] = state
            if isinstance(event, Decay):
                state = sp.expand(symbol(f"D_{token}_{i}") * state)
            else:
                state = state + symbol(f"a_{token}_{i}") * symbol(f"z_{token}_{i}")
    snapshots[len(group.events)] = state
    snapshots[-1] = state
    return snapshots


def _collected(
    form: ChunkForm, snapshots: dict[int, sp.Expr], to: tuple[int | None, str], axis: str
) -> sp.Expr:
    """E(to, i) a_i for the writes i of an axis, read off the state at a point (None: the end).

    The coefficient of every visible z must be a product of exactly the decays between its
    write and the point, in both tokens: then one span stands for all pairs.
    """
    group, (point, row) = form.group, to
    state = snapshots[-1 if point is None else point]
    end = len(group.events) if point is None else point
    for slot in form.slots(axis):
        for token in (1, 2):
            visible = token == 1 or (slot.write is not None and slot.write < end)
            found = state.coeff(symbol(f"z_{token}_{slot.write}"))
            want = _span_product(group, token, slot.write or 0, end) if visible else sp.Integer(0)
            if sp.expand(found - want) != 0:
                raise InternalError(
                    f"write {slot.write} reaches point {end} by {found}, not {want}"
                )
    return SPAN(sp.Symbol(row), sp.Symbol(axis)) * symbol(f"a_{axis}")


def _span_product(group: Group, token: int, write: int, end: int) -> sp.Expr:
    """The decays between a write of ``token`` and a point of token 2, times a."""
    product: sp.Expr = symbol(f"a_{token}_{write}")
    for t in range(token, 3):
        first = write if t == token else 0
        last = len(group.events) if t < 2 else end
        for i in range(first, last):
            if isinstance(group.events[i], Decay):
                product = symbol(f"D_{t}_{i}") * product
    return product


def _same(expressions: list[sp.Expr], axis: str) -> sp.Expr:
    if any(e != expressions[0] for e in expressions):
        raise InternalError(f"the rows of axis {axis} follow different formulas")
    return expressions[0]
