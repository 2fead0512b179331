"""Compiles an op's kernels at their defaults for targets that need not be there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from lincodegen.compile import Resources, compile_many
from lincodegen.compile.launches import job_of
from lincodegen.config import Config
from lincodegen.resources import defaults_dir
from lincodegen.targets import Target, load_target
from lincodegen.tune.kernels import OpKernels
from lincodegen.tune.table import Entry, read_table

SIZE = 128
"""K and V of the calls that are compiled for."""
DTYPE = "bf16"


@dataclass(frozen=True, slots=True)
class CompiledKernel:
    """One kernel at its default for a target; ``problem`` says why it would not run."""

    target: str
    label: str
    resources: Resources
    problem: str

    def __str__(self) -> str:
        found = self.resources
        mark = f"FAILS: {self.problem}" if self.problem else "fits"
        return (
            f"  {self.target:8s} {self.label:16s} {found.registers:4d} registers, stack "
            f"{found.stack_bytes} B, shared {found.shared_bytes} B  {mark}"
        )


@dataclass(frozen=True, slots=True)
class TargetsReport:
    """What the ahead-of-time compilation of an op found."""

    op: str
    kernels: tuple[CompiledKernel, ...]

    @property
    def ok(self) -> bool:
        """Whether every kernel compiles and fits its target's shared memory."""
        return not any(k.problem for k in self.kernels)

    def __str__(self) -> str:
        head = f"{self.op}: {DTYPE}, K = V = {SIZE}, compiled ahead of time"
        return "\n".join([head, *map(str, self.kernels)])

    def to_json(self) -> Mapping[str, object]:
        """The same facts as JSON values."""
        return {"ok": self.ok, "op": self.op, "kernels": [asdict(k) for k in self.kernels]}


def compile_defaults(
    op: OpKernels, targets: Sequence[str], on_progress: Callable[[str], None]
) -> TargetsReport:
    """Every kernel of an op at its default for every target."""
    rows: list[CompiledKernel] = []
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"{op.op}_kernels.py"
        path.write_text(op.text, encoding="utf-8")
        for name in targets:
            on_progress(f"compile for {name}")
            rows += _compiled(op, path, load_target(name))
    return TargetsReport(op.op, tuple(rows))


def _compiled(op: OpKernels, path: Path, target: Target) -> list[CompiledKernel]:
    _, classes = read_table(defaults_dir() / f"{target.name}.json")
    entry: Entry = classes.get(f"{DTYPE} {SIZE}", {}).get(op.op, {})
    slots = max(n for kernel in op.kernels for n in kernel.slots)
    chunk_size = entry.get("chunk_size", max(16, 64 // slots))
    launches = [kernel.launch for kernel in op.kernels]
    sizes = {"K": SIZE, "V": SIZE}
    jobs = [
        job_of(x, path, sizes, DTYPE, target, _config(entry, x.label, chunk_size)) for x in launches
    ]
    found = compile_many(jobs)
    return [
        CompiledKernel(target.name, x.label, r, r.excess(target, stack_bytes=1 << 20) or "")
        for x, r in zip(launches, found, strict=True)
    ]


def config_of(entry: Entry, label: str) -> Config:
    """The configuration that a table's entry of an op holds of a kernel."""
    found = entry["kernels"][label]
    tiles = found["tile_k"], found["tile_v"]
    return Config(entry["chunk_size"], *tiles, found["num_warps"], found["num_stages"])


def _config(entry: Entry, label: str, chunk_size: int) -> Config:
    """The default of a kernel from the table, else small tiles that fit everywhere."""
    if label in entry.get("kernels", {}):
        return config_of(entry, label)
    return Config(chunk_size, 64, 32, 4, 1)
