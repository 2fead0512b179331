"""The house rules that no linter knows: sizes, names, imports, and what no file may mention."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

FILE_LINES = 400
TEMPLATE_LINES = 180
FUNCTION_LINES = 60

COMPILER = ("spec", "derive", "program", "schedule", "emit", "verify", "tune", "compile")

MODELS = (
    "gla gdn kda hgrn2? retnet mamba2? ssd rwkv-?[0-9]* comba titans mlstm gsa deltanet "
    "delta_?product delta_?rule lightning"
)
MODEL = re.compile(rf"(?<![a-z])({'|'.join(MODELS.split())})(?![a-z])", re.IGNORECASE)

# places that are the same on every machine
ALLOWED_PATHS = ("/bin/", "/dev/", "/proc/", "/sys/", "/usr/bin/env")
ABSOLUTE_PATH = re.compile(r"""(?<=["'\s(=`])/[a-z]+(?:/[\w.-]+)+""")


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def line_count(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def lines(paths: Iterator[Path]) -> Iterator[tuple[str, str]]:
    for path in paths:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            yield f"{relative(path)}:{number}", line


def test_files_of_tests_have_names_of_their_own(files):
    """Two of one name in two folders: only one of them is collected."""
    names = [f.name for f in files if f.name.startswith("test_") and f.suffix == ".py"]
    assert sorted(names) == sorted(set(names))


def test_python_files_are_short(files):
    written = [f for f in files if f.suffix == ".py" and "generated" not in f.parts]
    assert written
    limits = {f: FILE_LINES if "lincodegen" in f.parts else 600 for f in written}
    long = {relative(f): n for f, most in limits.items() if (n := line_count(f)) > most}
    assert not long


def test_templates_are_short(files):
    templates = [f for f in files if f.suffix == ".jinja"]
    long = {relative(f): n for f in templates if (n := line_count(f)) > TEMPLATE_LINES}
    assert not long


def test_functions_are_short(modules):
    long = {
        f"{relative(path)}:{f.lineno} {f.name}": length
        for path, tree in modules.items()
        for f in functions(tree)
        if (length := f.end_lineno - f.lineno + 1) > FUNCTION_LINES
    }
    assert not long


def test_the_compiler_knows_no_model():
    texts = [
        path for stage in COMPILER for path in sorted((ROOT / "lincodegen" / stage).rglob("*.py"))
    ]
    texts += sorted((ROOT / "templates").rglob("*.jinja"))
    assert texts
    assert [f"{where}: {line}" for where, line in lines(texts) if MODEL.search(line)] == []


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("if op == 'gla':", True),
        ("USE_GDN = True", True),
        ("def delta_rule_forward", True),
        ("# RWKV-7 reads early", True),
        ("from mamba2 import x", True),
        ("the angle of a glass plane", False),
        ("regular delta, mambas", False),
    ],
)
def test_a_model_is_recognised_by_its_name(line, named):
    assert bool(MODEL.search(line)) == named


def test_no_file_knows_a_path_of_one_machine(files):
    found = [
        f"{where}: {match[0]}"
        for where, line in lines(files)
        if not line.startswith("#!")
        for match in ABSOLUTE_PATH.finditer(line)
        if not match[0].startswith(ALLOWED_PATHS)
    ]
    assert not found


def test_text_of_a_spec_is_never_executed(modules):
    forbidden = {"eval", "exec", "sympify", "parse_expr", "lambdify", "compile_command"}
    found = [
        f"{relative(path)}:{node.lineno} {name}"
        for path, tree in modules.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and (name := called(node.func)) in forbidden
    ]
    assert not found


def called(function: ast.expr) -> str:
    """The name under which a function is called, from wherever it was imported.

    A method named ``eval`` of our own, or ``model.eval()``, is none of Python's.
    """
    if isinstance(function, ast.Name):
        return function.id
    if isinstance(function, ast.Attribute) and function.attr not in ("eval", "exec"):
        return function.attr
    return ""


def test_suppressions_are_few_and_give_a_code(modules):
    comments = [
        (where, line) for where, line in lines(modules) if re.search(r"# (noqa|type: ignore)", line)
    ]
    assert len(comments) <= 20
    assert [
        where for where, line in comments if re.search(r"# (noqa(?!:)|type: ignore(?!\[))", line)
    ] == []


def test_no_file_has_a_name_that_says_nothing(files):
    names = {"utils.py", "util.py", "helpers.py", "common.py", "misc.py", "core.py", "base.py"}
    assert [relative(path) for path in files if path.name in names] == []
