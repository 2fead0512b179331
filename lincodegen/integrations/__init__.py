"""Generated ops where other libraries call their own.

Neither transformers nor flash-linear-attention is imported before it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lincodegen.integrations.fla_backend import register_fla_backend
    from lincodegen.integrations.transformers import patch_transformers

__all__ = ["patch_transformers", "register_fla_backend"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - torch is imported when it is first needed
    if name == "patch_transformers":
        from lincodegen.integrations.transformers import patch_transformers  # noqa: PLC0415

        return patch_transformers
    if name == "register_fla_backend":
        from lincodegen.integrations.fla_backend import register_fla_backend  # noqa: PLC0415

        return register_fla_backend
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
