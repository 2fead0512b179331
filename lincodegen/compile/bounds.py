"""Which jobs need no compiling: the same kernel needed too much with smaller tiles already."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

from lincodegen.compile.job import CompileJob, Resources

SPILLED = 1020
"""Bytes of stack a thread, as many as its 255 registers hold: half of its values are in neither."""


class Bounds:
    """What is known of jobs, and what follows from it for those with larger tiles.

    A program with no tile smaller and as many warps holds no less in each thread. So it does not
    fit either where the smaller one exceeded shared memory with no more stages, and it spills
    and takes time no less, with however many stages, where that one spilled more than `SPILLED`
    or was not ready in time.
    """

    def __init__(self) -> None:
        self._known: dict[str, list[tuple[CompileJob, str, bool]]] = {}

    def note(self, job: CompileJob, found: Resources) -> None:
        """Learns what a job needed."""
        limit = job.target.shared_per_block
        if found.is_late:
            why, staged = f"got {found.error}", False
        elif found.error is None and found.stack_bytes > SPILLED:
            why, staged = f"spills {found.stack_bytes} bytes a thread", False
        elif found.error is None and found.shared_bytes > limit:
            why, staged = f"needs {found.shared_bytes} of {limit} bytes of shared memory", True
        else:
            return
        self._known.setdefault(_family(job), []).append((job, why, staged))

    def reason(self, job: CompileJob) -> str | None:
        """Why a job is not worth compiling, or None: the smaller job and what it needed."""
        for known, why, staged in self._known.get(_family(job), ()):
            if _covers(job, known) and (not staged or job.num_stages >= known.num_stages):
                tiles = ", ".join(f"{n} = {x}" for n, x in _tiles(known).items())
                stages = f"{known.num_stages} stages"
                return f"not compiled: no tile is smaller than in {tiles}, {stages}, which {why}"
        return None


def may_follow(job: CompileJob, other: CompileJob) -> bool:
    """Whether what comes of ``other`` may settle a job."""
    return _family(job) == _family(other) and _covers(job, other)


def volume(job: CompileJob) -> tuple[int, int]:
    """Sorts jobs so that what settles others comes before them."""
    return math.prod(_tiles(job).values()), job.num_stages


def _covers(job: CompileJob, other: CompileJob) -> bool:
    smaller = _tiles(other)
    return all(size >= smaller[name] for name, size in _tiles(job).items())


def _tiles(job: CompileJob) -> dict[str, int]:
    return {n: x for n, x in job.constexprs.items() if type(x) is int}


def _family(job: CompileJob) -> str:
    """All of a job but its tiles and stages."""
    others = {n: None if type(x) is int else x for n, x in job.constexprs.items()}
    return json.dumps(
        [
            *(str(job.source_path), job.kernel_name, job.num_warps, asdict(job.target)),
            *(dict(job.arguments), others, dict(job.options)),
        ]
    )
