"""A run of the tuner over several ops and buckets: records, tables, and the time that is left."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from lincodegen.config import Bucket, OpConfig
from lincodegen.errors import LincodegenError
from lincodegen.runtime.tables import Header
from lincodegen.runtime.tuned import DTYPE_NAMES
from lincodegen.tune import machine, measure
from lincodegen.tune.ahead import Judged, judge_ahead
from lincodegen.tune.export import chosen_entries, write_table
from lincodegen.tune.gate import Subject, Trials, Work, Worker
from lincodegen.tune.journal import Writer, read_records
from lincodegen.tune.judge import recurrence_in
from lincodegen.tune.records import Gate, Provenance, Record, Resources
from lincodegen.tune.search import Effort, Point
from lincodegen.tune.shortlist import Shortlist
from lincodegen.tune.torch_space import TorchSpace, largest_input
from lincodegen.tune.transfer import warm_starts
from lincodegen.tune.tuner import Examiner, Task, TuningReport, own_records, tune

AHEAD = 0.5
"""Share of a task's time in which several examiners judge."""
MOST_AHEAD = 8


@dataclass(frozen=True, slots=True)
class Job:
    """A task, who judges its candidates, and the points that come first.

    Attributes:
        examiner: opens what judges; it is closed when the task is done.
        ahead: how many examiners judge the starts side by side before the clock runs; 0 where
            judging takes no longer than timing.
    """

    task: Task
    examiner: Callable[[], AbstractContextManager[Examiner]]
    starts: tuple[Point, ...] = ()
    ahead: int = 0


@dataclass(frozen=True, slots=True)
class Folders:
    """Where records are kept, and where the table of the device is written."""

    records: Path
    tables: Path


@dataclass(frozen=True, slots=True)
class SessionReport:
    """What came of every task.

    Attributes:
        failed: tasks that could not be done, by op and bucket, and why.
        left: tasks that the time did not reach.
        table: the table that was written, None if there was nothing to write.
    """

    tasks: tuple[TuningReport, ...]
    failed: Mapping[str, str]
    left: tuple[str, ...]
    table: Path | None

    @property
    def ok(self) -> bool:
        """Whether every task has a configuration to use."""
        return not self.failed and not self.left and all(t.best is not None for t in self.tasks)

    def to_json(self) -> dict[str, object]:
        """The same facts as JSON values."""
        return {
            "ok": self.ok,
            "tasks": [task.to_json() for task in self.tasks],
            "failed": dict(self.failed),
            "not_reached": list(self.left),
            "table": None if self.table is None else str(self.table),
        }

    def __str__(self) -> str:
        lines = [str(task) for task in self.tasks]
        lines += [f"{name}: failed: {why}" for name, why in self.failed.items()]
        lines += [f"{name}: not reached" for name in self.left]
        lines += [f"table: {self.table}"] if self.table is not None else []
        return "\n".join(lines)


def run_session(
    jobs: Sequence[Job],
    folders: Folders,
    header: Header,
    effort: Effort,
    on_progress: Callable[[str], None],
    *,
    protocol: measure.Protocol = measure.USUAL,
) -> SessionReport:
    """Tunes one task after the other; the table is written again after each.

    Each task may use its share of the time that is left. What was measured before, in this folder
    and for this text on this device, is not measured again.
    """
    done: list[TuningReport] = []
    failed: dict[str, str] = {}
    left: list[str] = []
    table: Path | None = None
    with Writer(folders.records) as writer:
        for number, job in enumerate(jobs):
            name = f"{job.task.op}, {job.task.bucket}"
            now = time.monotonic()
            if now >= effort.until:
                left.append(name)
                continue
            on_progress(name)
            share = (effort.until - now) / (len(jobs) - number)
            mine = Effort(effort.trials, effort.seed, now + share)
            known = read_records(folders.records).records
            starts = tuple(dict.fromkeys((*warm_starts(job.task, known), *job.starts)))
            try:
                gates = _ahead(job, starts, known, now + AHEAD * share)
                with job.examiner() as examiner:
                    judged = Judged(examiner, gates, now + share)
                    watched = Watched(judged, lambda text, n=name: on_progress(f"{n}: {text}"))
                    done.append(
                        tune(
                            job.task,
                            watched,
                            known,
                            writer.append,
                            mine,
                            starts=starts,
                            protocol=protocol,
                        )
                    )
            except LincodegenError as error:
                failed[name] = str(error)
            table = export_table(folders, header) or table
    return SessionReport(tuple(done), failed, tuple(left), table)


def _ahead(
    job: Job, points: Sequence[Point], known: Sequence[Record], until: float
) -> Mapping[OpConfig, Gate]:
    """Verdicts on points that are on no record, those that are given by then."""
    if not job.ahead:
        return {}
    recorded = own_records(job.task, known)
    starts = [c for c in map(job.task.config, points) if c not in recorded]
    return judge_ahead(starts, job.examiner, job.ahead, until)


def export_table(folders: Folders, header: Header) -> Path | None:
    """Writes what the records of a device chose; None where nothing passed."""
    entries = chosen_entries(read_records(folders.records).records, header.device)
    return write_table(folders.tables, header, entries) if entries else None


class Watched:
    """An examiner that says how far it is."""

    def __init__(self, examiner: Examiner, on_progress: Callable[[str], None]) -> None:
        self._examiner, self._say, self._count = examiner, on_progress, 0

    def judge(self, config: OpConfig) -> Gate:
        """The verdict of the examiner."""
        self._count += 1
        self._say(f"candidate {self._count}")
        return self._examiner.judge(config)

    def times(self, config: OpConfig, repeats: int) -> Sequence[float]:
        """The times of the examiner."""
        return self._examiner.times(config, repeats)


class CandidateWorker(Protocol):
    """What a `Worker` does for an examiner."""

    def judge(self, config: OpConfig | None, trials: Trials) -> Gate:
        """The verdict on a candidate, None for the op as it is."""
        ...

    def times(self, config: OpConfig | None, work: Work, repeats: int) -> Sequence[float]:
        """Seconds of each of several runs."""
        ...

    def close(self) -> None:
        """Ends it."""
        ...


class WorkerExaminer:
    """Candidates in a worker process; used as a context manager, whose end is the worker's."""

    def __init__(self, worker: CandidateWorker, trials: Trials, work: Work) -> None:
        self._worker, self._trials, self._work = worker, trials, work

    def judge(self, config: OpConfig) -> Gate:
        """The verdict of the worker."""
        return self._worker.judge(config, self._trials)

    def times(self, config: OpConfig, repeats: int) -> Sequence[float]:
        """The worker's times."""
        return self._worker.times(config, self._work, repeats)

    def __enter__(self) -> WorkerExaminer:
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.close()


def bucket_of(subject: Subject, work: Work) -> Bucket:
    """The bucket of the calls that are timed."""
    dtype = DTYPE_NAMES[getattr(torch, subject.dtype)]
    return Bucket.of(dtype, subject.sizes, work.heads, work.tokens)


def worker_job(
    subject: Subject, work: Work, trials: Trials, seed: int, shortlist: Shortlist | None = None
) -> Job:
    """The job of one op and bucket: kernels of a shortlist, or without one the PyTorch form."""
    device = torch.device(subject.device)

    def provenance() -> Provenance:
        return machine.provenance(subject.folder, device, seed)

    bucket, op = bucket_of(subject, work), subject.folder.name

    def examiner() -> WorkerExaminer:
        return WorkerExaminer(Worker(subject), trials, work)

    if shortlist is None:
        form = torch_form(subject, work)
        task = Task(
            op,
            bucket,
            form.space(),
            form.config,
            lambda _: Resources(0, 0, 0),
            provenance,
            form.nearest,
        )
        return Job(task, examiner, form.starts())
    task = Task(
        op,
        bucket,
        shortlist.space(),
        shortlist.config,
        shortlist.needs,
        provenance,
        shortlist.nearest,
    )
    # compilers and references wait for processors, not for the device
    ahead = max(1, min(MOST_AHEAD, (os.cpu_count() or 1) - 1))
    return Job(task, examiner, shortlist.starts(), ahead)


def torch_form(subject: Subject, work: Work) -> TorchSpace:
    """What the PyTorch form of an op can be tuned in for a call, in a process like this one."""
    shapes = [
        [d.evaluate(subject.sizes) for d in x.shape] for x in recurrence_in(subject.folder).inputs
    ]
    text = (subject.folder / "chunk.py").read_text(encoding="utf-8")
    return TorchSpace(
        work.tokens,
        work.heads,
        largest_input(shapes, work.tokens),
        "unit_lower_inverse(" in text,
        torch.get_num_threads(),
    )
