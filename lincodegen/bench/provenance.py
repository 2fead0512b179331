"""Where a result comes from: machine, versions, commit, date, load."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from lincodegen.resources import specs_dir


def provenance(packages: Iterable[str], sources: Sequence[str]) -> dict[str, Any]:
    """Machine, versions, threads, date and commit.

    Args:
        packages: Distributions whose versions matter; those that are not installed are left out.
        sources: Paths in the repository that are measured; ``modified`` lists those of their
            files that differ from the commit.
    """
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": _versions(packages),
        "commit": _git("rev-parse", "HEAD").strip(),
        "modified": _git("diff", "--name-only", "HEAD", "--", *sources).split(),
    }


def gpu(device: torch.device) -> dict[str, Any]:
    """Name, driver and CUDA version of a GPU; nothing for a CPU."""
    if device.type != "cuda":
        return {}
    return {
        "gpu": torch.cuda.get_device_name(device),
        "driver": _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
        "cuda": torch.version.cuda,
    }


def load_average() -> float:
    """Processes that ran or waited, averaged over the last minute."""
    return round(os.getloadavg()[0], 2)


def _versions(packages: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _git(*arguments: str) -> str:
    """What git says, nothing where there is no git or no repository."""
    return _output("git", "-C", str(specs_dir().parent), *arguments)


def _output(*command: str) -> str:
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""
