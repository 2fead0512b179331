"""Where a search begins: at what was fastest for other calls and on other devices."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from lincodegen.tune.search import Point, transferred
from lincodegen.tune.tuner import Task, is_own

if TYPE_CHECKING:
    from lincodegen.config import Bucket
    from lincodegen.tune.records import Record

TRANSFERRED = 5
"""Points that are taken over."""
_Source = tuple[str, str, "Bucket"]


def warm_starts(task: Task, known: Iterable[Record]) -> tuple[Point, ...]:
    """The best points of other buckets and devices, the nearest bucket's and this device's first.

    Records of an earlier text or version count as well. Only what was on record before the task
    was begun does: one that was interrupted begins again at the same points.
    """
    here = task.provenance()
    of_op = [r for r in known if r.op == task.op]
    own = [is_own(task, here, r) for r in of_op]
    times = [r.provenance.time for r, is_mine in zip(of_op, own, strict=True) if is_mine]
    begun = min(times, default=math.inf)
    sources: dict[_Source, dict[Point, float | None]] = {}
    for record, is_mine in zip(of_op, own, strict=True):
        point = task.nearest(record.config)
        if is_mine or point is None or record.times is None or record.provenance.time >= begun:
            continue
        where = record.provenance.device, record.provenance.target, record.bucket
        seconds = record.times.median if record.usable else None
        sources.setdefault(where, {})[point] = seconds

    def far(source: _Source) -> tuple[object, ...]:
        device, target, bucket = source
        steps = task.bucket.distance(bucket)
        apart = math.inf if steps is None else steps
        return apart, device != here.device, target != here.target, str(bucket), device

    return transferred([sources[s] for s in sorted(sources, key=far)], TRANSFERRED)
