"""build: one spec, several, all of them; comparison and targets."""

import json

import pytest

from lincodegen.errors import NotChunkable, SpecError


@pytest.fixture
def second(tmp_path):
    path = tmp_path / "other_rule.yaml"
    path.write_text("name: other_rule\n")
    return path


def test_build_writes_where_it_is_told(run, pipeline, spec, tmp_path):
    result = run("build", spec, "--out", tmp_path / "ops", "--set", "n=2")
    assert (result.exit_code, result.stdout) == (0, "build done\n")
    assert pipeline.calls == [("build", (spec,), {"sets": {"n": 2}, "out": tmp_path / "ops"})]


def test_check_compares_and_writes_nothing(run, pipeline, spec):
    assert run("build", spec, "--check").stdout == "check_generated done\n"
    assert [name for name, _, _ in pipeline.calls] == ["check_generated"]


def test_targets_are_compiled_after_the_build(run, pipeline, spec):
    result = run("build", spec, "--target", "sm_90", "--target", "gfx942")
    assert result.stdout == "build done\ncompile_targets done\n"
    assert pipeline.calls[1] == ("compile_targets", (spec, ("sm_90", "gfx942")), {"sets": {}})


def test_a_failed_build_is_not_compiled(run, pipeline, spec):
    pipeline.outcomes["build"] = pipeline.report("red", ok=False)
    assert run("build", spec, "--target", "sm_90").exit_code == 1
    assert [name for name, _, _ in pipeline.calls] == ["build"]


def test_one_broken_spec_does_not_stop_the_others(run, pipeline, spec, second, monkeypatch):
    def build(path, **_):
        if path == spec:
            raise SpecError(f"{path}:1:1: unknown key")
        return pipeline.report("build done")

    monkeypatch.setattr(pipeline, "build", build)
    result = run("build", spec, second)
    assert (result.exit_code, result.stdout) == (2, "build done\n")
    assert "unknown key" in result.stderr
    found = json.loads(run("build", spec, second, "--json").stdout)
    assert [entry["ok"] for entry in found["specs"]] == [False, True]
    assert found["ok"] is False
    assert found["specs"][0]["problems"] == [f"{spec}:1:1: unknown key"]


def test_what_cannot_be_chunked_is_a_failed_check(run, pipeline, spec):
    pipeline.outcomes["build"] = NotChunkable("line 3: rank 1 on both sides")
    result = run("build", spec)
    assert (result.exit_code, result.stderr) == (1, "line 3: rank 1 on both sides\n")


def test_all_builds_every_shipped_spec(run, pipeline):
    result = run("build", "--all", "--check")
    names = {args[0].stem for _, args, _ in pipeline.calls}
    assert result.exit_code == 0
    assert "linear_attention" in names
    assert len(names) == len(pipeline.calls)


@pytest.mark.parametrize("arguments", [(), ("--all", "SPEC")])
def test_specs_or_all_but_not_both(run, pipeline, spec, arguments):
    result = run("build", *(spec if word == "SPEC" else word for word in arguments))
    assert result.exit_code == 2
    assert "--all" in result.stderr
    assert not pipeline.calls
