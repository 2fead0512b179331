"""Where a record comes from: this machine, its device, and the text that was run."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import socket
import time
from pathlib import Path

import torch

from lincodegen.errors import TuningError
from lincodegen.loading import package_digest_in
from lincodegen.runtime.tuned import code_digest, device_header
from lincodegen.tune.records import Provenance

_NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")


def provenance(folder: Path, device: torch.device, seed: int) -> Provenance:
    """Provenance of a record made now, of the generated package in a folder."""
    header = device_header(device)
    return Provenance(
        header.device,
        header.target,
        _driver(device),
        torch.__version__,
        _version("triton"),
        package_digest_in(folder) or "",
        code_digest(folder),
        seed,
        time.time(),
        socket.gethostname(),
    )


def require(device: str) -> None:
    """Refuses a device that is not there.

    Raises:
        TuningError: PyTorch can use no GPU.
    """
    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        raise TuningError(
            f"device {device}: PyTorch can use no GPU here; `lincodegen doctor` says why, and "
            "--device cpu does without."
        )


def _driver(device: torch.device) -> str:
    """The version of the kernel's module; of a CPU the operating system and processor."""
    if device.type != "cuda":
        return f"{platform.system()} {platform.machine()}"
    try:
        match = re.search(r"\s(\d+\.\d+(?:\.\d+)?)\s", _NVIDIA_DRIVER.read_text())
    except OSError:
        return "unknown"
    return match.group(1) if match else "unknown"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "none"
