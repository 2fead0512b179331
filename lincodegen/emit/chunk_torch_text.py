"""Tiles as PyTorch expressions over all chunks, or over one in the loop for the carry."""

from __future__ import annotations

from dataclasses import dataclass, field

from lincodegen.emit.names import Names
from lincodegen.errors import EmitError
from lincodegen.program.ir import At, Tile, contracted, is_dot, strip
from lincodegen.program.program import Program
from lincodegen.schedule.numerics import log2_bound

WIDTH = 84


def operand_names(program: Program) -> list[str]:
    """The operands, then the log decays: the order of a form's arguments."""
    return [o.name for _, o in program.operands] + [o.name for _, o, _ in program.logs]


@dataclass(slots=True)
class Expressions:
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
    between: dict[tuple[str, str], str] = field(default_factory=dict)

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

    def _line(self, text: str, indent: int | None = None) -> None:
        self.lines.append(" " * (self.indent if indent is None else indent) + text)

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
            if tile.op == "contract":
                self._between(to, origin)

    def _between(self, to: At, origin: At) -> str:
        """The name of the decays per channel between two row axes."""
        clocks = self._clock(to, True), self._clock(origin, True)
        if clocks not in self.between:
            self.runtime.add("ChannelSpan")
            bound = log2_bound(self.program.form.group)
            tail = "" if bound == float("inf") else f", {bound:.6g}"
            name = self.names.fresh(f"decays_{to.axis}{origin.axis}".replace("'", ""))
            self._line(f"{name} = ChannelSpan({clocks[0]}, {clocks[1]}, chunk_size{tail})")
            self.between[clocks] = name
        return self.between[clocks]

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
            name = self.names.fresh(name + ("_k" if channel else ""))
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
            name = self.names.fresh(f"visible_{to.axis}{origin.axis}".replace("'", ""))
            self.runtime.add("visibility")
            like = operand_names(self.program)[0]
            text = f"visibility(chunk_size, {_tuple(reads)}, {_tuple(writes)}, {like})"
            self._line(f"{name} = {text}")
            self.visible[key] = name
        return self.visible[key]

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
            dtype = f"{operand_names(self.program)[0]}.dtype"
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
        span, seen = self._between(to, origin), self._mask(to, origin)
        a, b = self._value(x, 0), self._value(y, 0)
        if "k" not in tile.axes:
            if x.axes[0] != to.axis:
                a, b = b, a
            return f"{span}.gram({a}, {b}, {seen})"
        weight, rows = (x, y) if "k" not in x.axes else (y, x)
        text = self._aligned(weight, (to.axis, origin.axis))
        method = "rows" if tile.axes[0] == to.axis else "columns"
        return f"{span}.{method}({text}, {self._value(rows, 0)}, {seen})"

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
