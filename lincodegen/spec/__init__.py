"""Stage ``spec``: what the operator is. ``load(path) -> Recurrence``."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lincodegen.spec.loader import load

__all__ = ["load"]


def __getattr__(name: str) -> object:
    """Import the loader, and with it the YAML parser, when it is first asked for."""
    if name == "load":
        return import_module("lincodegen.spec.loader").load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
