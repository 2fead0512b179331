"""A run of the benchmark: every work, all its contestants, results as they come."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from lincodegen import pipeline
from lincodegen.bench.contestants import (
    OURS,
    Absence,
    Contestant,
    evaluate,
    first_line,
    naive,
    ours,
    peer,
    timed,
)
from lincodegen.bench.exact import Error, Exact, bound_of, exact
from lincodegen.bench.growth import growth
from lincodegen.bench.inputs import DTYPES, Inputs, draw
from lincodegen.bench.limits import Limits, Needs, measure_limits, needs_of, target_of
from lincodegen.bench.measure import Effort, Timing, Watch, alternate, timings, watch
from lincodegen.bench.peers import PEERS, Peer, peers_of
from lincodegen.bench.provenance import gpu, load_average, provenance
from lincodegen.bench.record import Journal, Record, Row, shape_json
from lincodegen.bench.shapes import Work
from lincodegen.loading import load_package
from lincodegen.resources import generated_dir, specs_dir
from lincodegen.runtime.backend import backend
from lincodegen.spec.step import Recurrence
from lincodegen.tune.judge import recurrence_in
from lincodegen.tune.records import Times

MEASURED = ("lincodegen", "generated")
PACKAGES = ("torch", "triton", "fla-core", "tilelang", *sorted({p.library for p in PEERS}))

Entry = Contestant | Absence


@dataclass(frozen=True, slots=True)
class Options:
    """How a benchmark is run.

    Attributes:
        dtype: of what has more than one value a token.
        budget: seconds in all; works that it does not reach are listed.
        oracle_tokens: most tokens over which errors of outputs, and of gradients, are taken.
        probe: bytes and matrix side for the device's rates, None: its usual ones.
    """

    dtype: str = "fp32"
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    effort: Effort = field(default_factory=Effort)
    budget: float | None = None
    oracle_tokens: tuple[int, int] = (1024, 256)
    probe: tuple[int, int] | None = None


def run(
    works: Sequence[Work],
    options: Options,
    out: Path | None = None,
    on_progress: Callable[[str], None] | None = None,
    peers: Callable[[Work], Sequence[Peer]] = peers_of,
) -> Record:
    """Times all works and gives the record, which ``out`` holds after every work.

    Nothing that a contestant does ends the run, its rows say what happened; unless it breaks the
    device for this process: then the provenance says ``broken``, and what follows is left.
    """
    start = time.monotonic()
    deadline = None if options.budget is None else start + options.budget
    limits = measure_limits(DTYPES[options.dtype], options.device, *(options.probe or ()))
    origin = {**provenance(PACKAGES, MEASURED), **gpu(options.device)}
    origin |= {"target": target_of(options.device), "load_before": load_average()}
    record = Record(origin, options.dtype, options.device.type, asdict(limits))
    journal = Journal(record, out)
    record.left = [work.text for work in works]
    journal.write()
    # on a CPU kernels would run in Triton's interpreter, whose time says nothing
    with nullcontext() if options.device.type == "cuda" else backend("torch"):
        for work in works:
            if deadline is not None and time.monotonic() > deadline:
                break
            if on_progress is not None:
                on_progress(f"{len(record.left)} left: {work.text}")
            rows = _rows(work, options, limits, peers(work), deadline)
            record.left = record.left[1:]
            broken = _broken(options.device)
            record.growth = growth([*record.rows, *rows])
            journal.add(rows)
            if broken:
                # an illegal access leaves a context in which everything after it fails, too
                origin["broken"] = broken
                break
            if options.device.type == "cuda":
                # graphs keep pools of their own, which the next work may need
                torch.cuda.empty_cache()
    record.complete = not record.left
    origin["load_after"] = load_average()
    journal.write()
    return record


def _broken(device: torch.device) -> str:
    """What a device says that takes no more work; empty if it does."""
    if device.type == "cuda":
        try:
            torch.cuda.synchronize(device)
        except RuntimeError as error:
            return first_line(error)
    return ""


def _rows(
    work: Work,
    options: Options,
    limits: Limits,
    peers: Sequence[Peer],
    deadline: float | None,
) -> list[Row]:
    """All rows of a work; one that says why where it cannot be set up."""
    try:
        match = Match.of(work, options, peers)
        needs = needs_of(match.inputs.recurrence, work, options.dtype, target_of(options.device))
    except Exception as error:
        absence = Absence(OURS, OURS, "refused", first_line(error))
        return [_absent(work, timing, absence) for timing in timings(options.device)]
    found: list[Row] = []
    for timing in timings(options.device):
        rows = match.rows(timing, options.effort, deadline)
        found += [_complete(row, rows, needs, limits) for row in rows]
    return found


@dataclass(frozen=True, slots=True)
class Match:
    """The contestants of a work, each with its error, and the inputs that all of them get."""

    inputs: Inputs
    absences: tuple[Absence, ...]
    judged: tuple[tuple[Contestant, Error], ...]
    device: torch.device

    @staticmethod
    def of(work: Work, options: Options, peers: Sequence[Peer]) -> Match:
        """Draws inputs, gathers who takes part and compares each with the exact result."""
        dtype = DTYPES[options.dtype]
        recurrence, op = _subject(work.op)
        inputs = draw(recurrence, work, dtype, options.device)
        bound = bound_of(dtype, options.device)
        reference = exact(inputs, bound, options.oracle_tokens)
        entries: list[Entry] = [ours(op, inputs)]
        entries += [*(peer(p, inputs) for p in peers), naive(inputs)]
        absences: list[Absence] = []
        judged: list[tuple[Contestant, Error]] = []
        for entry in entries:
            found = entry if isinstance(entry, Absence) else _judge(entry, inputs, reference)
            if isinstance(found, Absence):
                absences.append(found)
            else:
                judged.append(found)
        return Match(inputs, tuple(absences), tuple(judged), options.device)

    def rows(self, timing: Timing, effort: Effort, deadline: float | None) -> list[Row]:
        """Rows of all contestants, times without what follows from those of others."""
        work = self.inputs.work
        rows = [_absent(work, timing, absence) for absence in self.absences]
        watches: dict[str, Watch] = {}
        failed: dict[str, Exception] = {}
        for contestant, _ in self.judged:
            try:
                watches[contestant.name] = watch(
                    timed(contestant, self.inputs), timing, self.device
                )
            except Exception as error:
                failed[contestant.name] = error
        results = {**failed, **alternate(watches, effort, deadline)}
        return [_row(work, timing, c, e, results[c.name]) for c, e in self.judged] + rows


def _subject(name: str) -> tuple[Recurrence, Any]:
    """The recurrence and the op of a spec; those that are shipped where no spec can be read."""
    path, folder = specs_dir() / f"{name}.yaml", generated_dir() / name
    try:
        return pipeline.load(path), pipeline.load_op(path)
    except ModuleNotFoundError:
        return recurrence_in(folder), load_package(folder)


def _judge(
    contestant: Contestant, inputs: Inputs, reference: Exact
) -> tuple[Contestant, Error] | Absence:
    try:
        outputs, gradients = evaluate(contestant, inputs, reference.cotangents)
        return contestant, reference.error(inputs, outputs, gradients)
    except Exception as error:
        return Absence(contestant.name, contestant.library, "refused", first_line(error))


def _absent(work: Work, timing: Timing, absence: Absence) -> Row:
    return Row(
        work.op,
        work.mode,
        shape_json(work),
        timing,
        absence.name,
        absence.library,
        "",
        absence.status,
        absence.reason,
    )


def _row(
    work: Work, timing: Timing, contestant: Contestant, error: Error, result: Times | Exception
) -> Row:
    """A row of one that gave a result, right or wrong."""
    base = _absent(work, timing, Absence(contestant.name, contestant.library, "ok", ""))
    name, worst = error.worst
    figures: dict[str, Any] = {"worst": worst, "tensor": name, **asdict(error)}
    row = replace(base, version=contestant.version, error=figures)
    if isinstance(result, Exception):
        return replace(row, status="refused", reason=first_line(result))
    if not error.ok:
        reason = f"{name} is off by {worst:.2g}, more than {error.bound:g}"
        row = replace(row, status="wrong", reason=reason)
    return replace(row, seconds=asdict(result))


def _complete(row: Row, rows: Sequence[Row], needs: Needs | None, limits: Limits) -> Row:
    """A row with its ratio to ours and its parts of the device's rates."""
    own = next((r.median for r in rows if r.contestant == OURS), None)
    ratio = row.median / own if row.median and own else None
    if needs is None:
        return replace(row, ratio=ratio)
    row = replace(row, ratio=ratio, bytes=needs.bytes, flops=needs.flops)
    if row.median is None:
        return row
    bandwidth, matmul = needs.shares(row.median, limits)
    return replace(row, of_bandwidth=bandwidth, of_matmul=matmul)
