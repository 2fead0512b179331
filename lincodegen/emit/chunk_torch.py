"""Prints a group's tile program as PyTorch: all chunks at once, a loop for the carry alone."""

from __future__ import annotations

from dataclasses import dataclass, field

from lincodegen.emit.names import Names
from lincodegen.errors import EmitError
from lincodegen.program.ir import At, Tile, contracted, is_dot, strip
from lincodegen.program.program import Program
from lincodegen.schedule.numerics import log2_bound
from lincodegen.schedule.phases import Phases, phases

WIDTH = 84


@dataclass(frozen=True, slots=True)
class TorchFunctions:
    """The text of a group's two functions and what their callers pass and get."""

    forward: str
    backward: str
    operands: tuple[str, ...]
    scalars: tuple[str, ...]
    saved: tuple[str, ...]
    gradients: tuple[str, ...]
    runtime: tuple[str, ...]


def print_torch(program: Program, suffix: str = "") -> TorchFunctions:
    """``forward`` and ``backward`` of one group over [B, T, H, ...] operands.

    forward(*operands, state, *scalars, chunk_size) -> (*outputs, state, saved)
    backward(saved, *operands, *scalars, d_outputs..., d_state, chunk_size)
        -> (*gradients of the operands, gradient of the state)
    """
    forward = _Printer(program)
    saved = _saved(program)
    text = forward.forward(suffix, saved)
    backward = _Printer(program)
    back = backward.backward(suffix, saved)
    return TorchFunctions(
        text,
        back,
        tuple(_operand_names(program)),
        tuple(s.name for s in program.scalars),
        tuple(forward.names.of(t) for t in saved),
        tuple("d" + n for n in _operand_names(program)),
        tuple(sorted(forward.runtime | backward.runtime)),
    )


def _operand_names(program: Program) -> list[str]:
    return [o.name for _, o in program.operands] + [o.name for _, o, _ in program.logs]


def _saved(program: Program) -> tuple[Tile, ...]:
    """Tiles that the forward keeps for the backward: inverses and what the carry's loop made."""
    cut = phases(program.outputs, program.carry, program.next_state)
    roots = {t.id for t in _reachable(program)}
    kept = [t for t in cut.before if t.op == "inverse"]
    kept += [t for t in cut.inside if is_dot(t) and t.id in roots and t is not program.next_state]
    return tuple(t for t in kept if t.id in roots and program.graph.names.get(t.id) != "S")


def _reachable(program: Program) -> list[Tile]:
    from lincodegen.program.ir import below  # noqa: PLC0415

    return below([*(g for _, g in program.gradients), program.d_carry])


@dataclass(slots=True)
class _Printer:
    """Prints tiles as statements; ``place`` tells how the current code sees a value."""

    program: Program
    names: Names = field(init=False)
    lines: list[str] = field(default_factory=list)
    uses: dict[int, int] = field(default_factory=dict)
    done: set[int] = field(default_factory=set)
    stacked: set[int] = field(default_factory=set)
    place: str = "before"
    runtime: set[str] = field(default_factory=set)
    indent: int = 4
    clocks: dict[tuple[object, ...], str] = field(default_factory=dict)
    visible: dict[tuple[object, ...], str] = field(default_factory=dict)
    loop_names: dict[int, str] = field(default_factory=dict)
    state: str = "state"
    spans: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        taken = {"chunk_size", "batch", "length", "heads", "i", "num_chunks", "torch", "S", "dS"}
        self.names = Names(self.program.graph, taken | {s.name for s in self.program.scalars})
        for tile, operand in self.program.operands:
            self.names.given[tile.id] = operand.name
            taken.add(operand.name)
        for tile, operand, _ in self.program.logs:
            self.names.given[tile.id] = operand.name
        self.names.taken |= {o.name for _, o in self.program.operands}
        self.names.taken |= {o.name for _, o, _ in self.program.logs}
        for tile in (self.program.carry, self.program.d_state):
            self.names.of(tile)

    # -- functions -------------------------------------------------------------------------

    def forward(self, suffix: str, saved: tuple[Tile, ...]) -> str:
        """The text of ``forward``."""
        program = self.program
        cut = phases([*program.outputs, *saved], program.carry, program.next_state)
        self._count([*program.outputs, *saved, program.next_state], set())
        args = [*_operand_names(program), "state", *(s.name for s in program.scalars)]
        self._line(f"def forward{suffix}({', '.join(args)}, chunk_size):", 0)
        self._line('"""Outputs of all reads, final state, and what the backward needs."""')
        self._line("batch, heads = state.shape[:2]")
        self._line(f"length = {args[0]}.shape[1]")
        self._loads(cut)
        self._clocks([*cut.before, *cut.inside, *cut.after])
        self._statements(cut.before)
        self._loop(cut, program.carry, program.next_state, ("state", "S"), False, cut.after, saved)
        self._statements((*cut.inside, *cut.after))
        outputs = [self._from_rows(t, 1) for t in program.outputs]
        keep = ", ".join(self._value(t, 0) for t in (program.carry, *saved))
        state = "S.unflatten(0, (batch, heads))"
        self._line(f"return {', '.join([*outputs, state])}, ({keep},)")
        return "\n".join(self.lines) + "\n"

    def backward(self, suffix: str, saved: tuple[Tile, ...]) -> str:
        """The text of ``backward``."""
        program, self.state = self.program, "d_state"
        roots = [g for _, g in program.gradients]
        known = (program.carry, *saved)
        cut = phases(roots, program.d_state, program.d_carry, known)
        self._count([*roots, program.d_carry], {t.id for t in known})
        outs = [f"d_out{j}" for j in range(len(program.d_outputs))]
        for name, tile in zip(outs, program.d_outputs, strict=True):
            self.names.given[tile.id] = name
        for tile in known:
            self.names.of(tile)
            self.done.add(tile.id)
        args = [
            "saved",
            *_operand_names(program),
            *(s.name for s in program.scalars),
            *outs,
            "d_state",
        ]
        self._line(f"def backward{suffix}({', '.join(args)}, chunk_size):", 0)
        self._line('"""Gradients of the operands, in their order, and of the initial state."""')
        self._line("batch, heads = d_state.shape[:2]")
        self._line(f"length = {_operand_names(program)[0]}.shape[1]")
        self._line(
            f"{', '.join(self._value(t, 0) for t in known)}{',' if len(known) == 1 else ''} = saved"
        )
        self._loads(cut)
        self._clocks([*cut.before, *cut.inside, *cut.after])
        self._statements(cut.before)
        self._loop(cut, program.d_state, program.d_carry, ("d_state", "dS"), True, cut.after, ())
        self._statements((*cut.inside, *cut.after))
        found = {leaf.id: g for leaf, g in program.gradients}
        results = []
        for tile, operand in program.operands:
            slots = len(operand.nodes)
            results.append(self._from_rows(found[tile.id], slots) if tile.id in found else "None")
        for tile, _, _ in program.logs:
            results.append(self._from_rows(found[tile.id], 1) if tile.id in found else "None")
        self._line("return (")
        for result in [*results, "dS.unflatten(0, (batch, heads))"]:
            self._line(f"{result},", 8)
        self._line(")")
        return "\n".join(self.lines) + "\n"

    def _line(self, text: str, indent: int | None = None) -> None:
        self.lines.append(" " * (self.indent if indent is None else indent) + text)

    def _count(self, roots: list[Tile], known: set[int]) -> None:
        """How often each tile is used by others; roots count once more."""
        seen: set[int] = set()

        def visit(tile: Tile) -> None:
            inner = strip(tile)
            self.uses[inner.id] = self.uses.get(inner.id, 0) + 1
            if inner.id in seen:
                return
            seen.add(inner.id)
            if inner.id not in known:
                for arg in inner.args:
                    visit(arg)

        for root in roots:
            visit(root)

    def _loads(self, cut: Phases) -> None:
        """Operands as rows."""
        self.runtime.add("to_rows")
        needed = {strip(a).id for t in (*cut.before, *cut.inside, *cut.after) for a in (t, *t.args)}
        slots = {"tok": 1} | {axis: len(s) for axis, s in self.program.form.axes}
        pairs = [(t, o.name) for t, o in self.program.operands]
        pairs += [(t, o.name) for t, o, _ in self.program.logs]
        pairs += [
            (t, self.names.given[t.id]) for t in self.program.d_outputs if t.id in self.names.given
        ]
        for tile, name in pairs:
            self.done.add(tile.id)
            if tile.id in needed:
                n, dims = slots[tile.axes[0]], len(tile.axes) - 1
                self._line(f"{name} = to_rows({name}, chunk_size, heads, {n}, {dims})")

    # -- clocks ----------------------------------------------------------------------------

    def _logs(self, channel: bool) -> list[str]:
        return [o.name for _, o, d in self.program.logs if d.channel == channel]

    def _clocks(self, tiles: list[Tile]) -> None:
        """Clocks and masks of the points that the tiles' spans need."""
        for tile in tiles:
            if tile.op == "decay":
                to, origin, channel = tile.attr
                logs = bool(tile.args)
            elif tile.op == "contract":
                (to, origin), channel, logs = tile.attr, True, True
            else:
                continue
            for point in (to, origin):
                if logs and point.axis != "start":
                    self._clock(point, bool(channel))
            if not to.border and not origin.border:
                self._mask(to, origin)

    def _clock(self, point: At, channel: bool) -> str:
        passed = self._passed(point, channel)
        key = (passed, channel)
        if key not in self.clocks:
            axis = -2 if channel else -1
            logs = self._logs(channel)
            tuple_text = f"({', '.join(logs)},)"
            if point.border:
                name, call = "clock_end", f"end_clock({tuple_text}, {axis})"
                self.runtime.add("end_clock")
            else:
                name = f"clock_{point.axis.rstrip(chr(39))}"
                call = f"row_clock({tuple_text}, {_tuple(passed)}, {axis})"
                self.runtime.add("row_clock")
            name = self.names._fresh(name + ("_k" if channel else ""))  # noqa: SLF001
            self.clocks[key] = name
            self._line(f"{name} = {call}")
        return self.clocks[key]

    def _passed(self, point: At, channel: bool) -> tuple[int, ...]:
        if point.border:
            return (-1,)
        group = self.program.form.group
        moments = [getattr(s, point.moment) for s in self.program.form.slots(point.axis)]
        return tuple(group.clocks(m)[int(channel)] for m in moments)

    def _mask(self, to: At, origin: At) -> str:
        form = self.program.form
        reads = tuple(s.read for s in form.slots(to.axis))
        writes = tuple(s.write for s in form.slots(origin.axis))
        key = (reads, writes)
        if key not in self.visible:
            name = self.names._fresh(f"visible_{to.axis}{origin.axis}".replace("'", ""))  # noqa: SLF001
            self.runtime.add("visibility")
            like = _operand_names(self.program)[0]
            text = f"visibility(chunk_size, {_tuple(reads)}, {_tuple(writes)}, {like})"
            self._line(f"{name} = {text}")
            self.visible[key] = name
        return self.visible[key]

    # -- phases ----------------------------------------------------------------------------

    def _loop(
        self,
        cut: Phases,
        carry: Tile,
        update: Tile,
        names: tuple[str, str],
        reverse: bool,
        after: tuple[Tile, ...],
        saved: tuple[Tile, ...],
    ) -> None:
        """The loop over chunks; values that later code needs are stacked."""
        source, name = names
        later = {strip(a).id for t in after for a in t.args} | {t.id for t in saved}
        later |= {strip(t).id for t in self.program.outputs} | {
            strip(g).id for _, g in self.program.gradients
        }
        later |= {strip(a).id for t in cut.inside if not is_dot(t) for a in t.args}
        kept = [t for t in cut.inside if t.id in later and is_dot(t) and t is not update]
        keep_carry = carry is self.program.carry or carry.id in later
        first = _operand_names(self.program)[0]
        self._line(f"{name} = {source}.flatten(0, 1)")
        lists = [f"{self.names.of(t)}_chunks" for t in kept]
        carry_list = f"{self.names.of(carry)}_chunks"
        for text in [*([carry_list] if keep_carry else []), *lists]:
            self._line(f"{text} = []")
        order = f"reversed(range({first}.shape[0]))" if reverse else f"range({first}.shape[0])"
        self._line(f"for i in {order}:")
        self.indent, self.place = 8, "inside"
        before = set(self.done)
        if keep_carry:
            self._line(f"{carry_list}.append({name})")
        self.stacked = {t.id for t in (*cut.before,)} | before
        self.done.add(carry.id)
        self.loop_names = {carry.id: name}
        self._statements(tuple(t for t in cut.inside if t is not update), kept)
        self._line(f"{name} = {self._text(update)[0]}")
        self.done = before | {carry.id, update.id} | {t.id for t in kept}
        self.indent, self.place = 4, "after"
        if not keep_carry and not kept:
            return
        tail = "[::-1]" if reverse else ""
        if keep_carry:
            self._line(f"{self.names.of(carry)} = torch.stack({carry_list}{tail})")
        for tile, text in zip(kept, lists, strict=True):
            self._line(f"{self.names.of(tile)} = torch.stack({text}{tail})")

    def _statements(self, tiles: tuple[Tile, ...], kept: list[Tile] | None = None) -> None:
        """A statement for every tile that deserves a name; the others are printed where used."""
        keep = {t.id for t in kept or ()}
        for tile in tiles:
            if tile.op == "rename" or tile.id in self.done:
                continue
            if self._deserves(tile) or tile.id in keep:
                text = self._text(tile)[0]
                self.done.add(tile.id)
                if self._known_span(tile, text):
                    continue
                name = self.names.of(tile)
                self._line(f"{name} = {text}")
                if tile.id in keep:
                    self._line(f"{name}_chunks.append({name})")

    def _known_span(self, tile: Tile, text: str) -> bool:
        """Whether another tile already holds this decay: points with one clock share it."""
        if tile.op != "decay" or tile.id in self.names.given:
            return False
        if text in self.spans:
            self.names.given[tile.id] = self.spans[text]
            return True
        self.spans[text] = self.names.of(tile)
        return False

    def _deserves(self, tile: Tile) -> bool:
        if tile.op in ("carry", "cotangent", "load", "log_decay"):
            return False
        many = self.uses.get(tile.id, 0) > 1
        heavy = is_dot(tile) or tile.op in ("decay", "running", "reduce")
        return many or heavy or tile.id in self.program.graph.names

    def _value(self, tile: Tile, level: int) -> str:
        """A tile as an operand of precedence ``level``: its name, or its text."""
        tile = strip(tile)
        if tile.id in self.done or tile.op in ("carry", "cotangent", "load", "log_decay"):
            name = self.loop_names.get(tile.id) if self.place == "inside" else None
            if name:
                return name
            name = self.names.of(tile)
            return f"{name}[i]" if self.place == "inside" and self._outside(tile) else name
        text, own = self._text(tile)
        if len(text) > WIDTH - 30:
            name = self.names.of(tile)
            self._line(f"{name} = {text}")
            self.done.add(tile.id)
            return name
        return f"({text})" if own < level else text

    def _outside(self, tile: Tile) -> bool:
        return tile.id in self.stacked or tile.op in ("load", "log_decay", "cotangent")

    # -- expressions -----------------------------------------------------------------------

    def _text(self, tile: Tile) -> tuple[str, int]:
        """The text of an operation and its precedence: 0 sum, 1 product, 2 postfix."""
        match tile.op:
            case "rename":
                return self._value(tile, 0), 2
            case "add":
                return self._sum(tile)
            case "scale":
                number = tile.attr[0]
                inner = self._value(tile.args[0], 1)
                return (f"-{inner}", 1) if number == -1 else (f"{number} * {inner}", 1)
            case "factor":
                return f"{tile.attr[0]} * {self._value(tile.args[0], 1)}", 1
            case "reduce":
                dims = self._dims(tile.args[0].axes, contracted(tile))
                return f"{self._value(tile.args[0], 2)}.sum({dims})", 2
            case "broadcast":
                return self._broadcast(tile)
            case "decay":
                return self._decay(tile), 2
            case "contract":
                return self._contract(tile), 2
            case "inverse":
                self.runtime.add("unit_lower_inverse")
                return f"unit_lower_inverse({self._value(tile.args[0], 0)})", 2
            case "running":
                return self._running(tile), 2
            case "ein":
                return self._ein(tile)
        raise EmitError(f"no PyTorch form of {tile!r}")

    def _sum(self, tile: Tile) -> tuple[str, int]:
        left, right = tile.args
        inner = strip(right)
        if inner.id not in self.done and inner.op == "scale" and inner.attr[0] == -1:
            return f"{self._value(left, 0)} - {self._value(inner.args[0], 1)}", 0
        return f"{self._value(left, 0)} + {self._value(right, 0)}", 0

    def _broadcast(self, tile: Tile) -> tuple[str, int]:
        """x repeated over the axes it lacks."""
        (inner,) = tile.args
        lead = ["-1"] if self.place == "inside" else ["-1", "-1"]
        sizes = ["-1" if a in inner.axes else self._size(a) for a in tile.axes]
        return f"{self._aligned(inner, tile.axes, 2)}.expand({', '.join([*lead, *sizes])})", 2

    def _size(self, axis: str) -> str:
        """The size of an axis: of the state's, or rows of a chunk."""
        if axis in self.program.carry.axes:
            place = self.program.carry.axes.index(axis) - len(self.program.carry.axes)
            return f"{self.state}.shape[{place}]"
        slots = len(self.program.form.slots(axis))
        return "chunk_size" if slots == 1 else f"{slots} * chunk_size"

    def _dims(self, axes: tuple[str, ...], over: tuple[str, ...]) -> str:
        places = [axes.index(a) - len(axes) for a in over]
        return str(places[0]) if len(places) == 1 else str(tuple(places))

    def _aligned(self, tile: Tile, axes: tuple[str, ...], level: int = 1) -> str:
        """A tile with its axes in the order of ``axes``, size 1 where it has none."""
        own = tile.axes
        text = self._value(tile, 2 if own != axes else level)
        kept = [a for a in axes if a in own]
        if kept == list(reversed(own)) and len(own) == 2:
            text += ".mT"
        if len(own) == len(axes):
            return text
        if not own:
            return f"{text}[..., {', '.join(['None'] * len(axes))}]"
        picks = [":" if a in own else "None" for a in axes]
        while picks and picks[0] == ":":
            picks.pop(0)
        return f"{text}[..., {', '.join(self._picks(axes, own))}]"

    def _picks(self, axes: tuple[str, ...], own: tuple[str, ...]) -> list[str]:
        """Index entries after the ellipsis that put ``own`` into ``axes``."""
        first = next(i for i, a in enumerate(axes) if a not in own)
        return [":" if a in own else "None" for a in axes[first:]]

    def _ein(self, tile: Tile) -> tuple[str, int]:
        x, y = tile.args
        over = contracted(tile)
        if not over:
            return f"{self._aligned(x, tile.axes)} * {self._aligned(y, tile.axes)}", 1
        if len(over) == 1 and len(tile.axes) == 2 and len(x.axes) == 2 and len(y.axes) == 2:
            row, column = tile.axes
            left, right = (x, y) if row in x.axes else (y, x)
            if column in right.axes and row not in right.axes:
                a = self._aligned(left, (row, over[0]), 2)
                b = self._aligned(right, (over[0], column), 2)
                return f"{a} @ {b}", 1
        axes = (*tile.axes, *over)
        if all(set(t.axes) == set(axes) for t in (x, y)):
            axes = x.axes
        text = f"({self._aligned(x, axes)} * {self._aligned(y, axes)})"
        return f"{text}.sum({self._dims(axes, over)})", 2

    def _decay(self, tile: Tile) -> str:
        to, origin, channel = tile.attr
        if not tile.args:
            dtype = f"{_operand_names(self.program)[0]}.dtype"
            return f"{self._mask(to, origin)}.to({dtype})"
        start = None if origin.axis == "start" else self._spot(origin, bool(channel))
        end = self._spot(to, bool(channel))
        if not to.border and not origin.border:
            self.runtime.add("pair_span")
            return f"pair_span({end}, {start}, {self._mask(to, origin)})"
        self.runtime.add("span")
        tail = ""
        if to.border and origin.border:
            tail = "[..., 0, :]" if channel else "[..., 0]"
        return f"span({end}, {start}){tail}"

    def _spot(self, point: At, channel: bool) -> str:
        name = self._clock(point, channel)
        if self.place == "inside":
            raise EmitError("a clock inside the loop over chunks")
        return name

    def _contract(self, tile: Tile) -> str:
        x, y = tile.args[:2]
        to, origin = tile.attr
        self.runtime.add("ChannelSpan")
        bound = log2_bound(self.program.form.group)
        tail = "" if bound == float("inf") else f", {bound:.6g}"
        span = (
            f"ChannelSpan({self._clock(to, True)}, {self._clock(origin, True)}, "
            f"{self._mask(to, origin)}, chunk_size{tail})"
        )
        a, b = self._value(x, 0), self._value(y, 0)
        if "k" not in tile.axes:
            if x.axes[0] != to.axis:
                a, b = b, a
            return f"{span}.gram({a}, {b})"
        weight, rows = (x, y) if "k" not in x.axes else (y, x)
        text = self._aligned(weight, (to.axis, origin.axis))
        method = "rows" if tile.axes[0] == to.axis else "columns"
        return f"{span}.{method}({text}, {self._value(rows, 0)})"

    def _running(self, tile: Tile) -> str:
        points, (slot, _) = tile.attr
        channel = "k" in tile.axes
        self.runtime.add("running_sum")
        parts = []
        for part, (at, sign) in zip(tile.args, points, strict=True):
            passed = "None" if at.border else _tuple(self._passed(at, channel))
            parts.append(f"({self._value(part, 0)}, {passed}, {sign})")
        inner = "".join(f"\n{' ' * (self.indent + 8)}{p}," for p in parts)
        pad = " " * (self.indent + 4)
        return (
            f"running_sum(\n{pad}({inner}\n{pad}),\n{pad}{slot},\n{pad}chunk_size,\n"
            f"{pad}{channel},\n{' ' * self.indent})"
        )

    def _from_rows(self, tile: Tile, slots: int) -> str:
        self.runtime.add("from_rows")
        return f"from_rows({self._value(tile, 0)}, batch, length, {slots})"


def _tuple(values: tuple[object, ...]) -> str:
    return f"({', '.join(map(str, values))}{',' if len(values) == 1 else ''})"
