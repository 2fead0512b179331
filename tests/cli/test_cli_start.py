"""How the command line starts: fast, light, from a source tree; and how it shows progress."""

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lincodegen.cli import console, main

ROOT = Path(__file__).resolve().parents[2]

HEAVY = ("torch", "triton", "sympy", "optuna", "rich", "ruamel", "numpy", "jinja2")

HELP_SECONDS = 0.3


def python(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, cwd=cwd, env=environment
    )


def test_the_module_runs_from_a_source_tree(tmp_path):
    result = python("-m", "lincodegen", "--help", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    for name in main.commands:
        assert f"\n  {name} " in result.stdout


@pytest.mark.parametrize("arguments", [["--help"], ["build", "--help"], ["list"], ["--version"]])
def test_nothing_heavy_is_imported_before_a_command_needs_it(arguments):
    script = (
        "import sys\n"
        "from lincodegen.cli import main\n"
        f"main({arguments!r}, standalone_mode=False)\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)\n"
    )
    result = python("-c", script)
    assert result.returncode == 0, result.stderr
    assert result.stderr.splitlines()[-1] == "[]"


def test_help_takes_a_moment():
    def seconds() -> float:
        """Processor time of one run: what a quiet machine would take."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert python("-m", "lincodegen", "--help").returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(seconds() for _ in range(5)) < HELP_SECONDS


def test_every_command_has_json_and_a_help_line():
    for name, command in main.commands.items():
        assert "--json" in [option for p in command.params for option in p.opts], name
        assert command.get_short_help_str(limit=200).endswith("."), name


def test_a_usage_error_is_2():
    result = python("-m", "lincodegen", "check")
    assert result.returncode == 2
    assert "Missing argument 'SPEC'" in result.stderr


def test_short_work_is_silent(capsys):
    with console.progress("checking") as step:
        step("parse")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_long_work_says_on_stderr_what_it_does(capsys, monkeypatch):
    monkeypatch.setattr(console, "QUIET_SECONDS", 0.05)
    with console.progress("checking") as step:
        step("parse")
        time.sleep(0.5)
        step("prove")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == ["checking: parse", "checking: prove"]
