"""The script that makes .venv: what it asks pip for, and that it does nothing twice."""

import importlib.util
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def environment(tmp_path, monkeypatch):
    """The script, aimed at an empty folder on a machine without a GPU; pip only records."""
    file = ROOT / "scripts" / "environment.py"
    spec = importlib.util.spec_from_file_location("environment", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(module, "PYTHON", tmp_path / ".venv" / "bin" / "python")
    monkeypatch.setattr(module, "STAMP", tmp_path / ".venv" / "stamp")
    monkeypatch.setattr(module, "has_gpu", lambda: False)
    monkeypatch.setattr(module.venv, "create", lambda folder, **_: make_python(folder))
    module.commands = []
    module.versions = "2.14.0, 2.13.0+cpu, 2.13.0"

    def run(command, **_):
        module.commands.append(command)
        return subprocess.CompletedProcess(command, 0, stdout=module.versions.encode())

    monkeypatch.setattr(module.subprocess, "run", run)
    return module


def make_python(folder: Path) -> None:
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").touch()


def installs(environment) -> list[list[str]]:
    return [command for command in environment.commands if "install" in command]


def test_without_a_gpu_the_cpu_constraints_hold(environment):
    environment.make_environment()
    (command,) = installs(environment)
    assert command[command.index("-c") + 1] == str(ROOT / "constraints-cpu.txt")
    assert command[-1] == f"{ROOT}[test]"


def test_with_a_gpu_nothing_is_constrained(environment, monkeypatch):
    monkeypatch.setattr(environment, "has_gpu", lambda: True)
    environment.make_environment()
    (command,) = environment.commands
    assert "-c" not in command


def test_a_second_run_does_nothing(environment):
    environment.make_environment()
    environment.commands.clear()
    environment.make_environment()
    assert environment.commands == []


def test_a_changed_requirement_is_installed(environment, tmp_path, monkeypatch):
    environment.make_environment()
    changed = tmp_path / "constraints-cpu.txt"
    changed.write_text("torch==2.13.0\ntriton==3.7.1\n")
    monkeypatch.setattr(environment, "CPU_CONSTRAINTS", changed)
    environment.make_environment()
    assert len(installs(environment)) == 2


@pytest.mark.parametrize(("machine", "refused"), [("x86_64", True), ("aarch64", False)])
def test_cuda_is_refused_without_a_gpu_before_it_is_downloaded(
    environment, monkeypatch, machine, refused
):
    monkeypatch.setattr(environment.sys, "platform", "linux")
    monkeypatch.setattr(environment.platform, "machine", lambda: machine)
    environment.versions = "2.14.0, 2.13.0, 2.12.1"
    if refused:
        with pytest.raises(SystemExit, match="PIP_EXTRA_INDEX_URL"):
            environment.make_environment()
    else:
        environment.make_environment()
    assert bool(installs(environment)) != refused
    assert environment.STAMP.exists() != refused
