"""The arguments of a call by name, bound by code that the PyTorch compiler can trace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Parameters:
    """What a Python function takes.

    Attributes:
        names: in order.
        defaults: of those that have one.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        code: Any = getattr(function, "__code__")  # noqa: B009 - of functions, not of callables
        self.names: tuple[str, ...] = code.co_varnames[: code.co_argcount]
        defaults: Any = getattr(function, "__defaults__")  # noqa: B009
        self.defaults = dict(zip(reversed(self.names), reversed(defaults or ()), strict=False))

    def bound(self, op: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments by name; ``inspect`` is not traced.

        Raises:
            TypeError: an argument is unknown, given twice or not given.
        """
        if len(args) > len(self.names):
            raise TypeError(f"{op}: {len(args)} arguments")
        given = dict(self.defaults)
        given.update(zip(self.names, args, strict=False))
        for name, value in kwargs.items():
            if name not in self.names:
                raise TypeError(f"{op}: there is no argument {name}")
            if name in self.names[: len(args)]:
                raise TypeError(f"{op}: {name} is given twice")
            given[name] = value
        for name in self.names:
            if name not in given:
                raise TypeError(f"{op}: {name} is not given")
        return given
