"""Which of two compiled candidates is the better default, without running either."""

from __future__ import annotations

from dataclasses import dataclass

from lincodegen.compile import Resources
from lincodegen.config import Config
from lincodegen.targets import Target

STACK_BYTES = 128
"""Stack that a default may use; beyond it the bytes are put on record."""
RESIDENT_WARPS = 4
ENOUGH = 4
"""Candidates after which one program a multiprocessor will do."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A configuration and what the compiler says of it."""

    config: Config
    resources: Resources

    @property
    def exceeds(self) -> int | None:
        """Bytes of stack a thread where they are more than `STACK_BYTES`."""
        stack = self.resources.stack_bytes
        return stack if stack > STACK_BYTES else None


def runs(candidate: Candidate, target: Target) -> bool:
    """Whether the kernel compiled and fits in shared memory."""
    found = candidate.resources
    return found.error is None and found.shared_bytes <= target.shared_per_block


def resident(candidate: Candidate, target: Target) -> bool:
    """Whether two programs of `RESIDENT_WARPS` warps fit on a multiprocessor.

    Inside one program tensor cores wait for the arithmetic between two dots: a second one
    fills the gap.
    """
    half = (target.shared_per_multiprocessor - 2 * 1024) // 2
    few = candidate.resources.num_warps <= RESIDENT_WARPS
    return few and candidate.resources.shared_bytes <= half


def rank(candidate: Candidate, target: Target) -> tuple[int | bool, ...]:
    """Sorts candidates, the best first.

    In order: runs; stack beyond `STACK_BYTES`; warpgroup instructions alone where the target
    has them; two programs a multiprocessor; larger tiles; stack; stages.
    """
    found, config = candidate.resources, candidate.config
    warpgroup = target.matrix_unit == "wgmma"
    return (
        not runs(candidate, target),
        candidate.exceeds or 0,
        warpgroup and found.mma > 0,
        not resident(candidate, target),
        -config.tile_v * config.tile_k,
        found.stack_bytes,
        config.num_stages,
        config.num_warps,
    )


def settled(candidate: Candidate, target: Target, tried: int) -> bool:
    """Whether the search may stop after some candidates: no later one can be much better."""
    fits = rank(candidate, target)[:3] == (False, 0, False)
    return fits and (tried >= ENOUGH or resident(candidate, target))
