"""Tunes an op for a class of calls: proposes, judges, times, records, and says what it chose."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Protocol

from lincodegen.config import KEPT, Bucket, OpConfig
from lincodegen.errors import TuningError
from lincodegen.tune import measure
from lincodegen.tune.records import Gate, Provenance, Record, Resources, Times
from lincodegen.tune.search import Effort, Point, Space, search


class Examiner(Protocol):
    """Judges and times candidates: a worker process, or a device that is made up."""

    def judge(self, config: OpConfig) -> Gate:
        """The verdict on a candidate."""
        ...

    def times(self, config: OpConfig, repeats: int) -> Sequence[float]:
        """Seconds of each of several runs; `TuningError` where it fails."""
        ...


@dataclass(frozen=True, slots=True)
class Task:
    """What is tuned.

    Attributes:
        space: the points; ``config`` makes a configuration of one.
        needs: what the kernels of a configuration need, as the compiler has it.
        provenance: where records come from, with the time of asking.
        nearest: the point next to a configuration of other calls or of another device; None
            where there is none.
    """

    op: str
    bucket: Bucket
    space: Space
    config: Callable[[Point], OpConfig]
    needs: Callable[[OpConfig], Resources]
    provenance: Callable[[], Provenance]
    nearest: Callable[[OpConfig], Point | None] = lambda _: None


@dataclass(frozen=True, slots=True)
class TuningReport:
    """What tuning did.

    Attributes:
        best: the configuration to use; None where none passed.
        times: its times.
        tried: how many candidates were looked at.
        measured: how many of them were not on record.
        rejected: the gate of each that may not be used.
        how: as `lincodegen.tune.search.Found` has it.
        cut_off: likewise.
    """

    op: str
    bucket: Bucket
    best: OpConfig | None
    times: Times | None
    tried: int
    measured: int
    rejected: Mapping[OpConfig, Gate]
    how: str
    cut_off: bool

    def to_json(self) -> dict[str, object]:
        """The same facts as JSON values."""
        return {
            "op": self.op,
            "bucket": str(self.bucket),
            "best": None if self.best is None else self.best.to_json(),
            "times": None if self.times is None else asdict(self.times),
            "tried": self.tried,
            "measured": self.measured,
            "rejected": [
                {"config": c.to_json(), "verdict": g.verdict, "detail": g.detail}
                for c, g in self.rejected.items()
            ],
            "search": self.how,
            "cut_off": self.cut_off,
        }

    def __str__(self) -> str:
        end = ", cut off" if self.cut_off else ""
        head = (
            f"{self.op}, {self.bucket}: {self.tried} candidates, {self.measured} of them new "
            f"({self.how} search{end})"
        )
        lines = [head]
        if self.best is None or self.times is None:
            lines.append("  none can be used")
        else:
            t = self.times
            lines.append(
                f"  chosen {described(self.best)}: {1e6 * t.median:.1f} us "
                f"({1e6 * t.p20:.1f} to {1e6 * t.p80:.1f})"
            )
        lines += [
            f"  rejected {described(config)}: {gate.verdict}: {gate.detail}"
            for config, gate in self.rejected.items()
        ]
        return "\n".join(lines)


def tune(
    task: Task,
    examiner: Examiner,
    known: Iterable[Record],
    keep: Callable[[Record], None],
    effort: Effort,
    *,
    starts: Sequence[Point] = (),
    protocol: measure.Protocol = measure.USUAL,
) -> TuningReport:
    """Searches the space of a task; every verdict and time is kept before the next is asked for.

    Args:
        task: what to tune.
        examiner: judges and times.
        known: records; those of this op, text, device and bucket are not measured again.
        keep: makes a record last, as `lincodegen.tune.journal.Writer.append` does.
        effort: trials and seed.
        starts: points that are tried first.
        protocol: how times are compared.
    """
    desk = _Desk(task, examiner, keep, own_records(task, known))
    screened = protocol.screen

    def measured(point: Point) -> float | None:
        record = desk.examined(task.config(point), screened)
        return record.times.median if record.usable and record.times is not None else None

    on_record = {p: r for p in task.space.points if (r := desk.records.get(task.config(p)))}
    answers = {p: r.times.median if r.usable and r.times else None for p, r in on_record.items()}
    found = search(task.space, measured, effort, known=answers, starts=starts)
    tried = {task.config(p): t for p, t in found.tried.items()}
    rejected = {c: desk.records[c].gate for c in tried if not desk.records[c].gate.passed}
    usable = {c: task.needs(c) for c, t in tried.items() if t is not None}
    best, times = (None, None) if not usable else desk.compared(usable, protocol)
    end = len(tried), found.measured, rejected, found.how, found.cut_off
    return TuningReport(task.op, task.bucket, best, times, *end)


def described(config: OpConfig) -> str:
    """A configuration on a line."""
    kernels = [f"{label} {c}" for label, c in config.kernels]
    schedule = [config.scanning] if config.scanning else []
    schedule += [f"keeps {config.keep}"] if config.keep != KEPT else []
    return ", ".join([f"chunk {config.chunk_size}", *schedule, *kernels, *_own(config)])


def _own(config: OpConfig) -> list[str]:
    """What is chosen of the PyTorch form."""
    if config.torch is None:
        return []
    own = config.torch
    threads = [] if own.threads is None else [f"threads {own.threads}"]
    return [f"solve {own.solve_block}", f"blocks of {own.block_elements} elements", *threads]


def own_records(task: Task, known: Iterable[Record]) -> dict[OpConfig, Record]:
    """The last record of each configuration of this very text on this very device."""
    here = task.provenance()
    return {r.config: r for r in known if is_own(task, here, r)}


def is_own(task: Task, here: Provenance, record: Record) -> bool:
    """Whether a record is of this task, and of the very text, device and versions."""
    same = ("device", "target", "torch", "triton", "code")
    return (record.op, record.bucket) == (task.op, task.bucket) and all(
        getattr(record.provenance, name) == getattr(here, name) for name in same
    )


class _Desk:
    """The records of a task while it is tuned."""

    def __init__(
        self,
        task: Task,
        examiner: Examiner,
        keep: Callable[[Record], None],
        records: dict[OpConfig, Record],
    ) -> None:
        self._task, self._examiner, self._keep = task, examiner, keep
        self.records = records

    def examined(self, config: OpConfig, repeats: int) -> Record:
        """Judges a candidate, times it if it passed, and keeps the record."""
        gate = self._examiner.judge(config)
        times = None
        if gate.passed:
            try:
                times = measure.times_of(self._examiner.times(config, repeats))
            except TuningError as error:
                gate = replace(gate, verdict="raised", detail=str(error))
        return self._kept(config, gate, times)

    def compared(
        self, usable: Mapping[OpConfig, Resources], protocol: measure.Protocol
    ) -> tuple[OpConfig | None, Times | None]:
        """Times the best of those that passed in turns; what was found is kept as well."""
        try:
            choice = measure.choose(usable, self._examiner.times, protocol)
        except TuningError:
            return None, None
        for config, reason in choice.failed.items():
            gate = replace(self.records[config].gate, verdict="raised", detail=reason)
            self._kept(config, gate, None)
        for config, times in choice.times.items():
            self._kept(config, self.records[config].gate, times)
        return choice.best, choice.times[choice.best]

    def _kept(self, config: OpConfig, gate: Gate, times: Times | None) -> Record:
        task = self._task
        needs = task.needs(config)
        record = Record(task.op, task.bucket, config, gate, times, needs, task.provenance())
        self._keep(record)
        self.records[config] = record
        return record
