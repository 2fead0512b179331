"""check, show and verify: what is passed on, what is printed, exit codes."""

import json

import pytest

from lincodegen.errors import DerivationError, InternalError, SpecError, VerificationError


def test_check_prints_the_proof(run, pipeline, spec):
    result = run("check", spec)
    assert (result.exit_code, result.stdout) == (0, "check done\n")
    assert pipeline.calls == [("check", (spec, {}), {})]


def test_a_failed_check_is_1(run, pipeline, spec):
    pipeline.outcomes["check"] = pipeline.report("equation 2 does not hold", ok=False)
    result = run("check", spec)
    assert (result.exit_code, result.stdout) == (1, "equation 2 does not hold\n")


def test_sets_reach_the_pipeline(run, pipeline, spec):
    run("check", spec, "--set", "n=3", "--set", "K=64")
    assert pipeline.calls[0][1][1] == {"n": 3, "K": 64}


@pytest.mark.parametrize("value", ["n", "n=", "n=2.5", "=2", "n=2;m=3", "1n=2", "n=" + "9" * 30])
def test_a_malformed_set_is_a_usage_error(run, pipeline, spec, value):
    result = run("check", spec, "--set", value)
    assert result.exit_code == 2
    assert "name=integer" in result.stderr
    assert not pipeline.calls


def test_a_repeated_set_is_a_usage_error(run, pipeline, spec):
    result = run("check", spec, "--set", "n=2", "--set", "n=3")
    assert result.exit_code == 2
    assert "`n` is set more than once" in result.stderr


def test_show_prints_the_text_of_a_stage(run, pipeline, spec):
    pipeline.outcomes["show"] = "O = Q S + P Z"
    assert run("show", spec, "--after", "derive").stdout == "O = Q S + P Z\n"
    assert pipeline.calls == [("show", (spec, "derive", {}), {})]
    found = json.loads(run("show", spec, "--after", "derive", "--json").stdout)
    assert (found["after"], found["text"]) == ("derive", "O = Q S + P Z")


SIZES = {"batch": 4, "tokens": 8192, "heads": 32, "size": 128, "dims": {}, "dtype": "bf16"}


def test_show_after_schedule_prints_the_cost(run, pipeline, spec):
    pipeline.outcomes["show"] = "  scan_fwd"
    pipeline.outcomes["cost"] = pipeline.report("1048 bytes", values={"bytes": 1048})
    assert run("show", spec, "--after", "schedule").stdout == "  scan_fwd\n\n1048 bytes\n"
    assert pipeline.calls[-1] == ("cost", (spec, "sm_90", SIZES, {}), {})
    given = ("--target", "gfx942", "--tokens", 512, "--dim", "V=256", "--json")
    found = json.loads(run("show", spec, "--after", "schedule", *given).stdout)
    assert (found["text"], found["cost"]["bytes"]) == ("  scan_fwd", 1048)
    sizes = SIZES | {"tokens": 512, "dims": {"V": 256}}
    assert pipeline.calls[-1] == ("cost", (spec, "gfx942", sizes, {}), {})


def test_show_without_a_chunked_form_has_no_cost(run, pipeline, spec):
    pipeline.outcomes["show"], pipeline.outcomes["cost"] = "runs token by token", None
    assert run("show", spec, "--after", "schedule").stdout == "runs token by token\n"
    assert "cost" not in json.loads(run("show", spec, "--after", "schedule", "--json").stdout)


def test_sizes_of_a_cost_are_refused_with_other_stages(run, pipeline, spec):
    result = run("show", spec, "--after", "derive", "--tokens", 512)
    assert result.exit_code == 2
    assert "--tokens goes with --after schedule, not with derive" in result.stderr
    assert pipeline.calls == []


def test_show_refuses_an_unknown_stage(run, pipeline, spec):
    result = run("show", spec, "--after", "tuning")
    assert result.exit_code == 2
    assert "schedule" in result.stderr


def test_verify_passes_its_options_on(run, pipeline, spec):
    result = run("verify", spec, "--dtype", "bfloat16", "--quick", "--set", "n=2")
    assert (result.exit_code, result.stdout) == (0, "verify done\n")
    expected = {"sets": {"n": 2}, "dtype": "bfloat16", "quick": True}
    assert pipeline.calls == [("verify", (spec,), expected)]


def test_a_verdict_against_the_op_is_1_and_json_stays_valid(run, pipeline, spec):
    values = {"error": float("nan"), "bounds": (1.0, float("-inf"))}
    pipeline.outcomes["verify"] = pipeline.report("dq is off", False, values)
    result = run("verify", spec, "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert (found["ok"], found["error"], found["bounds"]) == (False, "nan", [1.0, "-inf"])


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SpecError("my_rule.yaml:3:1: unknown key `stat`"), 2),
        (PermissionError(13, "Permission denied"), 2),
        (DerivationError("equation 3 fails"), 1),
        (VerificationError("the op disagrees"), 1),
    ],
)
@pytest.mark.parametrize("command", ["check", "show", "verify", "build"])
def test_an_error_is_printed_plainly(run, pipeline, spec, command, error, code):
    pipeline.outcomes[command] = error
    result = run(command, spec)
    assert result.exit_code == code
    assert result.stdout == ""
    assert result.stderr.splitlines()[-1] == str(error)


def test_an_error_as_json_lists_each_mistake(run, pipeline, spec):
    pipeline.outcomes["check"] = SpecError(["first mistake", "second mistake"])
    result = run("check", spec, "--json")
    assert (result.exit_code, result.stderr) == (2, "")
    found = json.loads(result.stdout)
    assert not found["ok"]
    assert found["error"] == "SpecError"
    assert found["problems"] == ["first mistake", "second mistake"]


@pytest.mark.parametrize("error", [ZeroDivisionError("division by zero"), InternalError("lost")])
def test_a_bug_says_that_it_is_one(run, pipeline, spec, error):
    pipeline.outcomes["check"] = error
    result = run("check", spec)
    assert result.exit_code == 1
    assert str(error) in result.stderr
    assert "bug in lincodegen" in result.stderr
    assert "Traceback" not in result.stderr


def test_debug_lets_the_traceback_through(run, pipeline, spec):
    pipeline.outcomes["check"] = ZeroDivisionError("division by zero")
    assert isinstance(run("--debug", "check", spec).exception, ZeroDivisionError)


def test_a_missing_spec_is_a_usage_error_with_the_nearest_name(run, pipeline, tmp_path):
    result = run("check", tmp_path / "linear_atention.yaml")
    assert result.exit_code == 2
    assert "Did you mean `linear_attention`?" in result.stderr


def test_a_usage_error_can_be_json(run, pipeline):
    result = run("check", "no_such_spec_at_all", "--json")
    assert result.exit_code == 2
    assert "no_such_spec_at_all" in json.loads(result.stdout)["message"]


def test_a_shipped_spec_is_found_by_name(run, pipeline):
    assert run("check", "linear_attention").exit_code == 0
    path = pipeline.calls[0][1][0]
    assert path.name == "linear_attention.yaml"
    assert path.is_file()
