"""What this machine can do, and what on it would make kernels fail or be wrong."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from lincodegen.compile.pool import default_cache_dir
from lincodegen.compile.toolchain import find_tool
from lincodegen.errors import TuningError
from lincodegen.targets import DeviceProperties, from_device, known_miscompilations, list_targets
from lincodegen.targets.miscompilations import parse_version

OLDEST_TRITON = "3.6"
NEWEST_TRITON = "3.9"
_NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")
_USUAL_TRITON_CACHE = Path.home() / ".triton" / "cache"
_SHOWN_ENTRIES = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """One row: status is ``ok``, ``warn`` or ``fail``; `advice` is empty where all is well."""

    check: str
    status: str
    found: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """All findings, in the order of the checks."""

    rows: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing failed; warnings are allowed."""
        return all(row.status != "fail" for row in self.rows)

    def to_json(self) -> dict[str, Any]:
        """For ``--json``: whether all is well, and the rows."""
        return {"ok": self.ok, "rows": [asdict(row) for row in self.rows]}

    def __str__(self) -> str:
        width = max(len(row.check) for row in self.rows)
        lines: list[str] = []
        for row in self.rows:
            lines.append(f"{row.status:<4}  {row.check:<{width}}  {row.found}")
            if row.advice:
                lines.append(" " * (width + 8) + row.advice)
        return "\n".join(lines)


def diagnose() -> Report:
    """Looks at this machine; nothing is changed and no kernel is run.

    A check that itself breaks is a finding, so that one odd installation does not hide the rest.
    """
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (
        _check_python,
        _check_torch,
        _check_triton,
        _check_gpus,
        _check_driver,
        _check_interpreter,
        _check_cache,
        _check_tools,
        _check_optuna,
    )
    rows: list[Finding] = []
    for check in checks:
        try:
            rows.extend(check())
        except Exception as error:  # noqa: BLE001 - it becomes a row of the report
            name = check.__name__.removeprefix("_check_")
            rows.append(Finding(name, "fail", f"{type(error).__name__}: {error}", "report this"))
    return Report(tuple(rows))


def _check_python() -> Iterator[Finding]:
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    yield Finding("Python", "ok", found)


def _check_torch() -> Iterator[Finding]:
    version = _version("torch")
    if version is None:
        yield Finding("PyTorch", "fail", "not installed", "pip install torch")
        return
    torch = _import_torch()
    if torch is None:
        advice = "reinstall it: python -c 'import torch' shows the error"
        yield Finding("PyTorch", "fail", f"{version}, but it cannot be imported", advice)
        return
    build = "CPU"
    if torch.version.cuda:
        build = f"CUDA {torch.version.cuda}"
    elif torch.version.hip:
        build = f"ROCm {torch.version.hip}"
    yield Finding("PyTorch", "ok", f"{version}, built for {build}")


def _check_triton() -> Iterator[Finding]:
    version = _version("triton")
    tested = f"tested are {OLDEST_TRITON} to {NEWEST_TRITON}"
    if version is None:
        advice = "pip install triton (Linux); without it ops run in their PyTorch form"
        yield Finding("Triton", "warn", "not installed", advice)
    elif parse_version(version)[:2] < parse_version(OLDEST_TRITON):
        yield Finding("Triton", "fail", version, f"too old: {tested}")
    elif parse_version(version)[:2] > parse_version(NEWEST_TRITON):
        yield Finding("Triton", "warn", version, f"newer than what is tested: {tested}")
    else:
        yield Finding("Triton", "ok", version)


def _check_gpus() -> Iterator[Finding]:
    torch = _import_torch()
    if torch is None or not torch.cuda.is_available():
        if _NVIDIA_DRIVER.exists():
            advice = "a driver is loaded: install a PyTorch built for CUDA, or make the GPU visible"
            yield Finding("GPU", "warn", "none that PyTorch can use", advice)
        else:
            advice = "ops run in their PyTorch form; kernels can be compiled, not timed"
            yield Finding("GPU", "ok", "none", advice)
        return
    for index in range(torch.cuda.device_count()):
        yield from _check_gpu(f"GPU {index}", torch.cuda.get_device_properties(index))
    if os.environ.get("TRITON_INTERPRET") == "1":
        yield Finding("GPU", "warn", "TRITON_INTERPRET=1", "unset it: kernels run on the CPU")
    if not any(shutil.which(c) for c in (os.environ.get("CC", "cc"), "gcc", "clang")):
        yield Finding("C compiler", "fail", "none", "install gcc: Triton builds its launcher by it")


def _check_gpu(check: str, properties: DeviceProperties) -> Iterator[Finding]:
    try:
        target = from_device(properties)
    except TuningError as error:
        yield Finding(check, "fail", str(properties.name), str(error))
        return
    listed = "" if target.name in list_targets() else ", not listed: figures of its driver"
    yield Finding(check, "ok", f"{target.device}, {target.name}{listed}")
    for bug in known_miscompilations(target.name, _version("triton") or ""):
        advice = f"{bug.advice}; {bug.links[0]}"
        yield Finding(check, "warn", f"Triton compiles wrongly: {bug.pattern}", advice)


def _check_driver() -> Iterator[Finding]:
    if not _NVIDIA_DRIVER.exists():
        return
    match = re.search(r"\s(\d+\.\d+(?:\.\d+)?)\s", _NVIDIA_DRIVER.read_text())
    yield Finding("NVIDIA driver", "ok", match.group(1) if match else "version unknown")


def _check_interpreter() -> Iterator[Finding]:
    numpy, triton = _version("numpy"), _version("triton")
    if numpy is None or triton is None:
        return
    found = f"NumPy {numpy} with Triton {triton}"
    repair = "call lincodegen.testing.install_interpreter_fixes() first"
    if parse_version(numpy) >= (2, 4) and parse_version(triton) < (3, 7):
        advice = f"loops over a run-time bound and bfloat16 fail in it: {repair}"
        yield Finding("interpreter", "warn", found, advice)
    else:
        yield Finding("interpreter", "ok", found, f"bfloat16 is wrong in it: {repair}")


def _check_cache() -> Iterator[Finding]:
    yield _check_folder(Path(os.environ.get("TRITON_CACHE_DIR") or _USUAL_TRITON_CACHE))
    yield _check_folder(default_cache_dir())


def _check_folder(folder: Path) -> Finding:
    if not folder.is_dir():
        return Finding("Triton cache", "ok", f"{folder}, empty")
    broken = [file for file in sorted(folder.glob("*/*.json")) if not _is_json(file)]
    if broken:
        names = ", ".join(str(file.parent) for file in broken[:_SHOWN_ENTRIES])
        more = f" and {len(broken) - _SHOWN_ENTRIES} more" if len(broken) > _SHOWN_ENTRIES else ""
        advice = f"delete {names}{more}: Triton fails on them for ever"
        return Finding("Triton cache", "fail", f"{len(broken)} unreadable entries", advice)
    if not os.access(folder, os.W_OK):
        advice = "set TRITON_CACHE_DIR, or XDG_CACHE_HOME, to a folder that can be written"
        return Finding("Triton cache", "fail", f"{folder} is read-only", advice)
    return Finding("Triton cache", "ok", str(folder))


def _check_tools() -> Iterator[Finding]:
    for tool in ("ptxas", "cuobjdump", "nvdisasm"):
        path = find_tool(tool)
        if path is None:
            advice = "install Triton's wheel or the CUDA toolkit: compiling ahead of time needs it"
            yield Finding(tool, "warn", "not found", advice)
        elif not os.access(path, os.X_OK):
            yield Finding(tool, "warn", f"{path} cannot be run", f"chmod +x {path}")
        else:
            yield Finding(tool, "ok", str(path))


def _check_optuna() -> Iterator[Finding]:
    version = _version("optuna")
    if version is None:
        yield Finding("Optuna", "warn", "not installed", "pip install optuna: tuning needs it")
    elif parse_version(version) < (5,):
        yield Finding("Optuna", "warn", version, "pip install -U optuna: tuning needs version 5")
    else:
        yield Finding("Optuna", "ok", version)


def _version(package: str) -> str | None:
    """The installed version; None where the package is missing."""
    if importlib.util.find_spec(package) is None:
        return None
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown version"


def _import_torch() -> ModuleType | None:
    try:
        # heavy, and what may be broken here
        import torch  # noqa: PLC0415
    except (ImportError, OSError):
        return None
    return torch


def _is_json(file: Path) -> bool:
    try:
        json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True
