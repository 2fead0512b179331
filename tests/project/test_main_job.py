"""The main job as a user runs it, in a process of its own, and the time that it may take."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from lincodegen import resources

ROOT = Path(__file__).resolve().parents[2]

CHECK_SECONDS = 3.0
BUILD_SECONDS = 10.0

SPECS = sorted(path.stem for path in resources.specs_dir().glob("*.yaml"))


def lincodegen(*arguments: str) -> tuple[float, str]:
    """Runs a command that must succeed; its processor time, start included, and its output."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "lincodegen", *arguments]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert result.returncode == 0, result.stdout + result.stderr
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, result.stdout


@pytest.mark.parametrize("spec", SPECS)
def test_a_shipped_spec_is_checked_in_seconds(spec):
    seconds, _ = lincodegen("check", spec)
    assert seconds < CHECK_SECONDS


@pytest.mark.smoke
def test_an_op_is_built_in_seconds(tmp_path):
    seconds, output = lincodegen("build", "specs/gated_delta_rule.yaml", "--out", str(tmp_path))
    assert (tmp_path / "gated_delta_rule" / "manifest.json").is_file()
    assert "gated_delta_rule" in output
    assert seconds < BUILD_SECONDS


@pytest.mark.smoke
def test_the_op_is_verified_against_its_recurrence():
    _, output = lincodegen("verify", "specs/gated_delta_rule.yaml", "--quick")
    assert output
