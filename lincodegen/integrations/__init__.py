"""Generated ops where other libraries call their own.

Neither transformers nor flash-linear-attention is imported before it is asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lincodegen.integrations.fla_backend import register_fla_backend
    from lincodegen.integrations.transformers import patch_transformers

__all__ = ["patch_transformers", "register_fla_backend"]

_HOMES = {"patch_transformers": "transformers", "register_fla_backend": "fla_backend"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
