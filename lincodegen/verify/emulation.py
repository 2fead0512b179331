"""An op with the roundings of its 16-bit kernels: the emulator of rule F3.

The PyTorch form of a generated package has the equations of its kernels in float32. Here the
operands of its matrix products are rounded, as a kernel's are before a dot; what a kernel
keeps in float32, the state, sums, clock and inverse among them, stays as it is.
"""

from __future__ import annotations

import functools
import importlib.util
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from lincodegen.runtime.backend import backend
from lincodegen.runtime.chunks import ChannelSpan, Clock
from lincodegen.verify.call import Op


def emulator(op: Op, dtype: torch.dtype) -> Op | None:
    """The op with rounded products; None for one that is no generated package with kernels."""
    module = sys.modules.get(getattr(op, "__module__", ""))
    name = getattr(op, "__name__", "")
    if module is None or not hasattr(module, "chunk"):
        return None
    copied = _copy(module, f"{module.__name__}_{str(dtype).removeprefix('torch.')}")
    # the name in the package is the module itself once something of it was used
    chunk: Any = importlib.import_module(f"{copied.__name__}.chunk")
    if dtype == torch.float16 and hasattr(chunk, "ChannelSpan"):
        chunk.ChannelSpan = _general_span
    for key, value in vars(chunk).items():
        if key.startswith(("forward", "backward")):
            setattr(chunk, key, _rounding(value, dtype))

    def emulated(*args: object, **kwargs: object) -> object:
        with backend("torch"):
            return vars(copied)[name](*args, **kwargs)

    return emulated


def _general_span(to: Clock, origin: Clock, tokens: int, _bound: float = math.inf) -> ChannelSpan:
    """float16 holds no more than 2^16: its kernels take the general form whatever the bound."""
    return ChannelSpan(to, origin, tokens)


def _copy(module: ModuleType, name: str) -> ModuleType:
    """A second instance of a package, with modules of its own."""
    if name in sys.modules:
        return sys.modules[name]
    path = Path(str(module.__file__))
    spec = importlib.util.spec_from_file_location(
        name, path, submodule_search_locations=[str(path.parent)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no package")
    copied = importlib.util.module_from_spec(spec)
    sys.modules[name] = copied
    spec.loader.exec_module(copied)
    return copied


def _rounding(function: Callable[..., Any], dtype: torch.dtype) -> Callable[..., Any]:
    if getattr(function, "__wrapped__", None) is not None:
        return function

    @functools.wraps(function)
    def rounded(*args: object) -> object:
        with _RoundedProducts(dtype):
            return function(*args)

    return rounded


class _RoundedProducts(TorchFunctionMode):
    """Rounds the operands of ``@``; ``torch.matmul`` is left in full."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> object:
        if func is torch.Tensor.matmul:
            args = [x.to(self.dtype).to(x.dtype) for x in args]
        return func(*args, **(kwargs or {}))
