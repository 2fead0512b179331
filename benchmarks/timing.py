"""Timing of alternatives in alternation, and what a reader must know about the machine."""

from __future__ import annotations

import datetime
import gc
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
WARM_UPS = 3


def alternate(
    calls: Mapping[str, Callable[[], object]], repeats: int, warm_ups: int = WARM_UPS
) -> dict[str, dict[str, Any]]:
    """Wall and processor time of each call, run in turn so that a disturbance meets all.

    The result of a call is dropped before the clock stops.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    processor: dict[str, list[float]] = {name: [] for name in calls}
    gc.collect()
    gc.disable()
    try:
        for repeat in range(-warm_ups, repeats):
            for name, call in calls.items():
                start, busy = time.perf_counter(), time.process_time()
                call()
                spent, busy = time.perf_counter() - start, time.process_time() - busy
                if repeat >= 0:
                    seconds[name].append(spent)
                    processor[name].append(busy)
    finally:
        gc.enable()
    return {
        name: {
            "median_s": statistics.median(seconds[name]),
            "seconds": seconds[name],
            "processor_seconds": processor[name],
        }
        for name in calls
    }


def provenance(packages: Sequence[str], sources: Sequence[str]) -> dict[str, Any]:
    """Machine, versions, threads, date and commit.

    Args:
        packages: Distributions whose versions matter.
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
        "packages": {name: importlib.metadata.version(name) for name in packages},
        "commit": _git("rev-parse", "HEAD").strip(),
        "modified": _git("diff", "--name-only", "HEAD", "--", *sources).split(),
    }


def load_average() -> float:
    """Processes that ran or waited, averaged over the last minute."""
    return round(os.getloadavg()[0], 2)


def write(path: Path, result: Mapping[str, Any]) -> None:
    """A result as JSON, its folder made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _git(*arguments: str) -> str:
    """What git says, nothing where there is no git or no repository."""
    try:
        result = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    except FileNotFoundError:
        return ""
    return result.stdout if result.returncode == 0 else ""
