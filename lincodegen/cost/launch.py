"""How a kernel occupies a target: programs on a multiprocessor at a time, and rounds of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lincodegen.config import Config
from lincodegen.targets import Target

RESERVED_SHARED = 1024
"""Shared memory that CUDA keeps of every block."""
REGISTER_STEP = 8
MATRIX_UNITS = ("wgmma", "mma", "tcgen05", "mfma")


@dataclass(frozen=True, slots=True)
class Compiled:
    """What the compiler said of a kernel at a configuration.

    Attributes:
        target: the one that was compiled for.
        stack_bytes: of a thread: registers that were spilled.
        shared_bytes: of a program.
        matrix: instructions of matrix units by name.
    """

    target: str
    registers: int
    stack_bytes: int
    shared_bytes: int
    matrix: Mapping[str, int]

    def __str__(self) -> str:
        units = ", ".join(f"{count} {name}" for name, count in self.matrix.items())
        return (
            f"{self.registers} registers, stack {self.stack_bytes} B, shared "
            f"{self.shared_bytes} B, {units or 'no matrix instructions'}"
        )


@dataclass(frozen=True, slots=True)
class Default:
    """What a kernel runs with, and what the compiler said of it if that is on record."""

    config: Config
    compiled: Compiled | None


def read_compiled(target: str, entry: Mapping[str, int]) -> Compiled | None:
    """The record of a kernel from its line in a table; None if it has no registers."""
    if "registers" not in entry:
        return None
    matrix = {name: entry[name] for name in MATRIX_UNITS if entry.get(name)}
    return Compiled(target, entry["registers"], entry["stack_bytes"], entry["shared_bytes"], matrix)


def resident_programs(compiled: Compiled, config: Config, target: Target) -> int:
    """Programs that a multiprocessor holds at a time, one at least."""
    threads = config.num_warps * target.warp_size
    registers = -(-compiled.registers // REGISTER_STEP) * REGISTER_STEP
    reserved = RESERVED_SHARED if target.backend == "cuda" else 0
    shared = max(1, compiled.shared_bytes + reserved)
    return max(
        1,
        min(
            target.registers_per_multiprocessor // (registers * threads),
            target.shared_per_multiprocessor // shared,
            target.max_threads_per_multiprocessor // threads,
        ),
    )


def spilled_bytes(compiled: Compiled, config: Config, target: Target) -> int:
    """Bytes that go to the stack and back in a program, each once."""
    return 2 * compiled.stack_bytes * config.num_warps * target.warp_size


def holds_stacks(compiled: Compiled, resident: int, config: Config, target: Target) -> bool:
    """Whether a multiprocessor has room for the stacks of its programs beside shared memory.

    Both lie in the same memory; what does not fit goes to the caches behind it and beyond.
    """
    stack = compiled.stack_bytes * config.num_warps * target.warp_size
    return resident * (stack + compiled.shared_bytes) <= target.shared_per_multiprocessor


def rounds(programs: int, resident: int, target: Target) -> int:
    """How many times over the multiprocessors are filled with programs."""
    return -(-programs // (resident * target.multiprocessors))
