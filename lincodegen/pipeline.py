"""Calls the stages in order: the one place that knows all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lincodegen.cost.model import kernel_slots, op_cost
from lincodegen.cost.records import op_defaults
from lincodegen.cost.report import CostReport
from lincodegen.cost.sizes import CallSizes
from lincodegen.derive.chunkform import derive_group
from lincodegen.derive.timeline import Timeline, read_timeline
from lincodegen.emit.derivation import chunked_derivation, recurrent_derivation
from lincodegen.emit.op import Package, emit_chunked, emit_recurrent, package_digest
from lincodegen.emit.op_plan import plan_op
from lincodegen.emit.writer import compare_package, write_package
from lincodegen.errors import DerivationError, NotChunkable, SpecError, TuningError
from lincodegen.loading import cache_dir, load_package, package_digest_in, sources_digest
from lincodegen.program.claims import Proof
from lincodegen.program.lower import lower
from lincodegen.program.passes import PASSES
from lincodegen.program.program import Program
from lincodegen.reports import BuildReport, CheckReport, CompareReport
from lincodegen.resources import generated_dir, specs_dir
from lincodegen.schedule.kernels import schedule
from lincodegen.schedule.numerics import describe
from lincodegen.spec.printing import format_step
from lincodegen.spec.step import Recurrence
from lincodegen.targets import load_target
from lincodegen.tune.compiled import TargetsReport, compile_defaults
from lincodegen.tune.kernels import op_kernels

if TYPE_CHECKING:
    from lincodegen.verify.verdict import Verdict

Progress = Callable[[str], None]
Sets = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Compiled:
    """What the stages before ``emit`` make of a recurrence.

    ``timeline`` is None, and ``reason`` says why, where there is no chunked form.
    """

    recurrence: Recurrence
    timeline: Timeline | None
    programs: tuple[Program, ...]
    proof: Proof | None
    reason: str

    @property
    def report(self) -> CheckReport:
        """What ``check`` says of it."""
        return CheckReport(self.recurrence.name, self.proof, self.reason)

    def package(self) -> Package:
        """The files of the op.

        Raises:
            DerivationError: an equation failed its proof; nothing is emitted then.
        """
        if self.timeline is None or self.proof is None:
            page = recurrent_derivation(self.recurrence, self.reason)
            return emit_recurrent(self.recurrence, self.reason, page)
        if not self.proof.ok:
            failed = ", ".join(self.proof.failed)
            raise DerivationError(f"{self.recurrence.name}: the proof failed for {failed}")
        page = chunked_derivation(self.timeline, self.programs, self.proof)
        return emit_chunked(self.timeline, self.programs, page)


def load(path: Path, sets: Sets | None = None) -> Recurrence:
    """The recurrence of a spec file."""
    # who takes the recurrence that a package keeps reads no YAML
    from lincodegen.spec import loader

    return loader.load(path, sets=sets or {})


def compile_spec(path: Path, sets: Sets | None = None) -> Compiled:
    """A spec through every stage before ``emit``, and its proof."""
    recurrence = load(path, sets)
    try:
        timeline = read_timeline(recurrence)
    except NotChunkable as error:
        return Compiled(recurrence, None, (), None, str(error))
    # what costs and what runs an op needs no proof, and no NumPy
    from lincodegen.program.proof import prove

    programs = tuple(_program(timeline, index) for index in range(len(timeline.groups)))
    return Compiled(recurrence, timeline, programs, prove(timeline, programs), "")


def _program(timeline: Timeline, index: int) -> Program:
    program = lower(derive_group(timeline.groups[index]))
    for rewrite in PASSES:
        program = rewrite(program)
    return program


def check(path: Path, sets: Sets | None = None) -> CheckReport:
    """Parse, derive, prove; writes nothing."""
    return compile_spec(path, sets).report


def build(
    path: Path, *, sets: Sets | None = None, out: Path | None = None, on_progress: Progress
) -> BuildReport:
    """Writes the package of a spec, then compares the op with its recurrence."""
    on_progress("derive and prove")
    compiled = compile_spec(path, sets)
    folder = out or _default_out()
    on_progress("emit")
    package = compiled.package()
    changed = write_package(package, folder)
    on_progress("verify")
    op = load_package((folder / package.name).resolve())
    # a check runs no op, and PyTorch takes as long to import as all that it does
    from lincodegen.verify.session import verify_op

    verdict = verify_op(compiled.recurrence, op, quick=True, on_progress=on_progress)
    return BuildReport(compiled.report, str(folder / package.name), changed, verdict)


def check_generated(
    path: Path, *, sets: Sets | None = None, out: Path | None = None, on_progress: Progress
) -> CompareReport:
    """Compares what would be written with what is there."""
    on_progress("derive, prove and emit")
    package = compile_spec(path, sets).package()
    folder = out or _default_out()
    return CompareReport(package.name, str(folder / package.name), compare_package(package, folder))


def compile_targets(
    path: Path, targets: Sequence[str], *, sets: Sets | None = None, on_progress: Progress
) -> TargetsReport:
    """Compiles the kernels of a spec for GPUs that need not be there, at their defaults.

    Raises:
        TuningError: the recurrence runs token by token and has no chunked kernels.
    """
    compiled = compile_spec(path, sets)
    if not compiled.programs:
        raise TuningError(f"{compiled.recurrence.name} has no chunked kernels: {compiled.reason}")
    kernels = op_kernels(compiled.recurrence.name, compiled.programs)
    return compile_defaults(kernels, targets, on_progress)


def show(path: Path, after: str, sets: Sets | None = None) -> str:
    """What a stage makes of a spec, as text."""
    if after == "spec":
        return format_step(load(path, sets))
    compiled = compile_spec(path, sets)
    if after == "emit":
        return str(compiled.package())
    if compiled.timeline is None:
        return compiled.reason
    if after == "derive":
        return "\n\n".join(f"state {p.form.group.state.name}\n{p.form}" for p in compiled.programs)
    if after == "program":
        return "\n\n".join(map(str, compiled.programs))
    return "\n\n".join(map(_schedule_text, compiled.programs))


def cost(
    path: Path, target: str, sizes: Mapping[str, Any], sets: Sets | None = None
) -> CostReport | None:
    """What training with a spec's kernels costs; None if it runs token by token.

    ``sizes`` are fields of `CallSizes`, each with its default.

    Raises:
        TuningError: no target has this name.
        SpecError: the spec has no dimension of a name in ``sizes["dims"]``.
    """
    recurrence = load(path, sets)
    unknown = sorted(set(sizes.get("dims", ())) - set(recurrence.dims))
    if unknown:
        known = ", ".join(recurrence.dims)
        raise SpecError(f"{path}: no dimension is called {unknown[0]!r}; there are {known}")
    return cost_of(recurrence, target, sizes)


def cost_of(recurrence: Recurrence, target: str, sizes: Mapping[str, Any]) -> CostReport | None:
    """The same of a recurrence.

    Raises:
        TuningError: no target has this name.
    """
    try:
        timeline = read_timeline(recurrence)
    except NotChunkable:
        return None
    programs = tuple(_program(timeline, index) for index in range(len(timeline.groups)))
    plan, device, call = plan_op(timeline, programs), load_target(target), CallSizes(**sizes)
    channels = {call.length(dim) for state in recurrence.states for dim in state.shape}
    labels = kernel_slots(plan, programs)
    defaults = op_defaults(recurrence.name, labels, call, channels, device)
    return CostReport(op_cost(plan, programs, defaults, call, device))


def _schedule_text(program: Program) -> str:
    group = program.form.group
    return f"state {group.state.name}\n{schedule(program)}\n  {describe(group)}"


def verify(
    path: Path,
    *,
    sets: Sets | None = None,
    dtype: str = "float32",
    quick: bool = False,
    on_progress: Progress,
) -> Verdict:
    """Compares the op of a spec, shipped or built into the cache, with its recurrence."""
    op = load_op(path, sets)
    from lincodegen.verify.session import verify_op

    return verify_op(load(path, sets), op, dtype=dtype, quick=quick, on_progress=on_progress)


def load_op(path: Path, sets: Sets | None = None) -> Any:  # noqa: ANN401 - a module made elsewhere
    """The op of a spec: the shipped one if it is up to date, else one built into the cache."""
    return load_package(op_folder(path, sets))


def derivation(path: Path, sets: Sets | None = None) -> str:
    """The written derivation of a spec, in Markdown, as it lies beside its op."""
    return (op_folder(path, sets) / "derivation.md").read_text(encoding="utf-8")


def op_folder(path: Path, sets: Sets | None = None) -> Path:
    """The package of a spec: the shipped one if it is up to date, else one built into the cache."""
    recurrence = load(path, sets)
    digest = package_digest(recurrence)
    shipped = generated_dir() / recurrence.name
    if package_digest_in(shipped) == digest:
        return shipped
    cached = cache_dir() / f"{digest}-{sources_digest()}"
    if package_digest_in(cached / recurrence.name) != digest:
        write_package(compile_spec(path, sets).package(), cached)
    return cached / recurrence.name


def _default_out() -> Path:
    """``generated/`` of the checkout; of the current folder where lincodegen is installed."""
    shipped = generated_dir()
    return shipped if shipped.parent == specs_dir().parent else Path("generated")
