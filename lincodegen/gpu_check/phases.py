"""The three phases: every op before the gate, tiles of the important ones, and times."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import chain, product, zip_longest

from lincodegen.config import OpConfig
from lincodegen.errors import LincodegenError, TuningError
from lincodegen.gpu_check.crew import LEAST_S, Crew
from lincodegen.gpu_check.log import Log
from lincodegen.gpu_check.options import Call, Options
from lincodegen.gpu_check.site import Bench, Site
from lincodegen.runtime.tuned import code_digest
from lincodegen.tune.ahead import Judged
from lincodegen.tune.gate import Subject, Trials, Work
from lincodegen.tune.judge import recurrence_in
from lincodegen.tune.measure import times_of
from lincodegen.tune.neighbours import neighbours
from lincodegen.tune.precision import precisions
from lincodegen.tune.records import Gate
from lincodegen.tune.search import Effort
from lincodegen.tune.session import Folders, Job, WorkerExaminer, bucket_of, run_session, worker_job
from lincodegen.verify.adversaries import applicable

QUICK = Trials(lengths=(65,), cases=("typical", "identical keys", "packed"))
"""Two variants of each kernel: compiling takes most of the time."""
THOROUGH = Trials()
DEPTHS = {"quick": QUICK, "thorough": THOROUGH}
FEW_HEADS = ("segment", "split")
"""Schedules that only sequences longer than those of trials are given by the rule."""
RUNS = 20
_AHEAD = 0.7
"""Share of the tuning in which several workers judge and compile; the rest is the clock's."""
_COMPILED = 0.6
"""The same share of the times of ops."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What a phase works with; ``until`` is the end of its time, as ``time.monotonic`` has it."""

    options: Options
    site: Site
    crew: Crew
    log: Log
    until: float
    say: Callable[[str], None]

    @property
    def left_s(self) -> float:
        """Seconds until the end of the phase."""
        return self.until - time.monotonic()


@dataclass(frozen=True, slots=True)
class Item:
    """One op in one dtype before the gate, under a schedule, or under that of the rule if ""."""

    op: str
    dtype: str
    depth: str
    schedule: str = ""

    def __str__(self) -> str:
        return " ".join(filter(None, (self.op, self.dtype, self.depth, self.schedule)))


def check(scene: Scene) -> None:
    """Every op at its default before the gate: all of them quickly, then all of them thoroughly.

    What an earlier run judged of the same text on the same device is not judged again.
    """
    known = _judged(scene)
    items = [item for item in _items(scene) if item not in known]

    def work(item: Item) -> None:
        subject = scene.site.subject(item.op, item.dtype, scene.options.size)
        with scene.crew.lent(subject, _limit(scene, scene.until)) as bench:
            _judge(scene, bench, item, subject)

    left, failed = scene.crew.each(items, work, scene.until)
    for error in failed:
        scene.log.add("note", text=f"a check ended: {error}")
    if left:
        names = ", ".join(map(str, left))
        scene.log.add("note", text=f"not checked, the time was over: {names}")


def _items(scene: Scene) -> Iterator[Item]:
    options = scene.options
    kernels = [d for d in options.dtypes if d != "float64"]
    for depth in DEPTHS:
        yield from (Item(op, dtype, depth) for dtype in kernels for op in options.ops)
        if depth == "quick" and scene.site.form == "triton":
            pairs = product(FEW_HEADS, kernels[:1], options.ops)
            yield from (Item(op, dtype, depth, schedule) for schedule, dtype, op in pairs)
    # kernels compute in float32: what is float64 takes the PyTorch form
    yield from (
        Item(op, d, "quick") for d in options.dtypes if d == "float64" for op in options.ops
    )


def _judged(scene: Scene) -> set[Item]:
    """What is on record of this device, this software and this text."""
    same = ("device", "torch", "triton", "form")
    here = {**scene.site.facts(), "device": scene.site.header().device}
    found: set[Item] = set()
    counts = False
    for e in scene.log.events[:-1]:
        if e["event"] == "started":
            counts = all(e.get(n) == here.get(n) for n in same)
        elif e["event"] == "checked" and counts and e["verdict"] not in ("timeout", "died"):
            subject = scene.site.subject(e["op"], e["dtype"], scene.options.size)
            if e["code"] == code_digest(subject.folder):
                found.add(Item(e["op"], e["dtype"], e["depth"], e["schedule"]))
    return found


def _judge(scene: Scene, bench: Bench, item: Item, subject: Subject) -> None:
    trials = replace(DEPTHS[item.depth], schedule=item.schedule)
    begun = time.monotonic()
    scene.log.add("begun", what=str(item))
    scene.say(str(item))
    limit_s = bench.timeout_s
    try:
        gate = bench.judge(None, trials)
    except TuningError as error:
        # the references of the recurrence could not be computed
        gate = Gate("raised", str(error), 0, "")
    if gate.verdict == "timeout" and limit_s < scene.options.timeout_s:
        text = f"{item}: no verdict in the {limit_s:.0f} s that were left"
        scene.log.add("note", text=text)
        scene.log.add("ended", what=str(item))
        return
    facts = {**asdict(gate), "code": code_digest(subject.folder)}
    if gate.verdict != "passed":
        text = bench.trace(None, trials) if gate.verdict == "raised" else ""
        facts["traceback"] = scene.log.traceback(str(item), text or gate.detail)
    seconds = round(time.monotonic() - begun, 3)
    scene.log.add("checked", **asdict(item), **facts, seconds=seconds)
    scene.log.add("ended", what=str(item))


def tune(scene: Scene) -> None:
    """Configurations of the important ops, for each call of the first op, then of the second.

    The first part of the time goes to verdicts and compilers, by several workers at a time and
    for all ops in turns; the rest to the clock, which has the device for itself.
    """
    options = scene.options
    ops = options.ops[: options.tuned]
    gates = _judged_ahead(scene, ops) if scene.site.form == "triton" else {}
    for number, op in enumerate(ops):
        if scene.left_s <= LEAST_S:
            left = ", ".join(ops[number:])
            scene.log.add("note", text=f"not tuned, the time was over: {left}")
            return
        scene.log.add("begun", what=f"tuning of {op}")
        mine = replace(scene, until=time.monotonic() + scene.left_s / (len(ops) - number))
        try:
            _tune_op(mine, op, gates.get(op, {}))
        except LincodegenError as error:
            scene.log.add("note", text=f"{op} was not tuned: {error}")
        scene.log.add("ended", what=f"tuning of {op}")


def _judged_ahead(scene: Scene, ops: Sequence[str]) -> dict[str, dict[OpConfig, Gate]]:
    """Verdicts on the first candidates of every op, by op; those that passed are compiled.

    The number of heads is a constant of a kernel, so that what was judged is compiled again for
    the calls that are timed.
    """
    until = time.monotonic() + _AHEAD * scene.left_s
    gates: dict[str, dict[OpConfig, Gate]] = {op: {} for op in ops}
    firsts: list[list[tuple[str, OpConfig]]] = []
    for op in ops:
        job = _job(scene, op, scene.options.calls[0], {}, until)
        configs = list(dict.fromkeys(map(job.task.config, job.starts)))
        firsts.append([(op, config) for config in configs[: scene.options.trials]])
    turns = (x for x in chain.from_iterable(zip_longest(*firsts)) if x is not None)

    def work(item: tuple[str, OpConfig]) -> None:
        op, config = item
        call = scene.options.calls[0]
        subject = scene.site.subject(op, call.dtype, call.size)
        with scene.crew.lent(subject, _limit(scene, until)) as bench:
            gate = bench.judge(config, _trials(scene, subject))
            # who had not enough time is no worse than who had none
            if gate.verdict != "timeout" or time.monotonic() < until:
                gates[op][config] = gate
            if gate.passed and time.monotonic() < until:
                bench.timeout_s = _limit(scene, until)
                bench.times(config, Work(call.heads, call.tokens, seed=scene.options.seed), 1)

    scene.log.add("begun", what="verdicts on candidates")
    _, failed = scene.crew.each(turns, work, until)
    scene.log.add("ended", what="verdicts on candidates")
    for error in dict.fromkeys(failed):
        scene.log.add("note", text=f"before tuning: {error}")
    return gates


def _tune_op(scene: Scene, op: str, gates: Mapping[OpConfig, Gate]) -> None:
    options = scene.options
    for number, call in enumerate(options.calls):
        now = time.monotonic()
        until = now + (scene.until - now) / (len(options.calls) - number)
        job = _job(scene, op, call, gates, until)
        effort = Effort(options.trials, options.seed, until)
        folders = Folders(options.out / "configs" / "records", options.out / "configs")
        report = run_session([job], folders, scene.site.header(), effort, scene.say)
        for task in report.tasks:
            scene.log.add("tuned", **task.to_json())
            if task.how == "random":
                text = "Optuna is missing: configurations were tried in a random order"
                scene.log.add("note", text=text)
        for what, why in report.failed.items():
            scene.log.add("note", text=f"{what} was not tuned: {why}")


def _job(scene: Scene, op: str, call: Call, gates: Mapping[OpConfig, Gate], until: float) -> Job:
    """The task of one op and call, with workers of the site."""
    site, options = scene.site, scene.options
    subject = site.subject(op, call.dtype, call.size)
    work = Work(call.heads, call.tokens, seed=options.seed)
    found = None
    if site.form == "triton":
        target = site.target()
        offered = precisions(bucket_of(subject, work).dtype, target)
        found = neighbours(subject.folder, op, call.size, target, offered)
        found = found.for_call(call.heads, call.tokens, target.multiprocessors)
    job = worker_job(subject, work, QUICK, options.seed, found)
    task = replace(job.task, provenance=lambda: site.provenance(op, options.seed))

    @contextmanager
    def examiner() -> Generator[Judged]:
        with _examiner(scene, op, call, until) as opened:
            yield Judged(opened, gates, until)

    return Job(task, examiner, job.starts)


@contextmanager
def _examiner(scene: Scene, op: str, call: Call, until: float) -> Generator[WorkerExaminer]:
    """A worker of the crew that has at most the time until ``until`` for each answer."""
    subject = scene.site.subject(op, call.dtype, call.size)
    work = Work(call.heads, call.tokens, seed=scene.options.seed)
    with scene.crew.lent(subject, _limit(scene, until)) as bench:
        yield WorkerExaminer(bench, _trials(scene, subject), work)


def _trials(scene: Scene, subject: Subject) -> Trials:
    """What candidates are judged by: every adversary of the recurrence, and packed sequences."""
    cases = (*applicable(recurrence_in(subject.folder)), "packed")
    return replace(QUICK, cases=cases, seed=scene.options.seed)


def _limit(scene: Scene, until: float) -> float:
    """Seconds for one answer."""
    return min(scene.options.timeout_s, max(LEAST_S, until - time.monotonic()))


def bench(scene: Scene) -> None:
    """Times of ops as a user calls them, then against what other libraries are there."""
    options, site = scene.options, scene.site
    half = time.monotonic() + scene.left_s / 2
    timed = [(op, call) for op in options.ops for call in options.calls]
    if site.form == "triton":
        _compile(scene, timed, time.monotonic() + _COMPILED * scene.left_s / 2)
    for number, (op, call) in enumerate(timed):
        if time.monotonic() >= half:
            left = ", ".join(dict.fromkeys(op for op, _ in timed[number:]))
            scene.log.add("note", text=f"not timed, or not every call, the time was over: {left}")
            break
        _time(scene, op, call)
    if scene.left_s > 1:
        scene.log.add("begun", what="benchmarks against other libraries")
        said = site.peers(options.out, options.ops, scene.left_s)
        if said:
            scene.log.add("note", text=f"benchmarks against other libraries: {said}")
        scene.log.add("ended", what="benchmarks against other libraries")


def _compile(scene: Scene, timed: Sequence[tuple[str, Call]], until: float) -> None:
    """Fills Triton's cache, by several workers at a time, with what the clock will ask for."""

    def work(item: tuple[str, Call]) -> None:
        op, call = item
        subject = scene.site.subject(op, call.dtype, call.size)
        with scene.crew.lent(subject, _limit(scene, until)) as bench:
            bench.times(None, Work(call.heads, call.tokens, seed=scene.options.seed), 1)

    # who fails here fails once more before the clock, where it is noted
    scene.crew.each(timed, work, until)


def _time(scene: Scene, op: str, call: Call) -> None:
    """Forward, and forward with backward: as it is shipped, and as it was tuned."""
    subject = scene.site.subject(op, call.dtype, call.size)
    bucket = str(bucket_of(subject, Work(call.heads, call.tokens)))
    scene.say(f"times of {op}, {bucket}")
    scene.log.add("begun", what=f"times of {op}, {bucket}")
    candidates = {"as shipped": None, **_tuned(scene, op, bucket)}
    try:
        with scene.crew.lent(subject, _limit(scene, scene.until)) as bench:
            for (configuration, config), backward in product(candidates.items(), (False, True)):
                work = Work(call.heads, call.tokens, backward, scene.options.seed)
                times = times_of(bench.times(config, work, RUNS))
                facts = {
                    "op": op,
                    "bucket": bucket,
                    "configuration": configuration,
                    "direction": "forward and backward" if backward else "forward",
                }
                scene.log.add("times", **facts, **asdict(times))
    except TuningError as error:
        scene.log.add("note", text=f"{op}, {bucket}: {error}")
    scene.log.add("ended", what=f"times of {op}, {bucket}")


def _tuned(scene: Scene, op: str, bucket: str) -> dict[str, OpConfig]:
    """What tuning chose of an op and bucket, if it did."""
    found = [
        OpConfig.from_json(e["best"])
        for e in scene.log.events
        if e["event"] == "tuned" and (e["op"], e["bucket"]) == (op, bucket) and e["best"]
    ]
    return {"tuned": found[-1]} if found else {}
