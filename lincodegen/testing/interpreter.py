"""Repairs of Triton's CPU interpreter.

The interpreter keeps bfloat16 as 16-bit integers and computes on those integers. Here every
operation that reads them widens its operands to float32 first and rounds its result once. What
only moves bits (loads, stores, transposes, reshapes, selects) is right already.

Full float32 products add up in the order of the contracted index, as a GPU's fused multiply-adds
do. NumPy's add up in the lanes of a vector register first: where the terms alternate in sign,
as for equal keys and a rate of 2, that costs a factor of ten in accuracy. Masks are made boolean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any, Protocol

import numpy as np
import triton
import triton.language as tl
from numpy.typing import NDArray
from triton.runtime import interpreter
from triton.runtime.interpreter import InterpreterBuilder, ReduceOps, ScanOps, TensorHandle

from lincodegen.testing.rounding import cut_to_tf32, from_bf16, round_to_tf32, to_bf16

Method = Callable[..., Any]
Array = NDArray[Any]


class LangPatchScope(Protocol):
    """Where the interpreter notes what it replaces in ``triton.language`` during a launch."""

    def set_attr(self, obj: object, name: str, value: object) -> None:
        """Sets an attribute until the launch ends."""


@dataclass(slots=True)
class _Mode:
    installed: bool = False
    emulate_tf32: bool = False


_MODE = _Mode()


def install(*, emulate_tf32: bool) -> None:
    """Patches the interpreter's classes once; the last call decides about tf32."""
    _MODE.emulate_tf32 = emulate_tf32
    if _MODE.installed:
        return
    _MODE.installed = True
    for owner, name, repair in _repairs():
        setattr(owner, name, repair(getattr(owner, name, None)))


def _repairs() -> Iterator[tuple[object, str, Callable[[Any], Method]]]:
    """What is replaced: owner, name, and the function from the old method to the new one."""
    for name in ("binary_op", "unary_op", "ternary_op"):
        yield InterpreterBuilder, name, _in_float32
    yield InterpreterBuilder, "create_dot", _exact_products
    yield InterpreterBuilder, "create_fma", _rounded_once
    yield InterpreterBuilder, "cast_impl", _rounding_cast
    yield InterpreterBuilder, "get_bf16", _constant
    yield InterpreterBuilder, "create_masked_load", partial(_boolean_mask, at=1)
    yield InterpreterBuilder, "create_masked_store", partial(_boolean_mask, at=2)
    yield ReduceOps, "sum", _reduced_in_float32
    yield ReduceOps, "min_max", _compared_in_float32
    yield ScanOps, "cumsum", _reduced_in_float32
    yield ScanOps, "cumprod", _reduced_in_float32
    if tuple(int(part) for part in triton.__version__.split(".")[:2]) < (3, 7):
        yield interpreter, "_patch_lang_tensor", _indexable


def _is_bf16(handle: TensorHandle) -> bool:
    # a comparison's result has the type of its operands, but holds booleans
    return handle.dtype.scalar == tl.bfloat16 and handle.data.dtype == np.uint16


def _widen(handle: TensorHandle) -> TensorHandle:
    return TensorHandle(from_bf16(handle.data), tl.float32) if _is_bf16(handle) else handle


def _bf16(values: Array) -> TensorHandle:
    return TensorHandle(to_bf16(values), tl.bfloat16)


def _in_float32(method: Method) -> Method:
    """For methods that take handles, then the NumPy function to apply to them."""

    def compute(
        builder: InterpreterBuilder, *operands: TensorHandle | Callable[..., Array]
    ) -> TensorHandle:
        handles = [operand for operand in operands if isinstance(operand, TensorHandle)]
        if not any(_is_bf16(handle) for handle in handles):
            return method(builder, *operands)
        result = method(builder, *(_widen(handle) for handle in handles), operands[-1])
        return _bf16(result.data) if result.data.dtype == np.float32 else result

    return compute


def _exact_products(method: Method) -> Method:
    def create_dot(
        builder: InterpreterBuilder,
        a: TensorHandle,
        b: TensorHandle,
        acc: TensorHandle,
        precision: Enum,
        max_num_imprecise_acc: int,
    ) -> TensorHandle:
        how = precision, max_num_imprecise_acc
        if _is_bf16(a) or _is_bf16(b):
            return method(builder, _widen(a), _widen(b), acc, *how)
        if not a.data.dtype == b.data.dtype == np.float32:
            return method(builder, a, b, acc, *how)
        if precision.name == "IEEE" and a.data.ndim == 2:
            return TensorHandle(_in_order(a.data, b.data, acc.data), acc.dtype.scalar)
        if not _MODE.emulate_tf32:
            return method(builder, a, b, acc, *how)
        for left, right in _tf32_terms(a.data, b.data, precision.name):
            term = TensorHandle(left, tl.float32), TensorHandle(right, tl.float32)
            acc = method(builder, *term, acc, *how)
        return acc

    return create_dot


def _in_order(a: Array, b: Array, acc: Array) -> Array:
    """acc + a b, one index of the contraction after the other."""
    total = acc.astype(np.float32)
    term = np.empty_like(total)
    for column, row in zip(a.T, b, strict=True):
        np.multiply(column[:, None], row, out=term)
        total += term
    return total


def _tf32_terms(a: Array, b: Array, precision: str) -> tuple[tuple[Array, Array], ...]:
    """Pairs of operands whose products the matrix unit adds up, smallest first.

    Triton hands plain tf32 operands over unrounded; for tf32x3 it rounds high and low parts.
    """
    if precision == "TF32":
        return ((cut_to_tf32(a), cut_to_tf32(b)),)
    if precision == "TF32x3":
        a_high, b_high = round_to_tf32(a), round_to_tf32(b)
        a_low, b_low = round_to_tf32(a - a_high), round_to_tf32(b - b_high)
        return (a_low, b_high), (a_high, b_low), (a_high, b_high)
    return ((a, b),)


def _rounded_once(method: Method) -> Method:
    def create_fma(
        builder: InterpreterBuilder, x: TensorHandle, y: TensorHandle, z: TensorHandle
    ) -> TensorHandle:
        if not _is_bf16(z):
            return method(builder, x, y, z)
        # products of two bfloat16 numbers are exact in float64
        wide = [_widen(operand).data.astype(np.float64) for operand in (x, y, z)]
        return _bf16(wide[0] * wide[1] + wide[2])

    return create_fma


def _rounding_cast(method: Method) -> Method:
    def cast_impl(
        builder: InterpreterBuilder, src: TensorHandle, dst_type: tl.dtype
    ) -> TensorHandle:
        if dst_type.scalar == tl.bfloat16:
            return src if _is_bf16(src) else _bf16(src.data)
        return method(builder, _widen(src), dst_type)

    return cast_impl


def _constant(_: Method | None) -> Method:
    """Triton before 3.9 has none."""

    def get_bf16(_builder: InterpreterBuilder, value: float) -> TensorHandle:
        return _bf16(np.array([value], dtype=np.float64))

    return get_bf16


def _boolean_mask(method: Method, *, at: int) -> Method:
    """A mask of a block and a scalar holds int32, which Triton from 3.9 on refuses.

    Loads through descriptors pass a plain array, and options by name.
    """

    def access(builder: InterpreterBuilder, *operands: Any, **options: Any) -> Any:  # noqa: ANN401
        mask = operands[at]
        plain = TensorHandle(np.asarray(mask.data, dtype=np.bool_), tl.int1)
        return method(builder, *operands[:at], plain, *operands[at + 1 :], **options)

    return access


def _reduced_in_float32(method: Method) -> Method:
    def reduce(operation: ReduceOps | ScanOps, tensor: tl.tensor) -> tl.tensor | list[tl.tensor]:
        if not _is_bf16(tensor.handle):
            return method(operation, tensor)
        result = method(operation, _widen_tensor(tensor))
        return [_narrow(r) for r in result] if isinstance(result, list) else _narrow(result)

    return reduce


def _compared_in_float32(method: Method) -> Method:
    def min_max(
        operation: ReduceOps,
        tensor: tl.tensor | tuple[tl.tensor, ...],
        **reductions: Callable[..., Array] | None,
    ) -> tl.tensor | tuple[tl.tensor, tl.tensor]:
        value = tensor[0] if isinstance(tensor, tuple) else tensor
        if not _is_bf16(value.handle):
            return method(operation, tensor, **reductions)
        result = method(operation, _widen_tensor(value), **reductions)
        if isinstance(result, tuple):
            return _narrow(result[0]), result[1]
        return _narrow(result) if result.dtype == tl.float32 else result

    return min_max


def _widen_tensor(tensor: tl.tensor) -> tl.tensor:
    return tl.tensor(_widen(tensor.handle), _with_scalar(tensor.type, tl.float32))


def _narrow(tensor: tl.tensor) -> tl.tensor:
    return tl.tensor(_bf16(tensor.handle.data), _with_scalar(tensor.type, tl.bfloat16))


def _with_scalar(kind: tl.core.base_type, scalar: tl.dtype) -> tl.dtype:
    return tl.block_type(scalar, list(kind.shape)) if isinstance(kind, tl.block_type) else scalar


def _indexable(method: Method) -> Method:
    """NumPy from 2.4 on refuses ``int()`` of an array of one element and one dimension."""

    def patch_lang_tensor(tensor: type[tl.tensor], scope: LangPatchScope) -> None:
        method(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    return patch_lang_tensor
