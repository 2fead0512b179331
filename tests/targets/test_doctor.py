"""The diagnosis of machines that this one is not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from lincodegen.doctor import Finding, Report, diagnose

HEALTHY = {"torch": "2.13.0", "triton": "3.9.0", "numpy": "2.4.6", "optuna": "5.0.0"}
H200 = SimpleNamespace(
    name="NVIDIA H200", major=9, minor=0, multi_processor_count=132, warp_size=32,
    shared_memory_per_block_optin=232_448, L2_cache_size=62_914_560,
)  # fmt: skip


class Machine:
    """What the checks ask about, to be changed by a test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.versions = dict(HEALTHY)
        self.devices: list[SimpleNamespace] = []
        self.build = SimpleNamespace(cuda="13.0", hip=None)
        self.cache = folder / "triton"
        self.driver = folder / "driver"
        monkeypatch.setattr("lincodegen.doctor._version", self.versions.get)
        monkeypatch.setattr("lincodegen.doctor._import_torch", self.torch)
        monkeypatch.setattr("lincodegen.doctor._NVIDIA_DRIVER", self.driver)
        monkeypatch.setenv("TRITON_CACHE_DIR", str(self.cache))
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        monkeypatch.delenv("TRITON_INTERPRET", raising=False)

    def torch(self) -> SimpleNamespace:
        cuda = SimpleNamespace(
            is_available=lambda: bool(self.devices),
            device_count=lambda: len(self.devices),
            get_device_properties=self.devices.__getitem__,
        )
        return SimpleNamespace(cuda=cuda, version=self.build)

    def rows(self, check: str) -> list[Finding]:
        return [row for row in diagnose().rows if row.check == check]

    def row(self, check: str) -> Finding:
        (row,) = self.rows(check)
        return row


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    return Machine(monkeypatch, tmp_path)


def test_a_healthy_machine_without_gpu(machine: Machine) -> None:
    report = diagnose()
    assert report.ok
    assert {row.status for row in report.rows} == {"ok"}
    assert [row.check for row in report.rows] == [
        "Python", "PyTorch", "Triton", "GPU", "interpreter", "Triton cache", "Triton cache",
        "ptxas", "cuobjdump", "nvdisasm", "Optuna",
    ]  # fmt: skip
    assert machine.row("PyTorch").found == "2.13.0, built for CUDA 13.0"


def test_a_gpu_is_named_with_its_target_and_its_miscompilations(machine: Machine) -> None:
    machine.devices = [H200]
    machine.versions["triton"] = "3.6.0"
    first, *bugs = machine.rows("GPU 0")
    assert (first.status, first.found) == ("ok", "NVIDIA H200, sm_90")
    assert any("hazard on wgmma" in bug.found for bug in bugs)
    assert all("https://github.com" in bug.advice for bug in bugs)
    assert {bug.status for bug in bugs} == {"warn"}
    machine.versions["triton"] = "3.9.0"
    assert not any("hazard on wgmma" in bug.found for bug in machine.rows("GPU 0"))


def test_unlisted_and_unsupported_gpus(machine: Machine) -> None:
    machine.devices = [
        SimpleNamespace(**(vars(H200) | {"name": "NVIDIA GB10", "major": 12, "minor": 1})),
        SimpleNamespace(**(vars(H200) | {"name": "Tesla T4", "major": 7, "minor": 5})),
    ]
    assert machine.rows("GPU 0")[0].found == (
        "NVIDIA GB10, sm_121, not listed: figures of its driver"
    )
    assert machine.row("GPU 1").status == "fail"
    assert "needs 8.0" in machine.row("GPU 1").advice
    assert not diagnose().ok


def test_a_missing_compiler_matters_only_with_a_gpu(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    assert not machine.rows("C compiler")
    machine.devices = [H200]
    assert machine.row("C compiler").status == "fail"


def test_a_gpu_that_kernels_would_not_use(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.devices = [H200]
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert "unset it" in machine.row("GPU").advice
    machine.devices = []
    machine.driver.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.126.09  Tue\n")
    assert machine.row("GPU").status == "warn"
    assert "built for CUDA" in machine.row("GPU").advice
    assert machine.row("NVIDIA driver").found == "580.126.09"


@pytest.mark.parametrize(
    ("triton", "status"),
    [(None, "warn"), ("3.5.1", "fail"), ("3.6.0", "ok"), ("3.9.1", "ok"), ("3.10.0", "warn")],
)
def test_versions_of_triton(machine: Machine, triton: str | None, status: str) -> None:
    machine.versions["triton"] = triton
    assert machine.row("Triton").status == status


@pytest.mark.parametrize(
    ("numpy", "triton", "status"),
    [("2.4.0", "3.6.0", "warn"), ("2.3.5", "3.6.0", "ok"), ("2.4.6", "3.7.1", "ok")],
)
def test_pairs_of_numpy_and_triton(machine: Machine, numpy: str, triton: str, status: str) -> None:
    machine.versions |= {"numpy": numpy, "triton": triton}
    row = machine.row("interpreter")
    assert row.status == status
    assert "install_interpreter_fixes" in row.advice


def test_without_torch_the_rest_is_still_checked(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lincodegen.doctor._import_torch", lambda: None)
    assert "cannot be imported" in machine.row("PyTorch").found
    machine.versions["torch"] = None
    assert machine.row("PyTorch").status == "fail"
    assert machine.row("Triton").status == "ok"
    assert machine.row("GPU").found == "none"


def test_optuna(machine: Machine) -> None:
    machine.versions["optuna"] = "4.6.0"
    assert machine.row("Optuna").status == "warn"
    machine.versions["optuna"] = None
    assert machine.row("Optuna").found == "not installed"


def test_a_torn_cache_entry_is_found(machine: Machine) -> None:
    for name, text in (("good", '{"hash": 1}'), ("torn", '{"hash": '), ("empty", "")):
        (machine.cache / name).mkdir(parents=True)
        (machine.cache / name / "kernel.json").write_text(text)
    torn, own = machine.rows("Triton cache")
    assert (torn.status, torn.found) == ("fail", "2 unreadable entries")
    assert str(machine.cache / "torn") in torn.advice
    assert str(machine.cache / "good") not in torn.advice
    assert own.status == "ok"


def test_missing_tools(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lincodegen.doctor.find_tool", lambda name: None)
    assert machine.row("nvdisasm").status == "warn"


def test_a_check_that_breaks_is_a_finding(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise RuntimeError("driver in pieces")

    monkeypatch.setattr("lincodegen.doctor._import_torch", broken)
    report = diagnose()
    assert not report.ok
    assert [r.found for r in report.rows if r.check == "gpus"] == ["RuntimeError: driver in pieces"]
    assert report.rows[-1].check == "Optuna"


def test_reports_print_and_go_to_json() -> None:
    report = Report((Finding("GPU", "warn", "none", "buy one"), Finding("Python", "ok", "3.11")))
    assert str(report) == "warn  GPU     none\n              buy one\nok    Python  3.11"
    assert report.ok
    assert json.loads(json.dumps(report.to_json())) == {
        "ok": True,
        "rows": [
            {"check": "GPU", "status": "warn", "found": "none", "advice": "buy one"},
            {"check": "Python", "status": "ok", "found": "3.11", "advice": ""},
        ],
    }


def test_a_diagnosis_without_torch_and_triton_installed() -> None:
    code = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(('torch', 'triton', 'optuna')))\n"
        "import importlib.util as u\n"
        "find = u.find_spec\n"
        "u.find_spec = lambda n, *a: None if n in ('torch', 'triton', 'optuna') else find(n, *a)\n"
        "from lincodegen.doctor import diagnose\n"
        "print(diagnose())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "fail  PyTorch" in done.stdout
    assert "warn  Triton " in done.stdout
