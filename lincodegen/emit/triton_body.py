"""The body of a Triton kernel: its tiles as statements, sorted by the loop they stand in."""

from __future__ import annotations

from dataclasses import dataclass, field

from lincodegen.emit.formula import formula
from lincodegen.emit.names import Names
from lincodegen.emit.triton_rows import Clocks, Rows, check_axes
from lincodegen.emit.triton_sums import running_text
from lincodegen.errors import EmitError
from lincodegen.program.ir import At, Tile, contracted, is_dot, strip
from lincodegen.program.orient import oriented
from lincodegen.program.program import Program
from lincodegen.schedule.numerics import factored
from lincodegen.schedule.plan import Kernel, Stored, computed

LEAVES = ("load", "log_decay", "carry", "cotangent")
WIDTH = 70


@dataclass(slots=True)
class Body:
    """Prints the tiles of one kernel.

    ``before``, ``inside`` and ``after`` are the lines around and in the loop over tiles of
    the looped axis; without one, all lines are in ``before``.
    """

    program: Program
    kernel: Kernel
    rows: Rows = field(init=False)
    clocks: Clocks = field(init=False)
    names: Names = field(init=False)
    before: list[str] = field(default_factory=list)
    inside: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    masks: dict[str, str] = field(default_factory=dict)
    loads: dict[str, tuple[str, ...]] = field(default_factory=dict)
    tools: set[str] = field(default_factory=set)
    _stage: dict[int, str] = field(default_factory=dict)
    _uses: dict[int, int] = field(default_factory=dict)
    _done: dict[int, str] = field(default_factory=dict)
    _map: dict[int, Tile] = field(default_factory=dict)
    _given: dict[int, Stored] = field(default_factory=dict)
    _order: list[Tile] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rows = Rows(self.program)
        self.clocks = Clocks(self.rows)
        self._given = {strip(s.tile).id: s for s in self.kernel.given}
        self._map = oriented(self.program.graph, self.kernel.roots, set(self._given))
        operands = {o.name for _, o in self.program.operands} | {
            o.name for _, o, _ in self.program.logs
        }
        stores = {s.name for s in (*self.kernel.given, *self.kernel.outputs)}
        reserved = {"h", "dh", "W", "G", "Wk", "Gk"}
        self.names = Names(self.program.graph, operands | stores | reserved, short=True)
        for tile, operand in self.program.operands:
            self.names.given[tile.id] = operand.name
        for stored in self.kernel.outputs:
            self.names.given.setdefault(self.mapped(stored.tile).id, stored.name)
        roots = [self.mapped(t) for t in self.kernel.roots]
        self._order = computed(roots, self.kernel.given)
        self._count(roots)
        self._sort()

    def mapped(self, tile: Tile) -> Tile:
        """The tile that stands for an original one in this kernel."""
        return self._map.get(tile.id, tile)

    def _count(self, roots: list[Tile]) -> None:
        for tile in (*self._order, *roots):
            for arg in tile.args if tile in self._order else ():
                inner = strip(arg)
                self._uses[inner.id] = self._uses.get(inner.id, 0) + (tile.op != "rename")
        for root in roots:
            self._uses[strip(root).id] = self._uses.get(strip(root).id, 0) + 1

    def _sort(self) -> None:
        """Each tile's place relative to the loop over the looped axis."""
        axis = self.kernel.looped
        for tile in self._order:
            stages = [self._stage.get(a.id, self._leaf_stage(a)) for a in tile.args]
            if axis is None:
                self._stage[tile.id] = "before"
            elif axis in contracted(tile):
                self._stage[tile.id] = "sum"
            elif "sum" in stages or "after" in stages:
                self._stage[tile.id] = "after"
            elif axis in tile.axes:
                self._stage[tile.id] = "inside"
            else:
                self._stage[tile.id] = "before"

    def _leaf_stage(self, tile: Tile) -> str:
        axis = self.kernel.looped
        if axis is not None and axis in tile.axes:
            return "inside"
        return self._stage.get(strip(tile).id, "before")

    def assume(self, tile: Tile, name: str) -> None:
        """Has a tile that the kernel's template computes."""
        self._done[tile.id] = name

    def lines_of(self, tile: Tile) -> list[str]:
        """The list of lines that a tile's statement belongs to."""
        stage = self._stage.get(tile.id, "before")
        return {"before": self.before, "inside": self.inside, "sum": self.inside}.get(
            stage, self.after
        )

    # -- statements ------------------------------------------------------------------------

    def run(self) -> None:
        """Prints every tile that deserves a statement, in order."""
        for tile in self._order:
            if tile.op == "rename" or tile.op in LEAVES or tile.id in self._done:
                continue
            check_axes(tile)
            if self._stage[tile.id] == "sum":
                self._accumulate(tile)
            elif self._deserves(tile):
                self._state(tile)

    def _deserves(self, tile: Tile) -> bool:
        carry = self.kernel.carry
        if carry and tile is self.mapped(carry.update) and self._uses.get(tile.id, 0) < 2:
            return False
        heavy = is_dot(tile) or tile.op in ("running", "reduce", "inverse", "diagonal")
        return heavy or self._uses.get(tile.id, 0) > 1 or tile.id in self.program.graph.names

    def _name(self, tile: Tile) -> str:
        return f"b_{self.names.of(tile)}"

    def _state(self, tile: Tile) -> None:
        text = self._text(tile)[0]
        name = self._name(tile)
        lines = self.lines_of(tile)
        lines.append(f"{self._comment(tile)}\n{name} = {text}")
        self._done[tile.id] = name

    def _comment(self, tile: Tile) -> str:
        shape = ", ".join(self.rows.size(a) for a in tile.axes)
        return f"# {self._equation(tile)}: [{shape}]" if shape else f"# {self._equation(tile)}"

    def _equation(self, tile: Tile) -> str:
        """The tile's formula in the derivation's names."""
        label = self.program.graph.names.get(tile.id, "")
        text = formula(tile, self.program, 0)
        return f"{label} = {text}" if label and label != text else text

    def _accumulate(self, tile: Tile) -> None:
        """A sum over the looped axis: zero before the loop, one term a pass."""
        name = self._name(tile)
        shape = ", ".join(self.rows.size(a) for a in tile.axes)
        zero = f"tl.zeros([{shape}], dtype=tl.float32)" if tile.axes else "0.0"
        self.before.append(f"{name} = {zero}")
        text = self._text(tile)[0]
        self.inside.append(f"{self._comment(tile)}\n{name} += {text}")
        self._done[tile.id] = name

    # -- values ----------------------------------------------------------------------------

    def value(self, tile: Tile, level: int = 0) -> str:
        """A tile as an operand: the name of what is loaded or computed, or its text."""
        tile = strip(tile)
        if tile.id in self._done:
            return self._done[tile.id]
        if tile.id in self._given:
            return self._stored(self._given[tile.id])
        if tile.op in LEAVES:
            return self._leaf(tile)
        text, own = self._text(tile)
        if len(text) > WIDTH and tile.axes:
            self._state(tile)
            return self._done[tile.id]
        return f"({text})" if own < level else text

    def _stored(self, stored: Stored) -> str:
        self.loads[stored.name] = strip(stored.tile).axes
        return f"b_{stored.name}"

    def _leaf(self, tile: Tile) -> str:
        if tile.op == "carry":
            return "b_h" if tile.attr == self.program.carry.attr else "b_dh"
        if tile.op == "cotangent":
            name = f"do{tile.attr[0] or ''}"
        else:
            name = self.program.operand(tile).name
        self.loads[name] = tile.axes
        return f"b_{name}"

    def raw(self, tile: Tile) -> bool:
        """Whether a tile is as loaded, in the operands' dtype."""
        tile = strip(tile)
        stored = tile.id in self._given or tile.op in ("load", "cotangent")
        return stored and len(tile.axes) == 2

    def float_value(self, tile: Tile, level: int = 0) -> str:
        """A tile for float32 arithmetic."""
        text = self.value(tile, level)
        return f"{text}.to(tl.float32)" if self.raw(tile) else text

    def dot_value(self, tile: Tile, axes: tuple[str, ...]) -> str:
        """A tile as a dot operand: rounded to the operands' dtype, in the given orientation."""
        text = self.value(tile, 2)
        if not self.raw(tile):
            text = f"{text}.to(dtype)"
        return text if tile.axes == axes else f"tl.trans({text})"

    # -- expressions -----------------------------------------------------------------------

    def _text(self, tile: Tile) -> tuple[str, int]:
        match tile.op:
            case "add":
                return self._add(tile)
            case "scale":
                inner = self.float_value(tile.args[0], 1)
                return (f"-{inner}" if tile.attr[0] == -1 else f"{tile.attr[0]} * {inner}"), 1
            case "factor":
                return f"{tile.attr[0]} * {self.float_value(tile.args[0], 1)}", 1
            case "reduce":
                return self._reduce(
                    self.float_value(tile.args[0], 0), tile.args[0].axes, contracted(tile)
                ), 2
            case "broadcast":
                return self._broadcast(tile), 1
            case "alive":
                log = self.clocks.log_at_tokens(self.program.operand(tile.args[1]).name)
                # the clock has a decay of zero as 2^-256
                return f"tl.where({log} > -256.0, {self.value(tile.args[0])}, 0.0)", 2
            case "diagonal":
                mask = self.masks.setdefault("o_i[:, None] == o_i[None, :]", "m_diagonal")
                return f"tl.sum(tl.where({mask}, {self.float_value(tile.args[0])}, 0.0), 1)", 2
            case "once":
                return f"tl.where(i_k == 0, {self.float_value(tile.args[0])}, 0.0)", 2
            case "decay":
                return self._decay(tile), 2
            case "contract":
                return self._contract(tile), 2
            case "inverse":
                self.tools.add("unit_lower_inverse")
                size = self.rows.size(tile.axes[0])
                return f"unit_lower_inverse({self.value(tile.args[0])}, {size}, INVERSE)", 2
            case "running":
                return running_text(self, tile, self._name(tile)), 0
            case "ein":
                return self._ein(tile)
        raise EmitError(f"no Triton form of {tile!r}")

    def _add(self, tile: Tile) -> tuple[str, int]:
        left, right = tile.args
        if left.op == "scale" and left.attr[0] == -1 and strip(left).id not in self._done:
            left, right = right, left
        inner = strip(right)
        if inner.op == "scale" and inner.attr[0] == -1 and inner.id not in self._done:
            return f"{self.float_value(left)} - {self.float_value(inner.args[0], 1)}", 0
        return f"{self.float_value(left)} + {self.float_value(right)}", 0

    def _reduce(self, text: str, axes: tuple[str, ...], over: tuple[str, ...]) -> str:
        if len(over) == 2:
            return f"tl.sum(tl.sum({text}, 1), 0)"
        return f"tl.sum({text}, {axes.index(over[0])})"

    def _broadcast(self, tile: Tile) -> str:
        shape = ", ".join(self.rows.size(a) for a in tile.axes)
        return f"{self.aligned(tile.args[0], tile.axes)} + tl.zeros([{shape}], dtype=tl.float32)"

    def aligned(self, tile: Tile, axes: tuple[str, ...]) -> str:
        """A float32 tile broadcast into ``axes``."""
        if len(tile.axes) == 2 and tile.axes != axes:
            return f"tl.trans({self.float_value(tile)})"
        if len(tile.axes) == len(axes) or not tile.axes:
            return self.float_value(tile, 1)
        index = "[:, None]" if tile.axes[0] == axes[0] else "[None, :]"
        return self.value(tile, 2) + index

    def _ein(self, tile: Tile) -> tuple[str, int]:
        x, y = tile.args
        over = contracted(tile)
        if len(over) == 1 and len(tile.axes) == 2 and len(x.axes) == len(y.axes) == 2:
            row, column = tile.axes
            left, right = (x, y) if row in x.axes else (y, x)
            if column in right.axes:
                a = self.dot_value(left, (row, over[0]))
                b = self.dot_value(right, (over[0], column))
                return f"tl.dot({a}, {b}, input_precision=PRECISION)", 2
        if x.op == y.op == "decay" and x.args and not y.args:
            # of pairs of two tokens alone: one mask is part of the other
            return self._decay(x, y), 2
        full = tile.axes if not over else x.axes if len(x.axes) >= len(y.axes) else y.axes
        if over and len(full) < len(set(x.axes) | set(y.axes)):
            full = (*tile.axes, *over)
        text = f"{self.aligned(x, full)} * {self.aligned(y, full)}"
        return (text, 1) if not over else (self._reduce(text, full, over), 2)

    def _decay(self, tile: Tile, mask: Tile | None = None) -> str:
        """A decay; between rows masked, by what its points see or by another tile's."""
        to, origin, channel = tile.attr
        masked = (mask or tile).attr[:2]
        pair = not to.border and not origin.border
        turned = pair and tile.axes[0] != to.axis
        if not tile.args:
            return f"tl.where({self._mask(to, origin, turned)}, 1.0, 0.0)"
        if channel and self.kernel.first:
            return self.clocks.from_border(to, origin)
        end = self.clocks.at(to, bool(channel))
        if origin.axis == "start":
            return f"tl.exp2({end[0]} + {end[1]})"
        start = self.clocks.at(origin, bool(channel))
        if not pair:
            index = "[None, :]" if channel else ""
            gaps = (f"({a}{index} - {b})" for a, b in zip(end, start, strict=True))
            return f"tl.exp2({' + '.join(gaps)})"
        row, column = ("[None, :]", "[:, None]") if turned else ("[:, None]", "[None, :]")
        gap = " + ".join(f"({a}{row} - {b}{column})" for a, b in zip(end, start, strict=True))
        return f"tl.where({self._mask(masked[0], masked[1], turned)}, tl.exp2({gap}), 0.0)"

    def _mask(self, to: At, origin: At, turned: bool) -> str:
        """The name of a visibility mask."""
        text = self.rows.visible(to, origin, turned)
        if text not in self.masks:
            known = {
                "o_i[:, None] >= o_i[None, :]": "m_lower",
                "o_i[:, None] > o_i[None, :]": "m_strict",
            }
            known |= {
                "o_i[None, :] >= o_i[:, None]": "m_upper",
                "o_i[None, :] > o_i[:, None]": "m_above",
            }
            axes = f"{to.axis}{origin.axis}".replace("'", "") + ("T" if turned else "")
            self.masks[text] = known.get(text, f"m_{axes}")
        return self.masks[text]

    def _contract(self, tile: Tile) -> str:
        x, y = tile.args[:2]
        to, origin = tile.attr
        tail = self.clocks.between(to, origin)
        if "k" not in tile.axes:
            left, right = (x, y) if x.axes[0] == to.axis else (y, x)
            tool = f"{self._kind()}_gram"
            self.tools.add(tool)
            text = f"{tool}({self.value(left)}, {self.value(right)}, {tail})"
            turned = tile.axes[0] != to.axis
            if turned:
                raise EmitError("a decayed gram is needed in both orientations")
            return f"tl.where({self._mask(to, origin, False)}, {text}, 0.0)"
        weight, values = (x, y) if "k" not in x.axes else (y, x)
        by_row = tile.axes[0] == to.axis
        tool = f"{self._kind()}_{'rows' if by_row else 'columns'}"
        self.tools.add(tool)
        axes = (tile.axes[0], next(a for a in weight.axes if a != tile.axes[0]))
        p = self.float_value(weight)
        p = p if weight.axes == axes else f"tl.trans({p})"
        masked = f"tl.where({self._mask(to, origin, not by_row)}, {p}, 0.0)"
        return f"{tool}({masked}, {self.value(values)}, {tail})"

    def _kind(self) -> str:
        """Which tile functions hold for the decays: those for bounded ones, or the general."""
        return "bounded" if factored(self.program.form.group) else "decayed"
