"""Tile functions of the generated Triton kernels: inverse, decayed products, inner product.

A chunk's rows are token-major, ``RS`` (``CS``) slots a token on the row (column) axis.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _quadrants(b_n, BC: tl.constexpr):
    """N11, N21, N22 of [2 BC, 2 BC]; N12 is zero."""
    b_cols = tl.permute(tl.reshape(b_n, [2, BC, 2, BC]), [1, 3, 0, 2])
    b_left, b_right = tl.split(b_cols)
    b_n11, b_n21 = tl.split(b_left)
    _, b_n22 = tl.split(b_right)
    return b_n11, b_n21, b_n22


@triton.jit
def _lower_blocks(b_t11, b_t21, b_t22, BC: tl.constexpr):
    """[[T11, 0], [T21, T22]] of [BC, BC] blocks."""
    b_left = tl.join(b_t11, b_t21)
    b_right = tl.join(tl.zeros_like(b_t22), b_t22)
    return tl.reshape(tl.permute(tl.join(b_left, b_right), [2, 0, 3, 1]), [2 * BC, 2 * BC])


@triton.jit
def _merged_16(b_n):
    """(I - N)^-1 of one [16, 16] block, by merging blocks of 2, 4 and 8."""
    o_r = tl.arange(0, 16)[:, None]
    o_c = tl.arange(0, 16)[None, :]
    b_t = tl.where(o_r == o_c, 1.0, 0.0) + tl.where(o_r // 2 == o_c // 2, b_n, 0.0)
    for i in tl.static_range(1, 4):
        # the lower left quadrants of the diagonal blocks of 4, 8, 16
        m_n21 = (o_r >> (i + 1) == o_c >> (i + 1)) & (o_r >> i != o_c >> i)
        b_nt = tl.dot(tl.where(m_n21, b_n, 0.0), b_t, input_precision="ieee")
        b_t += tl.dot(b_t, b_nt, input_precision="ieee")
    return b_t


@triton.jit
def _substituted_16(b_n):
    """(I - N)^-1 of one [16, 16] block, row by row: row i is e_i + N_i T."""
    o_r = tl.arange(0, 16)[:, None]
    o_c = tl.arange(0, 16)[None, :]
    b_t = tl.where(o_r == o_c, 1.0, 0.0)
    for i in tl.static_range(1, 16):
        # entry j of row i of N, beside row j of T
        b_ni = tl.sum(tl.where(o_r == i, b_n, 0.0), 0)
        b_t += tl.where(o_r == i, tl.sum(b_ni[:, None] * b_t, 0)[None, :], 0.0)
    return b_t


@triton.jit
def unit_lower_inverse(b_n, BT: tl.constexpr, METHOD: tl.constexpr):
    """(I - N)^{-1} of a strictly lower triangular [BT, BT] tile, float32; BT >= 16.

    Neighbouring blocks merge to [[T11, 0], [T22 N21 T11, T22]]: block substitution, so that
    nothing grows that is not in the inverse itself. Quadrants are cut out and put together by
    split and join, in registers: no dot is larger than half the tile, which keeps float32
    dots from spilling. METHOD is one of `lincodegen.config.INVERSES`.
    """
    PRECISION: tl.constexpr = "tf32x3" if METHOD == "tf32x3" else "ieee"
    if BT == 16:
        b_t = _substituted_16(b_n) if METHOD == "rows" else _merged_16(b_n)
    else:
        b_n11, b_n21, b_n22 = _quadrants(b_n, BT // 2)
        b_t11 = unit_lower_inverse(b_n11, BT // 2, METHOD)
        b_t22 = unit_lower_inverse(b_n22, BT // 2, METHOD)
        b_nt = tl.dot(b_n21, b_t11, input_precision=PRECISION)
        b_t21 = tl.dot(b_t22, b_nt, input_precision=PRECISION)
        b_t = _lower_blocks(b_t11, b_t21, b_t22, BT // 2)
    return b_t


@triton.jit
def _total(m_in, b_g, BITS: tl.constexpr):
    """[R, K]: for each row the sum of the log decays where a mask [R, N] holds.

    A product on tensor cores. For bfloat16 operands one float16 part of a log decay has 11 bits:
    the decay 2^-x is off by 2^-11 x ln 2 of itself, never by more than 2e-4 of 1, and the same
    rounded logs stand in every factor of a chunk. For float16 operands, which have as many bits,
    two parts have 22; for float32 operands three bfloat16 parts have 24.
    """
    if BITS == 24:
        b_in = m_in.to(tl.bfloat16)
        b_high = b_g.to(tl.bfloat16)
        b_rest = b_g - b_high.to(tl.float32)
        b_low = b_rest.to(tl.bfloat16)
        b_sum = tl.dot(b_in, b_high) + tl.dot(b_in, b_low)
        b_sum += tl.dot(b_in, (b_rest - b_low.to(tl.float32)).to(tl.bfloat16))
    else:
        b_in, b_high = m_in.to(tl.float16), b_g.to(tl.float16)
        b_sum = tl.dot(b_in, b_high)
        if BITS == 22:
            b_sum += tl.dot(b_in, (b_g - b_high.to(tl.float32)).to(tl.float16))
    return b_sum


@triton.constexpr_function
def bits_of_logs(dtype):
    """Bits of a log decay that sums of them take, beside operands of a dtype."""
    return 24 if dtype == tl.float32 else 22 if dtype == tl.float16 else 11


@triton.jit
def _passed(N: tl.constexpr, LOGS: tl.constexpr, PASSED: tl.constexpr):
    """(token, log decays passed since the chunk's start) of every row of an axis."""
    SLOTS: tl.constexpr = len(PASSED)
    o_r = tl.arange(0, N * SLOTS)
    o_t = o_r // SLOTS
    o_p = o_t * LOGS
    for j in tl.static_range(SLOTS):
        o_p += tl.where(o_r % SLOTS == j, PASSED[j], 0)
    return o_t, o_p


@triton.jit
def prefix_sum(b_logs, PASSED: tl.constexpr, BITS: tl.constexpr):
    """[R, K]: the sum of the log decays before each row."""
    N: tl.constexpr = b_logs[0].shape[0]
    _, o_p = _passed(N, len(b_logs), PASSED)
    o_n = tl.arange(0, N) * len(b_logs)
    b_sum = tl.zeros([N * len(PASSED), b_logs[0].shape[1]], dtype=tl.float32)
    b_rest = tl.zeros_like(b_sum)
    for j in tl.static_range(len(b_logs)):
        m_before = (o_n + j)[None, :] < o_p[:, None]
        if BITS == 24:
            # 256ths add up exactly: the sum may be far larger than the difference of two
            b_whole = tl.floor(b_logs[j] * 256.0 + 0.5) * 0.00390625
            b_sum += _total(m_before, b_whole, BITS)
            b_rest += _total(m_before, b_logs[j] - b_whole, BITS)
        else:
            b_sum += _total(m_before, b_logs[j], BITS)
    return b_sum + b_rest


@triton.jit
def _away(b_logs, size, N: tl.constexpr, PASSED: tl.constexpr, BITS: tl.constexpr):
    """[R, K]: the decay between each row and the border of the halves of its block of 2 size."""
    LOGS: tl.constexpr = len(b_logs)
    o_t, o_p = _passed(N, LOGS, PASSED)
    m_late = (o_t & size) != 0
    # log decays from o_from on, up to o_end, in the order of tokens: a row's bounds are vectors,
    # so that no mask of all pairs lives on from one size to the next
    o_half = (o_t & -size) * LOGS
    o_from = tl.where(m_late, o_half, o_p)
    o_end = tl.where(m_late, o_p, o_half + size * LOGS)
    b_sum = tl.zeros([N * len(PASSED), b_logs[0].shape[1]], dtype=tl.float32)
    for j in tl.static_range(LOGS):
        o_n = tl.arange(0, N) * LOGS + j
        m_in = (o_n[None, :] >= o_from[:, None]) & (o_n[None, :] < o_end[:, None])
        b_sum += _total(m_in, b_logs[j], BITS)
    return tl.exp2(b_sum)


@triton.jit
def _beside(b_logs, N: tl.constexpr, PASSED: tl.constexpr, AT: tl.constexpr, BITS: tl.constexpr):
    """[R, K]: the decay between each row and the point past AT log decays of its token."""
    o_t, o_p = _passed(N, len(b_logs), PASSED)
    m_own = o_t[:, None] == tl.arange(0, N)[None, :]
    b_sum = tl.zeros([N * len(PASSED), b_logs[0].shape[1]], dtype=tl.float32)
    for j in tl.static_range(len(b_logs)):
        m_before = (o_t * len(b_logs) + j < o_p)[:, None]
        m_in = m_own & m_before if j >= AT else m_own & ~m_before
        b_sum += _total(m_in, b_logs[j], BITS)
    return tl.exp2(b_sum)


@triton.jit
def _of_token(b_x, ROWS: tl.constexpr, SLOTS: tl.constexpr, AT: tl.constexpr):
    """[ROWS, K]: for each row of an axis, row AT of its token on another axis, SLOTS a token."""
    if b_x.shape[0] == ROWS and SLOTS == 1:
        b_own = b_x
    else:
        N: tl.constexpr = b_x.shape[0] // SLOTS
        K: tl.constexpr = b_x.shape[1]
        m_at = (tl.arange(0, SLOTS) == AT)[None, :, None]
        b_row = tl.sum(tl.where(m_at, tl.reshape(b_x, [N, SLOTS, K]), 0.0), 1)
        b_own = tl.reshape(tl.broadcast_to(b_row[:, None, :], [N, ROWS // N, K]), [ROWS, K])
    return b_own


@triton.jit
def _own_column(N: tl.constexpr, RS: tl.constexpr, CS: tl.constexpr, AT: tl.constexpr):
    """[N RS, N CS]: whether a column is row AT of the row's token."""
    o_first = tl.arange(0, N * RS) // RS * CS
    return (o_first + AT)[:, None] == tl.arange(0, N * CS)[None, :]


@triton.jit
def _levels(N: tl.constexpr):
    """How often N tokens, at most 128, can be halved."""
    return (N > 1) + (N > 2) + (N > 4) + (N > 8) + (N > 16) + (N > 32) + (N > 64)


@triton.jit
def _half(size, N: tl.constexpr, SLOTS: tl.constexpr, LATE: tl.constexpr):
    """[N SLOTS]: the first token of each row's block of 2 size, if the row lies in one half of it.

    Below 0 for rows of the other half: -1 where the later half is asked for, else -2.
    """
    o_t = tl.arange(0, N * SLOTS) // SLOTS
    m_late = (o_t & size) != 0
    o_block = o_t & (-2 * size)
    return tl.where(m_late, o_block, -1) if LATE else tl.where(m_late, -2, o_block)


@triton.jit
def _own_pairs(product, b_logs, TO: tl.constexpr, FROM: tl.constexpr, GRAM, BITS):
    """What a decayed product has of the pairs within each token."""
    N: tl.constexpr = b_logs[0].shape[0]
    ROWS: tl.constexpr = N * len(TO)
    OWN: tl.constexpr = product[2]
    b_x, b_y = product[0], product[1]
    b_sum = tl.zeros([ROWS, N * len(FROM) if GRAM else b_y.shape[1]], dtype=tl.float32)
    if OWN:
        for j in tl.static_range(len(FROM)):
            m_own = _own_column(N, len(TO), len(FROM), j)
            b_weight = b_x if GRAM else tl.sum(tl.where(m_own, b_x, 0.0), 1)[:, None]
            b_pair = b_weight.to(tl.float32) * _of_token(b_y, ROWS, len(FROM), j)
            if OWN == 2:
                b_pair *= _beside(b_logs, N, TO, FROM[j], BITS)
            if GRAM:
                b_sum = tl.where(m_own, tl.sum(b_pair, 1)[:, None], b_sum)
            else:
                b_sum += b_pair
    return b_sum


@triton.jit
def _joined(b_sum, product, b_to, b_from, m_halves, GRAM: tl.constexpr, dtype: tl.constexpr):
    """A decayed product with the pairs that a mask selects, one in each half of a block."""
    b_x, b_y = product[0], product[1]
    b_right = (b_y * b_from).to(dtype)
    if GRAM:
        b_left = (b_x * b_to).to(dtype)
        b_part = tl.dot(b_left, tl.trans(b_right), input_precision="ieee")
        b_sum = tl.where(m_halves, b_part, b_sum)
    else:
        b_left = tl.where(m_halves, b_x, 0.0).to(dtype)
        b_sum += tl.dot(b_left, b_right, input_precision="ieee") * b_to
    return b_sum


@triton.jit
def decayed_products(
    KIND: tl.constexpr,
    products,
    b_logs,
    READS: tl.constexpr,
    WRITES: tl.constexpr,
    dtype: tl.constexpr,
):
    """Products (first, second, OWN) of a kind that share their decays.

        gram     x [R, K], y [C, K]   sum_k x[r,k] y[c,k] decay(r, c), [R, C], not yet masked
        rows     p [R, C], y [C, K]   sum_c p[r,c] y[c,k] decay(r, c), [R, K]
        columns  p [C, R], x [R, K]   sum_r p[c,r] x[r,k] decay(r, c), [C, K]

    Blocks of tokens are halved down to single ones. Between the halves of a block every decay
    goes through their border: both factors are at most 1. What is left are the pairs within a
    token. ``b_logs`` are all log decays of a chunk, base 2, as [N, K]; READS (WRITES) says how
    many of them lie before each read (write) in its token; OWN: whether a write is visible to a
    read of its token, 1 if no decay lies between. p is zero where a write is not visible. Dots
    have operands of dtype.
    """
    N: tl.constexpr = b_logs[0].shape[0]
    BITS: tl.constexpr = bits_of_logs(dtype)
    GRAM: tl.constexpr = KIND == "gram"
    LATE: tl.constexpr = KIND != "columns"
    TO: tl.constexpr = READS if LATE else WRITES
    FROM: tl.constexpr = WRITES if LATE else READS
    b_sums = ()
    for j in tl.static_range(len(products)):
        b_own = _own_pairs(products[j], b_logs, TO, FROM, GRAM, BITS)
        b_sums += (b_own,)
    for i in range(_levels(N)):
        b_to = _away(b_logs, 1 << i, N, TO, BITS)
        b_from = _away(b_logs, 1 << i, N, FROM, BITS)
        o_to, o_from = _half(1 << i, N, len(TO), LATE), _half(1 << i, N, len(FROM), not LATE)
        m_halves = o_to[:, None] == o_from[None, :]
        b_joined = ()
        for j in tl.static_range(len(products)):
            b_sum = _joined(b_sums[j], products[j], b_to, b_from, m_halves, GRAM, dtype)
            b_joined += (b_sum,)
        b_sums = b_joined
    return b_sums


@triton.jit
def alive_sum(b_x, b_dead, b_before, STRICT: tl.constexpr):
    """[N]: for each token the sum of x over those from it on, up to the next whose decay is zero.

    Without the token itself if STRICT. ``b_dead`` counts such tokens up to each, ``b_before`` up
    to where each entry of x stands.
    """
    o_t = tl.arange(0, b_x.shape[0])
    m_on = o_t[None, :] > o_t[:, None] if STRICT else o_t[None, :] >= o_t[:, None]
    m_on = m_on & (b_before[None, :] == b_dead[:, None])
    return tl.sum(tl.where(m_on, b_x[None, :], 0.0), 1)


@triton.jit
def inner_product(x, y, i_s, SIZE: tl.constexpr):
    """The sum of all entries of state ``i_s``, int64, of x times those of y; SIZE entries each."""
    o_i = tl.arange(0, 4096)
    p_s = i_s * SIZE
    b_sum = tl.zeros([4096], dtype=tl.float32)
    for i in range(tl.cdiv(SIZE, 4096)):
        m_i = i * 4096 + o_i < SIZE
        b_x = tl.load(x + p_s + i * 4096 + o_i, mask=m_i, other=0.0).to(tl.float32)
        b_y = tl.load(y + p_s + i * 4096 + o_i, mask=m_i, other=0.0).to(tl.float32)
        b_sum += b_x * b_y
    return tl.sum(b_sum, 0)
