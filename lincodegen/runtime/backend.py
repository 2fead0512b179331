"""Which form of an op runs: its Triton kernels or its PyTorch form."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache

import torch

BACKENDS = ("torch", "triton")

_forced: ContextVar[str | None] = ContextVar("lincodegen_backend", default=None)


@contextmanager
def backend(name: str) -> Generator[None]:
    """Inside the block every op takes the path named, ``"torch"`` or ``"triton"``.

    Raises:
        ValueError: there is no such path, or Triton is not installed.
    """
    if name not in BACKENDS:
        raise ValueError(f"backend {name!r}; expected: {' or '.join(BACKENDS)}")
    if name == "triton" and not _has_triton():
        raise ValueError("backend 'triton': the package triton is not installed")
    token = _forced.set(name)
    try:
        yield
    finally:
        _forced.reset(token)


def forced_backend() -> str | None:
    """The path that ``backend`` names, if any."""
    return _forced.get()


def chosen_backend(device: torch.device, dtype: torch.dtype, has_kernels: bool) -> str:
    """The path of a call: the one named by ``backend``, else what the device suggests.

    Kernels compute in float32: what computes in float64 takes the PyTorch form.
    """
    if not has_kernels or dtype == torch.float64:
        return "torch"
    forced = _forced.get()
    if forced is not None:
        _interpreted()
        return forced
    if device.type != "cuda" and not _interpreted():
        return "torch"
    return "triton" if _has_triton() else "torch"


@cache
def _interpreted() -> bool:
    """Whether kernels run in Triton's interpreter, which is mended on the way."""
    if os.environ.get("TRITON_INTERPRET") != "1" or not _has_triton():
        return False
    from lincodegen.testing import install_interpreter_fixes  # noqa: PLC0415  (imports triton)

    install_interpreter_fixes()
    return True


@cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None
