"""What a forward keeps for its backward: the same bits, fewer launches, and what is tried."""

import os
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from watched_launches import called, watch

import lincodegen.ops
from lincodegen.config import KEEPS, KEPT, Config, OpConfig
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
DECAYING = {"gla", "gsa", "kda"}
"""Ops whose operands a kernel of its own decays, a channel at a time."""
OPS = ["gated_delta_product", "gla", "gsa", "kda"]


def config(op, keep, schedule="split"):
    own = Config(16, 16, 16, 4, 1)
    kernels = tuple((label, own) for label in sorted(kernel_cuts(generated_dir() / op)))
    return OpConfig(16, kernels, schedule, keep=keep)


@pytest.mark.parametrize("keep", KEEPS)
def test_what_is_kept_is_written_and_read(keep):
    made = config("delta_rule", keep)
    assert OpConfig.from_json(made.to_json()) == made
    assert made.to_json().get("keep", KEPT) == keep


def test_a_record_of_before_keeps_the_least():
    data = config("delta_rule", "inverse").to_json()
    assert "keep" not in data
    assert OpConfig.from_json(data).keep == "inverse"


@pytest.mark.parametrize(
    ("keep", "schedule", "message"),
    [
        ("everything", "split", "keep 'everything'; expected: one of nothing, inverse"),
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
    for other in ("nothing", "states"):
        pairs = zip(results["inverse"], results[other], strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
    assert len(set(launches["states"])) == len(launches["states"])
    twice = Counter(launches["inverse"]) - Counter(launches["states"])
    assert set(twice.values()) == {1}
    kinds = {"states_fwd"} | ({"decay_fwd"} if name in DECAYING else set())
    assert {"_".join(k.split("_")[-2:]) for k in twice} == kinds
    more = Counter(launches["nothing"]) - Counter(launches["inverse"])
    assert sorted(more) == sorted(k for k in launches["states"] if k.endswith("prep_fwd"))


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


def test_packed_sequences_keep_their_states_as_well():
    pytest.importorskip("triton", reason="kernels are run")
    found = []
    for keep in KEEPS:
        with use_op_config("delta_rule", config("delta_rule", keep)):
            found.append(gradients("delta_rule"))
    assert all(torch.equal(a, b) for some in found[1:] for a, b in zip(found[0], some, strict=True))


@pytest.mark.parametrize(("name", "schedule"), [("delta_rule", "scan"), ("kda", "segment")])
def test_a_schedule_that_makes_no_states_keeps_none(name, schedule):
    """One that a caller pins goes before that of a table, whatever that would keep."""
    pytest.importorskip("triton", reason="kernels are run")
    found = []
    for keep in ("inverse", "states"):
        with use_op_config(name, config(name, keep)), use_schedule(schedule):
            held = bytes_held(lambda: found.append(gradients(name)))
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


def test_what_is_kept_costs_the_memory_that_it_takes():
    """Of 20 tokens in chunks of 16 two inverses; two states and the solved rows [20, 16]."""
    pytest.importorskip("triton", reason="kernels are run")
    least, usual, most = (
        bytes_held(lambda keep=keep: called("delta_rule", config("delta_rule", keep)))
        for keep in KEEPS
    )
    assert usual - least == 4 * (2 * 16 * 16)
    assert most - usual == 4 * (2 * 16 * 16 + 20 * 16)


def test_a_backward_in_another_thread_takes_what_was_kept(monkeypatch):
    pytest.importorskip("triton", reason="launches are watched")
    name = "gated_delta_rule"
    seen = watch(monkeypatch, name)
    op = getattr(lincodegen.ops, name)
    x = [torch.rand(1, 20, 1, *(16 for _ in t.shape)).neg() for t in op.signature.inputs]
    x[0].requires_grad_()
    with backend("triton"), use_op_config(name, config(name, "states")):
        y, _ = op(*x)
    seen.clear()
    thread = threading.Thread(target=y.sum().backward)
    thread.start()
    thread.join()
    assert [kernel for kernel, _ in seen] == ["scan_bwd", "gradient_bwd"]


def test_segments_may_keep_nothing_but_the_states_between_them():
    pytest.importorskip("triton", reason="kernels are run")
    found = []
    for keep in ("nothing", "inverse"):
        with use_op_config("delta_rule", config("delta_rule", keep, "segment")):
            found.append(gradients("delta_rule"))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


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
    alone = replace(found, schedules=(("scan", 0),))
    assert "keep" not in {p.name for p in alone.space().parameters}


def test_of_equally_fast_ones_what_keeps_less_wins():
    needs = {config("kda", keep): Resources(0, 0, 0) for keep in reversed(KEEPS)}
    times = dict.fromkeys(needs, Times(1e-3, 1e-3, 1e-3, 5))
    assert pick(times, needs, 1.02).keep == "nothing"


@pytest.mark.parametrize(
    ("wrapper", "verdicts"),
    [
        ("", {"nothing": "passed", "states": "passed"}),
        ("planted_faults:mistaken", {"nothing": "passed", "states": "wrong"}),
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
