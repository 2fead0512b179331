"""What the docstrings of kernels say, by role and direction."""

from __future__ import annotations

KERNEL_DOCS = {
    ("prep", "fwd"): "State-free tiles of every chunk: decayed grams and the inverse of I - N.",
    ("decay", "fwd"): "Operands of every chunk decayed per channel to its start or end.",
    ("scan", "fwd"): "Carries the state over the chunks and writes what is read of it.",
    ("states", "fwd"): "Carries the state over the chunks and keeps it before each of them.",
    (
        "summary",
        "fwd",
    ): "Carries the state over a segment, and W - V columns beside it.",
    ("summary", "bwd"): "Carries the cotangent of the state back over a segment.",
    ("scan", "bwd"): "Carries the cotangent of the state back over the chunks.",
    ("scans", "bwd"): "Both scans side by side: each role walks over the chunks on its own.",
    ("keys", "fwd"): "Carries some keys of the state over the chunks, transposed.",
    ("keys", "bwd"): "Carries some keys of its cotangent back over the chunks, transposed.",
    ("values", "bwd"): "Carries some values of the cotangent back over the chunks.",
    ("clocks", "bwd"): "Gradients of the log decays: sums of those of the clocks later on.",
    ("output", "fwd"): "What is read of every chunk, from the states before them.",
    ("gradient", "bwd"): "Gradients of every chunk from the states and cotangents around it.",
}
