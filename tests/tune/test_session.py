"""A run over several tasks: verdicts ahead, shares of the time, tables, what could not be done."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import pytest
from record_cases import BUCKET, provenance

from lincodegen.config import OpConfig
from lincodegen.errors import TuningError
from lincodegen.runtime.tables import Header, read_table
from lincodegen.schedule.space import Parameter
from lincodegen.tune.journal import read_records
from lincodegen.tune.records import Gate, Resources
from lincodegen.tune.search import Effort, Space
from lincodegen.tune.session import Folders, Job, run_session
from lincodegen.tune.tuner import Task

HEADER = Header("Device 1", "sm_90", 132)
SIZES = (16, 32, 64)


class Device:
    """Counts who was opened and what was judged; a chunk of 32 is the fastest."""

    def __init__(self, broken=False):
        self.broken, self.opened, self.judged = broken, 0, []

    @contextmanager
    def __call__(self):
        self.opened += 1
        yield self

    def judge(self, config):
        if self.broken:
            raise TuningError("no references")
        self.judged.append(config.chunk_size)
        time.sleep(0.01)
        return Gate("passed", "", 1, "ab")

    def times(self, config, repeats):
        return [1e-3 if config.chunk_size == 32 else 2e-3] * repeats


def job(device, op="probe", ahead=0):
    task = Task(
        op,
        BUCKET,
        Space.of([Parameter("chunk_size", SIZES)], lambda _: True),
        lambda point: OpConfig(point[0]),
        lambda _: Resources(0, 0, 0),
        lambda: provenance(time=time.time()),
    )
    return Job(task, device, tuple((s,) for s in SIZES), ahead)


def ran(tmp_path, *jobs, until_s=60.0):
    folders = Folders(tmp_path / "records", tmp_path)
    effort = Effort(10, 0, time.monotonic() + until_s)
    return run_session(jobs, folders, HEADER, effort, lambda _: None)


@pytest.mark.parametrize("ahead", [0, 2])
def test_candidates_are_judged_once_by_one_or_by_several(tmp_path, ahead):
    device = Device()
    report = ran(tmp_path, job(device, ahead=ahead))
    assert sorted(device.judged) == list(SIZES)
    assert device.opened == 1 + ahead
    assert report.ok
    assert report.tasks[0].best == OpConfig(32)
    again = Device()
    assert ran(tmp_path, job(again, ahead=ahead)).tasks[0].measured == 0
    assert again.judged == []


def test_a_task_that_fails_is_named_and_the_others_have_their_table(tmp_path):
    report = ran(tmp_path, job(Device(broken=True), "first"), job(Device(), "second"))
    assert not report.ok
    assert report.failed == {f"first, {BUCKET}": "no references"}
    assert f"first, {BUCKET}: failed: no references" in str(report)
    assert [row["op"] for row in read_table(report.table).rows] == ["second"]


def test_tasks_that_the_time_does_not_reach_are_named(tmp_path):
    report = ran(tmp_path, job(Device()), until_s=-1.0)
    assert report.left == (f"probe, {BUCKET}",)
    assert report.table is None
    assert not report.ok


def test_a_task_begins_at_the_best_of_the_others(tmp_path):
    """The second's first candidate is what the first one found; it is not asked for again."""
    devices = Device(), Device()
    other = BUCKET._replace(tokens=2 * BUCKET.tokens)
    jobs = [job(device) for device in devices]
    tasks = [replace(j.task, nearest=lambda config: (config.chunk_size,)) for j in jobs]
    tasks[1] = replace(tasks[1], bucket=other)
    starts = ((SIZES[-1],),)
    pairs = zip(jobs, tasks, strict=True)
    report = ran(tmp_path, *(replace(j, task=t, starts=starts) for j, t in pairs))
    assert devices[0].judged[0] == SIZES[-1]
    assert devices[1].judged[0] == 32
    assert sorted(devices[1].judged) == list(SIZES)
    assert [t.best for t in report.tasks] == [OpConfig(32)] * 2


def test_two_machines_over_a_shared_folder_find_what_either_found(tmp_path):
    """Each writes a file of its own, at the same time; a third has nothing left to measure."""
    ops = {"first": Device(), "second": Device()}

    def machine(op):
        own = job(ops[op], op)
        task = replace(own.task, provenance=lambda: provenance(time=time.time(), host=op))
        return ran(tmp_path, replace(own, task=task))

    with ThreadPoolExecutor() as pool:
        reports = list(pool.map(machine, ops))
    assert [r.tasks[0].measured for r in reports] == [len(SIZES)] * 2
    records = read_records(tmp_path / "records").records
    assert {(r.op, r.provenance.host) for r in records} == {(op, op) for op in ops}
    assert len(list((tmp_path / "records").iterdir())) == 2
    third = Device()
    report = ran(tmp_path, *(job(third, op) for op in ops))
    assert [t.measured for t in report.tasks] == [0, 0]
    assert third.judged == []
    assert {row["op"] for row in read_table(report.table).rows} == set(ops)
