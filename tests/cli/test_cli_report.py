"""report: what is passed on, where the page goes, and what is refused."""

import json
import re

import pytest

from lincodegen.verify.verdict import Row, Verdict

ROW = Row("typical, T=65", "o", "relative", 1e-7, 2e-7, True)
VERDICT = Verdict("linear_attention", "float32", (ROW,))


@pytest.fixture
def away(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_page_is_written_under_the_op_s_name(run, away):
    result = run("report", "linear_attention")
    assert (result.exit_code, result.stdout) == (0, "written to linear_attention.html\n")
    html = (away / "linear_attention.html").read_text(encoding="utf-8")
    assert re.search(r'<time datetime="20\d\d-\d\d-\d\d">', html)
    assert "The op was not run for this page" in html


def test_a_verdict_target_and_sizes_reach_the_page(run, away):
    (away / "verdict.json").write_text(json.dumps(VERDICT.to_json()))
    given = ("--verdict", "verdict.json", "--target", "sm_80", "--tokens", 512, "--out", "a.html")
    result = run("report", "linear_attention", *given, "--json")
    assert json.loads(result.stdout)["path"] == "a.html"
    html = (away / "a.html").read_text(encoding="utf-8")
    assert "1 comparisons in 1 cases" in html
    assert "4 sequences of 512 tokens" in html
    assert "on NVIDIA A100 80GB (sm_80)" in html


def test_verify_runs_what_verdict_reads(run, away):
    (away / "verdict.json").write_text("{}")
    result = run("report", "linear_attention", "--verify", "--verdict", "verdict.json")
    assert result.exit_code == 2
    assert "name one of them" in result.stderr


def test_verify_runs_the_op(run, away, monkeypatch):
    def verify(path, *, sets, quick, on_progress):
        assert quick
        return VERDICT

    monkeypatch.setattr("lincodegen.pipeline.verify", verify)
    assert run("report", "linear_attention", "--verify").exit_code == 0
    assert "1 comparisons" in (away / "linear_attention.html").read_text(encoding="utf-8")


def test_a_verdict_of_another_op_is_an_error(run, away):
    (away / "verdict.json").write_text(json.dumps(VERDICT.to_json()))
    result = run("report", "kda", "--verdict", "verdict.json")
    assert result.exit_code == 1
    assert "is the verdict of linear_attention; expected kda" in result.stderr


def test_a_missing_package_is_named(run, away, monkeypatch):
    import sys

    monkeypatch.delitem(sys.modules, "lincodegen.report.page", raising=False)
    monkeypatch.setitem(sys.modules, "latex2mathml", None)
    monkeypatch.delitem(sys.modules, "lincodegen.report.markdown", raising=False)
    monkeypatch.setitem(sys.modules, "latex2mathml.converter", None)
    result = run("report", "kda")
    assert result.exit_code == 1
    assert "pip install 'lincodegen[report]'" in result.stderr
