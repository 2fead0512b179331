"""The kernels of an op as one module and as launches that can be compiled without a device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lincodegen.compile.launches import SEQUENCE_HEADS, TOKENS, KernelLaunch
from lincodegen.emit.templates import formatted
from lincodegen.emit.triton_module import module_header, print_triton
from lincodegen.emit.triton_rows import power_of_two
from lincodegen.emit.triton_text import KernelText
from lincodegen.program.ir import strip
from lincodegen.program.program import Program
from lincodegen.schedule.kernels import schedule
from lincodegen.schedule.plan import Kernel, Stored, kernel_label
from lincodegen.schedule.roles import BORDER_CHUNKS

_INTEGERS = {"T": TOKENS, "NR": TOKENS * SEQUENCE_HEADS, "N": 2}

_PACKED = ("cu_seqlens", "first_chunks", "places")


@dataclass(frozen=True, slots=True)
class OpKernel:
    """One kernel: how it is launched, its place in the schedule, the slots of its row axes."""

    launch: KernelLaunch
    kernel: Kernel
    slots: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class OpKernels:
    """Every kernel of an op and the text of the module that defines them.

    ``summaries`` take the tiles of one of ``kernels``, of which each does a part.
    """

    op: str
    text: str
    kernels: tuple[OpKernel, ...]
    summaries: tuple[OpKernel, ...]


def op_kernels(op: str, programs: Sequence[Program]) -> OpKernels:
    """The kernels of an op; several groups are told apart by the names of their states."""
    texts: list[str] = []
    found: list[OpKernel] = []
    summaries: list[OpKernel] = []
    tools: set[str] = set()
    for program in programs:
        suffix = f"_{program.form.group.state.name}" if len(programs) > 1 else ""
        printed = print_triton(schedule(program), op, suffix)
        texts.append(printed.text)
        tools |= printed.tools
        slots = tuple(power_of_two(len(s)) for _, s in program.form.axes)
        for made, texts_of in ((found, printed.kernels), (summaries, printed.summaries)):
            made += [OpKernel(_launch(program, k, suffix), k.kernel, slots) for k in texts_of]
    text = formatted(module_header(frozenset(tools)) + "\n".join(texts))
    return OpKernels(op, text, tuple(found), tuple(summaries))


def _launch(program: Program, printed: KernelText, suffix: str) -> KernelLaunch:
    kinds = _kinds(program, printed.kernel)
    parameters = _parameters(printed)
    return KernelLaunch(
        kernel_label(printed.kernel.name, suffix),
        printed.name,
        tuple((name, kinds.get(name, True)) for name in printed.pointers),
        printed.scalars,
        tuple((n, value) for n, value in _INTEGERS.items() if n in parameters),
        tuple(n for n in _PACKED if n in parameters),
        printed.constants,
        printed.kernel.cut,
        tuple((x.name, x.axis) for x in printed.row_tiles),
        (("NB", BORDER_CHUNKS),) if "NB" in printed.constants else (),
    )


def _parameters(printed: KernelText) -> set[str]:
    """Names between the parentheses of the kernel's definition."""
    start = printed.text.index(f"def {printed.name}(")
    head = printed.text[start : printed.text.index("):", start)]
    return {line.strip().split(":")[0].rstrip(",") for line in head.splitlines()[1:]}


def _kinds(program: Program, kernel: Kernel) -> dict[str, bool]:
    """Whether a pointer is to the operands' dtype: tiles are, but for states and log decays."""
    kinds = {o.name: len(o.axes) == 2 for _, o in program.operands}
    kinds |= {o.name: False for _, o, _ in program.logs}
    kinds |= {s.name: _wide(s) for s in (*kernel.given, *kernel.outputs)}
    for carry in [scan.carry for scan in kernel.scans if scan.carry]:
        kinds |= {name: False for name in (carry.first, carry.last) if name}
    if kernel.role == "clocks":
        kinds |= {"ht": False, "dht": False}
    return kinds


def _wide(stored: Stored) -> bool:
    if stored.kind in ("square", "states", "borders"):
        return True
    return stored.kind == "rows" and len(strip(stored.tile).axes) == 2
