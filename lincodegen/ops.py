"""The shipped ops: ``from lincodegen.ops import NAME`` imports the one that is named."""

from __future__ import annotations

from typing import Any

from lincodegen.loading import load_shipped, shipped_names


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any op
    if name.startswith("_"):
        raise AttributeError(name)
    return load_shipped(name)


def __dir__() -> list[str]:
    return list(shipped_names())
