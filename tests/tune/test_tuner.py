"""Tuning from proposal to look-up: on made-up devices, and for real on the CPU."""

import itertools
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from planted_faults import DEADLY, FAULTS, NOISY, WRONG
from record_cases import BUCKET, provenance, record

import lincodegen.ops
from lincodegen.config import Bucket, OpConfig
from lincodegen.errors import RecordError, TuningError
from lincodegen.resources import generated_dir
from lincodegen.runtime import tuned
from lincodegen.runtime.backend import backend
from lincodegen.runtime.function import planning
from lincodegen.runtime.tables import Header, read_table
from lincodegen.schedule.space import Parameter
from lincodegen.tune import machine
from lincodegen.tune.export import chosen_entries, write_table
from lincodegen.tune.gate import Subject, Trials, Work, Worker
from lincodegen.tune.journal import Writer, read_records
from lincodegen.tune.records import Gate, Resources
from lincodegen.tune.search import Effort, Space
from lincodegen.tune.tuner import Task, tune

SIZES = (4, 8, 16, 32, 64, 128, 256)
NAME = "delta_rule"
PASSED = Gate("passed", "at worst 0.50 of its bound", 8, "ab12")


class MadeUp:
    """A device on which a chunk of 32 is the fastest, and those with planted faults tempt."""

    def __init__(self, verdicts=(), failing=()):
        self.verdicts, self.failing = dict(verdicts), failing
        self.judged = []
        self.timed = []

    def judge(self, config):
        self.judged.append(config.chunk_size)
        verdict = self.verdicts.get(config.chunk_size, "passed")
        return PASSED if verdict == "passed" else Gate(verdict, "as planted", 1, "")

    def times(self, config, repeats):
        self.timed.append(config.chunk_size)
        if config.chunk_size in self.failing:
            raise TuningError("an illegal memory access")
        assert self.verdicts.get(config.chunk_size, "passed") == "passed"
        distance = abs(config.chunk_size.bit_length() - 6)
        return [1e-3 * (1 + 0.3 * distance)] * repeats


def task(sizes=SIZES, bucket=BUCKET, **where):
    clock = itertools.count()
    space = Space.of([Parameter("chunk_size", sizes)], lambda _: True)
    return Task(
        where.pop("op", "probe"),
        bucket,
        space,
        lambda point: OpConfig(point[0]),
        lambda config: Resources(config.chunk_size, 0, 0),
        lambda: provenance(**({"time": float(next(clock))} | where)),
    )


def tuned_on(examiner, known=(), keep=None, **options):
    kept = []
    report = tune(task(**options), examiner, known, keep or kept.append, Effort(len(SIZES)))
    return report, kept


def test_the_fastest_that_passed_is_chosen():
    report, kept = tuned_on(MadeUp())
    assert report.best == OpConfig(32)
    assert (report.tried, report.measured) == (7, 7)
    assert {r.config.chunk_size for r in kept} == set(SIZES)
    assert all(r.usable for r in kept)


def test_planted_faults_are_never_timed_or_chosen_and_are_named():
    faults = {32: "wrong", 16: "nondeterministic", 64: "died", 8: "timeout", 4: "raised"}
    device = MadeUp(faults)
    report, kept = tuned_on(device)
    assert report.best == OpConfig(128)
    assert set(device.timed) == {128, 256}
    assert {c.chunk_size: g.verdict for c, g in report.rejected.items()} == faults
    for size, verdict in faults.items():
        assert f"rejected chunk {size}: {verdict}: as planted" in str(report)
    assert all(not r.usable for r in kept if r.config.chunk_size in faults)


def test_what_dies_on_the_clock_is_rejected():
    report, _ = tuned_on(MadeUp(failing=(32,)))
    assert report.best.chunk_size in (16, 64)
    assert "rejected chunk 32: raised: an illegal memory access" in str(report)


def test_where_nothing_passes_nothing_is_chosen():
    report, kept = tuned_on(MadeUp(dict.fromkeys(SIZES, "wrong")))
    assert (report.best, report.times) == (None, None)
    assert "none can be used" in str(report)
    assert chosen_entries(kept, "Device 1") == ()


@pytest.mark.parametrize("done", [0, 1, 4, 6])
def test_an_interrupted_run_loses_the_trial_in_flight_alone(tmp_path, done):
    """The run ends by an exception after some records; the next measures only what is missing."""

    class Interrupted(MadeUp):
        def judge(self, config):
            if len(self.judged) == done:
                raise KeyboardInterrupt
            return super().judge(config)

    with Writer(tmp_path) as writer, pytest.raises(KeyboardInterrupt):
        tuned_on(Interrupted(), keep=writer.append)
    known = read_records(tmp_path).records
    assert len(known) == done
    device = MadeUp()
    report, _ = tuned_on(device, known)
    assert report.best == OpConfig(32)
    assert report.measured == len(device.judged) == 7 - done


@pytest.mark.parametrize(
    "other", [{"code": "00"}, {"device": "Device 2"}, {"triton": "3.7.1"}, {"op": "other"}]
)
def test_records_of_something_else_are_not_taken_for_this(other):
    _, kept = tuned_on(MadeUp())
    report, _ = tuned_on(MadeUp(), kept, **other)
    assert report.measured == 7
    assert tuned_on(MadeUp(), kept)[0].measured == 0


def test_a_full_disk_ends_the_run_and_says_so():
    def full(_):
        raise RecordError("the record was not written: No space left on device")

    with pytest.raises(RecordError, match="No space left"):
        tuned_on(MadeUp(), keep=full)


def test_a_table_holds_what_was_compared_and_passed(tmp_path):
    slow, fast, lucky = (OpConfig(size) for size in (16, 32, 64))
    records = [
        record(0, config=lucky, median=0.5e-3),
        record(1, config=slow, median=1.2e-3, runs=25),
        record(2, config=fast, median=1.0e-3, runs=25),
        record(
            3, config=OpConfig(8), median=0.1e-3, runs=25, gate=replace(PASSED, verdict="wrong")
        ),
        record(4, config=OpConfig(4), median=0.1e-3, runs=25, device="Device 2"),
    ]
    header = Header("Device 1", "sm_90", 132)
    path = write_table(tmp_path, header, chosen_entries(records, "Device 1"))
    assert path == tmp_path / "device_1.json"
    rows = read_table(path).rows
    assert [(row["config"]["chunk_size"], row["gate"], row["check"]) for row in rows] == [
        (32, "passed", "ab12")
    ]
    assert [p.name for p in tmp_path.iterdir()] == ["device_1.json"]


def test_a_table_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    header = Header("Device 1", "sm_90", 132)
    path = write_table(tmp_path, header, chosen_entries([record()], "Device 1"))
    before = path.read_text()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RecordError, match="No space left"):
        write_table(tmp_path, header, [])
    assert path.read_text() == before
    assert [p.name for p in tmp_path.iterdir()] == ["device_1.json"]


def test_the_chunk_of_the_pytorch_form_is_tuned_for_real(tmp_path, monkeypatch):
    """Worker, gate, clock, records, table, look-up; three candidates have planted faults."""
    folder = generated_dir() / NAME
    sizes = {"K": 8, "V": 12}
    subject = Subject(folder, "torch", "cpu", "float32", sizes, "planted_faults:planted")
    work = Work(heads=2, tokens=256)
    bucket = Bucket.of("fp32", sizes, work.heads, work.tokens)
    cpu = torch.device("cpu")
    job = task((4, WRONG, NOISY, DEADLY, 64), bucket, op=NAME)
    job = replace(job, provenance=lambda: machine.provenance(folder, cpu, 0))
    trials = Trials(lengths=(1, 40), cases=("typical", "identical keys"))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    records = tmp_path / "records"
    with Worker(subject, environment=environment) as worker, Writer(records) as writer:

        class Examined:
            judge = staticmethod(lambda config: worker.judge(config, trials))
            times = staticmethod(lambda config, n: worker.times(config, work, n))

        report = tune(job, Examined(), (), writer.append, Effort(10))
    assert report.best.chunk_size in (4, 64)
    rejected = {c.chunk_size: gate.verdict for c, gate in report.rejected.items()}
    assert rejected == {size: FAULTS[size] for size in (WRONG, NOISY, DEADLY)}
    known = read_records(records).records
    assert {r.provenance.torch for r in known} == {torch.__version__}
    write_table(tmp_path, Header("cpu", "cpu", 0), chosen_entries(known, "cpu"))
    monkeypatch.setenv("LINCODEGEN_CONFIG_DIR", str(tmp_path))
    tuned.forget()
    op = getattr(lincodegen.ops, NAME)
    x = [torch.zeros(1, 200, 2, *(sizes[str(d)] for d in t.shape)) for t in op.signature.inputs]
    with backend("torch"), planning():
        assert op(*x).call.chunk_size == report.best.chunk_size
    tuned.forget()
