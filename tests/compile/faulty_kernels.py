"""Kernels that do not compile, each in another stage of the compiler."""

import triton
import triton.language as tl


@triton.jit
def wrong_shapes(x):
    tl.store(x, tl.arange(0, 8) + tl.arange(0, 16))


@triton.jit
def unknown_instruction(x):
    value = tl.inline_asm_elementwise(
        "no.such.instruction $0, $1;", "=r,r", [tl.load(x)], tl.int32, is_pure=True, pack=1
    )
    tl.store(x, value)


def no_kernel(x):
    return x
