"""What kernels are for, by the role that their label ends with."""

from __future__ import annotations

ROLES = {
    "decay_fwd": "computes the products of decays that pairs of tokens need, all chunks at once",
    "prep_fwd": "solves the system that couples the tokens of a chunk, all chunks at once",
    "scan_fwd": "walks through the chunks of a sequence with the state, and writes the outputs",
    "states_fwd": "walks likewise, but stores the state before each chunk instead of outputs",
    "output_fwd": "computes outputs from stored states, all chunks at once",
    "scan_bwd": "walks backwards through the chunks with the gradient of the state",
    "scans_bwd": "walks both ways at once, and writes the gradients of the inputs",
    "clocks_bwd": "adds up the gradients of the decays, a few chunks at a time",
    "gradient_bwd": "computes the gradients of the inputs, all chunks at once",
}


def roles_in(schedule: str) -> tuple[tuple[str, str], ...]:
    """The roles that a printed schedule names, each with what it does."""
    return tuple((role, text) for role, text in ROLES.items() if role in schedule)
