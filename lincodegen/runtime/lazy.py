"""Modules that are read when something of them is first used."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cached_property
from types import ModuleType
from typing import Any


class Lazy:
    """A module's functions, as attributes.

    It stands for the module in no table: what looks through all modules would read it.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    @cached_property
    def module(self) -> ModuleType:
        """The module itself."""
        return importlib.import_module(self._name)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return getattr(self.module, name)


def lazy(package: str, *names: str) -> tuple[Lazy, ...]:
    """Modules of a package.

    A call runs one form of an op, and the sources of kernels take tens of milliseconds to read.
    """
    return tuple(Lazy(f"{package}.{name}") for name in names)
