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
def _total(m_in, b_g, EXACT: tl.constexpr):
    """[R, K]: for each row the sum of the log decays where a mask [R, N] holds.

    A product on tensor cores: float32 goes in bfloat16 parts, of 16 bits in all or of 24.
    """
    if b_g.dtype == tl.float32:
        b_in = m_in.to(tl.bfloat16)
        b_high = b_g.to(tl.bfloat16)
        b_rest = b_g - b_high.to(tl.float32)
        b_low = b_rest.to(tl.bfloat16)
        b_sum = tl.dot(b_in, b_high) + tl.dot(b_in, b_low)
        if EXACT:
            b_sum += tl.dot(b_in, (b_rest - b_low.to(tl.float32)).to(tl.bfloat16))
    else:
        b_sum = tl.dot(m_in.to(b_g.dtype), b_g, input_precision="ieee")
    return b_sum


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
def prefix_sum(b_logs, PASSED: tl.constexpr, EXACT: tl.constexpr):
    """[R, K]: the sum of the log decays before each row."""
    N: tl.constexpr = b_logs[0].shape[0]
    _, o_p = _passed(N, len(b_logs), PASSED)
    o_n = tl.arange(0, N) * len(b_logs)
    b_sum = tl.zeros([N * len(PASSED), b_logs[0].shape[1]], dtype=tl.float32)
    b_rest = tl.zeros_like(b_sum)
    for j in tl.static_range(len(b_logs)):
        m_before = (o_n + j)[None, :] < o_p[:, None]
        if EXACT:
            # 256ths add up exactly: the sum may be far larger than the difference of two
            b_whole = tl.floor(b_logs[j] * 256.0 + 0.5) * 0.00390625
            b_sum += _total(m_before, b_whole, True)
            b_rest += _total(m_before, b_logs[j] - b_whole, True)
        else:
            b_sum += _total(m_before, b_logs[j], False)
    return b_sum + b_rest


@triton.jit
def _away(b_logs, size, N: tl.constexpr, PASSED: tl.constexpr, EXACT: tl.constexpr):
    """[R, K]: the decay between each row and the border of the halves of its block of 2 size."""
    o_t, o_p = _passed(N, len(b_logs), PASSED)
    o_n = tl.arange(0, N)
    m_half = (o_t[:, None] ^ o_n[None, :]) < size
    m_late = (o_t & size) != 0
    b_sum = tl.zeros([N * len(PASSED), b_logs[0].shape[1]], dtype=tl.float32)
    for j in tl.static_range(len(b_logs)):
        m_before = (o_n * len(b_logs) + j)[None, :] < o_p[:, None]
        b_sum += _total(m_half & (m_before == m_late[:, None]), b_logs[j], EXACT)
    return tl.exp2(b_sum)


@triton.jit
def _beside(b_logs, N: tl.constexpr, PASSED: tl.constexpr, AT: tl.constexpr, EXACT: tl.constexpr):
    """[R, K]: the decay between each row and the point past AT log decays of its token."""
    o_t, o_p = _passed(N, len(b_logs), PASSED)
    m_own = o_t[:, None] == tl.arange(0, N)[None, :]
    b_sum = tl.zeros([N * len(PASSED), b_logs[0].shape[1]], dtype=tl.float32)
    for j in tl.static_range(len(b_logs)):
        m_before = (o_t * len(b_logs) + j < o_p)[:, None]
        m_in = m_own & m_before if j >= AT else m_own & ~m_before
        b_sum += _total(m_in, b_logs[j], EXACT)
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
def _between(size, N: tl.constexpr, RS: tl.constexpr, CS: tl.constexpr):
    """[N RS, N CS]: whether rows and columns lie in the two halves of a block of 2 size tokens."""
    o_r, o_c = tl.arange(0, N * RS) // RS, tl.arange(0, N * CS) // CS
    o_gap = o_r[:, None] ^ o_c[None, :]
    return (o_gap >= size) & (o_gap < 2 * size)


@triton.jit
def decayed_gram(b_x, b_y, b_logs, READS: tl.constexpr, WRITES: tl.constexpr, OWN: tl.constexpr):
    """[R, C]: sum_k x[r,k] y[c,k] decay(r, c), finite but not yet masked above the diagonal.

    Blocks of tokens are halved down to single ones. Between the halves of a block every decay
    goes through their border: both factors are at most 1. What is left are the pairs within a
    token. A tile function takes every log decay of a chunk, base 2, as [N, K], and how many of
    them lie before each read (write) in its token; OWN: whether a write is visible to a read
    of its token, 1 if no decay lies between.
    """
    N: tl.constexpr = b_logs[0].shape[0]
    RS: tl.constexpr = len(READS)
    CS: tl.constexpr = len(WRITES)
    EXACT: tl.constexpr = b_x.dtype == tl.float32
    b_a = tl.zeros([N * RS, N * CS], dtype=tl.float32)
    if OWN:
        for j in tl.static_range(CS):
            b_pair = b_x.to(tl.float32) * _of_token(b_y, N * RS, CS, j)
            if OWN == 2:
                b_pair *= _beside(b_logs, N, READS, WRITES[j], EXACT)
            b_a = tl.where(_own_column(N, RS, CS, j), tl.sum(b_pair, 1)[:, None], b_a)
    for i in range(_levels(N)):
        b_late = _away(b_logs, 1 << i, N, READS, EXACT)
        b_early = _away(b_logs, 1 << i, N, WRITES, EXACT)
        b_left, b_right = (b_x * b_late).to(b_x.dtype), (b_y * b_early).to(b_x.dtype)
        b_part = tl.dot(b_left, tl.trans(b_right), input_precision="ieee")
        b_a = tl.where(_between(1 << i, N, RS, CS), b_part, b_a)
    return b_a


@triton.jit
def decayed_rows(b_p, b_y, b_logs, READS: tl.constexpr, WRITES: tl.constexpr, OWN: tl.constexpr):
    """[R, K]: sum_c p[r,c] y[c,k] decay(r, c), p zero where a write is not visible."""
    N: tl.constexpr = b_logs[0].shape[0]
    RS: tl.constexpr = len(READS)
    CS: tl.constexpr = len(WRITES)
    EXACT: tl.constexpr = b_y.dtype == tl.float32
    b_z = tl.zeros([N * RS, b_y.shape[1]], dtype=tl.float32)
    if OWN:
        for j in tl.static_range(CS):
            b_pj = tl.sum(tl.where(_own_column(N, RS, CS, j), b_p, 0.0), 1)
            b_part = b_pj[:, None] * _of_token(b_y, N * RS, CS, j)
            if OWN == 2:
                b_part *= _beside(b_logs, N, READS, WRITES[j], EXACT)
            b_z += b_part
    for i in range(_levels(N)):
        b_late = _away(b_logs, 1 << i, N, READS, EXACT)
        b_early = _away(b_logs, 1 << i, N, WRITES, EXACT)
        b_left = tl.where(_between(1 << i, N, RS, CS), b_p, 0.0).to(b_y.dtype)
        b_z += tl.dot(b_left, (b_y * b_early).to(b_y.dtype), input_precision="ieee") * b_late
    return b_z


@triton.jit
def decayed_columns(b_p, b_x, b_logs, READS: tl.constexpr, WRITES: tl.constexpr, OWN: tl.constexpr):
    """[C, K]: sum_r p[c,r] x[r,k] decay(r, c), p [C, R] zero where a write is not visible."""
    N: tl.constexpr = b_logs[0].shape[0]
    RS: tl.constexpr = len(READS)
    CS: tl.constexpr = len(WRITES)
    EXACT: tl.constexpr = b_x.dtype == tl.float32
    b_z = tl.zeros([N * CS, b_x.shape[1]], dtype=tl.float32)
    if OWN:
        for j in tl.static_range(RS):
            b_pj = tl.sum(tl.where(_own_column(N, CS, RS, j), b_p, 0.0), 1)
            b_part = b_pj[:, None] * _of_token(b_x, N * CS, RS, j)
            if OWN == 2:
                b_part *= _beside(b_logs, N, WRITES, READS[j], EXACT)
            b_z += b_part
    for i in range(_levels(N)):
        b_late = _away(b_logs, 1 << i, N, READS, EXACT)
        b_early = _away(b_logs, 1 << i, N, WRITES, EXACT)
        b_left = tl.where(_between(1 << i, N, CS, RS), b_p, 0.0).to(b_x.dtype)
        b_z += tl.dot(b_left, (b_x * b_late).to(b_x.dtype), input_precision="ieee") * b_early
    return b_z


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
