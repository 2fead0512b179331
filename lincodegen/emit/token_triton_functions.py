"""Small Triton functions that a generated token kernel may call, as text.

Triton has no tanh, log1p or gather with padding of its own that run on every backend.
"""

from __future__ import annotations

_NEEDS = {
    "softplus": ("log1p",),
    "log_sigmoid": ("log1p",),
}

_TEXTS = {
    "log1p": '''@triton.jit
def log1p(x):
    """log(1 + x) to full accuracy near 0: the rounding of 1 + x is divided out."""
    u = 1.0 + x
    near = tl.log(u) * (x / tl.where(u == 1.0, 1.0, u - 1.0))
    return tl.where(u == 1.0, x, tl.where(x == float("inf"), x, near))
''',
    "softplus": '''@triton.jit
def softplus(x):
    """log(1 + exp(x)) without overflow."""
    return tl.maximum(x, 0.0, propagate_nan=tl.PropagateNan.ALL) + log1p(tl.exp(-tl.abs(x)))
''',
    "log_sigmoid": '''@triton.jit
def log_sigmoid(x):
    """log(1 / (1 + exp(-x))) without overflow."""
    return tl.minimum(x, 0.0, propagate_nan=tl.PropagateNan.ALL) - log1p(tl.exp(-tl.abs(x)))
''',
    "silu": '''@triton.jit
def silu(x):
    """x / (1 + exp(-x))."""
    return x * tl.sigmoid(x)
''',
    "gelu": '''@triton.jit
def gelu(x):
    """x times the normal distribution at x."""
    return 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))
''',
    "tanh": '''@triton.jit
def tanh(x):
    """The hyperbolic tangent; a series near 0, where the quotient cancels."""
    s = x * x
    rest = s * (0.1333333333 + s * (-0.0539682540 + s * 0.0218694885))
    near = x * (1.0 + s * (rest - 0.3333333333))
    e = tl.exp(-2.0 * tl.abs(x))
    far = (1.0 - e) / (1.0 + e)
    return tl.where(tl.abs(x) < 0.25, near, tl.where(x < 0.0, -far, far))
''',
    "elu": '''@triton.jit
def elu(x):
    """x above 0, exp(x) - 1 below, by its series near 0."""
    near = x * (1.0 + x * (0.5 + x * (0.1666666667 + x * (0.0416666667 + x * 0.0083333333))))
    return tl.where(x > 0.0, x, tl.where(x > -0.1, near, tl.exp(x) - 1.0))
''',
    "sign": '''@triton.jit
def sign(x):
    """-1, 0 or 1."""
    return tl.where(x > 0.0, 1.0, tl.where(x < 0.0, -1.0, 0.0))
''',
    "finite": '''@triton.jit
def finite(x):
    """x where it is finite, else 0."""
    return tl.where(tl.abs(x) < float("inf"), x, 0.0)
''',
    "power": '''@triton.jit
def power(x, exponent: tl.constexpr):
    """x ** exponent of a positive x."""
    return tl.exp2(tl.log2(x) * exponent)
''',
    "integer_power": '''@triton.jit
def integer_power(x, exponent: tl.constexpr):
    """x ** exponent for an exponent >= 1, by multiplication."""
    y = x
    for _ in tl.static_range(exponent - 1):
        y = y * x
    return y
''',
    "softmax": '''@triton.jit
def softmax(x, axis: tl.constexpr, rank: tl.constexpr):
    """exp(x) over its sum along an axis; padding holds -inf."""
    e = tl.exp(x - tl.max(x, axis=axis, keep_dims=rank > 1))
    return e / tl.sum(e, axis=axis, keep_dims=rank > 1)
''',
    "take": '''@triton.jit
def take(x, index, size: tl.constexpr):
    """Entries of x at an index, cut to those there are."""
    return tl.gather(x, tl.minimum(tl.maximum(index, 0), size - 1), 0)
''',
    "take_rows": '''@triton.jit
def take_rows(x, index, size: tl.constexpr):
    """Rows of x at an index, cut to those there are."""
    near = tl.minimum(tl.maximum(index, 0), size - 1)
    return tl.gather(x, tl.broadcast_to(near[:, None], [near.shape[0], x.shape[1]]), 0)
''',
    "ravel": '''@triton.jit
def ravel(x, index, columns: tl.constexpr, rows: tl.constexpr, width: tl.constexpr):
    """x of [rows, width], of which ``columns`` count, read in row order at an index."""
    row = tl.minimum(index // columns, rows - 1)
    lines = tl.gather(x, tl.broadcast_to(row[:, None], [row.shape[0], width]), 0)
    return tl.sum(tl.gather(lines, (index % columns)[:, None], 1), axis=1)
''',
    "unravel": '''@triton.jit
def unravel(x, row, column, columns: tl.constexpr, size: tl.constexpr):
    """A vector as a matrix of so many columns."""
    index = tl.minimum(row[:, None] * columns + column[None, :], size - 1)
    flat = tl.reshape(index, [row.shape[0] * column.shape[0]])
    return tl.reshape(tl.gather(x, flat, 0), [row.shape[0], column.shape[0]])
''',
}


def function_texts(names: set[str]) -> tuple[str, ...]:
    """The functions of some names and those that they call, in order of definition."""
    wanted = {*names, *(need for name in names for need in _NEEDS.get(name, ()))}
    return tuple(text for name, text in _TEXTS.items() if name in wanted)
