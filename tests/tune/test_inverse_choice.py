"""How kernels invert: what is offered, what they are told, what the gate finds."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from watched_launches import called, watch

from lincodegen.compile import Resources
from lincodegen.config import INVERSES, Config, OpConfig
from lincodegen.cost.sizes import CallSizes
from lincodegen.emit.op_plan import plan_op
from lincodegen.pipeline import compile_spec
from lincodegen.resources import generated_dir, specs_dir
from lincodegen.targets import load_target
from lincodegen.tune.candidates import Model, Pool, shortlist
from lincodegen.tune.gate import Subject, Trials, Worker
from lincodegen.tune.kernels import op_kernels
from lincodegen.tune.neighbours import neighbours
from lincodegen.tune.precision import inverses

NAME = "delta_rule_negative"
LABELS = ("gradient_bwd", "output_fwd", "prep_fwd", "scan_bwd", "scan_fwd", "states_fwd")
SM_90 = load_target("sm_90")


def config(inverse=None, chunk_size=16):
    own = Config(chunk_size, 16, 16, 4, 1)
    kernels = dict.fromkeys(LABELS, own) | {"prep_fwd": own._replace(inverse=inverse)}
    return OpConfig(chunk_size, tuple(kernels.items()))


@pytest.mark.parametrize("inverse", [None, *INVERSES])
def test_a_method_is_written_and_read(inverse):
    assert OpConfig.from_json(config(inverse).to_json()) == config(inverse)
    assert ("inverse" in config(inverse).to_json()["kernels"]["prep_fwd"]) == bool(inverse)


def test_a_method_that_there_is_not_is_refused():
    data = config("rows").to_json()
    data["kernels"]["prep_fwd"]["inverse"] = "doubling"
    with pytest.raises(ValueError, match="inverse 'doubling'; expected: one of ieee, rows"):
        OpConfig.from_json(data)


def test_tf32x3_is_offered_where_there_is_such_a_product():
    assert inverses(SM_90) == INVERSES
    assert inverses(load_target("gfx942")) == ("ieee", "rows")


def test_kernels_that_invert_have_the_parameter_and_others_do_not():
    found = neighbours(generated_dir() / NAME, NAME, 128, SM_90)
    space = found.for_call(64, 1024, SM_90.multiprocessors).space()
    place = [p.name for p in space.parameters].index("inverse")
    assert space.parameters[place].values == (0, 1, 2)
    for point in space.points[::131]:
        kernels = dict(found.config(point).kernels)
        assert kernels.pop("prep_fwd").inverse == INVERSES[point[place]]
        assert {c.inverse for c in kernels.values()} == {None}
    made = found.config(found.starts()[-1])
    assert found.nearest(made) == found.starts()[-1]
    plain = neighbours(generated_dir() / "retention", "retention", 128, SM_90).space()
    assert "inverse" not in {p.name for p in plain.parameters}


def test_candidates_are_compiled_by_every_method(tmp_path):
    made = compile_spec(specs_dir() / f"{NAME}.yaml")
    model = Model.of(
        plan_op(made.timeline, made.programs), made.programs, CallSizes(1, 4096, 64), SM_90
    )
    asked = []

    def compiler(jobs, _bounds):
        asked.extend((j.kernel_name, j.constexprs.get("INVERSE")) for j in jobs)
        usual = Resources(128, 0, 40_000, 0, 8, 0, 0, 0, 0, 0, 4, 0.1, None)
        return [replace(usual, num_warps=job.num_warps) for job in jobs]

    found = shortlist(op_kernels(NAME, made.programs), model, Pool(tmp_path / "k.py", 6, compiler))
    prep = [method for name, method in asked if name.endswith("prep_fwd_kernel")]
    assert {method: prep.count(method) for method in prep} == dict.fromkeys(INVERSES, len(prep) / 3)
    assert {m for name, m in asked if not name.endswith("prep_fwd_kernel")} == {None}
    assert found.inverses == INVERSES
    for options in found.chunks.values():
        assert {o.config.inverse for o in options["prep_fwd"]} == set(INVERSES)


@pytest.mark.parametrize("inverse", [None, *INVERSES])
def test_the_launch_is_told_the_method_of_its_configuration(inverse, monkeypatch):
    pytest.importorskip("triton", reason="launches are watched")
    seen = watch(monkeypatch, NAME)
    called(NAME, config(inverse))
    told = [constants["INVERSE"] for name, constants in seen if name == "prep_fwd"]
    assert told == [inverse or "ieee"]
    assert sum("INVERSE" in constants for _, constants in seen) == 1


@pytest.mark.parametrize(
    ("wrapper", "verdicts"),
    [
        ("emulated", dict.fromkeys(INVERSES, "passed")),
        ("careless", {"rows": "passed", "tf32x3": "wrong"}),
    ],
)
def test_the_gate_finds_merges_that_are_less_exact_than_they_should_be(wrapper, verdicts):
    """Keys of cosine 0.9 and beta 2, in an interpreter that loses what a GPU loses."""
    pytest.importorskip("triton", reason="kernels are judged")
    sizes = {"K": 16, "V": 16}
    wrapper = f"planted_faults:{wrapper}"
    kind = Subject(generated_dir() / NAME, "triton", "cpu", "float32", sizes, wrapper)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    trials = Trials(lengths=(32,), cases=("cosine 0.9",))
    with Worker(kind, timeout_s=150, environment=environment) as worker:
        found = {m: worker.judge(config(m, chunk_size=32), trials) for m in verdicts}
    assert {m: gate.verdict for m, gate in found.items()} == verdicts, found
