"""What the domains of a spec prove about the range of its decays."""

from __future__ import annotations

from math import e, log2

from lincodegen.derive.events import Group

CHUNK_ROWS = 64
LIMIT = 124.0
"""Powers of two that float32 and bfloat16 hold with room for the operands."""


def log2_bound(group: Group) -> float:
    """The least sum of a token's channel log2 decays, as a magnitude; inf if unbounded."""
    return sum(abs(d.bound) for d in group.decays if d.channel) * log2(e)


def factored(group: Group, tokens: int = CHUNK_ROWS) -> bool:
    """Whether one reference a chunk serves every channel decay of it.

    |bound| tokens log2 e <= 124: then both factors of a decay are finite and each
    decayed product is one matrix product. Else blocks of tokens are halved down to single ones,
    and every decay goes through the border of two halves.
    """
    return log2_bound(group) * tokens <= LIMIT


def describe(group: Group) -> str:
    """One line for reports: how the channel decays of a group are computed, and why."""
    if not any(d.channel for d in group.decays):
        return "no channel decay: pairs are decayed by a mask after the dot"
    bound = log2_bound(group)
    if factored(group):
        return (
            f"channel decays of at least 2^-{bound:.3g} a token: one reference a chunk "
            f"of {CHUNK_ROWS} tokens, every decayed product is one dot"
        )
    reason = "has no lower bound" if bound == float("inf") else f"may reach 2^-{bound:.3g} a token"
    return (
        f"a channel decay {reason}: blocks of tokens are halved down to single ones, and every "
        "decay goes through the border of two halves, so that both its factors are at most 1"
    )
