"""The precision of float32 products: what is offered, what kernels get, what the gate finds."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from watched_launches import called, watch

from lincodegen.compile import Resources
from lincodegen.config import PRECISIONS, Config, OpConfig
from lincodegen.cost.sizes import CallSizes
from lincodegen.emit.op_plan import plan_op
from lincodegen.pipeline import compile_spec
from lincodegen.resources import generated_dir, specs_dir
from lincodegen.runtime.launch import dot_precision
from lincodegen.targets import load_target
from lincodegen.tune.candidates import Model, Pool, shortlist
from lincodegen.tune.gate import Subject, Trials, Worker
from lincodegen.tune.judge import surroundings
from lincodegen.tune.kernels import op_kernels
from lincodegen.tune.measure import pick
from lincodegen.tune.neighbours import neighbours
from lincodegen.tune.precision import precisions
from lincodegen.tune.records import Resources as Needs
from lincodegen.tune.records import Times
from lincodegen.tune.shortlist import Option, Shortlist

NAME = "delta_rule"
LABELS = ("gradient_bwd", "output_fwd", "prep_fwd", "scan_bwd", "scan_fwd", "states_fwd")
SM_90 = load_target("sm_90")


def config(precision=None, **changes):
    own = Config(16, 16, 16, 4, 1, precision)
    return OpConfig(16, tuple((label, own) for label in LABELS), **changes)


@pytest.fixture
def relaxed():
    torch.set_float32_matmul_precision("high")
    yield
    torch.set_float32_matmul_precision("highest")


def test_a_precision_is_written_and_read():
    for precision in (None, *PRECISIONS):
        assert OpConfig.from_json(config(precision).to_json()) == config(precision)
    row = config("tf32x3").to_json()["kernels"]["scan_fwd"]
    assert row["precision"] == "tf32x3"
    assert "precision" not in config().to_json()["kernels"]["scan_fwd"]


def test_a_precision_that_there_is_not_is_refused():
    data = config("tf32").to_json()
    data["kernels"]["scan_fwd"]["precision"] = "tf64"
    with pytest.raises(ValueError, match="precision 'tf64'; expected: one of ieee, tf32x3, tf32"):
        OpConfig.from_json(data)


def test_who_asks_torch_for_the_highest_precision_is_offered_no_tf32():
    assert precisions("fp32", SM_90) == (None, "tf32x3")
    assert precisions("fp32", load_target("gfx942")) == (None,)


def test_who_allows_torch_less_is_offered_tf32_last(relaxed):
    assert precisions("fp32", SM_90) == PRECISIONS
    assert precisions("fp32", load_target("gfx942")) == ("ieee", "tf32")


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_operands_of_16_bits_have_no_such_parameter(dtype, relaxed):
    found = neighbours(generated_dir() / NAME, NAME, 128, SM_90, precisions(dtype, SM_90))
    space = found.space()
    assert "precision" not in {p.name for p in space.parameters}
    configs = map(found.config, space.points[:100])
    assert {c.precision for own in configs for _, c in own.kernels} == {None}


def test_float32_has_an_ordinal_parameter_that_all_kernels_share():
    found = neighbours(generated_dir() / NAME, NAME, 128, SM_90, precisions("fp32", SM_90))
    found = found.for_call(64, 1024, SM_90.multiprocessors)
    space = found.space()
    place = [p.name for p in space.parameters].index("precision")
    assert space.parameters[place].values == (0, 1)
    for point in space.points[::97]:
        made = found.config(point)
        assert {c.precision for _, c in made.kernels} == {(None, "tf32x3")[point[place]]}
        assert found.nearest(made) == point
        assert found.needs(made).shared_bytes > 0
    starts = [found.config(p) for p in found.starts()]
    assert {c.precision for own in starts for _, c in own.kernels} == {None, "tf32x3"}


def test_a_precision_that_is_not_offered_is_taken_for_the_first():
    found = neighbours(generated_dir() / NAME, NAME, 128, SM_90, (None, "tf32x3"))
    made = found.config(found.starts()[0])
    kernels = tuple((label, c._replace(precision="tf32")) for label, c in made.kernels)
    assert found.nearest(made._replace(kernels=kernels)) == found.starts()[0]


def test_where_a_precision_fits_nowhere_no_point_has_it():
    fast = Option(Config(64, 64, 64, 4, 1, "tf32x3"), Needs(0, 0, 0))
    usual = Option(Config(64, 64, 64, 4, 1), Needs(0, 0, 0))
    options = {"scan_bwd": (usual, fast), "scan_fwd": (usual,)}
    found = Shortlist("probe", {64: options}, (("scan", 0),), (None, "tf32x3"))
    assert found.space().points == ((64, 0, 0, 0, 0),)


def test_candidates_are_compiled_in_every_precision(tmp_path):
    """One that compiles only with smaller tiles keeps those."""
    made = compile_spec(specs_dir() / "retention.yaml")
    call = CallSizes(1, 4096, 64, dtype="fp32")
    model = Model.of(plan_op(made.timeline, made.programs), made.programs, call, SM_90)
    asked = []

    def compiler(jobs, _bounds=None):
        asked.extend(j.constexprs["PRECISION"] for j in jobs if "PRECISION" in j.constexprs)
        for job in jobs:
            large = job.constexprs.get("PRECISION") == "tf32x3" and job.constexprs.get("BV", 0) > 64
            error = "too large" if large else None
            yield Resources(128, 0, 40_000, 0, 0, 8, 0, 0, 0, 0, job.num_warps, 0.1, error)

    pool = Pool(tmp_path / "kernels.py", 12, lambda jobs, _: tuple(compiler(jobs)))
    pool = replace(pool, precisions=(None, "tf32x3"))
    found = shortlist(op_kernels("retention", made.programs), model, pool)
    assert {p: asked.count(p) for p in asked} == dict.fromkeys(("ieee", "tf32x3"), len(asked) / 2)
    for options in found.chunks.values():
        for ranked in options.values():
            split = [o.config.tile_v for o in ranked if o.config.precision == "tf32x3"]
            assert split
            assert {o.config.precision for o in ranked} == {None, "tf32x3"}
        reads = [o.config for o in options["scan_fwd"] if o.config.precision == "tf32x3"]
        assert {c.tile_v for c in reads} <= {32, 64}


def test_of_equally_fast_ones_the_most_exact_wins():
    configs = [config(p) for p in ("tf32", "tf32x3", "ieee")]
    times = {c: Times(1e-3, 1e-3, 1e-3, 5) for c in configs}
    needs = dict(zip(configs, (Needs(1, 1, 0), Needs(2, 1, 0), Needs(3, 1, 0)), strict=True))
    assert pick(times, needs, 1.02) == config("ieee")
    assert pick({c: times[c] for c in configs[:2]}, needs, 1.02) == config("tf32x3")


@pytest.mark.parametrize(
    ("chosen", "highest", "high"),
    [
        (None, "ieee", "tf32"),
        ("ieee", "ieee", "ieee"),
        ("tf32x3", "tf32x3", "tf32x3"),
        ("tf32", "ieee", "tf32"),
    ],
)
def test_torch_has_the_last_word_on_tf32(chosen, highest, high, relaxed):
    given = {} if chosen is None else {"precision": chosen}
    assert dot_precision(torch.float32, given) == high
    assert dot_precision(torch.bfloat16, given) == "ieee"
    torch.set_float32_matmul_precision("highest")
    assert dot_precision(torch.float32, given) == highest


@pytest.mark.parametrize("schedule", ["scan", "split", "segment"])
def test_every_launch_takes_the_precision_of_its_configuration(schedule, monkeypatch):
    pytest.importorskip("triton", reason="launches are watched")
    seen = watch(monkeypatch, NAME)
    cut = int(schedule == "segment")
    called(NAME, config("tf32x3", schedule=schedule, segment_chunks=cut))
    assert {constants["PRECISION"] for _, constants in seen} == {"tf32x3"}
    assert {"gradient_bwd", "prep_fwd", "scan_bwd", "states_fwd"} <= {name for name, _ in seen}


def test_a_kernel_may_differ_from_the_others(monkeypatch):
    pytest.importorskip("triton", reason="launches are watched")
    seen = watch(monkeypatch, NAME)
    op = config("tf32x3")
    exact = tuple((k, c._replace(precision="ieee") if "prep" in k else c) for k, c in op.kernels)
    called(NAME, op._replace(kernels=exact))
    found = {name: constants["PRECISION"] for name, constants in seen}
    assert found.pop("prep_fwd") == "ieee"
    assert set(found.values()) == {"tf32x3"}


def test_operands_of_16_bits_have_no_precision(monkeypatch):
    pytest.importorskip("triton", reason="launches are watched")
    seen = watch(monkeypatch, NAME)
    called(NAME, config("tf32x3"), dtype=torch.bfloat16)
    assert {constants["PRECISION"] for _, constants in seen} == {"ieee"}


def test_candidates_run_under_the_switch_of_torch_that_they_are_tuned_for():
    kind = subject("emulated", matmul_precision="medium")
    with surroundings(kind, None):
        assert torch.get_float32_matmul_precision() == "medium"
    assert torch.get_float32_matmul_precision() == "highest"


def subject(wrapper, **changes):
    sizes = {"K": 20, "V": 20}
    wrapper = f"planted_faults:{wrapper}"
    return Subject(generated_dir() / NAME, "triton", "cpu", "float32", sizes, wrapper, **changes)


@pytest.mark.parametrize(
    ("wrapper", "allowed", "case", "verdicts"),
    [
        ("emulated", "highest", "identical keys", {"tf32x3": "passed", "tf32": "passed"}),
        ("careless", "highest", "identical keys", {None: "passed", "tf32x3": "wrong"}),
        ("careless", "high", "typical", {"tf32x3": "wrong", "tf32": "passed"}),
    ],
)
def test_the_gate_finds_products_that_are_less_exact_than_they_should_be(
    wrapper, allowed, case, verdicts
):
    """In an interpreter that loses what a GPU loses.

    Where torch allows no tf32 it is not taken; where it does, tf32x3 must be as exact as ever.
    """
    pytest.importorskip("triton", reason="kernels are judged")
    trials = Trials(lengths=(17,), cases=(case,))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    kind = subject(wrapper, matmul_precision=allowed)
    with Worker(kind, timeout_s=150, environment=environment) as worker:
        found = {p: worker.judge(config(p), trials) for p in verdicts}
    assert {p: gate.verdict for p, gate in found.items()} == verdicts, found
