"""The linters, the type checker and the contracts between stages, as pyproject.toml sets them."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = Path(sys.executable).parent


def passes(*command: str) -> None:
    """Runs a tool of this environment at the top of the tree; its output is the failure."""
    result = subprocess.run(
        [str(TOOLS / command[0]), *command[1:]], cwd=ROOT, capture_output=True, text=True
    )
    if result.returncode:
        pytest.fail(result.stdout + result.stderr, pytrace=False)


def test_ruff_finds_nothing():
    passes("ruff", "check", "--no-cache", "--output-format", "concise")


def test_ruff_would_format_nothing():
    passes("ruff", "format", "--no-cache", "--check", "--output-format", "concise")


def test_the_contracts_between_stages_are_kept():
    passes("lint-imports", "--no-cache")


def test_the_types_agree():
    passes("pyright", "-p", "pyproject.toml", "--pythonpath", sys.executable)
