"""Timing of alternatives in alternation, and results in files."""

from __future__ import annotations

import gc
import json
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

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


def write(path: Path, result: Mapping[str, Any]) -> None:
    """A result as JSON, its folder made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
