"""Generated ops as a backend of flash-linear-attention, by its public registry."""

from __future__ import annotations

import importlib
from typing import Any

from lincodegen.integrations import fla

NAME = "lincodegen"
SWITCH = "FLA_LINCODEGEN"

OPERATIONS = {
    "gated_delta_rule": "chunk_gated_delta_rule",
    "generalized_delta_rule.dplr": "chunk_dplr_delta_rule",
}
"""Operations of the registry and the function of each that is replaced."""

ENTRY_POINTS = {
    "fla.ops.kda.chunk": "chunk_kda",
    "fla.ops.simple_gla.fused_chunk": "fused_chunk_simple_gla",
    "fla.ops.simple_gla.fused_recurrent": "fused_recurrent_simple_gla",
}
"""Functions that are dispatched one by one, by the module that defines them."""


def register_fla_backend(priority: int = 1) -> tuple[str, ...]:
    """Registers generated ops with flash-linear-attention and names the functions covered.

    Calls that an op does not honour go on to the library's next backend. ``FLA_LINCODEGEN=0``
    turns the backend off.

    Raises:
        ImportError: flash-linear-attention 0.6 or later is not installed.
    """
    backends = importlib.import_module("fla.backends")
    for operation, name in OPERATIONS.items():
        # the operation's own backends must be there before ours, as its module imports them
        importlib.import_module(f"fla.ops.{operation}")
        backends.register(operation)(_backend(backends, name, priority))
    for module, name in ENTRY_POINTS.items():
        entry = getattr(importlib.import_module(module), name)
        backends.register(entry)(_backend(backends, name, priority))
    return (*OPERATIONS.values(), *ENTRY_POINTS.values())


def _backend(backends: Any, name: str, order: int) -> type:
    """A backend of one function."""
    own = getattr(fla, name)

    def verify(_self: object, *args: object, **kwargs: object) -> tuple[bool, str | None]:
        reason = fla.refusal(name, *args, **kwargs)
        return reason is None, reason

    def compute(_self: object, *args: object, **kwargs: object) -> tuple[Any, Any]:
        return own(*args, **kwargs)

    members = {
        "__doc__": f"{name} by a generated op.",
        "backend_type": NAME,
        "env_var": SWITCH,
        "priority": order,
        f"{name}_verifier": verify,
        name: compute,
    }
    return type("LincodegenBackend", (backends.BaseBackend,), members)
