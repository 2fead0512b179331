"""The catalogue is whole, and every test that it names exists and is what it is said to be."""

import ast
from functools import cache
from pathlib import Path

import pytest
from catalogue import CATALOGUE, CUDA, GPU

TESTS = Path(__file__).resolve().parents[1]


@cache
def functions_in(file):
    """The test functions of a file by name."""
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    return {x.name: x for x in tree.body if isinstance(x, ast.FunctionDef)}


@cache
def needs_a_gpu(file, function):
    marks = [ast.unparse(x) for x in functions_in(file)[function].decorator_list]
    text = (TESTS / file).read_text(encoding="utf-8")
    return "pytest.mark.gpu" in marks or "pytestmark = pytest.mark.gpu" in text


def test_every_case_is_there():
    numbers = [f"R{n:02}" for n in range(1, 59)]
    assert sorted(CATALOGUE) == numbers
    assert all(CATALOGUE.values())


@pytest.mark.parametrize("case", CATALOGUE)
def test_its_tests_exist(case):
    for name in CATALOGUE[case]:
        file, _, function = name.partition("::")
        assert function in functions_in(file), name


def test_what_needs_a_gpu_is_named():
    named = {n for tests in CATALOGUE.values() for n in tests if needs_a_gpu(*n.split("::"))}
    assert named == {f"{CUDA}{n}" for n in GPU}


def test_few_cases_need_a_gpu():
    """All but those that concern devices alone hold without one, too."""
    gpu = {f"{CUDA}{n}" for n in GPU}
    alone = {case for case, tests in CATALOGUE.items() if gpu.issuperset(tests)}
    assert alone == {"R42", "R53"}
