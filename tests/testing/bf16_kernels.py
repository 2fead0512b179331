"""One kernel per operation on raw bfloat16 tiles: what the interpreter must compute as a GPU."""

import triton
import triton.language as tl


@triton.jit
def arithmetic(x, y, z, add, sub, mul, div, neg, fma, N: tl.constexpr):  # noqa: PLR0913
    o_i = tl.arange(0, N)
    b_x, b_y, b_z = tl.load(x + o_i), tl.load(y + o_i), tl.load(z + o_i)
    tl.store(add + o_i, b_x + b_y)
    tl.store(sub + o_i, b_x - b_y)
    tl.store(mul + o_i, b_x * b_y)
    tl.store(div + o_i, b_x / b_y)
    tl.store(neg + o_i, -b_x)
    tl.store(fma + o_i, tl.fma(b_x, b_y, b_z))


@triton.jit
def selection(x, y, high, low, clamped, absolute, chosen, N: tl.constexpr):  # noqa: PLR0913
    o_i = tl.arange(0, N)
    b_x, b_y = tl.load(x + o_i), tl.load(y + o_i)
    tl.store(high + o_i, tl.maximum(b_x, b_y).to(tl.bfloat16))
    tl.store(low + o_i, tl.minimum(b_x, b_y).to(tl.bfloat16))
    tl.store(clamped + o_i, tl.clamp(b_x, -1.0, 1.0).to(tl.bfloat16))
    tl.store(absolute + o_i, tl.abs(b_x))
    tl.store(chosen + o_i, tl.where(o_i % 2 == 0, b_x, b_y))


@triton.jit
def comparisons(x, y, out, N: tl.constexpr):
    o_i = tl.arange(0, N)
    b_x, b_y = tl.load(x + o_i), tl.load(y + o_i)
    tl.store(out + o_i, (b_x < b_y).to(tl.int8))
    tl.store(out + N + o_i, (b_x <= b_y).to(tl.int8))
    tl.store(out + 2 * N + o_i, (b_x > b_y).to(tl.int8))
    tl.store(out + 3 * N + o_i, (b_x >= b_y).to(tl.int8))
    tl.store(out + 4 * N + o_i, (b_x == b_y).to(tl.int8))
    tl.store(out + 5 * N + o_i, (b_x != b_y).to(tl.int8))


@triton.jit
def constants(x, half, filled, shifted, N: tl.constexpr):
    o_i = tl.arange(0, N)
    b_x = tl.load(x + o_i)
    tl.store(half + o_i, b_x * 0.5)
    tl.store(filled + o_i, tl.full([N], 1.0039, tl.bfloat16))
    tl.store(shifted + o_i, b_x + 1.0039)


@triton.jit
def widen(x, single, half, integer, N: tl.constexpr):
    o_i = tl.arange(0, N)
    b_x = tl.load(x + o_i)
    tl.store(single + o_i, b_x.to(tl.float32))
    tl.store(half + o_i, b_x.to(tl.float16))
    tl.store(integer + o_i, tl.clamp(b_x.to(tl.float32), -1e6, 1e6).to(tl.bfloat16).to(tl.int32))


@triton.jit
def narrow(x, out, N: tl.constexpr):
    o_i = tl.arange(0, N)
    tl.store(out + o_i, tl.load(x + o_i).to(tl.bfloat16))


@triton.jit
def sums(x, rows, columns, total, M: tl.constexpr, N: tl.constexpr):
    o_m, o_n = tl.arange(0, M), tl.arange(0, N)
    b_x = tl.load(x + o_m[:, None] * N + o_n[None, :])
    tl.store(rows + o_m, tl.sum(b_x, 1))
    tl.store(columns + o_n, tl.sum(b_x, 0))
    tl.store(total, tl.sum(b_x))


@triton.jit
def scans(x, forward, backward, product, M: tl.constexpr, N: tl.constexpr):
    o_x = tl.arange(0, M)[:, None] * N + tl.arange(0, N)[None, :]
    b_x = tl.load(x + o_x)
    tl.store(forward + o_x, tl.cumsum(b_x, 0))
    tl.store(backward + o_x, tl.cumsum(b_x, 1, reverse=True))
    tl.store(product + o_x, tl.cumprod(b_x, 0))


@triton.jit
def extremes(x, high, low, place, M: tl.constexpr, N: tl.constexpr):
    o_m, o_n = tl.arange(0, M), tl.arange(0, N)
    b_x = tl.load(x + o_m[:, None] * N + o_n[None, :])
    tl.store(high + o_m, tl.max(b_x, 1).to(tl.bfloat16))
    tl.store(low + o_m, tl.min(b_x, 1).to(tl.bfloat16))
    tl.store(place + o_m, tl.argmax(b_x, 1))


@triton.jit
def dot(a, b, out, PRECISION: tl.constexpr, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr):
    o_m, o_n, o_k = tl.arange(0, M), tl.arange(0, N), tl.arange(0, K)
    b_a = tl.load(a + o_m[:, None] * K + o_k[None, :])
    b_b = tl.load(b + o_n[:, None] * K + o_k[None, :])
    b_acc = tl.full([M, N], 1.0, tl.float32)
    b_acc = tl.dot(b_a, tl.trans(b_b), b_acc, input_precision=PRECISION)
    tl.store(out + o_m[:, None] * N + o_n[None, :], b_acc)


@triton.jit
def chunk_loop(x, out, T, BT: tl.constexpr):
    o_i = tl.arange(0, BT)
    b_sum = tl.zeros([BT], tl.float32)
    for i_t in range(tl.cdiv(T, BT)):
        b_sum += tl.load(x + i_t * BT + o_i, mask=i_t * BT + o_i < T, other=0.0)
    tl.store(out + o_i, b_sum)
