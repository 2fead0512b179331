"""Which configurations of an op's kernels are worth a trial: compiled ahead of time, then ranked.

What does not fit or spills is dropped without a device; the rest is ranked by predicted time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, product
from pathlib import Path

from lincodegen.compile import Bounds, CompileJob, Resources, compile_many
from lincodegen.compile.launches import job_of
from lincodegen.config import ORDERS, SCALES, Config, OpConfig
from lincodegen.cost.launch import Compiled
from lincodegen.cost.model import kernel_cost
from lincodegen.cost.sizes import CallSizes, KernelSizes
from lincodegen.cost.traffic import Tensors, group_tensors
from lincodegen.emit.op_plan import OpPlan
from lincodegen.errors import TuningError
from lincodegen.program.program import Program
from lincodegen.schedule.kernels import schedule
from lincodegen.schedule.plan import Kernel, kernel_label
from lincodegen.schedule.space import Extents, search_space
from lincodegen.targets import Target
from lincodegen.tune.kernels import OpKernel, OpKernels
from lincodegen.tune.precision import inverses
from lincodegen.tune.preference import STACK_BYTES, Candidate, rank, runs
from lincodegen.tune.records import Resources as Needs
from lincodegen.tune.shortlist import FAST_KEEPS, WAYS, Option, Options, Shortlist

Compiler = Callable[[Sequence[CompileJob], Bounds], Sequence[Resources]]
CHUNKS = (64, 32, 128, 16)
"""In the order in which they are compiled for, as far as a kernel takes them."""
OPTIONS = 4
OTHERS = 2
"""Further options of a kernel in each of `WAYS`."""
_INVERSE = "INVERSE"
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
                found[kernel_label(kernel.name, group.suffix)] = program, kernel, tensors
        return Model(found, call, target)

    def seconds(self, label: str, config: Config, compiled: Resources | Needs | None) -> float:
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
        compiler: resources of jobs, in their order, given what is known of others.
        bounds: what is known of the jobs that were compiled, of any chunk.
        until: when no further chunk is begun, as ``time.monotonic`` has it.
        precisions: of float32 products, the fastest last; each is compiled for.
    """

    path: Path
    candidates: int = 6
    compiler: Compiler = lambda jobs, bounds: compile_many(
        jobs, timeout_s=_TIMEOUT_S, bounds=bounds
    )
    bounds: Bounds = field(default_factory=Bounds)
    until: float = float("inf")
    precisions: tuple[str | None, ...] = (None,)


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
        made = _compiled(op, model, pool, size)
        options = {label: tuple(_ranked_in_each(label, c, model)) for label, c in made.items()}
        if options and all(options.values()):
            found[size] = _predicted(options, model), options
    if not found:
        raise TuningError(f"{op.op}: no configuration fits on {model.target.name}")
    ordered = sorted(found, key=lambda size: found[size][0])
    chunks = {size: found[size][1] for size in ordered}
    inverting = any(_INVERSE in k.launch.constants for k in op.kernels)
    methods: tuple[str | None, ...] = inverses(model.target) if inverting else (None,)
    return Shortlist(op.op, chunks, precisions=pool.precisions, inverses=methods, keeps=FAST_KEEPS)


def first_choice(found: Shortlist) -> OpConfig:
    """The model's choice; the schedule is left to the size of a call."""
    return found.config(found.starts()[0])._replace(schedule=None)


def _predicted(options: Options, model: Model) -> float:
    """The time of the best option of every kernel, what was spilled included."""
    return sum(model.seconds(label, own[0].config, own[0].needs) for label, own in options.items())


def _compiled(
    op: OpKernels, model: Model, pool: Pool, chunk_size: int
) -> dict[str, list[Candidate]]:
    """The candidates of every kernel at a chunk; none where a kernel has none."""
    sizes = _sizes(op, model)
    dtype, target = model.call.dtype, model.target

    def job(kernel: OpKernel, config: Config) -> CompileJob:
        return job_of(kernel.launch, pool.path, sizes, dtype, target, config)

    asked: list[tuple[str, Config, CompileJob]] = []
    for kernel in op.kernels:
        methods = _methods(kernel, target)
        # the next best stands in for what cannot be better than one that spilled
        able = (
            c
            for c in _by_prediction(kernel, model, chunk_size)
            if pool.bounds.reason(job(kernel, c)) is None
        )
        # what inverts compiles slowly: the same tiles need not be tried by every method
        best = list(islice(able, max(2, pool.candidates // len(methods))))
        tried = [*best, *_otherwise(kernel, model, best[: pool.candidates // 2])]
        for precision, method, config in product(pool.precisions, methods, tried):
            chosen = config._replace(precision=precision, inverse=method)
            asked.append((kernel.launch.label, chosen, job(kernel, chosen)))
    if {label for label, _, _ in asked} != {k.launch.label for k in op.kernels}:
        return {}
    made: dict[str, list[Candidate]] = {}
    results = pool.compiler([job for _, _, job in asked], pool.bounds)
    for (label, config, _), resources in zip(asked, results, strict=True):
        made.setdefault(label, []).append(Candidate(config, resources))
    return made


def _methods(kernel: OpKernel, target: Target) -> tuple[str | None, ...]:
    """How a kernel may invert; None alone for one that does not."""
    return inverses(target) if _INVERSE in kernel.launch.constants else (None,)


def _by_prediction(kernel: OpKernel, model: Model, chunk_size: int) -> list[Config]:
    """The configurations of a kernel at a chunk, the best by the model alone first."""
    label = kernel.launch.label
    plain = (c for c in _allowed(kernel, model) if _plain(c))
    allowed = [c for c in plain if c.chunk_size == chunk_size]
    # equal predictions: what leaves room for a second program on a multiprocessor comes first
    key = {c: (model.seconds(label, c, None), abs(c.num_warps - 4), c.num_stages) for c in allowed}
    return sorted(allowed, key=key.__getitem__)


def _otherwise(kernel: OpKernel, model: Model, configs: Sequence[Config]) -> list[Config]:
    """The same tiles in ways that the model tells no difference of."""
    allowed = set(_allowed(kernel, model))
    return [c for way in WAYS for c in (c._replace(**way) for c in configs) if c in allowed]


def _plain(config: Config) -> bool:
    return config.way == (False, SCALES[0], ORDERS[0])


def _allowed(kernel: OpKernel, model: Model) -> Iterator[Config]:
    """Every configuration of a kernel that its limits admit."""
    told = kernel.launch.constants
    ways = bool(kernel.launch.row_tiles), "SCALES" in told, "ORDER" in told
    extents = Extents(_axes(kernel, model), kernel.slots, model.call.operand_bytes, *ways)
    return search_space(kernel.kernel, extents).configs(model.target)


def _ranked_in_each(label: str, made: Sequence[Candidate], model: Model) -> Iterator[Option]:
    """The options in every precision and by every method, one after the other."""
    ways: dict[tuple[str | None, str | None], list[Candidate]] = {}
    for c in made:
        ways.setdefault((c.config.precision, c.config.inverse), []).append(c)
    for own in ways.values():
        yield from _ranked(label, own, model)


def _ranked(label: str, made: Sequence[Candidate], model: Model) -> Iterator[Option]:
    """What fits, without spills where there is such a one, the fastest by the model first."""
    fitting = [c for c in made if runs(c, model.target)]
    whole = [c for c in fitting if c.resources.stack_bytes <= STACK_BYTES]

    def key(c: Candidate) -> tuple[object, ...]:
        # equal predictions: what is preferred among compiled candidates that were never timed
        return model.seconds(label, c.config, c.resources), rank(c, model.target)

    ordered = sorted(whole or fitting, key=key)
    ways: dict[tuple[object, ...], list[Candidate]] = {}
    for c in ordered:
        ways.setdefault(c.config.way, []).append(c)
    kept = (x for own in ways.values() for x in own[: OPTIONS if _plain(own[0].config) else OTHERS])
    for c in sorted(kept, key=key):
        r = c.resources
        yield Option(c.config, Needs(r.shared_bytes, r.registers, r.stack_bytes))


def _axes(kernel: OpKernel, model: Model) -> dict[str, int]:
    program, cut, _ = model.kernels[kernel.launch.label]
    sizes = KernelSizes(model.call, program, cut, Config(16, 16, 16, 4, 1))
    return {axis: sizes.size(axis) for axis in program.carry.axes}


def _sizes(op: OpKernels, model: Model) -> dict[str, int]:
    return {a.upper(): n for k in op.kernels for a, n in _axes(k, model).items()}


def _said(found: Resources | Needs, target: Target) -> Compiled:
    """What the cost model takes of a compiled kernel."""
    registers = max(1, found.registers)
    return Compiled(target.name, registers, found.stack_bytes, found.shared_bytes, {})
