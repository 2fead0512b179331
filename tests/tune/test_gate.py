"""Candidates before the gate: planted faults are found and named, sound ones pass."""

import os
from pathlib import Path

import pytest
import torch
from planted_faults import FAULTS

from lincodegen.config import Config, OpConfig
from lincodegen.errors import TuningError
from lincodegen.resources import generated_dir
from lincodegen.tune.clock import CpuClock, CudaClock
from lincodegen.tune.gate import Subject, Trials, Work, Worker

NAME = "delta_rule"
SIZES = {"K": 8, "V": 12}
TRIALS = Trials(lengths=(1, 40))
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}


def subject(form="torch", device="cpu", wrapper="", dtype="float32", sizes=SIZES):
    return Subject(generated_dir() / NAME, form, device, dtype, sizes, wrapper)


@pytest.fixture(scope="module")
def worker():
    with Worker(
        subject(wrapper="planted_faults:planted"), timeout_s=15, environment=ENVIRONMENT
    ) as made:
        yield made


@pytest.fixture(scope="module")
def verdicts(worker):
    """Of sound and faulty candidates in turn: one that dies takes none of the others along."""
    sizes = [64, *(size for fault in FAULTS for size in (fault, 64)), 4, 512]
    return [(size, worker.judge(OpConfig(size), TRIALS)) for size in sizes]


def test_planted_faults_are_found(verdicts):
    found = {size: gate.verdict for size, gate in verdicts}
    assert found == FAULTS | dict.fromkeys((64, 4, 512), "passed")


def test_sound_candidates_pass_whoever_came_before_them(verdicts):
    gates = [gate for size, gate in verdicts if size == 64]
    assert len(gates) == len(FAULTS) + 1
    assert len(set(gates)) == 1
    assert gates[0].passed
    assert gates[0].cases >= 6


@pytest.mark.parametrize(
    ("verdict", "told"),
    [
        ("wrong", r"grad \w+, F\d: error .*e-\d+, bound .*e-\d+"),
        ("nondeterministic", r"o differs in \d+ bytes of two runs"),
        ("died", "died of signal SIGSEGV"),
        ("timeout", "no verdict after 15 s"),
        ("raised", "RuntimeError: out of resources"),
    ],
)
def test_a_verdict_says_what_was_found(verdicts, verdict, told):
    gates = [gate for _, gate in verdicts if gate.verdict == verdict]
    assert len(gates) == 1
    with pytest.raises(ValueError, match=told):
        raise ValueError(gates[0].detail)


def test_candidates_are_timed(worker):
    times = worker.times(OpConfig(64), Work(heads=2, tokens=300), 5)
    assert len(times) == 5
    assert all(0 < t < 10 for t in times)


def test_what_fails_while_it_is_timed_says_so(worker):
    with pytest.raises(TuningError, match="out of resources"):
        worker.times(OpConfig(256), Work(heads=1, tokens=16), 2)
    assert worker.times(OpConfig(64), Work(heads=1, tokens=16, backward=False), 2)


def test_kernels_pass_in_the_interpreter():
    """Tiles narrower than an axis, two chunks, and keys that are alike."""
    pytest.importorskip("triton", reason="kernels are judged")
    labels = ("gradient_bwd", "output_fwd", "prep_fwd", "scan_bwd", "scan_fwd", "states_fwd")
    config = OpConfig(16, tuple((label, Config(16, 16, 16, 4, 1)) for label in labels))
    trials = Trials(lengths=(17,), cases=("identical keys",))
    sizes = {"K": 20, "V": 20}
    with Worker(subject("triton", sizes=sizes), timeout_s=150, environment=ENVIRONMENT) as made:
        gate = made.judge(config, trials)
    assert gate.passed, gate


@pytest.mark.parametrize(("wrapper", "verdict"), [("", "passed"), ("forgetful", "wrong")])
def test_segments_are_judged_on_sequences_that_are_cut(wrapper, verdict):
    """Whatever their length is, those of trials have one chunk."""
    pytest.importorskip("triton", reason="kernels are judged")
    config = OpConfig(16, (), "segment", 64)
    kind = subject("triton", wrapper=wrapper and f"planted_faults:{wrapper}")
    trials = Trials(lengths=(33,), cases=("identical keys",))
    with Worker(kind, timeout_s=150, environment=ENVIRONMENT) as made:
        gate = made.judge(config, trials)
    assert gate.verdict == verdict, gate


@pytest.mark.gpu
def test_kernels_pass_on_a_device():
    sizes = {"K": 64, "V": 128}
    kind = subject("triton", "cuda", dtype="bfloat16", sizes=sizes)
    with Worker(kind, environment=ENVIRONMENT) as made:
        gate = made.judge(OpConfig(64), Trials())
        times = made.times(OpConfig(64), Work(heads=32, tokens=1024), 5)
    assert gate.passed, gate
    assert all(1e-6 < t < 1 for t in times)


def test_nothing_is_timed_while_a_graph_is_captured(monkeypatch):
    clock = object.__new__(CudaClock)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    with pytest.raises(TuningError, match="captured"):
        clock(lambda: pytest.fail("it was run"), 1)


def test_the_clock_of_a_cpu_counts_after_warming_up():
    runs = []
    assert len(CpuClock()(lambda: runs.append(1), 4)) == 4
    assert len(runs) == 7
