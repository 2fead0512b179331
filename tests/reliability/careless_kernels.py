"""Kernels with one fault each, as a log of accesses must find it, and one without."""

import triton
import triton.language as tl


@triton.jit
def tail_kernel(x, y):
    """Reads past the last element."""
    o = tl.program_id(0) * 16 + tl.arange(0, 16)
    tl.store(y + o, tl.load(x + o))


@triton.jit
def shared_kernel(x, y):
    """Every program writes the first elements."""
    o = tl.arange(0, 16)
    tl.store(y + o, tl.load(x + o))


@triton.jit
def narrow_kernel(x, y):
    """The product of the offset overflows before it is wide."""
    o = (tl.program_id(0) * 16 + tl.arange(0, 16)).to(tl.int64)
    tl.store(y + o, tl.load(x + o))


@triton.jit
def wide_kernel(x, y):
    """A row of 16 a program."""
    o = tl.program_id(0).to(tl.int64) * 16 + tl.arange(0, 16)
    tl.store(y + o, tl.load(x + o))
