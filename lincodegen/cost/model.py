"""The cost of an op's forward and backward on a target, kernel by kernel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from lincodegen.cost.around import Around, TorchStep
from lincodegen.cost.launch import (
    Compiled,
    Default,
    holds_stacks,
    resident_programs,
    rounds,
    spilled_bytes,
)
from lincodegen.cost.predict import Load, Prediction, predict
from lincodegen.cost.sizes import CallSizes, KernelSizes
from lincodegen.cost.traffic import PARTS, Access, Tensors, group_tensors, kernel_traffic
from lincodegen.cost.work import Work, dots_in_a_row, kernel_work
from lincodegen.emit.op_plan import GroupPlan, OpPlan
from lincodegen.program.program import Program
from lincodegen.schedule.kernels import schedule
from lincodegen.schedule.plan import Kernel, Schedule, kernel_label
from lincodegen.targets import Target, segment_chunks, splits_reads


@dataclass(frozen=True, slots=True)
class KernelLaunch:
    """One launch of a generated kernel.

    Attributes:
        tiles: programs that share out one chunk, or one head of a scan.
        chunks: chunks that each of its programs goes over, one after the other; 0 without a scan.
        products: matrix products of a chunk in one program.
        resident: programs on a multiprocessor at a time; None if no compile is on record.
        rounds: times over that the multiprocessors are filled; None likewise.
        once: its arithmetic, every product once; ``executed`` counts what programs repeat.
        spilled: bytes that go to the stack and back, in all.
    """

    default: Default
    programs: int
    tiles: int
    chunks: int
    products: int
    resident: int | None
    rounds: int | None
    once: Work
    executed: Work
    spilled: int


@dataclass(frozen=True, slots=True)
class LaunchCost:
    """One step of a direction: a kernel, or what PyTorch does between two (``kernel`` None)."""

    label: str
    kernel: KernelLaunch | None
    accesses: tuple[Access, ...]
    time: Prediction

    @property
    def bytes(self) -> int:
        """Bytes, each tensor once."""
        return sum(a.bytes for a in self.accesses)

    @property
    def moved(self) -> int:
        """Bytes with what programs over tiles of an axis read again each."""
        return sum(a.moved for a in self.accesses)


@dataclass(frozen=True, slots=True)
class DirectionCost:
    """The forward or the backward of an op.

    ``least_bytes`` are those of the tensors that it is given and returns, each once.
    """

    name: str
    launches: tuple[LaunchCost, ...]
    least_bytes: int
    target: Target

    @property
    def kernels(self) -> tuple[LaunchCost, ...]:
        """The launches of generated kernels."""
        return tuple(x for x in self.launches if x.kernel is not None)

    @property
    def bytes(self) -> int:
        """Bytes, each tensor once a launch that touches it."""
        return sum(x.bytes for x in self.launches)

    @property
    def moved(self) -> int:
        """Bytes with what programs over tiles of an axis read again each."""
        return sum(x.moved for x in self.launches)

    @property
    def seconds(self) -> float:
        """Predicted time of all launches, one after the other."""
        return sum(x.time.seconds for x in self.launches)

    @property
    def roof(self) -> float:
        """Seconds of the least bytes, or of this schedule's products once, the longer of both."""
        target = self.target
        flops = sum(x.kernel.once.matrix for x in self.kernels if x.kernel)
        return max(
            self.least_bytes / (target.reached_bandwidth or target.memory_bandwidth),
            flops / (target.reached_bf16 or target.peak_bf16),
        )

    def touched_again(self) -> dict[str, tuple[tuple[str, ...], int]]:
        """Tensors that several launches touch: these launches, and the bytes beyond once."""
        found: dict[str, list[tuple[str, int]]] = {}
        for launch in self.launches:
            for a in launch.accesses:
                found.setdefault(a.tensor, []).append((launch.label, a.bytes))
        return {
            tensor: (tuple(label for label, _ in uses), sum(size for _, size in uses[1:]))
            for tensor, uses in found.items()
            if len(uses) > 1
        }


@dataclass(frozen=True, slots=True)
class OpCost:
    """What an op costs; ``notes`` say what is not known."""

    op: str
    target: Target
    sizes: CallSizes
    forward: DirectionCost
    backward: DirectionCost
    notes: tuple[str, ...]

    @property
    def directions(self) -> tuple[DirectionCost, DirectionCost]:
        """Forward and backward."""
        return self.forward, self.backward


def op_cost(
    plan: OpPlan,
    programs: Sequence[Program],
    defaults: Mapping[str, Default],
    sizes: CallSizes,
    target: Target,
) -> OpCost:
    """The cost of training with an op: its forward, then its backward.

    Args:
        plan: what the op does around its kernels.
        programs: one a state, in the plan's order.
        defaults: by the label of a kernel within the op, as in ``scan_fwd``.
        sizes: of the call.
        target: that the times are for.
    """
    around = Around(sizes, plan)
    model = _Model(around, tuple(programs), defaults, target)
    least = around.least_bytes()
    forward = DirectionCost("forward", tuple(model.forward()), least[0], target)
    backward = DirectionCost("backward", tuple(model.backward()), least[1], target)
    name = plan.recurrence.name
    return OpCost(name, target, sizes, forward, backward, tuple(_notes(defaults, target)))


def kernel_cost(
    label: str, sizes: KernelSizes, tensors: Tensors, compiled: Compiled | None, target: Target
) -> LaunchCost:
    """The cost of one launch of a kernel, at any configuration.

    Args:
        label: what the launch is called.
        sizes: of the call, under the kernel's configuration.
        tensors: of the kernel's group.
        compiled: what the compiler said of it; None if that is unknown.
        target: that the time is for.
    """
    accesses = kernel_traffic(sizes, tensors)
    scans = [replace(sizes, kernel=scan) for scan in sizes.kernel.scans]
    once, executed = Work(), Work()
    for scan in scans:
        own = kernel_work(scan)
        once, executed = once.plus(own[0]), executed.plus(own[1])
    programs = sum(scan.programs for scan in scans)
    # roles run side by side: the longest chain counts
    products = max(dots_in_a_row(scan) for scan in scans)
    chunks = max(scan.steps for scan in scans)
    resident = filled = None
    spilled = beyond = 0
    if compiled is not None:
        resident = resident_programs(compiled, sizes.config, target)
        filled = rounds(programs, resident, target)
        spilled = spilled_bytes(compiled, sizes.config, target) * programs * max(1, chunks)
        beyond = 0 if holds_stacks(compiled, resident, sizes.config, target) else spilled
    size = sum(a.bytes * a.walks for a in accesses) + beyond
    # a lane moves four bytes at a time
    issued = executed.plus(Work(vector=spilled // 4))
    load = Load(size, issued, programs, resident, chunks * products, filled)
    launch = KernelLaunch(
        Default(sizes.used, compiled),
        programs,
        sum(scan.tiles for scan in scans),
        chunks,
        products,
        resident,
        filled,
        once,
        executed,
        spilled,
    )
    return LaunchCost(label, launch, accesses, predict(load, target))


@dataclass(frozen=True, slots=True)
class _Model:
    """Walks the launches of an op in the order of its text."""

    around: Around
    programs: tuple[Program, ...]
    defaults: Mapping[str, Default]
    target: Target

    @property
    def plan(self) -> OpPlan:
        """What the op does around its kernels."""
        return self.around.plan

    @property
    def sizes(self) -> CallSizes:
        """Of the call."""
        return self.around.call

    def forward(self) -> list[LaunchCost]:
        around = self.around
        found: list[LaunchCost] = []
        for group, program in zip(self.plan.groups, self.programs, strict=True):
            found += [self._torch(step) for step in around.before(group)]
            found += self._kernels(group, program, *self._forward_kernels(group, program))
        return [*found, *(self._torch(step) for step in around.outputs())]

    def backward(self) -> list[LaunchCost]:
        around = self.around
        found = [self._torch(step) for step in around.output_adjoints()]
        pairs = list(zip(self.plan.groups, self.programs, strict=True))
        for group, program in reversed(pairs):
            found += [self._torch(step) for step in around.before(group)]
            kernels = self._kernels(group, program, *self._backward_kernels(group, program))
            steps = around.after(group, _parts(kernels))
            found += [*kernels, *(self._torch(step) for step in steps)]
        return found

    def _forward_kernels(
        self, group: GroupPlan, program: Program
    ) -> tuple[tuple[Kernel, ...], int]:
        """The kernels of the schedule that the rule picks, and the segments of a sequence."""
        plan = schedule(program)
        heads, chunks = self._scanned(group, plan)
        segments = self._segments(group, plan)
        if segments > 1:
            early = (*plan.forward[:-1], *plan.decaying, plan.summaries[0])
            return (*early, plan.forward[-1]), segments
        if not splits_reads(heads, chunks, self.target.multiprocessors):
            return plan.forward, 1
        return (*plan.forward[:-1], *plan.instead), 1

    def _backward_kernels(
        self, group: GroupPlan, program: Program
    ) -> tuple[tuple[Kernel, ...], int]:
        plan = schedule(program)
        segments = self._segments(group, plan)
        if segments == 1:
            return plan.backward, 1
        carries = [[scan.carry for scan in k.scans if scan.carry] for k in plan.backward]
        scan = next(i for i, of in enumerate(carries) if any(c.reverse for c in of))
        return (*plan.backward[:scan], plan.summaries[1], *plan.backward[scan:]), segments

    def _scanned(self, group: GroupPlan, plan: Schedule) -> tuple[int, int]:
        """Heads of all sequences, and chunks of one."""
        config = self._default(group, plan.forward[-1]).config
        return self.sizes.batch * self.sizes.heads, -(-self.sizes.tokens // config.chunk_size)

    def _segments(self, group: GroupPlan, plan: Schedule) -> int:
        heads, chunks = self._scanned(group, plan)
        size = segment_chunks(heads, chunks, self.target.multiprocessors)
        return -(-chunks // size) if size and plan.summaries else 1

    def _kernels(
        self, group: GroupPlan, program: Program, kernels: Iterable[Kernel], segments: int
    ) -> list[LaunchCost]:
        tensors = group_tensors(program, group)
        return [self._kernel(group, program, kernel, tensors, segments) for kernel in kernels]

    def _kernel(
        self,
        group: GroupPlan,
        program: Program,
        kernel: Kernel,
        tensors: Tensors,
        segments: int,
    ) -> LaunchCost:
        default = self._default(group, kernel)
        sizes = KernelSizes(self.sizes, program, kernel, default.config, segments)
        return kernel_cost(
            kernel_label(kernel.name, group.suffix), sizes, tensors, default.compiled, self.target
        )

    def _default(self, group: GroupPlan, kernel: Kernel) -> Default:
        """That of the tables; a short sequence takes a chunk that none was compiled for."""
        default = self.defaults[kernel_label(kernel.tiled_as, group.suffix)]
        chunk_size = min(default.config.chunk_size, self.sizes.longest_chunk)
        if chunk_size == default.config.chunk_size:
            return default
        return Default(default.config._replace(chunk_size=chunk_size), None)

    def _torch(self, step: TorchStep) -> LaunchCost:
        size = sum(a.bytes for a in step.accesses)
        load = Load(size, Work(), self.target.multiprocessors, None, 0, None)
        return LaunchCost(step.label, None, step.accesses, predict(load, self.target))


def kernel_slots(plan: OpPlan, programs: Sequence[Program]) -> Mapping[str, int]:
    """Every kernel of an op by label, with the most rows a token of its program."""
    found: dict[str, int] = {}
    for group, program in zip(plan.groups, programs, strict=True):
        cut = schedule(program)
        slots = max(1 << (len(s) - 1).bit_length() for _, s in program.form.axes)
        for kernel in cut.own:
            found[kernel_label(kernel.name, group.suffix)] = slots
    return found


def _parts(launches: Iterable[LaunchCost]) -> list[tuple[Access, int]]:
    """Gradients that programs over keys write parts of, and how many parts there are."""
    return [
        (a, a.parts)
        for launch in launches
        for a in launch.accesses
        if launch.kernel and a.tensor.endswith(PARTS)
    ]


def _notes(defaults: Mapping[str, Default], target: Target) -> Iterable[str]:
    """What the figures leave out."""
    records = {d.compiled.target for d in defaults.values() if d.compiled is not None}
    if not records:
        yield f"no compile record for {target.name}, this dtype and size: occupancy unknown"
    for other in sorted(records - {target.name}):
        yield f"no compile record for {target.name}: occupancy from that of {other}"
    if any(d.compiled and d.compiled.stack_bytes for d in defaults.values()):
        yield "spilled registers are taken to move twice a chunk, to memory where they are too many"
    if target.reached_bandwidth is None:
        yield "rates are the data sheet's peaks: nothing says what this device reaches"
    if target.exp2_lanes is None:
        yield "exponentials are not timed: no source gives their rate on this device"
    if target.dot_latency is None:
        yield "serial chains are not timed: no source gives the latency of a product"
    yield "times are predicted, none of this was measured"
