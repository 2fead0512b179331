"""Runs of the benchmarks one after the other, each going on behind the work that ended the last."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path

from lincodegen.gpu_check.peers import BROKEN

LEAST_S = 15.0
"""Less is not worth a process."""
_SHARE = 0.9
"""Of the time until the end; the rest is for the work that is under way when it is over."""


def run_peers(
    device: str, out: Path, ops: Sequence[str], budget_s: float, environment: Mapping[str, str]
) -> str:
    """Runs the benchmarks in processes of their own; says what went wrong.

    Results lie in ``bench.json``, ``bench-2.json`` and so on, what was printed in ``bench.log``.
    """
    end, last = time.monotonic() + budget_s, ""
    said: list[str] = []
    for number in count(1):
        left_s = end - time.monotonic()
        if number > 1 and left_s < LEAST_S:
            break
        path = out / ("bench.json" if number == 1 else f"bench-{number}.json")
        path.unlink(missing_ok=True)
        given = (device, str(path), str(_SHARE * left_s), ",".join(ops), last)
        status = _run(given, out / "bench.log", left_s, environment)
        if status == 0:
            break
        left = _left(path)
        if status is None:
            said.append(f"cut off when its time was over, at {left[0] if left else 'the start'}")
            break
        if not left:
            said.append(f"ended with status {status}: {_last_line(out / 'bench.log')}")
            break
        said.append(f"{path.name} ended with status {status} at {left[0]}")
        # who dies leaves the work on which it died; who breaks the device has noted it
        count_left = len(left) - (status != BROKEN)
        if count_left == 0:
            break
        last = str(count_left)
    return "; ".join(said)


def _left(path: Path) -> list[str]:
    """The works of a file that were not done, the one that was under way first."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))["left"]
    except OSError:
        return []


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8").strip().splitlines()
    return lines[-1] if lines else "no message"


def _run(
    given: Sequence[str], log: Path, timeout_s: float, environment: Mapping[str, str]
) -> int | None:
    """The exit status; None if it was killed."""
    command = [sys.executable, "-m", "lincodegen.gpu_check.peers", *given]
    with log.open("a", encoding="utf-8") as file:
        try:
            done = subprocess.run(
                command, stdout=file, stderr=file, env=environment, timeout=timeout_s, check=False
            )
        except subprocess.TimeoutExpired:
            return None
    return done.returncode
