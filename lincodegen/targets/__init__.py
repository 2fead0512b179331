"""What a schedule must know of a GPU: one data file per architecture, and what a driver tells."""

from lincodegen.targets.device import from_device
from lincodegen.targets.target import Target, list_targets, load_target

__all__ = ["Target", "from_device", "list_targets", "load_target"]
