"""The text of a package: formatted, clean, safe, reproducible, and written with care."""

import ast
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from built_ops import SPECS, package_of, recurrence_of

from lincodegen.emit.checked import check_python
from lincodegen.emit.op_context import own_names
from lincodegen.emit.op_docs import plain
from lincodegen.emit.writer import compare_package, write_package
from lincodegen.errors import EmitError
from lincodegen.pipeline import compile_spec
from lincodegen.spec.loader import load
from lincodegen.spec.serialize import from_json


def ruff(folder, *arguments):
    """Runs ruff as on the shipped ops: with the project's rules, from its folder's parent."""
    options = ["--config", str(ROOT / "pyproject.toml")]
    options += ["--config", 'lint.isort.known-first-party=["lincodegen"]']
    command = [sys.executable, "-m", "ruff", *arguments, *options, "generated"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.mark.parametrize("name", SPECS)
def test_text_is_formatted_and_clean(name, tmp_path):
    write_package(package_of(name), tmp_path / "generated")
    form = ruff(tmp_path, "format", "--check")
    assert form.returncode == 0, form.stdout + form.stderr
    found = ruff(tmp_path, "check")
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.parametrize("name", SPECS)
def test_every_function_of_the_op_uses_what_it_takes(name):
    tree = ast.parse(package_of(name).files["tokens.py"])
    for function in (n for n in tree.body if isinstance(n, ast.FunctionDef)):
        used = {n.id for n in ast.walk(function) if isinstance(n, ast.Name)}
        assert {a.arg for a in function.args.args} <= used, function.name


def test_the_public_function_has_the_arguments_of_the_spec():
    (function,) = [
        n
        for n in ast.parse(package_of("gates_from_parameters").files["__init__.py"]).body
        if isinstance(n, ast.FunctionDef) and n.name == "gates_from_parameters"
    ]
    tensors = ["q", "k", "v", "dt", "beta", "bias", "A", "D"]
    options = ["scale", "half", "initial_state", "output_final_state"]
    options += ["cu_seqlens", "cu_seqlens_cpu", "check_inputs"]
    assert [a.arg for a in function.args.args] == [*tensors, *options]
    assert len(function.args.defaults) == 2 + len(options)


def test_the_manifest_holds_the_recurrence():
    manifest = json.loads(package_of("transposed").files["manifest.json"])
    assert from_json(manifest["recurrence"]) == replace(
        recurrence_of("transposed"), file="transposed.yaml"
    )
    assert (manifest["tier"], manifest["constants"]) == (1, ["rate"])
    assert manifest["groups"][0]["transposed"] is True
    assert json.loads(package_of("not_affine").files["manifest.json"])["reason"].startswith("line")


def test_the_same_spec_elsewhere_gives_the_same_bytes(tmp_path):
    path = tmp_path / "elsewhere" / "chained.yaml"
    path.parent.mkdir()
    path.write_text(SPECS["chained"])
    assert compile_spec(path).package() == package_of("chained")


@pytest.mark.parametrize("seed", ["0", "77"])
def test_the_bytes_do_not_depend_on_the_hash_seed(seed, tmp_path):
    path = tmp_path / "slots.yaml"
    path.write_text(SPECS["slots"])
    program = (
        "import sys; from pathlib import Path; from lincodegen.pipeline import compile_spec;"
        "sys.stdout.write(str(compile_spec(Path(sys.argv[1])).package()))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == str(package_of("slots"))


def test_the_derivation_shows_events_equations_and_proof():
    page = package_of("transposed").files["derivation.md"]
    for part in ("held transposed", r"N_{mm} = b_{m} E_{m,m} a_{m}", "| S | adjoint | yes |"):
        assert part in page


ROOT = Path(__file__).resolve().parents[2]

HOSTILE = '''
name: hostile
title: 'A """ title \\ with # marks'
doc: |
  Text """ + __import__("os").system("true") + """ \\N{BULLET} {{ 7 * 7 }}
inputs: {q: {shape: [K], doc: 'a """ b'}, v: {shape: [V]}}
state: {S: {shape: [K, V]}}
step: |
  S = S + outer(q, v)
  o = S.T @ q
'''


def test_text_of_the_user_stays_text(tmp_path):
    path = tmp_path / "hostile.yaml"
    path.write_text(HOSTILE)
    package = compile_spec(path).package()
    for name, text in package.files.items():
        if name.endswith(".py"):
            names = {n.id for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Name)}
            assert "__import__" not in names
    assert "{{ 7 * 7 }}" in package.files["__init__.py"]


@pytest.mark.parametrize(
    ("text", "shown"), [('a "b" \\c.', "a 'b' /c"), ("two\nlines", "two lines"), ("", "")]
)
def test_plain_text(text, shown):
    assert plain(text) == shown


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import os\n", "the import of os"),
        ("from subprocess import run\n", "an import from subprocess"),
        ("from lincodegen.emit import op\n", "an import from lincodegen.emit"),
        ("from .. import x\n", "an import from a parent package"),
        ("x = eval('1')\n", "the name eval"),
        ("x = getattr(y, 'z')\n", "the name getattr"),
        ("x = ().__class__\n", "the attribute __class__"),
        ("import torch\nx = torch.load('f')\n", "the attribute load"),
        ("def f(:\n", "is no Python"),
    ],
)
def test_what_may_not_stand_in_emitted_text(text, message):
    with pytest.raises(EmitError, match=message):
        check_python("x.py", text)


def test_nothing_is_written_over_what_was_not_generated(tmp_path):
    package = package_of("plain")
    (tmp_path / "plain").mkdir()
    own = tmp_path / "plain" / "chunk.py"
    own.write_text("# mine\n")
    with pytest.raises(EmitError, match="was not generated"):
        write_package(package, tmp_path)
    assert own.read_text() == "# mine\n"
    assert [p.name for p in (tmp_path / "plain").iterdir()] == ["chunk.py"]


@pytest.mark.parametrize("link", ["plain", "plain/tokens.py"])
def test_links_are_not_followed(link, tmp_path):
    target = tmp_path / "target"
    if link == "plain":
        target.mkdir()
    else:
        (tmp_path / "plain").mkdir()
        target.write_text("# Generated by lincodegen\n")
    (tmp_path / link).symlink_to(target)
    with pytest.raises(EmitError, match="symbolic link"):
        write_package(package_of("plain"), tmp_path)


def test_a_second_build_changes_nothing_and_stale_files_go(tmp_path):
    package = package_of("plain")
    assert set(write_package(package, tmp_path)) == set(package.files)
    assert write_package(package, tmp_path) == ()
    stale = tmp_path / "plain" / "old.py"
    stale.write_text("# Generated by lincodegen 0.0 from plain.yaml\n")
    kept = tmp_path / "plain" / "notes.txt"
    kept.write_text("mine")
    (tmp_path / "plain" / "tokens.py").write_text("# Generated by lincodegen\nx = 1\n")
    assert compare_package(package, tmp_path) == ("tokens.py", "old.py")
    assert write_package(package, tmp_path) == ("tokens.py", "old.py")
    assert not stale.exists()
    assert kept.exists()


def test_an_input_may_not_be_called_math():
    recurrence = load(SPECS["plain"].replace("g:", "math:").replace("exp(g)", "exp(math)"))
    with pytest.raises(EmitError, match="`math` cannot be the name"):
        own_names(recurrence)


def test_own_names_give_way_to_the_spec_s():
    alias = own_names(recurrence_of("tokens"))
    given = {"call", "chunk", "kernels", "reduced", "run", "tokens"}
    assert {name for name, own in alias.items() if name != own} == given
