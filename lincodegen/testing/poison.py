"""Uninitialised memory that is visibly wrong: an output or a scratch element left out is NaN."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

import torch

_ALLOCATORS = (
    (torch, "empty"),
    (torch, "empty_like"),
    (torch, "empty_strided"),
    (torch.Tensor, "new_empty"),
    (torch.Tensor, "new_empty_strided"),
)


@contextmanager
def poisoned_empty() -> Generator[None]:
    """Within it, what torch allocates uninitialised from Python is NaN, integers their maximum.

    Meta and fake tensors are left alone: they have no memory.
    """
    with ExitStack() as stack:
        for owner, name in _ALLOCATORS:
            allocate = getattr(owner, name)
            stack.enter_context(patch.object(owner, name, _poisoning(allocate)))
        yield


def _poisoning(allocate: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    def poisoned(*args: object, **kwargs: object) -> torch.Tensor:
        tensor = allocate(*args, **kwargs)
        if tensor.device.type == "meta" or type(tensor) is not torch.Tensor:
            return tensor
        with torch.no_grad():
            return tensor.fill_(_poison(tensor.dtype))

    return poisoned


def _poison(dtype: torch.dtype) -> float | int | bool:
    if dtype.is_floating_point or dtype.is_complex:
        return float("nan")
    return True if dtype == torch.bool else torch.iinfo(dtype).max
