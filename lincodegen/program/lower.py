"""Equations to tiles: every product of the derived equations becomes a tile operation."""

from __future__ import annotations

from collections.abc import Iterator

import sympy as sp

from lincodegen.derive.chunkform import SPAN, STATE, ChunkForm
from lincodegen.derive.events import Decay, Rank1
from lincodegen.derive.nodes import is_number, number
from lincodegen.errors import InternalError
from lincodegen.program.adjoint import gradients
from lincodegen.program.ir import END, START, At, Axes, Graph, Tile
from lincodegen.program.program import Operand, Program, Scalar
from lincodegen.spec.step import Node

RESERVED = frozenset(
    (
        *("B", "T", "H", "K", "V", "W", "NT", "NK", "BT", "BK", "BV", "NR", "NC"),
        *("N", "NB", "NV", "PK", "PV"),
        *("PRECISION", "INVERSE", "SCALES", "ORDER", "LOG2_E"),
        *("tl", "torch", "triton", "dtype", "config", "tiles", "splits", "keep"),
        *("state", "saved", "i"),
        *("chunk_size", "batch", "length", "heads", "num_chunks", "S", "dS", "o", "do"),
        *("h", "h0", "ht", "dh", "dht", "dh0"),
        *("cu_seqlens", "places", "first_chunks", "packed", "scans", "entered", "passed"),
    )
)
"""Names that emitted text uses for itself."""


def lower(form: ChunkForm) -> Program:
    """The tile program of a chunked form, forward and adjoint."""
    return _Lowering(form).program()


class _Lowering:
    """Walks the equations of one group in order; blocks hold the tiles of their left sides."""

    def __init__(self, form: ChunkForm) -> None:
        self.form, self.group, self.graph = form, form.group, Graph()
        self.value_axis: Axes = ("v",) if len(self.group.state.shape) == 2 else ()
        self.operands: dict[Tile, Operand] = {}
        self.taken: set[str] = set()
        self.blocks: dict[str, Tile | None] = {}
        self.scalars: list[Scalar] = []
        self.carry = self.graph.make("carry", (), ("S_0",), ("k", *self.value_axis))
        self.logs = tuple(self._log(d) for d in self.group.decays)
        self.rows: dict[str, list[Rank1]] = {
            "m": [e for e in self.group.rows if e.b is not None],
            "w": [e for e in self.group.rows if e.b is None],
        }

    def program(self) -> Program:
        """Lowers every equation, then takes the adjoint."""
        graph = self.graph
        graph.name(self.carry, "S_0")
        for equation in self.form.equations:
            try:
                tile = self._equation(equation.name, sp.expand(equation.right))
            except InternalError as error:
                raise InternalError(f"{equation.name}: {error}") from error
            self.blocks[equation.name] = graph.name(tile, equation.name)
        outputs = tuple(self._output(j) for j in range(len(self.group.reads)))
        next_state = self._block("S_end")
        seeds = {o: graph.make("cotangent", (), (j,), o.axes) for j, o in enumerate(outputs)}
        d_state = graph.make("carry", (), ("dS",), self.carry.axes)
        graph.name(d_state, "dS_end")
        found = gradients(graph, {**seeds, next_state: d_state})
        d_carry = found.pop(self.carry)
        loads = [t for t in found if t.op in ("load", "log_decay")]
        return Program(
            self.form,
            graph,
            dict(self.blocks),
            tuple(self.operands.items()),
            self.logs,
            tuple(self.scalars),
            self.carry,
            outputs,
            next_state,
            tuple(seeds[o] for o in outputs),
            d_state,
            tuple((t, found[t]) for t in sorted(loads, key=lambda t: t.id)),
            d_carry,
        )

    def _block(self, name: str) -> Tile:
        tile = self.blocks[name]
        if tile is None:
            raise InternalError(f"block {name} is zero")
        return tile

    def _output(self, j: int) -> Tile:
        """The rows of a read, times its constant factor."""
        tile, factor = self._block(f"O_t{j}"), self.group.reads[j].factor
        if factor is None:
            return tile
        name = str(factor.attr[0]) if factor.op == "constant" else f"scale{j or ''}"
        if not any(s.name == name for s in self.scalars):
            self.scalars.append(Scalar(name, factor))
        return self.graph.factor(tile, name) or tile

    # -- leaves ----------------------------------------------------------------------------

    def _log(self, decay: Decay) -> tuple[Tile, Operand, Decay]:
        axes = ("tok", "k") if decay.channel else ("tok",)
        operand = Operand(self._fresh((decay.log,), "g"), axes, (decay.log,))
        tile = self.graph.make("log_decay", (), (operand.name,), axes)
        return tile, operand, decay

    def _load(self, letter: str, axis: str) -> Tile | None:
        """The tile of an operand of a row axis: q, a, b, c or s; None where it is absent."""
        base = axis.rstrip("'")
        if letter == "q":
            read = self.group.reads[int(base[1:])]
            return self._rows((read.q,), (axis, "v" if read.column else "k"), "q")
        values = [getattr(e, letter) for e in self.rows[base]]
        if all(v is None for v in values) or (letter == "c" and self._ones(base)):
            return None
        axes = {"a": (base, "k"), "b": (base, "k"), "c": (base, *self.value_axis), "s": (base,)}[
            letter
        ]
        shape = next(v.shape for v in values if v is not None)
        fill = number(1) if letter == "s" else Node("zeros", (), (), shape)
        tile = self._rows(tuple(fill if v is None else v for v in values), axes, letter)
        return self.graph.rename(tile, {base: axis})

    def _ones(self, axis: str) -> bool:
        """Whether the plain writes of a vector state all write their key itself."""
        plain = axis == "w" and not self.value_axis
        return plain and all(e.c is not None and is_number(e.c, 1) for e in self.rows["w"])

    def _rows(self, nodes: tuple[Node, ...], axes: Axes, letter: str) -> Tile:
        for tile, operand in self.operands.items():
            if operand.nodes == nodes and operand.axes == axes:
                return tile
        operand = Operand(self._fresh(nodes, letter), axes, nodes)
        tile = self.graph.make("load", (), (operand.name,), axes)
        self.graph.name(tile, operand.name)
        self.operands[tile] = operand
        return tile

    def _fresh(self, nodes: tuple[Node, ...], letter: str) -> str:
        """The name of an operand: of the input or local that it is, else its letter."""
        first = nodes[0].args[0] if nodes[0].op == "index" else nodes[0]
        name = letter
        if first.op in ("input", "parameter"):
            name = str(first.attr[0])
        elif first.op == "ref":
            name = self.group.locals[first.attr[0]]
        name = f"{name}_rows" if name in RESERVED else name
        base, count = name, 1
        while name in self.taken:
            count += 1
            name = f"{base}{count}"
        self.taken.add(name)
        return name

    # -- equations -------------------------------------------------------------------------

    def _equation(self, name: str, right: sp.Expr) -> Tile | None:
        if name == "Z_m":
            return self._solved(right)
        total: Tile | None = None
        for term in sp.Add.make_args(right):
            total = self.graph.add(total, self._term(list(_factors(term))))
        return total

    def _solved(self, right: sp.Expr) -> Tile | None:
        """Z_m = right with N_mm Z_m in it: (I - s sigma N_mm)^{-1} of the rest."""
        graph, total, matrix = self.graph, None, None
        for term in sp.Add.make_args(right):
            factors = list(_factors(term))
            if symbol_name(factors[-1]) == "Z_m":
                matrix = self._scaled(self._block("N_mm"), factors)
                continue
            total = graph.add(total, self._term(factors))
        if matrix is None:
            raise InternalError("the solved rows have no matrix")
        return graph.solve(matrix, total)

    def _scaled(self, tile: Tile | None, factors: list[sp.Expr]) -> Tile | None:
        """The tile times the row scale s and the sign among the factors."""
        for factor in factors:
            name = symbol_name(factor)
            if name.startswith("s_") and tile is not None:
                s = self._load("s", name[2:])
                tile = tile if s is None else self.graph.ein(s, tile, tile.axes)
            elif factor.is_Number and tile is not None:
                tile = self.graph.scale(tile, float(factor))
            elif name == "sigma":
                signs = {e.sign for e in self.rows["m"]}
                if len(signs) != 1:
                    raise InternalError("events of both signs in one row axis")
                tile = self.graph.scale(tile, signs.pop())
        return tile

    def _term(self, factors: list[sp.Expr]) -> Tile | None:
        """One product of an equation."""
        body = [f for f in factors if not f.is_Number and not _scales(symbol_name(f))]
        return self._scaled(self._product(body), factors)

    def _product(self, body: list[sp.Expr]) -> Tile | None:
        graph, names = self.graph, [symbol_name(f) for f in body]
        kinds = [n.split("_")[0] for n in names]
        match kinds:
            case ["c"]:
                return self._load("c", names[0][2:])
            case ["b" | "q", "E", "a"]:
                return self._gram(names[0], self._span(body[1]), names[2])
            case ["b" | "q", "E", "S"]:
                return self._inflow(names[0], self._span(body[1]))
            case ["E", "S"]:
                return self._clocked(self.carry, self._span(body[0]))
            case ["E", "S", "q"]:
                row = names[2][2:]
                inner = graph.ein(self._load("q", row), self.carry, (row, "k"))
                return self._clocked(inner, self._span(body[0]))
            case ["E", "a", "Z"]:
                return self._outflow(names[1][2:], self._span(body[0]), names[2])
            case ["E", "a", "P"]:
                return self._column_sum(names[1][2:], self._span(body[0]), names[2])
            case ["Z", "q"]:
                return self._value_gram(names[0][2:], names[1][2:])
            case ["N" | "P", "Z"]:
                return self._blocks(names[0], names[1])
        raise InternalError(f"no tile for the product {body}")

    def _span(self, span: sp.Expr) -> tuple[At, At]:
        """(to, from) of E(to, from)."""
        to, origin = (str(a) for a in span.args)
        return (
            END if to == "end" else At(to, "read"),
            START if origin == "0" else At(origin, "write"),
        )

    def _decays(self, span: tuple[At, At]) -> Iterator[Tile]:
        """The scalar and the channel part of a span that decays."""
        for channel in (False, True):
            logs = tuple(t for t, _, d in self.logs if d.channel == channel)
            if logs:
                yield self.graph.decay(logs, *span, channel)

    def _clocked(self, tile: Tile | None, span: tuple[At, At]) -> Tile | None:
        """The tile times the decays of a span with a border at one end or both."""
        for decay in self._decays(span):
            tile = None if tile is None else self.graph.ein(decay, tile, tile.axes)
        return tile

    def _columns(self, axis: str, row: str) -> str:
        return axis + "'" if axis == row else axis

    def _gram(self, left: str, span: tuple[At, At], right: str) -> Tile | None:
        """<x, a> under a masked span: [row, column]."""
        graph, row = self.graph, left.split("_")[1]
        axis = right.split("_")[1]
        column = self._columns(axis, row)
        span = (span[0], At(column, "write"))
        x, a = self._load(left[0], row), self._load("a", column)
        scalar = tuple(t for t, _, d in self.logs if not d.channel)
        channel = tuple(t for t, _, d in self.logs if d.channel)
        if channel:
            gram = graph.contract(x, a, channel, span, (row, column))
            masked = not scalar
        else:
            gram, masked = graph.ein(x, a, (row, column)), False
        return gram if masked else graph.ein(gram, graph.decay(scalar, *span, False), (row, column))

    def _inflow(self, left: str, span: tuple[At, At]) -> Tile | None:
        """(x under the span from the start) S_0; the scalar decay stays on the result."""
        graph, row = self.graph, left.split("_")[1]
        x = self._load(left[0], row)
        scalars = [d for d in self._decays(span) if "k" not in d.axes]
        for decay in self._decays(span):
            if "k" in decay.axes and x is not None:
                x = graph.ein(x, decay, x.axes)
        tile = graph.ein(x, self.carry, (row, *self.value_axis))
        for decay in scalars:
            tile = None if tile is None else graph.ein(decay, tile, tile.axes)
        return tile

    def _outflow(self, axis: str, span: tuple[At, At], value: str) -> Tile | None:
        """(a under the span to the end)^T Z; the scalar decay goes to the computed Z."""
        graph, a, z = self.graph, self._load("a", axis), self._value(value)
        for decay in self._decays(span):
            if "k" in decay.axes:
                a = None if a is None else graph.ein(a, decay, a.axes)
            else:
                z = graph.ein(decay, z, z.axes) if z is not None else decay
        if z is None:
            return graph.reduce(a, ("k",))
        return graph.ein(a, z, ("k", *self.value_axis))

    def _value(self, name: str) -> Tile | None:
        """Z rows; for a vector state whose written value is 1, None."""
        tile = self.blocks[name]
        if tile is not None or self.value_axis:
            return tile
        return None

    def _column_sum(self, axis: str, span: tuple[At, At], weights: str) -> Tile | None:
        """sum_i E(t, i) a_i W[t, i] for the weights of a column read."""
        graph, weight = self.graph, self._block(weights)
        row, column = weight.axes
        span = (span[0], At(column, "write"))
        scalar = tuple(t for t, _, d in self.logs if not d.channel)
        channel = tuple(t for t, _, d in self.logs if d.channel)
        a = self._load("a", axis)
        if scalar or not channel:
            weight = graph.ein(weight, graph.decay(scalar, *span, False), weight.axes) or weight
        if channel:
            return graph.contract(weight, a, channel, span, (row, "k"))
        return graph.ein(weight, a, (row, "k"))

    def _value_gram(self, axis: str, row: str) -> Tile | None:
        return self.graph.ein(self._load("q", row), self.blocks[f"Z_{axis}"], (row, axis))

    def _blocks(self, gram: str, value: str) -> Tile | None:
        """N Z or P Z; the columns of the gram are the rows of Z."""
        graph, tile, z = self.graph, self._block(gram), self._value(value)
        row, column = tile.axes
        if z is None:
            return graph.reduce(tile, (row,))
        z = graph.rename(z, {z.axes[0]: column})
        return graph.ein(tile, z, (row, *self.value_axis))


def symbol_name(expression: sp.Expr) -> str:
    """The name of a symbol, ``E`` for a span, ``S_0`` for the state."""
    if expression == STATE:
        return "S_0"
    return "E" if isinstance(expression, SPAN) else str(expression)


def _scales(name: str) -> bool:
    """Whether a factor of a product scales its rows."""
    return name == "sigma" or name.startswith("s_")


def _factors(term: sp.Expr) -> Iterator[sp.Expr]:
    """The factors of a product in order, the commuting ones first."""
    yield from sp.Mul.make_args(term)
