"""What a forward keeps for its backward: the same bits, fewer launches, and what is tried."""

import os
import threading
from pathlib import Path

import pytest
import torch
from watched_launches import called, watch

import lincodegen.ops
from lincodegen.config import KEEPS, Config, OpConfig
from lincodegen.resources import generated_dir
from lincodegen.runtime.backend import backend
from lincodegen.runtime.schedules import use_schedule
from lincodegen.runtime.tuned import use_op_config
from lincodegen.targets import load_target
from lincodegen.tune.gate import Subject, Trials, Worker
from lincodegen.tune.measure import pick
from lincodegen.tune.neighbours import kernel_cuts, neighbours
from lincodegen.tune.records import Resources, Times
from lincodegen.tune.shortlist import POINTS

SM_90 = load_target("sm_90")
DECAYING = {"gsa", "kda", "rwkv7"}
"""Ops whose operands a kernel of its own decays, a channel at a time."""
OPS = ["delta_rule", "gated_delta_product", "gsa", "kda", "linear_attention", "rwkv7"]


def config(op, keep, schedule="split"):
    own = Config(16, 16, 16, 4, 1)
    kernels = tuple((label, own) for label in sorted(kernel_cuts(generated_dir() / op)))
    return OpConfig(16, kernels, schedule, keep=keep)


@pytest.mark.parametrize("keep", KEEPS)
def test_what_is_kept_is_written_and_read(keep):
    made = config("delta_rule", keep)
    assert OpConfig.from_json(made.to_json()) == made
    assert made.to_json().get("keep", KEEPS[0]) == keep


def test_a_record_of_before_keeps_the_least():
    data = config("delta_rule", "inverse").to_json()
    assert "keep" not in data
    assert OpConfig.from_json(data).keep == "inverse"


@pytest.mark.parametrize(
    ("keep", "schedule", "message"),
    [
        ("everything", "split", "keep 'everything'; expected: one of inverse, states"),
        ("states", "scan", "keep = 'states' under the schedule 'scan'; expected: 'split'"),
    ],
)
def test_what_cannot_be_kept_is_refused(keep, schedule, message):
    data = config("delta_rule", "inverse").to_json() | {"keep": keep, "schedule": schedule}
    with pytest.raises(ValueError, match=message):
        OpConfig.from_json(data)


@pytest.mark.parametrize("name", OPS)
def test_every_choice_gives_the_same_bits_and_the_backward_makes_nothing_twice(name, monkeypatch):
    pytest.importorskip("triton", reason="launches are watched")
    seen = watch(monkeypatch, name)
    results, launches = {}, {}
    for keep in KEEPS:
        results[keep] = called(name, config(name, keep))
        launches[keep] = [kernel for kernel, _ in seen]
        seen.clear()
    pairs = zip(results["inverse"], results["states"], strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    fewer = list(launches["inverse"])
    for kernel in launches["inverse"]:
        if fewer.count(kernel) > 1:
            fewer.remove(kernel)
    assert sorted(launches["states"]) == sorted(fewer)
    again = [k for k in fewer if launches["inverse"].count(k) > 1]
    assert any(k.endswith("states_fwd") for k in again)
    assert (name in DECAYING) == any("decay_fwd" in k for k in again)


def gradients(name):
    """Outputs and gradients of two packed sequences from initial states."""
    op = getattr(lincodegen.ops, name)
    torch.manual_seed(0)
    x = [torch.randn(1, 24, 1, *(16 for _ in t.shape)) for t in op.signature.inputs]
    x = [y.requires_grad_() for y in x]
    first = torch.randn(2, 1, 16, 16, requires_grad=True)
    offsets = torch.tensor([0, 17, 24])
    with backend("triton"):
        o, _ = op(*x, initial_state=first, cu_seqlens=offsets)
    return o, *torch.autograd.grad(o.square().sum(), [*x, first])


@pytest.mark.parametrize("name", ["delta_rule", "kda"])
def test_packed_sequences_keep_their_states_as_well(name):
    pytest.importorskip("triton", reason="kernels are run")
    found = []
    for keep in KEEPS:
        with use_op_config(name, config(name, keep)):
            found.append(gradients(name))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("schedule", ["scan", "segment"])
def test_a_schedule_that_makes_no_states_keeps_none(schedule):
    """One that a caller pins goes before that of a table, whatever that would keep."""
    pytest.importorskip("triton", reason="kernels are run")
    found = []
    for keep in KEEPS:
        with use_op_config("kda", config("kda", keep)), use_schedule(schedule):
            held = bytes_held(lambda: found.append(gradients("kda")))
        found[-1] = *found[-1], torch.tensor(held)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def bytes_held(run):
    """Bytes that autograd holds of what a forward saves."""
    held = []

    def pack(x):
        held.append(x.nbytes)
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        run()
    return sum(held)


def test_states_cost_the_memory_that_they_take():
    """For 20 tokens in chunks of 16: two states of [16, 16] and the solved rows [20, 16]."""
    pytest.importorskip("triton", reason="kernels are run")
    least, most = (
        bytes_held(lambda keep=keep: called("delta_rule", config("delta_rule", keep)))
        for keep in KEEPS
    )
    assert most - least == 4 * (2 * 16 * 16 + 20 * 16)


def test_a_backward_in_another_thread_takes_what_was_kept(monkeypatch):
    pytest.importorskip("triton", reason="launches are watched")
    seen = watch(monkeypatch, "kda")
    op = lincodegen.ops.kda
    x = [torch.rand(1, 20, 1, *(16 for _ in t.shape)).neg() for t in op.signature.inputs]
    x[0].requires_grad_()
    with backend("triton"), use_op_config("kda", config("kda", "states")):
        y, _ = op(*x)
    seen.clear()
    thread = threading.Thread(target=y.sum().backward)
    thread.start()
    thread.join()
    assert [kernel for kernel, _ in seen] == ["scan_bwd", "gradient_bwd"]


def test_states_are_tried_under_the_schedule_that_makes_them():
    found = neighbours(generated_dir() / "kda", "kda", 128, SM_90)
    found = found.for_call(4, 65536, SM_90.multiprocessors)
    space = found.space()
    assert len(space.points) <= POINTS
    place = [p.name for p in space.parameters].index("keep")
    keeping = [p for p in space.points if p[place]]
    assert {found.config(p).schedule for p in keeping} == {"split"}
    assert {found.config(p).keep for p in keeping} == {"states"}
    assert {found.config(p).keep for p in space.points if not p[place]} == {"inverse"}
    assert all(found.nearest(found.config(p)) == p for p in keeping[::97])
    assert any(found.config(p).keep == "states" for p in found.starts())


def test_without_a_split_nothing_more_is_kept():
    found = neighbours(generated_dir() / "kda", "kda", 128, SM_90)
    alone = type(found)(found.op, found.chunks, (("scan", 0),), keeps=KEEPS)
    assert "keep" not in {p.name for p in alone.space().parameters}


def test_of_equally_fast_ones_what_keeps_less_wins():
    needs = {config("kda", keep): Resources(0, 0, 0) for keep in reversed(KEEPS)}
    times = dict.fromkeys(needs, Times(1e-3, 1e-3, 1e-3, 5))
    assert pick(times, needs, 1.02).keep == "inverse"


@pytest.mark.parametrize(
    ("wrapper", "verdicts"),
    [
        ("", {"states": "passed"}),
        ("planted_faults:mistaken", {"inverse": "passed", "states": "wrong"}),
    ],
)
def test_the_gate_judges_with_the_backward_that_is_implied(wrapper, verdicts):
    pytest.importorskip("triton", reason="kernels are judged")
    sizes = {"K": 16, "V": 16}
    kind = Subject(generated_dir() / "delta_rule", "triton", "cpu", "float32", sizes, wrapper)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    trials = Trials(lengths=(17,), cases=("identical keys",))
    with Worker(kind, timeout_s=150, environment=environment) as worker:
        found = {k: worker.judge(config("delta_rule", k), trials) for k in verdicts}
    assert {k: gate.verdict for k, gate in found.items()} == verdicts, found
