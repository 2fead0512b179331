"""Memory that torch hands out uninitialised is NaN within the context, and only there."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from lincodegen.testing import poisoned_empty

LIKE = torch.zeros(3, 5)
ALLOCATIONS: dict[str, Callable[..., torch.Tensor]] = {
    "empty": lambda **kw: torch.empty(3, 5, **kw),
    "empty_of_shape": lambda **kw: torch.empty((3, 5), **kw),
    "empty_like": lambda **kw: torch.empty_like(LIKE, **kw),
    "empty_strided": lambda **kw: torch.empty_strided((3, 5), (5, 1), **kw),
    "new_empty": lambda **kw: LIKE.new_empty(3, 5, **kw),
    "new_empty_strided": lambda **kw: LIKE.new_empty_strided((3, 5), (5, 1), **kw),
}


@pytest.mark.parametrize("name", ALLOCATIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_floats_are_nan(name: str, dtype: torch.dtype) -> None:
    with poisoned_empty():
        tensor = ALLOCATIONS[name](dtype=dtype)
    assert tensor.dtype == dtype
    assert tensor.shape == (3, 5)
    assert torch.isnan(tensor).all()


@pytest.mark.parametrize("name", ALLOCATIONS)
def test_integers_are_far_out_of_range(name: str) -> None:
    with poisoned_empty():
        tensor = ALLOCATIONS[name](dtype=torch.int32)
    assert (tensor == torch.iinfo(torch.int32).max).all()


def test_a_gradient_may_flow_through_what_is_allocated() -> None:
    with poisoned_empty():
        tensor = torch.empty(4, requires_grad=True)
    tensor.sum().backward()
    assert torch.equal(tensor.grad, torch.ones(4))


def test_tensors_without_memory_are_left_alone() -> None:
    with poisoned_empty(), FakeTensorMode():
        fake = torch.empty(4)
    with poisoned_empty():
        meta = torch.empty(4, device="meta")
    assert fake.shape == meta.shape == (4,)


def test_the_functions_come_back_even_after_an_error() -> None:
    before = [torch.empty, torch.empty_like, torch.Tensor.new_empty]
    with pytest.raises(RuntimeError, match="negative dimension"), poisoned_empty():
        torch.empty(-1)
    assert [torch.empty, torch.empty_like, torch.Tensor.new_empty] == before
