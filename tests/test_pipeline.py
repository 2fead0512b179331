"""The stages in order: check, build, comparison, show, verify, load."""

import importlib
import json
from dataclasses import replace

import pytest

import lincodegen
from lincodegen import loading, pipeline
from lincodegen.derive.chunkform import symbol
from lincodegen.errors import DerivationError, InternalError, SpecError

SPEC = """\
name: written_rule
inputs:
  q: {shape: [K]}
  k: {shape: [K], norm: "[0, 1]"}
  v: {shape: [n, V]}
  g: {shape: [], domain: "[-inf, 0]"}
constants: {n: 1, scale: K**-0.5}
state: {S: {shape: [K, V]}}
step: |
  S = exp(g) * S
  for j in range(n):
      S = S + outer(k, v[j] - S.T @ k)
  o = scale * S.T @ q
"""
LOOP = SPEC.replace("S = exp(g) * S", "S = tanh(exp(g) * S)").replace("written", "looped")


@pytest.fixture
def spec(tmp_path):
    path = tmp_path / "written_rule.yaml"
    path.write_text(SPEC)
    return path


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LINCODEGEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def silent(_message):
    pass


def test_check_proves_and_writes_nothing(spec):
    report = pipeline.check(spec)
    assert report.ok
    assert str(report).startswith("written_rule: chunked form proved (tier 1)")
    assert json.loads(json.dumps(report.to_json()))["tier"] == 1
    assert [p.name for p in spec.parent.iterdir()] == ["written_rule.yaml"]


def test_what_has_no_chunked_form_is_no_failure(tmp_path):
    path = tmp_path / "looped_rule.yaml"
    path.write_text(LOOP)
    report = pipeline.check(path)
    assert report.ok
    assert "token by token" in str(report)
    assert "line 10" in report.to_json()["reason"]


@pytest.mark.parametrize("name", ["N_mm", "Z_m", "P_t0m", "O_t0", "S_end"])
def test_a_wrong_equation_is_named_and_nothing_is_emitted(name, spec, monkeypatch):
    derive = pipeline.derive_group

    def mutated(group):
        form = derive(group)
        wrong = [
            replace(e, right=2 * e.right if e.name != "Z_m" else e.right + symbol("c_m"))
            if e.name == name
            else e
            for e in form.equations
        ]
        return replace(form, equations=tuple(wrong))

    monkeypatch.setattr(pipeline, "derive_group", mutated)
    report = pipeline.check(spec)
    assert not report.ok
    assert report.proof.failed[0] == f"{name} (state S)"
    assert f"FAILED for {name} (state S)" in str(report)
    with pytest.raises(DerivationError, match=name):
        pipeline.build(spec, out=spec.parent, on_progress=silent)
    assert [p.name for p in spec.parent.iterdir()] == ["written_rule.yaml"]


def test_an_equation_without_a_tile_is_named(spec, monkeypatch):
    derive = pipeline.derive_group

    def mutated(group):
        form = derive(group)
        *others, last = form.equations
        return replace(form, equations=(*others, replace(last, right=symbol("b_m") * last.right)))

    monkeypatch.setattr(pipeline, "derive_group", mutated)
    with pytest.raises(InternalError, match="S_end: no tile for the product"):
        pipeline.check(spec)


def test_build_writes_and_verifies(spec, tmp_path):
    messages = []
    report = pipeline.build(spec, out=tmp_path / "ops", on_progress=messages.append)
    assert report.ok
    assert report.verdict.judged > 20
    assert messages[:3] == ["derive and prove", "emit", "verify"]
    assert (tmp_path / "ops" / "written_rule" / "manifest.json").is_file()
    assert "passed" in str(report)
    assert json.loads(json.dumps(report.to_json()))["ok"]


def test_comparison_names_what_differs(spec, tmp_path):
    out = tmp_path / "ops"
    absent = pipeline.check_generated(spec, out=out, on_progress=silent)
    assert not absent.ok
    assert not out.exists()
    pipeline.build(spec, out=out, on_progress=silent)
    assert pipeline.check_generated(spec, out=out, on_progress=silent).ok
    tokens = out / "written_rule" / "tokens.py"
    tokens.write_text(tokens.read_text() + "\n")
    report = pipeline.check_generated(spec, out=out, on_progress=silent)
    assert report.differing == ("tokens.py",)
    assert "out of date: tokens.py" in str(report)


def test_fixed_constants_reach_the_op(spec, tmp_path):
    pipeline.build(spec, sets={"n": 2}, out=tmp_path / "ops", on_progress=silent)
    text = (tmp_path / "ops" / "written_rule" / "__init__.py").read_text()
    assert 'Argument("v", (2, "V"))' in text
    assert not pipeline.check_generated(spec, out=tmp_path / "ops", on_progress=silent).ok


@pytest.mark.parametrize(
    ("stage", "part"),
    [
        ("spec", "S#1 = S#0 + outer(k, v[0] - S#0.T @ k)"),
        ("derive", "N_mm = b_m*E(m, m)*a_m"),
        ("program", "= decay("),
        ("schedule", "scan"),
        ("emit", "# written_rule/chunk.py"),
    ],
)
def test_every_stage_shows_itself(stage, part, spec):
    assert part in pipeline.show(spec, stage)


@pytest.mark.parametrize("stage", ["derive", "program", "schedule"])
def test_a_stage_that_is_not_reached_says_why(stage, tmp_path):
    path = tmp_path / "looped_rule.yaml"
    path.write_text(LOOP)
    assert "non-linear in S" in pipeline.show(path, stage)


def test_verify_builds_into_the_cache(spec, cache):
    verdict = pipeline.verify(spec, quick=True, on_progress=silent)
    assert verdict.passed
    assert list(cache.glob("*/written_rule/__init__.py"))


def test_verify_fails_an_op_that_is_wrong(spec, cache):
    op = lincodegen.load(spec)
    (tokens,) = cache.glob("*/written_rule/recurrent.py")
    chunk = importlib.import_module(f"{op.__module__}.chunk")
    forward = chunk.forward

    def off(*args):
        o, state, saved = forward(*args)
        return o * 1.001, state, saved

    chunk.forward = off
    try:
        with lincodegen.backend("torch"):
            verdict = pipeline.verify(spec, quick=True, on_progress=silent)
    finally:
        chunk.forward = forward
    assert tokens.is_file()
    assert not verdict.passed
    assert {row.tensor for row in verdict.failures} == {"o"}


def test_load_builds_once(spec, cache, monkeypatch):
    first = lincodegen.load(str(spec))
    assert repr(first) == "<op written_rule>"
    monkeypatch.setattr(pipeline, "write_package", None)
    assert lincodegen.load(spec) is first


def test_what_other_sources_wrote_is_not_read(spec, cache, monkeypatch):
    first = pipeline.op_folder(spec)
    assert pipeline.op_folder(spec) == first
    monkeypatch.setattr(pipeline, "sources_digest", lambda: "0" * 8)
    assert pipeline.op_folder(spec) != first


def test_two_versions_of_an_op_at_once(spec, cache):
    one = lincodegen.load(spec)
    two = lincodegen.load(spec, sets={"n": 2})
    assert one.signature.inputs[2].shape == (1, "V")
    assert two.signature.inputs[2].shape == (2, "V")


def test_a_broken_spec_writes_nothing(spec, cache):
    spec.write_text(SPEC.replace("outer", "outre"))
    with pytest.raises(SpecError, match="outre"):
        lincodegen.load(spec)
    assert not cache.exists()


def test_shipped_ops_are_imported_by_name():
    ops = importlib.import_module("lincodegen.ops")
    assert "retention" in dir(ops)
    assert repr(ops.retention) == "<op retention>"
    with pytest.raises(AttributeError, match="no op 'no_such_op'; there are "):
        ops.no_such_op  # noqa: B018 - the access is what is tested


def test_a_folder_without_manifest_is_no_package(tmp_path):
    with pytest.raises(lincodegen.errors.LincodegenError, match="no generated package"):
        loading.load_package(tmp_path)
    (tmp_path / "manifest.json").write_text('{"name": "a/b", "digest": "1"}')
    with pytest.raises(lincodegen.errors.LincodegenError, match="names no op"):
        loading.load_package(tmp_path)


def test_the_package_s_version_and_names():
    assert lincodegen.__version__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        lincodegen.nothing  # noqa: B018 - the access is what is tested
