"""The body of a Triton kernel: its tiles as statements, sorted by the loop they stand in."""

from __future__ import annotations

from dataclasses import dataclass, field

from lincodegen.emit.formula import formula
from lincodegen.emit.names import Names
from lincodegen.emit.triton_decayed import decayed_text
from lincodegen.emit.triton_products import factors, fused_text, product_in, product_text
from lincodegen.emit.triton_rows import Clocks, Rows, check_axes
from lincodegen.emit.triton_sums import running_text
from lincodegen.errors import EmitError
from lincodegen.program.ir import At, Tile, contracted, is_dot, strip
from lincodegen.program.orient import oriented
from lincodegen.program.program import Program
from lincodegen.schedule.plan import Kernel, Stored, computed
from lincodegen.schedule.together import gathered, loop_stages, together

LEAVES = ("load", "log_decay", "carry", "cotangent")
HEAVY = ("running", "reduce", "inverse", "diagonal")
WIDTH = 70

_SIDES = "[:, None]", "[None, :]"


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
    _products: dict[int, Tile] = field(default_factory=dict)
    _group: dict[int, tuple[Tile, ...]] = field(default_factory=dict)
    _shared: dict[int, str] = field(default_factory=dict)

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
        if not self.kernel.carry:
            # what holds most registers is made, and stored, first
            roots.sort(key=lambda t: -len(t.axes))
        order = computed(roots, self.kernel.given)
        self._stage = loop_stages(order, self.kernel.looped)
        groups = together(self.program, order, self._stage)
        self._group = {tile.id: group for group in groups for tile in group}
        self._order = gathered(order, groups)
        self._count(roots)
        self._products = {t.id: found for t in self._order if (found := product_in(self, t))}

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
            if len(self._group.get(tile.id, ())) > 1 and tile.id not in self._shared:
                self._together(self._group[tile.id])
            if tile.id in self._done:
                continue
            if self._stage[tile.id] == "sum":
                self._accumulate(tile)
            elif self._deserves(tile):
                self._state(tile)

    def _deserves(self, tile: Tile) -> bool:
        carry = self.kernel.carry
        if carry and tile is self.mapped(carry.update) and self._uses.get(tile.id, 0) < 2:
            return False
        if tile in self._products.values():
            return False
        heavy = is_dot(tile) or tile.id in self._products or tile.op in HEAVY
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

    def inline(self, tile: Tile) -> bool:
        """Whether a tile has no name and is needed once."""
        named = tile.id in self.program.graph.names or tile.id in self._given
        return not named and self._uses.get(tile.id, 0) == 1

    def summed(self, tile: Tile) -> bool:
        """Whether the loop over the looped axis adds a tile up."""
        return self._stage.get(tile.id) == "sum"

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
        if factors(tile):
            return product_text(self, tile), 2
        if tile.id in self._products:
            return fused_text(self, tile, self._products[tile.id]), 2
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
        if not tile.args:
            return f"tl.where({self.mask(to, origin, tile.axes[0] != to.axis)}, 1.0, 0.0)"
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
        turned = tile.axes[0] != to.axis
        row, column = _SIDES[::-1] if turned else _SIDES
        gap = " + ".join(f"({a}{row} - {b}{column})" for a, b in zip(end, start, strict=True))
        return f"tl.where({self.mask(masked[0], masked[1], turned)}, tl.exp2({gap}), 0.0)"

    def decay_parts(self, tile: Tile) -> tuple[str, str, str]:
        """Of decays between rows: their mask, the clocks of the later rows and of the earlier."""
        to, origin, _ = tile.attr
        turned = tile.axes[0] != to.axis
        later, earlier = (
            f"({a}{side}, {b}{side})"
            for (a, b), side in zip(
                (self.clocks.at(to, False), self.clocks.at(origin, False)),
                _SIDES[::-1] if turned else _SIDES,
                strict=True,
            )
        )
        return self.mask(to, origin, turned), later, earlier

    def mask(self, to: At, origin: At, turned: bool) -> str:
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
        """A decayed product alone, or of a group whose statement stands before."""
        text = self._shared.get(tile.id) or f"{decayed_text(self, self._group[tile.id])}[0]"
        if "k" in tile.axes:
            return text
        return f"tl.where({self.mask(*tile.attr, turned=False)}, {text}, 0.0)"

    def _together(self, group: tuple[Tile, ...]) -> None:
        """One statement for decayed products that share their decays."""
        text = decayed_text(self, group)
        lines = self.lines_of(group[0])
        for tile in group:
            self._shared[tile.id] = name = self._name(tile)
            if "k" in tile.axes and self._stage[tile.id] != "sum":
                self._done[tile.id] = name
            else:
                # yet to be masked, and to be added to what other tiles of the loop gave
                self._shared[tile.id] = f"{name}_E"
        names = ", ".join(self._shared[tile.id] for tile in group)
        comments = [self._comment(tile) for tile in group]
        lines.append("\n".join([*comments, f"{names} = {text}"]))
