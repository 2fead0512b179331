"""When ops are registered with torch.library: before something can trace them, and not sooner.

That is a call of the op on tensors without values, or the import of the PyTorch compiler or of the
reader of saved programs, since neither can trace a registration. Most processes do none of it and
are spared the milliseconds.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable

_TRACERS = frozenset({"torch._dynamo", "torch._inductor", "torch.export.pt2_archive"})
"""Modules that trace a program or load one that was saved."""

_waiting: list[Callable[[], object]] = []
_lock = threading.RLock()


class _BeforeTracers:
    """Finds no module; the import of a tracer asks it first, and ops are registered then."""

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> None:
        """None, as of a finder that does not know a module."""
        if name in _TRACERS:
            register_all()


def before_tracers(register: Callable[[], object]) -> None:
    """Has an op registered before a tracer is imported: at once if one is."""
    _waiting.append(register)
    if not _TRACERS.isdisjoint(sys.modules):
        register_all()


def register_all() -> None:
    """Registers the ops that are imported.

    For what runs them by their names in ``torch.ops`` and imports no tracer.
    """
    with _lock:
        while _waiting:
            _waiting.pop(0)()


sys.meta_path.insert(0, _BeforeTracers())
