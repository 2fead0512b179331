"""Kernels from a written recurrence: derived, proved, emitted, verified.

op = lincodegen.load("my_rule.yaml")
o, final_state = op(q, k, v, g)
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lincodegen.version import VERSION

if TYPE_CHECKING:
    from lincodegen.runtime.backend import backend
    from lincodegen.runtime.schedules import use_schedule

__all__ = ["backend", "load", "use_schedule"]
__version__ = VERSION

_MODULES = {
    "backend": "lincodegen.runtime.backend",
    "use_schedule": "lincodegen.runtime.schedules",
}


def load(spec: str | Path, *, sets: Mapping[str, int] | None = None) -> Any:  # noqa: ANN401
    """The op of a spec file, built into the cache unless it is there.

    The cache is ``$LINCODEGEN_CACHE`` or ``~/.cache/lincodegen``. ``sets`` gives integer
    constants other values than the file does.

    Raises:
        SpecError: the file has mistakes; the error lists them all.
    """
    from lincodegen.pipeline import load_op  # noqa: PLC0415 - torch and sympy come with it

    return load_op(Path(spec), sets or {})


def __getattr__(name: str) -> Any:  # noqa: ANN401 - torch is imported when it is first needed
    if name in _MODULES:
        return vars(import_module(_MODULES[name]))[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
