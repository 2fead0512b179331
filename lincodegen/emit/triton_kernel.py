"""One kernel of a schedule as text: the role's template filled with its body."""

from __future__ import annotations

from dataclasses import asdict

from lincodegen.emit.pruning import at_first_use, identifiers, pruned, when_made
from lincodegen.emit.templates import render
from lincodegen.emit.triton_body import Body
from lincodegen.emit.triton_docs import KERNEL_DOCS
from lincodegen.emit.triton_loads import LOADING, RowTile, row_tiles
from lincodegen.emit.triton_rows import EXTENDED, SIZES, TILES
from lincodegen.emit.triton_text import ChunkContext, KernelText, ScanContext
from lincodegen.errors import InternalError
from lincodegen.program.ir import strip
from lincodegen.program.program import Program
from lincodegen.schedule.plan import Kernel, Stored


class KernelPrinter:
    """Collects a kernel's parts in the order in which they are discovered."""

    ending = "kernel"
    options = '(do_not_specialize=["T"])'

    def __init__(self, program: Program, kernel: Kernel, op: str) -> None:
        self.program, self.kernel = program, kernel
        self.body = Body(program, kernel)
        self.name = f"{op}_{kernel.role}_{kernel.direction}_{self.ending}"
        self.axes = program.carry.axes
        self.row_tiles: dict[str, RowTile] = {}

    def text(self) -> KernelText:
        """Prints body and stores first; loads, clocks and indices follow from them."""
        body, kernel = self.body, self.kernel
        body.run()
        self.row_tiles = row_tiles(kernel, body.rows, body.loads)
        stores: dict[str, list[str]] = {"inside": [], "after": []}
        for stored in kernel.outputs:
            inside = kernel.looped is not None and kernel.looped in strip(stored.tile).axes
            stores["inside" if inside else "after"] += self._store(stored)
        text, parameters = self._scan_text(stores) if kernel.carry else self._chunk_text(stores)
        return KernelText(
            self.name,
            text,
            tuple(self._pointers()),
            tuple(self._heads()),
            tuple(s.name for s in self.program.scalars if f"    {s.name},\n" in text),
            tuple(p.split(":")[0] for p in parameters if ": tl.constexpr" in p),
            frozenset((*body.tools, *(n for n in LOADING if f"{n}(" in text))),
            tuple(self.row_tiles.values()),
            kernel,
        )

    def _heading(self) -> tuple[list[str], list[str], dict[str, list[str]], dict[str, list[str]]]:
        """(indices before any loop, lines at a chunk's head, loads, clocks)."""
        loads = self._loads()
        masks = [f"{name} = {text}" for text, name in self.body.masks.items()]
        index = self._index(masks)
        chunk = [*self.body.rows.chunk_lines(), *self._row_lines()]
        clocks = self._clock_lines()
        head = [*chunk, *loads["before"], *self._late_masks(masks), *clocks["before"]]
        return index, head, loads, clocks

    def _scan_text(self, stores: dict[str, list[str]]) -> tuple[str, list[str]]:
        """A kernel that loops over the chunks, and its parameters."""
        carry = self.kernel.carry
        if carry is None:
            raise InternalError("a scan without a carry")
        update = self.body.value(self.body.mapped(carry.update))
        after = when_made(stores["after"], self.body.before)
        after.append(f"{self._carry_name()} = {update}")
        index, lines, _, _ = self._heading()
        kept = "NB dtype" if carry.borders else "dtype"
        used = [*after, *_STATE_WORDS, *([kept] if carry.kept else [])]
        lines = pruned(lines, used)
        # an operand is loaded, or decayed, just before its product: few live at a time
        after = at_first_use([x for x in lines if x.startswith("b_")], after)
        lines = [x for x in lines if not x.startswith("b_")]
        used = [*used, *after]
        index = pruned(index, [*lines, *used])
        parameters = self._parameters("\n".join([*index, *lines, *used]))
        return render(
            "kernels/scan.py.jinja", self._scan(parameters, index, lines, after)
        ), parameters

    def _chunk_text(self, stores: dict[str, list[str]]) -> tuple[str, list[str]]:
        """A kernel of one chunk, with a loop over tiles of an axis or without; its parameters."""
        index, head, loads, clocks = self._heading()
        before = [*head, *self.body.before]
        inside = [*self.body.inside, *stores["inside"]]
        after = when_made(stores["after"], self.body.after)
        inside = [*pruned([*loads["inside"], *clocks["inside"]], [*inside, *after]), *inside]
        before = pruned(before, [*inside, *after])
        if self.kernel.looped:
            # what the loop does not need is computed after it: fewer values live through it
            early = pruned(before, inside)
            after = [*(x for x in before if x not in early), *after]
            before = early
        used = [*inside, *after]
        index = pruned(index, [*before, *used])
        parameters = self._parameters("\n".join([*index, *before, *used]))
        context = ChunkContext(
            self.kernel.tiled,
            self.name,
            self._doc,
            tuple(parameters),
            tuple(index),
            self.kernel.looped,
            tuple(before),
            tuple(inside),
            tuple(after),
        )
        return render("kernels/chunk.py.jinja", asdict(context)), parameters

    @property
    def _doc(self) -> str:
        return KERNEL_DOCS[self.kernel.role, self.kernel.direction]

    def _carry_name(self) -> str:
        return "b_dh" if self.kernel.carry and self.kernel.carry.reverse else "b_h"

    # -- parameters ------------------------------------------------------------------------

    def _pointers(self) -> list[str]:
        names = [*self.body.loads]
        names += [o for o in self._log_names() if o not in names]
        names += [s.name for s in self.kernel.outputs]
        if self.kernel.carry:
            carry = self.kernel.carry
            names += [name for name in (carry.first, carry.last, carry.kept) if name]
        return names

    def _log_names(self) -> list[str]:
        loaded = {
            name
            for (_, channel) in self.body.clocks.loaded
            for name in self.body.clocks.logs(channel)
        }
        return [o.name for _, o, _ in self.program.logs if o.name in loaded]

    def _operand_names(self) -> list[str]:
        operands = [o.name for _, o in self.program.operands] + self._log_names()
        return [n for n in operands if n in self.body.loads or n in self._log_names()]

    def _heads(self) -> list[str]:
        return [f"H_{name}" for name in self._operand_names()]

    def _parameters(self, text: str) -> list[str]:
        """The kernel's parameters; sizes that its text does not use are left out."""
        words = identifiers(text)
        names = [*self._pointers()]
        names += [s.name for s in self.program.scalars if s.name in words]
        names += ["cu_seqlens", "first_chunks" if self.kernel.carry else "places"]
        names += ["T", *(["NR"] if "NR" in words else []), "H: tl.constexpr"]
        names += [f"{h}: tl.constexpr" for h in self._heads()]
        state = self.kernel.carry is not None
        looped = self.kernel.looped
        held = {looped, self.kernel.tiled}
        sizes = [SIZES[a] for a in self.axes if state or SIZES[a] in words or a in held]
        tiles = [TILES[a] for a in self.axes if state or TILES[a] in words or a in held]
        sizes += [EXTENDED] if self.kernel.beside else []
        borders = ["NB"] if "NB" in words else []
        names += [f"{s}: tl.constexpr" for s in (*sizes, "BT", *tiles, *borders)]
        names += [f"{s}: tl.constexpr" for s in CHOICES if s in words]
        return names

    # -- lines -----------------------------------------------------------------------------

    def _index(self, masks: list[str]) -> list[str]:
        wide = [n for n, axes in self.body.loads.items() if len(axes) == 2]
        # a state that is only decayed has no wide operand: what is kept of it has the dtype
        kept = self.kernel.carry and self.kernel.carry.kept
        lead = next(iter([*wide, *([kept] if kept else []), *self._pointers()]))
        dtype = f"element_type({lead})" if lead in self.row_tiles else f"{lead}.dtype.element_ty"
        lines = [f"dtype = {dtype}", "o_i = tl.arange(0, BT)"]
        for axis in self.axes:
            if axis == self.kernel.looped:
                continue
            start = f"i_{axis} * {TILES[axis]} + " if axis == self.kernel.tiled else ""
            lines.append(f"o_{axis} = {start}tl.arange(0, {TILES[axis]})")
            lines.append(f"m_{axis} = o_{axis} < {SIZES[axis]}")
            if self.kernel.beside and axis == "v":
                lines.append(f"m_{EXTENDED} = o_v < {EXTENDED}")
        lines += self.body.rows.index_lines()
        return lines + [m for m in masks if "o_t" not in m and "t_" not in m.split(" = ")[1]]

    def _late_masks(self, masks: list[str]) -> list[str]:
        return [m for m in masks if "o_t" in m or "t_" in m.split(" = ")[1]]

    def _row_lines(self) -> list[str]:
        """Row numbers of what is loaded and stored."""
        lines = []
        rows = self.body.rows
        own = {o.name: o.axes[0] for _, o in self.program.operands}
        for name in self.body.loads:
            if name in own:
                lines.append(f"row_{name} = {rows.row(own[name], f'H_{name}')}")
        needed: dict[str, str] = {}
        for stored in (*self.kernel.given, *self.kernel.outputs):
            if stored.kind in ("rows", "parts") and (
                stored in self.kernel.outputs or stored.name in self.body.loads
            ):
                axis = strip(stored.tile).axes[0]
                needed[self._row_name(axis)] = rows.row(axis, "H")
        for name, axes in self.body.loads.items():
            if name.startswith("do") and name not in own and axes[0].startswith("t"):
                needed[self._row_name(axes[0])] = rows.row(axes[0], "H")
        squares = [
            s
            for s in (*self.kernel.given, *self.kernel.outputs)
            if s.kind in ("square", "states", "border")
        ]
        if (squares and not self.kernel.carry) or any(s.kind != "states" for s in squares):
            number = (
                "(i_c + i_t).to(tl.int64) * H + i_h" if self.kernel.carry else "i_c.to(tl.int64)"
            )
            lines.append(f"i_n = {number}")
        return lines + [f"{name} = {text}" for name, text in needed.items()]

    def _row_name(self, axis: str) -> str:
        rows = self.body.rows
        if axis == "tok" or rows.slots(axis) == 1:
            rows.used.setdefault("t")
            return "row"
        return f"row_{rows.tag(axis)}s"

    def _address(self, stored: Stored) -> tuple[str, str | None]:
        """Pointer and mask of a stored tile."""
        tile, rows = strip(stored.tile), self.body.rows
        if stored.kind in ("rows", "parts"):
            row, base = self._row_name(tile.axes[0]), stored.name
            if stored.kind == "parts":
                live = rows.live(tile.axes[0])
                extent = ["NR", *([str(live)] if live > 1 else [])]
                extent += [SIZES[a] for a in tile.axes[1:]]
                base += f" + i_k.to(tl.int64) * {' * '.join(extent)}"
            return rows.pointer(base, tile.axes, row), rows.masks(tile.axes)
        if stored.kind == "square":
            r, c = (rows.size(a) for a in tile.axes)
            names = [self._local(a) for a in tile.axes]
            wide = c if c.isidentifier() else f"({c})"
            high = r if r.isidentifier() else f"({r})"
            offset = f"i_n * ({high} * {wide}) + {names[0]}[:, None] * {wide} + {names[1]}[None, :]"
            return f"{stored.name} + {offset}", None
        if stored.kind == "border":
            return f"{stored.name} + i_n * K + o_k", rows.masks(tile.axes)
        size, offset = self._state_text()
        return f"{stored.name} + i_n * {size} + {offset}", rows.masks(tile.axes)

    def _local(self, axis: str) -> str:
        tag = self.body.rows.tag(axis)
        return "o_i" if tag == "t" else f"o_{tag}"

    def _state_text(self) -> tuple[str, str]:
        """The size of a state, and where the entries of a tile of it are."""
        axes = self._state_axes
        if len(axes) == 1:
            return "K", "o_k"
        if axes[0] == "v":
            return "(K * V)", "o_v[:, None] + o_k[None, :] * V"
        return f"(K * {self._columns})", f"o_k[:, None] * {self._columns} + o_v[None, :]"

    @property
    def _state_axes(self) -> tuple[str, ...]:
        carry = self.kernel.carry
        return self.axes if carry is None else carry.leaf.axes

    def _state_mask(self) -> str:
        mask = self.body.rows.masks(self._state_axes)
        return mask.replace("m_v[", f"m_{EXTENDED}[") if self.kernel.beside else mask

    @property
    def _columns(self) -> str:
        """How many columns the state has."""
        return EXTENDED if self.kernel.beside else "V"

    def _loads(self) -> dict[str, list[str]]:
        lines: dict[str, list[str]] = {"before": [], "inside": []}
        given = {s.name: s for s in self.kernel.given}
        operands = {o.name: t for t, o in self.program.operands}
        for name, axes in self.body.loads.items():
            if name in self.row_tiles:
                lines["before"].append(self.row_tiles[name].load())
                continue
            if name in given:
                pointer, mask = self._address(given[name])
            elif name in operands:
                axes = self.program.operand(operands[name]).axes
                pointer = self.body.rows.pointer(name, axes, f"row_{name}")
                mask = self.body.rows.masks(axes)
            else:
                pointer = self.body.rows.pointer(name, axes, self._row_name(axes[0]))
                mask = self.body.rows.masks(axes)
            tail = f", mask={mask}, other=0.0)" if mask else ")"
            cast = ".to(tl.float32)" if len(axes) == 1 else ""
            place = "inside" if self.kernel.looped in axes else "before"
            lines[place].append(f"b_{name} = tl.load({pointer}{tail}{cast}")
        return lines

    def _clock_lines(self) -> dict[str, list[str]]:
        lines = self.body.clocks.lines
        if self.kernel.looped != "k":
            return {"before": lines, "inside": []}
        return {
            "before": [x for x in lines if not self.body.clocks.over_keys(x)],
            "inside": [x for x in lines if self.body.clocks.over_keys(x)],
        }

    def _store(self, stored: Stored) -> list[str]:
        value = self.body.value(self.body.mapped(stored.tile))
        pointer, mask = self._address(stored)
        tail = f", mask={mask})" if mask else ")"
        if not value.isidentifier():
            value = f"({value})"
        return [f"tl.store({pointer}, {value}.to({stored.name}.dtype.element_ty){tail}"]

    def _scan(
        self, parameters: list[str], index: list[str], chunk: list[str], body: list[str]
    ) -> dict[str, object]:
        carry = self.kernel.carry
        size, offset = self._state_text()
        if carry is None:
            raise InternalError("a scan without a carry")
        # only their product is ever needed: entries of kept states lie as the scans hold them
        turned = carry.leaf.axes[0] == "v"
        context = ScanContext(
            self.name,
            self._doc,
            self.options,
            tuple(parameters),
            self._place,
            tuple(index),
            self._carry_name(),
            carry.first,
            carry.last,
            f"i_bh.to(tl.int64) * {size} + {offset}",
            self._state_mask(),
            size,
            offset,
            carry.reverse,
            None if carry.borders else carry.kept,
            carry.kept if carry.borders else None,
            "o_v[:, None] * K + o_k[None, :]" if turned else offset,
            bool(carry.kept and not carry.borders) or "i_c" in identifiers("\n".join(chunk)),
            tuple(chunk),
            tuple(body),
        )
        return asdict(context)

    @property
    def _place(self) -> str | None:
        """The line that tells which tile and which head a program of a scan has."""
        if self.kernel.tiled is None:
            return "i_bh = tl.program_id(0)"
        programs = f"tl.cdiv({self._columns}, BV)"
        return f"i_v, i_bh = tl.program_id(0) % {programs}, tl.program_id(0) // {programs}"


CHOICES = ("PRECISION", "INVERSE", "SCALES", "ORDER")
"""Constexpr parameters by which a kernel is told how to compute what it does."""
_STATE_WORDS = (f"o_k m_k o_v m_v m_{EXTENDED} T",)
