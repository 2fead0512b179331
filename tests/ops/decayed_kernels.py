"""Kernels around one call of the decayed products."""

import triton
import triton.language as tl

from lincodegen.runtime.bounded import bounded_products
from lincodegen.runtime.tiles import decayed_products


@triton.jit
def decayed_kernel(  # noqa: PLR0913
    x,
    y,
    z,
    g,
    KIND: tl.constexpr,
    READS: tl.constexpr,
    WRITES: tl.constexpr,
    OWN: tl.constexpr,
    BOUNDED: tl.constexpr,
    N: tl.constexpr,
    K: tl.constexpr,
):
    """z[0] of x and y, z[1] of x and -y; two log decays a token, g [2, N, K]."""
    WIDE: tl.constexpr = KIND == "gram"
    TO: tl.constexpr = N * len(WRITES if KIND == "columns" else READS)
    FROM: tl.constexpr = N * len(READS if KIND == "columns" else WRITES)
    o_to, o_from, o_k, o_n = tl.arange(0, TO), tl.arange(0, FROM), tl.arange(0, K), tl.arange(0, N)
    b_y = tl.load(y + o_from[:, None] * K + o_k[None, :])
    b_g = tl.load(g + o_n[:, None] * K + o_k[None, :])
    b_h = tl.load(g + (N + o_n)[:, None] * K + o_k[None, :])
    o_x = o_k if WIDE else o_from
    b_x = tl.load(x + o_to[:, None] * (K if WIDE else FROM) + o_x[None, :])
    b_x = b_x if WIDE else b_x.to(tl.float32)
    products = ((b_x, b_y, OWN), (b_x, -b_y, OWN))
    if BOUNDED:
        b_z, b_w = bounded_products(KIND, products, (b_g, b_h), READS, WRITES, y.dtype.element_ty)
    else:
        b_z, b_w = decayed_products(KIND, products, (b_g, b_h), READS, WRITES, y.dtype.element_ty)
    o_z = o_from if WIDE else o_k
    C: tl.constexpr = FROM if WIDE else K
    tl.store(z + o_to[:, None] * C + o_z[None, :], b_z)
    tl.store(z + TO * C + o_to[:, None] * C + o_z[None, :], b_w)
