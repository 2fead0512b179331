"""Roundings of float arrays to the formats of matrix units, on their bits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BF16_NAN = np.uint16(0x7FC0)
_TF32_BITS = np.uint32(0xFFFFE000)
# a float64 has 29 bits of mantissa more than a float32
_BELOW_FLOAT32 = np.uint64((1 << 29) - 1)


def to_bf16(values: NDArray[Any]) -> NDArray[np.uint16]:
    """Bits of the bfloat16 numbers nearest to ``values``, ties to even, rounded once."""
    values = np.asarray(values)
    exact = _odd_float32(values) if values.dtype == np.float64 else values.astype(np.float32)
    bits = np.ascontiguousarray(exact).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(exact), _BF16_NAN, rounded.astype(np.uint16))


def from_bf16(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """The float32 numbers that bfloat16 bits stand for."""
    return (np.ascontiguousarray(bits).astype(np.uint32) << 16).view(np.float32)


def cut_to_tf32(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Without the 13 low bits: what a matrix unit reads of an unrounded float32 operand."""
    return (np.ascontiguousarray(values).view(np.uint32) & _TF32_BITS).view(np.float32)


def round_to_tf32(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Nearest number of 10 bits of mantissa, ties away from zero (``cvt.rna.tf32.f32``)."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    rounded = ((bits + np.uint32(0x1000)) & _TF32_BITS).view(np.float32)
    return np.where(np.isfinite(values), rounded, values)


def _odd_float32(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Float32 with the last bit set wherever bits were cut off.

    A later rounding to fewer bits is then correct: plain rounding to float32 might first land
    on a tie.
    """
    bits = np.ascontiguousarray(values).view(np.uint64)
    cut = (bits & _BELOW_FLOAT32) != 0
    bits = (bits & ~_BELOW_FLOAT32) | (cut.astype(np.uint64) << np.uint64(29))
    with np.errstate(over="ignore"):
        return np.where(np.isnan(values), np.nan, bits.view(np.float64)).astype(np.float32)
