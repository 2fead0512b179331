"""Where kernels apply scales, and what comes first: offered, told, and right in every way."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from watched_launches import called, watch

from lincodegen.compile import Resources
from lincodegen.config import ORDERS, SCALES, Config, OpConfig
from lincodegen.cost.sizes import CallSizes
from lincodegen.emit.op_plan import plan_op
from lincodegen.pipeline import compile_spec
from lincodegen.resources import generated_dir, specs_dir
from lincodegen.targets import load_target
from lincodegen.tune.candidates import OTHERS, Model, Pool, shortlist
from lincodegen.tune.gate import Subject, Trials, Worker
from lincodegen.tune.kernels import op_kernels
from lincodegen.tune.measure import frugality
from lincodegen.tune.neighbours import neighbours
from lincodegen.tune.records import Resources as Needs

NAME = "gated_delta_rule"
SCALING = ("output_fwd", "scan_bwd", "scan_fwd", "states_fwd")
LABELS = ("gradient_bwd", "prep_fwd", *SCALING)
CASES = ("typical", "gate -inf")
SM_90 = load_target("sm_90")


def config(scales=None, chunk_size=16):
    own = Config(chunk_size, 16, 16, 4, 1)
    kernels = {n: own._replace(scales=scales if n in SCALING else None) for n in LABELS}
    return OpConfig(chunk_size, tuple(sorted(kernels.items())))


@pytest.mark.parametrize("scales", [None, *SCALES])
def test_a_place_is_written_and_read(scales):
    assert OpConfig.from_json(config(scales).to_json()) == config(scales)
    assert ("scales" in config(scales).to_json()["kernels"]["scan_fwd"]) == bool(scales)


def test_a_place_that_there_is_not_is_refused():
    data = config("loaded").to_json()
    data["kernels"]["scan_fwd"]["scales"] = "nowhere"
    with pytest.raises(ValueError, match="scales 'nowhere'; expected: one of computed, loaded"):
        OpConfig.from_json(data)


def test_neighbours_offer_it_to_kernels_that_scale_products():
    found = neighbours(generated_dir() / NAME, NAME, 128, SM_90)
    for options in found.chunks.values():
        for label, own in options.items():
            placed = [o.config for o in own if o.config.scales]
            expected = own[0].config._replace(scales="loaded")
            assert set(placed) == ({expected} if label in SCALING else set())
    made = found.config(found.starts()[0])
    scan = dict(made.kernels)["scan_fwd"]._replace(scales="loaded")
    asked = made._replace(kernels=tuple(sorted({**dict(made.kernels), "scan_fwd": scan}.items())))
    assert found.config(found.nearest(asked)) == asked


def test_candidates_are_compiled_in_both_places(tmp_path):
    made = compile_spec(specs_dir() / f"{NAME}.yaml")
    plan = plan_op(made.timeline, made.programs)
    model = Model.of(plan, made.programs, CallSizes(1, 4096, 64), SM_90)
    asked, orders = [], set()

    def compiler(jobs, _bounds):
        asked.extend((j.kernel_name, j.constexprs.get("SCALES")) for j in jobs)
        orders.update(j.constexprs.get("ORDER") for j in jobs)
        usual = Resources(128, 0, 40_000, 0, 8, 0, 0, 0, 0, 0, 4, 0.1, None)
        return [replace(usual, num_warps=job.num_warps) for job in jobs]

    found = shortlist(op_kernels(NAME, made.programs), model, Pool(tmp_path / "k.py", 6, compiler))
    told = {name.removeprefix(f"{NAME}_").removesuffix("_kernel"): set() for name, _ in asked}
    for name, place in asked:
        told[name.removeprefix(f"{NAME}_").removesuffix("_kernel")].add(place)
    assert told == {n: set(SCALES) if n in SCALING else {None} for n in LABELS}
    assert orders == {None, *ORDERS}
    for options in found.chunks.values():
        for label, own in options.items():
            assert own[0].config.scales is None, "of equal ones what rounds less comes first"
            placed = [o for o in own if o.config.scales]
            assert len(placed) == (OTHERS if label in SCALING else 0)


def test_of_equal_times_what_rounds_less_is_chosen():
    needs = dict.fromkeys((config(), config("loaded")), Needs(1, 1, 0))
    assert min(needs, key=frugality(needs)) == config()
    assert max(needs, key=frugality(needs)) == config("loaded")


@pytest.mark.parametrize("scales", [None, *SCALES])
def test_the_launch_is_told_the_place_of_its_configuration(scales, monkeypatch):
    pytest.importorskip("triton", reason="launches are watched")
    seen = watch(monkeypatch, NAME)
    called(NAME, config(scales))
    told = {name: constants.get("SCALES") for name, constants in seen}
    scaling = {name for name in told if name in SCALING}
    assert {told[name] for name in scaling} == {scales or "computed"}
    assert {told[name] for name in told.keys() - scaling} == {None}


@pytest.mark.parametrize("name", [NAME, "retention", "gated_delta_product"])
def test_both_places_give_the_same_but_for_rounding(name):
    pytest.importorskip("triton", reason="kernels are run")
    own = Config(16, 16, 16, 4, 1)
    labels = neighbours(generated_dir() / name, name, 128, SM_90).labels

    def results(scales):
        kernels = tuple((label, own._replace(scales=scales)) for label in labels)
        return called(name, OpConfig(16, kernels), tokens=37)

    pairs = list(zip(results("computed"), results("loaded"), strict=True))
    assert any(not torch.equal(x, y) for x, y in pairs), "one place is as the other"
    for x, y in pairs:
        assert (x - y).norm() < 1e-5 * x.norm()


@pytest.mark.parametrize("name", [NAME, "retention"])
def test_the_order_is_told_and_changes_no_bit(name, monkeypatch):
    pytest.importorskip("triton", reason="kernels are run")
    labels = neighbours(generated_dir() / name, name, 128, SM_90).labels
    seen = watch(monkeypatch, name)

    def results(order):
        own = Config(16, 16, 16, 4, 1, order=order)
        seen.clear()
        found = called(name, OpConfig(16, tuple((label, own) for label in labels)), tokens=37)
        told = {constants["ORDER"] for _, constants in seen if "ORDER" in constants}
        assert told == {order or ORDERS[0]}
        return found

    usual = results(None)
    for order in ORDERS:
        assert all(torch.equal(x, y) for x, y in zip(usual, results(order), strict=True))


def test_an_order_is_written_and_read_and_found_again():
    own = OpConfig(16, (("scan_fwd", Config(16, 16, 16, 4, 1, order="decay")),))
    assert OpConfig.from_json(own.to_json()) == own
    data = own.to_json()
    data["kernels"]["scan_fwd"]["order"] = "backwards"
    with pytest.raises(ValueError, match="order 'backwards'; expected: one of product, decay"):
        OpConfig.from_json(data)
    found = neighbours(generated_dir() / NAME, NAME, 128, SM_90)
    made = found.config(found.starts()[0])
    scan = dict(made.kernels)["scan_fwd"]._replace(order="decay")
    asked = made._replace(kernels=tuple(sorted({**dict(made.kernels), "scan_fwd": scan}.items())))
    assert found.config(found.nearest(asked)) == asked


def test_the_gate_passes_both_places():
    pytest.importorskip("triton", reason="kernels are judged")
    kind = Subject(generated_dir() / NAME, "triton", "cpu", "bfloat16", {"K": 16, "V": 16}, "")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    with Worker(kind, timeout_s=150, environment=environment) as worker:
        found = [worker.judge(config(s, 32), Trials(lengths=(37,), cases=CASES)) for s in SCALES]
    assert [gate.verdict for gate in found] == ["passed", "passed"], found
