"""Index vectors, masks, loads and clocks of a Triton kernel: how rows lie in memory."""

from __future__ import annotations

from dataclasses import dataclass, field

from lincodegen.errors import EmitError
from lincodegen.program.ir import At, Tile
from lincodegen.program.program import Program
from lincodegen.schedule.together import points

SIZES = {"k": "K", "v": "V"}
TILES = {"k": "BK", "v": "BV"}
EXTENDED = "W"
"""Columns of a state that has more than operands have."""


def power_of_two(n: int) -> int:
    """The least power of two that is at least n."""
    return 1 << (n - 1).bit_length()


@dataclass(slots=True)
class Rows:
    """The row axes of one program and the lines that a kernel needs for them.

    An axis with n slots a token has P rows a token, P the power of two from n; the P - n dead
    ones are masked, load zeros and so neither write nor read.
    """

    program: Program
    used: dict[str, None] = field(default_factory=dict)

    def slots(self, axis: str) -> int:
        """Rows a token, dead ones included."""
        return power_of_two(self.live(axis))

    def live(self, axis: str) -> int:
        """Slots a token."""
        return 1 if axis == "tok" else len(self.program.form.slots(axis))

    def tag(self, axis: str) -> str:
        """The suffix of an axis' index names: ``t`` where a token has one row."""
        base = axis.rstrip("'")
        tag = "t" if self.slots(base) == 1 else base
        self.used.setdefault(tag)
        return tag

    def size(self, axis: str) -> str:
        """The constexpr size of an axis."""
        if axis in TILES:
            return TILES[axis]
        n = self.slots(axis)
        return "BT" if n == 1 else f"{n} * BT"

    def token(self, axis: str) -> str:
        """The vector of the rows' tokens."""
        tag = self.tag(axis)
        return "o_t" if tag == "t" else f"t_{tag}"

    def mask(self, axis: str) -> str:
        """The vector that tells live rows within the sequence."""
        return f"m_{axis}" if axis in SIZES else f"m_{self.tag(axis)}"

    def masks(self, axes: tuple[str, ...]) -> str:
        """The mask of a tile."""
        if len(axes) == 1:
            return self.mask(axes[0])
        return f"{self.mask(axes[0])}[:, None] & {self.mask(axes[1])}[None, :]"

    def index_lines(self) -> list[str]:
        """Row indices within a chunk: before the loop over chunks."""
        lines = []
        for tag in self.used:
            if tag != "t":
                lines.append(f"o_{tag} = tl.arange(0, {self.size(tag)})")
                lines.append(f"s_{tag} = o_{tag} % {self.slots(tag)}")
        return lines

    def chunk_lines(self) -> list[str]:
        """Token indices and masks: at the head of every chunk."""
        lines = []
        for tag in self.used:
            if tag == "t":
                lines += ["o_t = i_t * BT + o_i", "m_t = o_t < T"]
                continue
            lines.append(f"t_{tag} = i_t * BT + o_{tag} // {self.slots(tag)}")
            live = self.live(tag)
            dead = f" & (s_{tag} < {live})" if live != self.slots(tag) else ""
            bound = f"(t_{tag} < T)" if dead else f"t_{tag} < T"
            lines.append(f"m_{tag} = {bound}{dead}")
        return lines

    def row(self, axis: str, heads: str) -> str:
        """The number of a row in [B, T, heads, slots], int64 through ``i_0``."""
        head = "i_h" if heads == "H" else f"i_h // (H // {heads})"
        text = f"(i_0 + {self.token(axis)}) * {heads} + {head}"
        live = self.live(axis)
        if axis == "tok" or self.slots(axis) == 1:
            return text
        return f"({text}) * {live} + s_{self.tag(axis)}"

    def pointer(self, name: str, axes: tuple[str, ...], row: str) -> str:
        """The address of a [B, T, H, (slots,) D] tensor's rows."""
        if len(axes) == 1:
            return f"{name} + {row}"
        axis = axes[1]
        return f"{name} + {row}[:, None] * {SIZES[axis]} + o_{axis}[None, :]"

    # -- visibility ------------------------------------------------------------------------

    def visible(self, to: At, origin: At, turned: bool) -> str:
        """The mask of writes that lie before reads; ``turned``: columns first."""
        form = self.program.form
        reads = [getattr(s, to.moment) or 0 for s in form.slots(to.axis)]
        writes = [getattr(s, origin.moment) or 0 for s in form.slots(origin.axis)]
        row, column = ("[None, :]", "[:, None]") if turned else ("[:, None]", "[None, :]")
        if self.slots(to.axis) == self.slots(origin.axis) == 1:
            sign = ">=" if writes[0] < reads[0] else ">"
            return f"o_i{row} {sign} o_i{column}"
        tokens = f"{self.token(to.axis)}{row}", f"{self.token(origin.axis)}{column}"
        if all(w < r for r in reads for w in writes):
            return f"{tokens[0]} >= {tokens[1]}"
        if not any(w < r for r in reads for w in writes):
            return f"{tokens[0]} > {tokens[1]}"
        n = len(reads)
        if n == len(writes) and all(
            (writes[i] < reads[j]) == (i < j) for i in range(n) for j in range(n)
        ):
            return f"o_{self.tag(to.axis)}{row} > o_{self.tag(origin.axis)}{column}"
        read = self.by_slot(to.axis, tuple(reads))
        write = self.by_slot(origin.axis, tuple(writes))
        same = f"({tokens[0]} == {tokens[1]}) & ({read}{row} > {write}{column})"
        return f"({tokens[0]} > {tokens[1]}) | ({same})"

    def by_slot(self, axis: str, values: tuple[int, ...]) -> str:
        """A vector over rows that depends on the slot alone."""
        if self.slots(axis) == 1:
            return f"tl.full([BT], {values[0]}, tl.int32)"
        slot = f"s_{self.tag(axis)}"
        text = str(values[-1])
        for i in reversed(range(len(values) - 1)):
            text = f"tl.where({slot} == {i}, {values[i]}, {text})"
        if len(set(values)) == 1:
            return f"tl.full([{self.size(axis)}], {values[0]}, tl.int32)"
        return text


@dataclass(slots=True)
class Clocks:
    """The two-part clocks of a kernel: one line block a row layout, one name pair a point."""

    rows: Rows
    lines: list[str] = field(default_factory=list)
    made: dict[tuple[object, ...], tuple[str, str]] = field(default_factory=dict)
    loaded: dict[tuple[str, bool], list[str]] = field(default_factory=dict)

    def logs(self, channel: bool) -> list[str]:
        """The names of the log decays of a kind, in the order of the timeline."""
        return [o.name for _, o, d in self.rows.program.logs if d.channel == channel]

    def _load(self, tag: str, axis: str, channel: bool) -> list[str]:
        """Loads every log decay at the rows of a layout; the names of their parts."""
        if (tag, channel) in self.loaded:
            return self.loaded[(tag, channel)]
        names = []
        for log in self.logs(channel):
            name = f"b_{log}" if tag == "t" else f"b_{log}_{tag}"
            row = f"row_{log}" if tag == "t" else f"row_{log}_{tag}"
            token = self.rows.token(axis)
            self.lines.append(f"{row} = (i_0 + {token}) * H_{log} + i_h // (H // H_{log})")
            axes = (axis, "k") if channel else (axis,)
            pointer = self.rows.pointer(log, axes, row)
            mask = self.rows.masks(axes)
            load = f"tl.load({pointer}, mask={mask}, other=0.0).to(tl.float32) * LOG2_E"
            self.lines.append(f"{name} = {load}")
            self.lines.append(f"{name} = tl.where({name} < -256.0, -256.0, {name})")
            # 256ths add up exactly, up to 2^16, and leave rests too small to lose digits
            self.lines.append(f"{name}_whole = tl.floor({name} * 256.0 + 0.5) * 0.00390625")
            names.append(name)
        self.loaded[(tag, channel)] = names
        return names

    def between(self, to: At, origin: At) -> str:
        """What tile functions take of two points: log decays, and those before each slot."""
        self.rows.used.setdefault("t")
        logs = "".join(f"{name}, " for name in self._load("t", "tok", True)).strip()
        reads, writes = (points(self.rows.program, at) for at in (to, origin))
        return f"({logs}), {reads}, {writes}"

    def within(self, to: At, origin: At) -> int:
        """OWN of tile functions: 0 for no pair within a token; else 1, 2 if decays lie between."""
        form = self.rows.program.form
        seen = [
            p == q
            for p, reader in zip(self.passed(to, True), form.slots(to.axis), strict=True)
            for q, writer in zip(self.passed(origin, True), form.slots(origin.axis), strict=True)
            if (writer.write or 0) < (reader.read or 0)
        ]
        return (1 if all(seen) else 2) if seen else 0

    def log_at_tokens(self, log: str) -> str:
        """The name of a scalar log decay in base 2, one a token."""
        self.rows.used.setdefault("t")
        return self._load("t", "tok", False)[self.logs(False).index(log)]

    def at(self, point: At, channel: bool) -> tuple[str, str]:
        """The names (whole, rest) of the clock at a point, over rows or at the end."""
        axis = "t0" if point.border else point.axis
        tag = "t" if point.border else self.rows.tag(point.axis)
        if point.border:
            self.rows.used.setdefault("t")
        passed = (-1,) if point.border else self.passed(point, channel)
        key = (tag, passed, channel)
        if key not in self.made:
            self.made[key] = self._clock(tag, axis if tag != "t" else "tok", passed, channel)
        return self.made[key]

    def from_border(self, to: At, origin: At) -> str:
        """The name of a decay per channel between a border and a row, or between both borders.

        One running sum over the tokens that lie between, each log decay once: nothing cancels,
        and no second clock of the whole chunk takes registers.
        """
        self.rows.used.setdefault("t")
        (log,) = self._load("t", "tok", True)
        if to.border and origin.border:
            return self._once("b_Ek", f"tl.sum({log}, 0)")
        start = origin.border
        (own,) = self.passed(to if start else origin, True)
        name = f"b_Ek_{'start' if start else 'end'}{'' if own else '_at0'}"
        if start != bool(own):
            log = self._neighbour(log, "last" if start else "next")
        return self._once(name, f"tl.cumsum({log}, 0{'' if start else ', reverse=True'})")

    def _once(self, name: str, exponent: str) -> str:
        line = f"{name} = tl.exp2({exponent})"
        if line not in self.lines:
            self.lines.append(line)
        return name

    def _neighbour(self, log: str, side: str) -> str:
        """Loads the log decay of the token before or after each of a chunk, zero beyond it."""
        name, own = f"{log}_{side}", log.removeprefix("b_")
        inside, sign = "(o_i > 0) & m_t", "-"
        if side == "next":
            inside, sign = "(o_i < BT - 1) & (o_t + 1 < T)", "+"
        row = f"(row_{own} {sign} H_{own})"
        pointer = self.rows.pointer(own, ("tok", "k"), row)
        mask = f"m_{side}[:, None] & {self.rows.mask('k')}[None, :]"
        load = f"tl.load({pointer}, mask={mask}, other=0.0).to(tl.float32) * LOG2_E"
        if f"{name} = {load}" not in self.lines:
            self.lines.append(f"m_{side} = {inside}")
            self.lines.append(f"{name} = {load}")
            self.lines.append(f"{name} = tl.where({name} < -256.0, -256.0, {name})")
        return name

    def over_keys(self, line: str) -> bool:
        """Whether a line belongs to the key axis: its log decay has one value a channel."""
        names = [f"b_{n}" for n in self.logs(True)]
        name = line.split(" = ")[0]
        if name.startswith("row_"):
            return False
        return name.startswith(("b_Wk", "b_Gk")) or any(
            name in (n, f"{n}_whole") or name.startswith(f"{n}_") for n in names
        )

    def passed(self, point: At, channel: bool) -> tuple[int, ...]:
        """Decays of its own token before each slot of a row point."""
        group = self.rows.program.form.group
        slots = self.rows.program.form.slots(point.axis)
        return tuple(group.clocks(getattr(s, point.moment))[int(channel)] for s in slots)

    def _clock(
        self, tag: str, axis: str, passed: tuple[int, ...], channel: bool
    ) -> tuple[str, str]:
        names = self._load(tag, axis, channel)
        wholes = [f"{n}_whole" for n in names]
        rests = [f"({n} - {n}_whole)" for n in names]
        suffix = ("k" if channel else "") + ("" if tag == "t" else f"_{tag}")
        if passed == (-1,):
            result = f"b_W{suffix}_end", f"b_G{suffix}_end"
            for name, parts in zip(result, (wholes, rests), strict=True):
                self.lines.append(f"{name} = tl.sum({_sum(parts)}, 0)")
            return result
        full = (tag, (len(names),), channel)
        if full not in self.made:
            result = f"b_W{suffix}", f"b_G{suffix}"
            for name, parts in zip(result, (wholes, rests), strict=True):
                total = _sum(parts)
                if tag != "t":
                    first = f"s_{tag}{'[:, None]' if channel else ''} == 0"
                    total = f"tl.where({first}, {total}, 0.0)"
                self.lines.append(f"{name} = tl.cumsum({total}, 0)")
            self.made[full] = result
        if all(p == len(names) for p in passed):
            return self.made[full]
        return self._earlier(self.made[full], (tag, passed, channel), (wholes, rests), suffix)

    def _earlier(
        self,
        full: tuple[str, str],
        key: tuple[str, tuple[int, ...], bool],
        parts: tuple[list[str], list[str]],
        suffix: str,
    ) -> tuple[str, str]:
        """The clock before some of a token's own decays: what lies after is taken off."""
        tag, passed, channel = key
        label = "".join(map(str, passed))
        result = f"b_W{suffix}_at{label}", f"b_G{suffix}_at{label}"
        for name, whole, own in zip(result, full, parts, strict=True):
            text = whole
            for j, part in enumerate(own):
                later = [p <= j for p in passed]
                if all(later):
                    text += f" - {part}"
                elif any(later):
                    slot = self.rows.by_slot(tag, tuple(int(x) for x in later))
                    slot = f"({slot}){'[:, None]' if channel else ''}"
                    text += f" - tl.where({slot} == 1, {part}, 0.0)"
            self.lines.append(f"{name} = {text}")
        return result


def _sum(parts: list[str]) -> str:
    if len(parts) == 1:
        return (
            parts[0].removeprefix("(").removesuffix(")") if parts[0].startswith("(") else parts[0]
        )
    return " + ".join(parts)


def check_axes(tile: Tile) -> None:
    """Refuses tiles of rank over two: no kernel holds them."""
    if len(tile.axes) > 2:
        raise EmitError(f"{tile!r} has more than two axes")
