"""The Triton text of a group: its kernels and the two functions that launch them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import takewhile

from lincodegen.emit.triton_loads import LOADING
from lincodegen.emit.triton_products import FUNCTIONS
from lincodegen.emit.triton_roles import WHOLE, print_kernel
from lincodegen.emit.triton_rows import EXTENDED, SIZES, TILES, Rows
from lincodegen.emit.triton_text import KernelText
from lincodegen.program.ir import strip
from lincodegen.schedule.plan import Carry, Kernel, Schedule, Stored, kernel_label
from lincodegen.schedule.roles import BORDER_CHUNKS

_BORDERS = f"NC // {BORDER_CHUNKS} + scans.number"
"""How many borders the scans of a call have at most."""


@dataclass(frozen=True, slots=True)
class TritonFunctions:
    """Kernels and launchers of one group, with what their module must import.

    ``kernels`` have tiles of their own; ``summaries`` take those of the scans that they precede.
    """

    text: str
    kernels: tuple[KernelText, ...]
    summaries: tuple[KernelText, ...]
    tools: frozenset[str]


def print_triton(schedule: Schedule, op: str, suffix: str = "") -> TritonFunctions:
    """Kernels, then ``forward`` and ``backward`` with the arguments of the PyTorch form.

    forward(*operands, state, *scalars, chunk_size, packed=None) -> (*reads, final_state, saved)
    backward(saved, *operands, *scalars, *d_reads, d_state, chunk_size, packed=None)
        -> (*gradients of the operands, gradient of the state)
    """
    program = schedule.program
    kernels = tuple(print_kernel(program, k, op + suffix) for k in schedule.own)
    summaries = tuple(print_kernel(program, k, op + suffix) for k in schedule.summaries)
    launch = _Launch(schedule, op, suffix, summaries)
    texts = [k.text for k in (*kernels, *summaries)]
    printed = {k.kernel.name: k for k in kernels}
    forward, split, backward = (
        [printed[k.name] for k in order]
        for order in (schedule.forward, schedule.instead, schedule.backward)
    )
    prep = [k for k in forward if k.kernel.role == "prep"]
    texts += [launch.forward(forward, split), launch.backward(prep, backward)]
    scans = frozenset(("cut", "restored") if summaries else ("whole",))
    kept = {"keep"} if launch.pinned or launch.states else set[str]()
    tools = scans.union(kept, *(k.tools for k in (*kernels, *summaries)))
    return TritonFunctions("\n".join(texts), kernels, summaries, tools)


class _Launch:
    """Prints the launchers: allocations and launches in order."""

    def __init__(
        self, schedule: Schedule, op: str, suffix: str, summaries: tuple[KernelText, ...]
    ) -> None:
        self.schedule, self.program = schedule, schedule.program
        self.op, self.suffix, self.summaries = op, suffix, summaries
        self.rows = Rows(self.program)
        self.names = [o.name for _, o in self.program.operands] + [
            o.name for _, o, _ in self.program.logs
        ]
        self.scalars = [s.name for s in self.program.scalars]
        self.wide = [o.name for _, o in self.program.operands if len(o.axes) == 2]
        self.pinned = [s.name for k in schedule.forward if k.role == "prep" for s in k.outputs]
        self.again = _again(schedule)
        self.states = _stored(self.again)
        self.slots = max(self.rows.slots(axis) for axis, _ in self.program.form.axes)

    def forward(self, kernels: list[KernelText], split: list[KernelText]) -> str:
        """The text of ``forward``: prep, then one scan, or what the split schedule has instead."""
        args = [*self.names, "state", *self.scalars, "chunk_size", "packed=None"]
        lines = [f"def forward{self.suffix}({', '.join(args)}):"]
        lines.append(
            '    """Reads of every token, the final state, and what the backward needs."""'
        )
        lines += [*self._sizes("state"), "    h0 = state.contiguous()"]
        cut = f"cut({self.names[0]}, state, chunk_size, packed)"
        lines.append(f"    scans = {cut if self.summaries else 'whole(N, packed)'}")
        for kernel in kernels[:-1]:
            lines += self._launch(kernel)
        known = {s.name for kernel in kernels for s in kernel.kernel.outputs}
        if self.states:
            lines.append(f"    {' = '.join(n for n in self.states if n not in known)} = None")
        condition = f"splits(N * H, NC // max(N, 1), {self.names[0]}.device)"
        if self.summaries:
            lines += self._entered()
            condition = f"not scans.segmented and {condition}"
        lines += ["    ht = torch.empty_like(h0)", f"    if {condition}:"]
        for kernel in split:
            lines += [f"    {line}" for line in self._launch(kernel)]
        lines.append("    else:")
        lines += [f"    {line}" for line in self._launch(kernels[-1])]
        reads = [s.name for s in self.schedule.forward[-1].outputs]
        states = [f'*keep("states", {", ".join(self.states)})'] if self.states else []
        scans = ["*scans.kept"] if self.summaries else []
        prep = [f'*keep("inverse", {", ".join(self.pinned)})'] if self.pinned else []
        saved = ", ".join([*prep, "h0", *states, *scans])
        final = "scans.left(ht)" if self.summaries else "ht"
        lines.append(f"    return {', '.join([*reads, final])}, ({saved},)")
        return "\n\n" + "\n".join(lines) + "\n"

    def _entered(self) -> list[str]:
        """The states before segments, from what each of them does to the state."""
        decaying = [
            print_kernel(self.program, k, self.op + self.suffix) for k in self.schedule.decaying
        ]
        extra = {"identity": "K", "ones": "1"}[str(self.summaries[0].kernel.beside)]
        lines = [
            *(line[4:] for kernel in decaying for line in self._launch(kernel)),
            f"W = V + {extra}",
            "entered = scans.opened(h0, W)",
            "passed = torch.empty_like(entered)",
            *(line[4:] for line in self._call(self.summaries[0])),
            "scans, h0 = scans.forward(h0, passed)",
        ]
        return ["    if scans.segmented:", *(f"        {line}" for line in lines)]

    def _entered_back(self) -> list[str]:
        """The cotangents of the states after segments."""
        lines = [
            "entered = torch.zeros_like(h0)",
            "passed = torch.empty_like(h0)",
            *(line[4:] for line in self._call(self.summaries[1])),
            "dht = scans.backward(dht, passed)",
        ]
        return ["    if scans.segmented:", *(f"        {line}" for line in lines)]

    def backward(self, prep: list[KernelText], kernels: list[KernelText]) -> str:
        """The text of ``backward``; ``prep`` is launched again where nothing was kept of it."""
        outs = [f"do{j or ''}" for j in range(len(self.program.d_outputs))]
        args = ["saved", *self.names, *self.scalars, *outs, "d_state", "chunk_size", "packed=None"]
        lines = [f"def backward{self.suffix}({', '.join(args)}):"]
        lines.append(
            '    """Gradients of the operands, in their order, and of the initial state."""'
        )
        lines += self._sizes("d_state")
        saved = [*self.pinned, "h0", *self.states, *(["*kept"] if self.summaries else [])]
        lines.append(f"    {', '.join(saved)} = saved")
        scans = "restored(kept, N, packed)" if self.summaries else "whole(N, packed)"
        lines.append(f"    scans = {scans}")
        lines += [f"    {o} = {o}.to(dtype).contiguous()" for o in outs]
        lines += ["    dht, ht = d_state.contiguous(), torch.empty_like(h0)"]
        lines += self._unless_kept(self.pinned, prep)
        lines += self._unless_kept(self.states, kernels[: len(self.again)])
        for kernel in kernels[len(self.again) :]:
            if _goes_back(kernel.kernel):
                lines += self._entered_back() if self.summaries else []
                lines.append("    dh0 = torch.empty_like(dht)")
            lines += self._launch(kernel)
            lines += [
                f"    {s.name} = {s.name}.sum(0)"
                for s in kernel.kernel.outputs
                if s.kind == "parts"
            ]
        made = {s.name for k in kernels for s in k.kernel.outputs}
        results = [f"d{n}" if f"d{n}" in made else "None" for n in self.names]
        first = "scans.first(dh0)" if self.summaries else "dh0"
        lines.append(f"    return {', '.join([*results, first])}")
        return "\n\n" + "\n".join(_needed(lines)) + "\n"

    def _unless_kept(self, names: list[str], kernels: list[KernelText]) -> list[str]:
        """Launches of what the forward has made, for tensors that it did not keep."""
        if not names:
            return []
        launches = [f"    {line}" for kernel in kernels for line in self._launch(kernel)]
        return [f"    if {names[0]} is None:", *launches]

    def _sizes(self, state: str) -> list[str]:
        """Sizes, and operands as the kernels take them: one dtype, contiguous."""
        axes = self.program.carry.axes
        lines = [
            f"    B, T, H = {self.names[0]}.shape[0], {self.names[0]}.shape[1], {state}.shape[1]"
        ]
        sizes = ", ".join(SIZES[a] for a in axes)
        lines.append(f"    {sizes}{',' if len(axes) == 1 else ''} = {state}.shape[2:]")
        lines.append(f"    dtype = common_dtype({', '.join(self.wide)})")
        for name in self.names:
            cast = ".to(dtype)" if name in self.wide else ""
            lines.append(f"    {name} = {name}{cast}.contiguous()")
        lines += [
            f"    N, NC = {state}.shape[0], chunk_count(B, T, chunk_size, packed)",
            "    cu_seqlens, places = numbered(packed)",
        ]
        return lines

    def _allocations(self, kernel: Kernel, known: list[str]) -> list[str]:
        lines = []
        for stored in kernel.outputs:
            if stored.name not in known or kernel.role == "prep":
                lines.append(f"    {stored.name} = {self._allocation(stored)}")
        carries = [scan.carry for scan in kernel.scans if scan.carry]
        lines += [self._kept(carry) for carry in carries if carry.kept]
        return lines

    def _kept(self, carry: Carry) -> str:
        """The states of chunks, or of every so many of them."""
        count = f"({_BORDERS}) * H" if carry.borders else "NC * H"
        shape = ", ".join([count, *(SIZES[a] for a in self.program.carry.axes)])
        return f"    {carry.kept} = {self._empty(shape, True)}"

    def _allocation(self, stored: Stored) -> str:
        tile = strip(stored.tile)
        if stored.kind == "square":
            r, c = (self._extent(a) for a in tile.axes)
            return self._empty(f"NC * H, {r}, {c}", True)
        if stored.kind == "border":
            return self._empty("NC * H, K", False)
        live = self.rows.live(tile.axes[0])
        shape = ["B", "T", "H", *([str(live)] if live > 1 else [])]
        shape += [SIZES[a] for a in tile.axes[1:]]
        if stored.kind == "parts":
            return self._empty(", ".join(["NK", *shape]), False)
        return self._empty(", ".join(shape), len(tile.axes) == 2)

    def _extent(self, axis: str) -> str:
        n = self.rows.slots(axis)
        return "chunk_size" if n == 1 else f"{n} * chunk_size"

    def _empty(self, shape: str, wide: bool) -> str:
        dtype = "dtype" if wide else "torch.float32"
        return f"torch.empty({shape}, dtype={dtype}, device={self.names[0]}.device)"

    def _launch(self, kernel: KernelText) -> list[str]:
        """Tiles, allocations, then the launch."""
        call = self._call(kernel)
        return [*call[:-1], *self._allocations(kernel.kernel, self.pinned), call[-1]]

    def _call(self, kernel: KernelText) -> list[str]:
        """One launch: tuned tiles, grid, tensors, sizes."""
        plan = kernel.kernel
        scanning = any(scan.carry for scan in plan.scans)
        clocks = plan.role == "clocks"
        grid = "scans.number * H" if scanning else f"({_BORDERS}) * H" if clocks else "NC * H"
        axes = self.program.carry.axes
        sizes = [SIZES[a] for a in axes]
        cut = "".join(plan.cut)
        label = kernel_label(plan.tiled_as, self.suffix)
        lines = [
            f'    config = tiles("{self.op}", "{label}", "{cut}", {self.wide[0]}, '
            f"{', '.join(f'{s}={s}' for s in sizes)})"
        ]
        if plan.tiled == "k":
            lines.append('    NK = triton.cdiv(K, config["BK"])')
            grid = f"NK * {grid}"
        if plan.tiled == "v":
            columns = EXTENDED if plan.beside else "V"
            grid = f'triton.cdiv({columns}, config["BV"]) * {grid}'
        if plan.roles:
            counts = [f"N{str(role.tiled).upper()}" for role in plan.roles]
            lines += [
                f'    {n} = triton.cdiv({n[1:]}, config["B{n[1:]}"])' for n in dict.fromkeys(counts)
            ]
            grid = f"({' + '.join(counts)}) * {grid}"
        places = (
            ["scans.rows", "scans.first_chunks"] if scanning or clocks else ["cu_seqlens", "places"]
        )
        tiles = {x.name: f'"{TILES[x.axis]}", config, chunk_size, ' for x in kernel.row_tiles}
        args = [
            f"rows_of({x}, {tiles[x]}{places[0]})" if x in tiles else x for x in kernel.pointers
        ]
        args += [*kernel.scalars, *places, "T", *(["scans.number"] * clocks)]
        args += [*(["B * T * H"] if "NR," in kernel.text else []), "H=H"]
        args += [f"{h}={h[2:]}.shape[2]" for h in kernel.heads]
        args += [f"{s}={s}" for s in (*sizes, EXTENDED) if s in kernel.constants]
        args.append("BT=chunk_size")
        args += [f'B{s}=config["B{s}"]' for s in sizes if f"B{s}" in kernel.constants]
        args += [f"{w}=whole_tile({b[1:]})" for b, w in WHOLE.items() if w in kernel.constants]
        args += [f"NB={BORDER_CHUNKS}"] if "NB" in kernel.constants else []
        if "PRECISION" in kernel.constants:
            args.append("PRECISION=dot_precision(dtype, config)")
        if "INVERSE" in kernel.constants:
            args.append('INVERSE=config.get("inverse", "ieee")')
        for name, usual in (("SCALES", "computed"), ("ORDER", "product")):
            if name in kernel.constants:
                args.append(f'{name}=config.get("{name.lower()}", "{usual}")')
        args += ['num_warps=config["num_warps"]', 'num_stages=config["num_stages"]']
        lines.append(f"    {kernel.name}[({grid},)]({', '.join(args)})")
        return lines


def _again(schedule: Schedule) -> tuple[Kernel, ...]:
    """The first kernels of the backward: those that a split forward has launched as well."""
    known = {k.name for k in (*schedule.forward, *schedule.instead)}
    return tuple(takewhile(lambda k: k.name in known, schedule.backward))


def _stored(kernels: tuple[Kernel, ...]) -> list[str]:
    """Names of what kernels store, the states before chunks first."""
    states = [k.carry.kept for k in kernels if k.carry and k.carry.kept]
    return [*states, *(s.name for k in kernels for s in k.outputs)]


def _needed(lines: list[str]) -> list[str]:
    """The lines of a launcher with what no other line needs left out of its sizes."""
    text = "\n".join(lines)

    def used(name: str) -> bool:
        return len(re.findall(rf"\b{name}\b", text)) > 1

    shorter: list[str] = []
    for line in lines:
        if line.startswith("    N, NC = ") and not used("NC"):
            line = "    N = " + line.removeprefix("    N, NC = ").split(", chunk_count")[0]
        if line.startswith("    dht, ht = ") and not used("ht"):
            line = "    dht = d_state.contiguous()"
        if not line.startswith("    cu_seqlens, places = ") or used("places"):
            shorter.append(line)
    return shorter


def _goes_back(kernel: Kernel) -> bool:
    """Whether a kernel carries the cotangent of the state."""
    return any(scan.carry and scan.carry.reverse for scan in kernel.scans)


def module_header(tools: frozenset[str]) -> str:
    """Imports and constants of a kernels module."""
    lines = ["import torch", "import triton", "import triton.language as tl", ""]
    bounded = sorted(t for t in tools if t.startswith("bounded"))
    scans = sorted(tools & {"cut", "restored", "whole"})
    loading = sorted(tools.intersection(LOADING))
    products = sorted(tools.intersection(FUNCTIONS))
    sequences = sorted(tools & {"first_border", "place_of_border", "sequence_of_border"})
    launch = sorted(tools & {"whole_tile"})
    general = sorted(tools - {*bounded, *scans, *loading, *products, *sequences, *launch, "keep"})
    sources = {
        "bounded": bounded,
        "descriptors": ["rows_of"] if "load_rows" in loading else [],
        "launch": ["common_dtype", "dot_precision", "tiles", *launch],
        "packing": ["chunk_count", "numbered"],
        "products": products,
        "rows": loading,
        "scans": scans,
        "schedules": [*sorted(tools & {"keep"}), "splits"],
        "sequences": sorted(["place_of_chunk", "place_of_sequence", *sequences]),
        "tiles": general,
    }
    lines += [f"from lincodegen.runtime.{m} import {', '.join(n)}" for m, n in sources.items() if n]
    lines += ["", "LOG2_E = tl.constexpr(1.4426950408889634)"]
    return "\n".join(lines) + "\n"
