"""Which configurations of an op's kernels are worth a trial: compiled ahead of time, then ranked.

What does not fit or spills is dropped without a device; the rest is ranked by predicted time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lincodegen.compile import CompileJob, Resources, compile_many
from lincodegen.compile.launches import job_of
from lincodegen.config import Config, OpConfig
from lincodegen.cost.launch import Compiled
from lincodegen.cost.model import kernel_cost
from lincodegen.cost.sizes import CallSizes, KernelSizes
from lincodegen.cost.traffic import Tensors, group_tensors
from lincodegen.emit.op_plan import OpPlan
from lincodegen.errors import TuningError
from lincodegen.program.program import Program
from lincodegen.schedule.kernels import schedule
from lincodegen.schedule.plan import Kernel
from lincodegen.schedule.space import Extents, search_space
from lincodegen.targets import Target
from lincodegen.tune.kernels import OpKernel, OpKernels, kernel_label
from lincodegen.tune.preference import STACK_BYTES, Candidate, rank, runs
from lincodegen.tune.records import Resources as Needs
from lincodegen.tune.shortlist import Option, Options, Shortlist

Compiler = Callable[[Sequence[CompileJob]], Sequence[Resources]]
CHUNKS = (64, 32, 128, 16)
"""In the order in which they are compiled for, as far as a kernel takes them."""
OPTIONS = 4
_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class Model:
    """Predicts the time of a kernel of an op at any configuration, on a target, for a call."""

    kernels: Mapping[str, tuple[Program, Kernel, Tensors]]
    call: CallSizes
    target: Target

    @staticmethod
    def of(plan: OpPlan, programs: Sequence[Program], call: CallSizes, target: Target) -> Model:
        """The model of every kernel of an op by label."""
        found: dict[str, tuple[Program, Kernel, Tensors]] = {}
        for group, program in zip(plan.groups, programs, strict=True):
            cut, tensors = schedule(program), group_tensors(program, group)
            for kernel in cut.own:
                found[kernel_label(kernel, group.suffix)] = program, kernel, tensors
        return Model(found, call, target)

    def seconds(self, label: str, config: Config, compiled: Resources | None) -> float:
        """The predicted time of one launch."""
        program, kernel, tensors = self.kernels[label]
        sizes = KernelSizes(self.call, program, kernel, config)
        said = None if compiled is None else _said(compiled, self.target)
        return kernel_cost(label, sizes, tensors, said, self.target).time.seconds


@dataclass(frozen=True, slots=True)
class Pool:
    """How candidates are compiled.

    Attributes:
        path: where the module of the kernels is written.
        candidates: most that are compiled of one kernel and chunk.
        compiler: resources of jobs, in their order.
        until: when no further chunk is begun, as ``time.monotonic`` has it.
    """

    path: Path
    candidates: int = 6
    compiler: Compiler = lambda jobs: compile_many(jobs, timeout_s=_TIMEOUT_S)
    until: float = float("inf")


def shortlist(op: OpKernels, model: Model, pool: Pool) -> Shortlist:
    """The best options of every kernel, by the tokens of a chunk; the best chunk first.

    Raises:
        TuningError: no chunk fits into the target.
    """
    pool.path.write_text(op.text, encoding="utf-8")
    found: dict[int, tuple[float, Options]] = {}
    for size in CHUNKS:
        if found and time.monotonic() >= pool.until:
            break
        options = _options(op, model, pool, size)
        if options is not None:
            best = {label: o[0].config for label, o in options.items()}
            predicted = sum(model.seconds(label, c, None) for label, c in best.items())
            found[size] = predicted, options
    if not found:
        raise TuningError(f"{op.op}: no configuration fits on {model.target.name}")
    ordered = sorted(found, key=lambda size: found[size][0])
    return Shortlist(op.op, {size: found[size][1] for size in ordered})


def first_choice(found: Shortlist) -> OpConfig:
    """The model's choice; the schedule is left to the size of a call."""
    return replace(found.config(found.starts()[0]), schedule=None)


def _options(op: OpKernels, model: Model, pool: Pool, chunk_size: int) -> Options | None:
    """The options of every kernel at a chunk; None where one of them has none."""
    asked = [(k, c) for k in op.kernels for c in _asked(k, model, pool, chunk_size)]
    if {k.launch.label for k, _ in asked} != {k.launch.label for k in op.kernels}:
        return None
    sizes = _sizes(op, model)
    dtype, target = model.call.dtype, model.target
    jobs = [job_of(k.launch, pool.path, sizes, dtype, target, c) for k, c in asked]
    made: dict[str, list[Candidate]] = {}
    for (kernel, config), resources in zip(asked, pool.compiler(jobs), strict=True):
        made.setdefault(kernel.launch.label, []).append(Candidate(config, resources))
    found = {label: tuple(_ranked(label, c, model)) for label, c in made.items()}
    return found if all(found.values()) else None


def _asked(kernel: OpKernel, model: Model, pool: Pool, chunk_size: int) -> list[Config]:
    """The configurations of a kernel that are compiled: the best by the model alone."""
    label, sizes = kernel.launch.label, _axes(kernel, model)
    extents = Extents(sizes, kernel.slots, model.call.operand_bytes)
    space = search_space(kernel.kernel, extents)
    allowed = [c for c in space.configs(model.target) if c.chunk_size == chunk_size]
    # equal predictions: what leaves room for a second program on a multiprocessor comes first
    key = {c: (model.seconds(label, c, None), abs(c.num_warps - 4), c.num_stages) for c in allowed}
    return sorted(allowed, key=key.__getitem__)[: pool.candidates]


def _ranked(label: str, made: Sequence[Candidate], model: Model) -> Iterator[Option]:
    """What fits, without spills where there is such a one, the fastest by the model first."""
    fitting = [c for c in made if runs(c, model.target)]
    whole = [c for c in fitting if c.resources.stack_bytes <= STACK_BYTES]

    def key(c: Candidate) -> tuple[object, ...]:
        # equal predictions: what is preferred among compiled candidates that were never timed
        return model.seconds(label, c.config, c.resources), rank(c, model.target)

    for c in sorted(whole or fitting, key=key)[:OPTIONS]:
        r = c.resources
        yield Option(c.config, Needs(r.shared_bytes, r.registers, r.stack_bytes))


def _axes(kernel: OpKernel, model: Model) -> dict[str, int]:
    program, cut, _ = model.kernels[kernel.launch.label]
    sizes = KernelSizes(model.call, program, cut, Config(16, 16, 16, 4, 1))
    return {axis: sizes.size(axis) for axis in program.carry.axes}


def _sizes(op: OpKernels, model: Model) -> dict[str, int]:
    return {a.upper(): n for k in op.kernels for a, n in _axes(k, model).items()}


def _said(found: Resources, target: Target) -> Compiled:
    matrix = {n: getattr(found, n) for n in ("wgmma", "mma", "tcgen05", "mfma")}
    known = {n: count for n, count in matrix.items() if count}
    return Compiled(
        target.name, max(1, found.registers), found.stack_bytes, found.shared_bytes, known
    )
