"""Mistaken and hostile specs: each gives its place and its message, and runs nothing."""

from __future__ import annotations

import ast
import builtins
import os
import subprocess
from pathlib import Path

import pytest
from spec_cases import MARK, cases, step

from lincodegen.errors import SpecError
from lincodegen.spec import load

CASES = cases()


@pytest.mark.parametrize("name", CASES)
def test_place_and_message(name):
    """The one mistake of each case is told where it stands, with its line and a caret."""
    marked, message = CASES[name]
    assert marked.count(MARK) == 1
    start = marked.index(MARK)
    line = marked.count("\n", 0, start) + 1
    column = start - marked.rfind("\n", 0, start)
    text = marked.replace(MARK, "")
    with pytest.raises(SpecError) as caught:
        load(text)
    assert len(caught.value.problems) == 1
    told = caught.value.problems[0]
    assert told.startswith(f"<text>:{line}:{column}: ")
    assert message in told
    if len(told.splitlines()) > 1:
        shown, caret = told.splitlines()[1:3]
        assert caret.strip() == "^"
        assert shown[caret.index("^") :].startswith(text.splitlines()[line - 1][column - 1 :][:20])


def test_there_are_many_cases():
    assert len(CASES) >= 150


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_executed(name, monkeypatch):
    """No case evaluates, compiles to code, opens a file or starts a process."""

    def refuse(*_args, **_kwargs):
        raise AssertionError("executed")

    def parse_only(source, filename, mode, flags=0, *rest, **options):
        assert flags & ast.PyCF_ONLY_AST
        return compiled(source, filename, mode, flags, *rest, **options)

    compiled = builtins.compile
    text = CASES[name][0].replace(MARK, "")
    monkeypatch.setattr(builtins, "compile", parse_only)
    for owner, function in (
        (builtins, "eval"),
        (builtins, "exec"),
        (builtins, "open"),
        (os, "system"),
        (os, "popen"),
        (subprocess, "Popen"),
    ):
        monkeypatch.setattr(owner, function, refuse)
    with pytest.raises(SpecError):
        load(text)


def test_whole_text_of_an_error():
    text = step("S = exp(g) * S + outer(k, v)", "o = layernrm(S.T @ q)")
    with pytest.raises(SpecError) as caught:
        load(text)
    told = str(caught.value).splitlines()
    assert told[:3] == [
        "<text>:10:7: `layernrm` is no function of the step language",
        "    o = layernrm(S.T @ q)",
        "        ^",
    ]
    assert told[3].startswith("  expected: one of abs, concat, cumsum")
    assert told[4] == "  hint: did you mean `layernorm`?"


def test_all_mistakes_in_one_run_and_in_order():
    text = """\
name: Rule
colour: red
inputs:
  q: {shape: [K]}
  k: {shape: [T]}
  v: {shape: [V], domain: "[2, 1]", norn: 3}
constants: {scale: K**-0.5 +}
state: {S: {shape: [K, V, V]}}
step: |
  S = S + outer(k, v)
  x = exq(q)
  y = q + v
  z = x + y +
  o = y @ z + missing
  for j in range(K):
      o = o + q[j]
"""
    with pytest.raises(SpecError) as caught:
        load(text)
    heads = [problem.splitlines()[0] for problem in caught.value.problems]
    assert [head.split(" ")[0] for head in heads] == [
        "<text>:1:7:",
        "<text>:2:1:",
        "<text>:5:15:",
        "<text>:6:27:",
        "<text>:6:37:",
        "<text>:7:29:",
        "<text>:8:20:",
        "<text>:11:7:",
        "<text>:12:7:",
        "<text>:13:14:",
        "<text>:15:18:",
    ]


def test_a_mistaken_name_is_told_once():
    """Lines that read what a mistaken line should have made are not told."""
    text = step("x = q + v", "y = x * 2", "S = S + outer(y, v)", "o = S.T @ (q + k)")
    with pytest.raises(SpecError) as caught:
        load(text)
    assert len(caught.value.problems) == 1


def test_a_mistake_in_a_loop_is_told_once():
    with pytest.raises(SpecError) as caught:
        load(step("for j in range(4):", "    x = q + v", "o = x"))
    assert len(caught.value.problems) == 1


def test_unread_input_and_constant_output():
    text = step("S = S + exp(g) * outer(k, v)", "o = ones(V)")
    with pytest.raises(SpecError) as caught:
        load(text)
    found = [problem.splitlines()[0] for problem in caught.value.problems]
    assert found == [
        "<text>:3:3: nothing reads the input `q`",
        "<text>:8:7: the output `o` depends on no input",
    ]


def test_output_of_a_state_that_no_input_reaches():
    text = "name: a\ninputs: {q: {shape: []}}\nstate: {s: {shape: []}}\nstep: |\n"
    with pytest.raises(SpecError, match="the output `o` depends on no input"):
        load(text + "  x = q\n  s = s + 1\n  o = 2 * s\n  p = x\noutputs: [o, p]\n")


def test_dependence_through_a_state_read_before_its_update():
    text = "name: a\ninputs: {q: {shape: []}}\nstate: {s: {shape: []}, r: {shape: []}}\nstep: |\n"
    assert load(text + "  o = r\n  r = s\n  s = s + q\n").outputs[0][0] == "o"


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ({"m": 3}, "`m` is set, but not in the spec"),
        ({"N": 3}, "did you mean `n`?"),
        ({"n": 2.5}, "`n` is set to 2.5"),
        ({"n": True}, "`n` is set to True"),
        ({"n": 0}, "an axis of size 0"),
        ({"K": 0}, "an axis of size 0"),
        ({"scale": 2}, "`scale` is set to an integer, but is an argument of the op"),
    ],
)
def test_settings_that_do_not_fit(sets, message):
    text = """\
name: a
inputs:
  q: {shape: [n, K]}
constants: {n: 2, scale: 0.5}
step: |
  o = scale * q[0]
"""
    load(text, sets={"n": 1, "K": 16})
    with pytest.raises(SpecError) as caught:
        load(text, sets=sets)
    assert message in str(caught.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(SpecError, match=r"absent\.yaml: the file cannot be read"):
        load(tmp_path / "absent.yaml")
    with pytest.raises(SpecError, match="the file cannot be read"):
        load(tmp_path)
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"name: \xff\xfe\n")
    with pytest.raises(SpecError, match=r"binary\.yaml:1:1: the file is not UTF-8"):
        load(binary)
    large = tmp_path / "large.yaml"
    large.write_bytes(b"#" * (64 * 1024 + 1))
    with pytest.raises(SpecError, match="more than 64 KiB"):
        load(large)


def test_a_file_is_named_as_it_was_given(tmp_path, monkeypatch):
    (tmp_path / "rule.yaml").write_text("name: Rule\ninputs: {q: {shape: []}}\nstep: o = q\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SpecError) as caught:
        load(Path("rule.yaml"))
    assert str(caught.value).startswith("rule.yaml:1:7: ")
