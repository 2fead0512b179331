"""What a schedule must know of a GPU: one data file per architecture, and what a driver tells."""

from lincodegen.targets.device import DeviceProperties, from_device
from lincodegen.targets.miscompilations import Miscompilation, known_miscompilations
from lincodegen.targets.target import (
    LEAST_SEGMENT,
    Target,
    list_targets,
    load_target,
    nearest_tables,
    segment_chunks,
    splits_reads,
)

__all__ = [
    "LEAST_SEGMENT",
    "DeviceProperties",
    "Miscompilation",
    "Target",
    "from_device",
    "known_miscompilations",
    "list_targets",
    "load_target",
    "nearest_tables",
    "segment_chunks",
    "splits_reads",
]
