"""Tuning of specs on the device that is there, and what a model chooses for one that is not."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from lincodegen import pipeline
from lincodegen.config import Bucket, OpConfig
from lincodegen.cost.sizes import CallSizes
from lincodegen.emit.op_plan import plan_op
from lincodegen.errors import TuningError
from lincodegen.resources import config_dir, offline_dir, records_dir
from lincodegen.runtime.tables import Entry, Header
from lincodegen.runtime.tuned import DTYPE_NAMES, code_digest, device_header
from lincodegen.targets import Target, from_device, load_target
from lincodegen.tune import machine
from lincodegen.tune.candidates import Model, Pool, first_choice, shortlist
from lincodegen.tune.export import write_table
from lincodegen.tune.gate import Subject, Trials, Work
from lincodegen.tune.journal import read_records
from lincodegen.tune.judge import recurrence_in
from lincodegen.tune.kernels import op_kernels
from lincodegen.tune.precision import precisions
from lincodegen.tune.records import Record
from lincodegen.tune.search import Effort
from lincodegen.tune.session import Folders, Job, SessionReport, run_session, worker_job
from lincodegen.tune.shortlist import Shortlist

Progress = Callable[[str], None]
MODEL = "model"
"""Stands for a gate where nothing was run; no look-up takes such an entry."""
TRIALS = Trials(lengths=(1, 65), cases=())
_COMPILING = 0.3
"""Share of the budget in which candidates are compiled."""


@dataclass(frozen=True, slots=True)
class Request:
    """What to tune for.

    Attributes:
        calls: heads of one sequence and its tokens.
        sizes: of every dimension ``size``, but for those in ``dims``.
        dtype: PyTorch's name.
        trials: cases that a candidate is judged by.
    """

    calls: tuple[tuple[int, int], ...]
    dtype: str
    size: int
    dims: Mapping[str, int] = field(default_factory=dict[str, int])
    effort: Effort = field(default_factory=Effort)
    trials: Trials = TRIALS


@dataclass(frozen=True, slots=True)
class Choice:
    """What the model chose for an op and a class of calls; it was never run."""

    op: str
    bucket: Bucket
    config: OpConfig
    predicted_s: float

    def __str__(self) -> str:
        kernels = ", ".join(f"{label} {c}" for label, c in self.config.kernels)
        return f"{self.op}, {self.bucket}: chunk {self.config.chunk_size}, {kernels}"


@dataclass(frozen=True, slots=True)
class OfflineReport:
    """The model's choices for a target, and the file that they were written to."""

    target: str
    choices: tuple[Choice, ...]
    table: Path

    @property
    def ok(self) -> bool:
        """Always: what cannot be chosen raises."""
        return True

    def to_json(self) -> dict[str, object]:
        """The same facts as JSON values."""
        rows = [
            {
                "op": c.op,
                "bucket": str(c.bucket),
                "config": c.config.to_json(),
                "predicted_us": round(1e6 * c.predicted_s, 3),
                "gate": MODEL,
            }
            for c in self.choices
        ]
        return {"ok": True, "target": self.target, "choices": rows, "table": str(self.table)}

    def __str__(self) -> str:
        head = f"{self.target}: chosen by the model, never run; no look-up takes it"
        return "\n".join([head, *(f"  {c}" for c in self.choices), f"table: {self.table}"])


def tune(
    specs: Sequence[Path], request: Request, device: str, on_progress: Progress
) -> SessionReport:
    """Tunes the ops of specs on a device: kernels on a GPU, the PyTorch form on a CPU.

    Records go to `records_dir`, the table of the device to `config_dir`.

    Raises:
        TuningError: an op runs token by token, no configuration of it fits, or there is no such
            device.
    """
    machine.require(device)
    where = torch.device(device)
    jobs: list[Job] = []
    # candidates are compiled in the first part of the time, the same share for each spec
    share = (request.effort.until - time.monotonic()) * _COMPILING / len(specs)
    for path in specs:
        jobs += _jobs(path, request, where, share, on_progress)
    folders = Folders(records_dir(), config_dir())
    return run_session(jobs, folders, device_header(where), request.effort, on_progress)


def tune_offline(
    specs: Sequence[Path], request: Request, target: str, on_progress: Progress
) -> OfflineReport:
    """Compiles candidates for a target that need not be there and writes what the model chooses.

    Raises:
        TuningError: no target has this name, an op runs token by token, or nothing fits.
    """
    device = load_target(target)
    choices: list[Choice] = []
    entries: list[Entry] = []
    for path in specs:
        folder = pipeline.op_folder(path)
        sizes = _sizes(folder, request)
        for heads, tokens in request.calls:
            on_progress(f"{folder.name}: compile for {target}")
            until = request.effort.until
            found, model = _shortlist(path, request, device, (heads, tokens), until)
            config = first_choice(found)
            predicted = sum(model.seconds(label, c, None) for label, c in config.kernels)
            bucket = Bucket.of(_short(request.dtype), sizes, heads, tokens)
            choices.append(Choice(folder.name, bucket, config, predicted))
            facts: dict[str, object] = {"predicted_us": round(1e6 * predicted, 3)}
            code = code_digest(folder)
            entries.append(Entry(folder.name, bucket, code, MODEL, config, facts))
    header = Header(device.name, device.name, device.multiprocessors)
    return OfflineReport(target, tuple(choices), write_table(offline_dir(), header, entries))


def records_of(specs: Sequence[Path]) -> list[Record]:
    """What is on record of the ops of specs, on any device."""
    ops = {pipeline.op_folder(path).name for path in specs}
    return [r for r in read_records(records_dir()).records if r.op in ops]


def _jobs(
    path: Path, request: Request, device: torch.device, share_s: float, on_progress: Progress
) -> list[Job]:
    folder = pipeline.op_folder(path)
    if not (folder / "chunk.py").is_file():
        raise TuningError(f"{folder.name} runs token by token: there is nothing to tune")
    form = "triton" if device.type == "cuda" else "torch"
    sizes = _sizes(folder, request)
    said = torch.get_float32_matmul_precision()
    subject = Subject(folder, form, str(device), request.dtype, sizes, matmul_precision=said)
    jobs: list[Job] = []
    for heads, tokens in request.calls:
        found = None
        if form == "triton":
            on_progress(f"{folder.name}: compile candidates")
            target = from_device(torch.cuda.get_device_properties(device))
            until = time.monotonic() + share_s / len(request.calls)
            found, _ = _shortlist(path, request, target, (heads, tokens), until)
        work = Work(heads, tokens, seed=request.effort.seed)
        jobs.append(worker_job(subject, work, request.trials, request.effort.seed, found))
    return jobs


def _shortlist(
    path: Path, request: Request, target: Target, call: tuple[int, int], until: float
) -> tuple[Shortlist, Model]:
    """The candidates of an op for a call, and the model that ranked them.

    After ``until``, as ``time.monotonic`` has it, no further chunk is compiled for.
    """
    compiled = pipeline.compile_spec(path)
    name = compiled.recurrence.name
    if compiled.timeline is None:
        raise TuningError(f"{name} has no chunked kernels: {compiled.reason}")
    heads, tokens = call
    sizes = CallSizes(1, tokens, heads, request.size, request.dims, _short(request.dtype))
    plan = plan_op(compiled.timeline, compiled.programs)
    model = Model.of(plan, compiled.programs, sizes, target)
    with TemporaryDirectory() as folder:
        offered = precisions(_short(request.dtype), target)
        pool = Pool(Path(folder) / f"{name}_kernels.py", until=until, precisions=offered)
        found = shortlist(op_kernels(name, compiled.programs), model, pool)
    return found.for_call(heads, tokens, target.multiprocessors), model


def _sizes(folder: Path, request: Request) -> dict[str, int]:
    dims = recurrence_in(folder).dims
    unknown = sorted(set(request.dims) - set(dims))
    if unknown:
        raise TuningError(
            f"{folder.name}: no dimension is called {unknown[0]!r}; there are {', '.join(dims)}"
        )
    return {name: request.dims.get(name, request.size) for name in dims}


def _short(dtype: str) -> str:
    return DTYPE_NAMES[getattr(torch, dtype)]
