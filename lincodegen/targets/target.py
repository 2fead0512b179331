"""The architectures that are listed, each in a TOML file beside this module."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources

from lincodegen.errors import TuningError


@dataclass(frozen=True, slots=True)
class Target:
    """One GPU architecture, with the figures of a usual device of it.

    "Multiprocessor" stands for AMD's compute unit, "warp" for its wavefront, "shared memory"
    for its local data share, "block" for its work group.

    Attributes:
        name: ``sm_90`` or ``gfx942``.
        backend: Triton's name of the compiler, ``cuda`` or ``hip``.
        arch: Triton's name of the architecture within it, ``90`` or ``gfx942``.
        device: the device that the figures belong to.
        matrix_unit: ``mma.sync``, ``wgmma``, ``tcgen05`` or ``mfma``.
        shared_per_block: most bytes that one program may use.
        registers_per_multiprocessor: 32-bit registers.
        memory_bandwidth: bytes per second.
        peak_bf16: dense bfloat16 FLOP per second, float32 accumulation.
        l2_bytes: second-level cache.
        descriptors: whether kernels load tiles through tensor descriptors.
        clock: cycles per second, boosted.
        fp32_lanes: float32 operations a multiprocessor starts in a cycle.
        exp2_lanes: likewise of exponentials.
        reached_bandwidth: bytes per second that copies of large tensors reach.
        reached_bf16: FLOP per second that large products reach.
        dot_latency: seconds from one product of a chunk to the next in a kernel that carries a
            state, where each waits for the one before.

    The figures from ``clock`` on are None where no source gives them.
    """

    name: str
    backend: str
    arch: str
    device: str
    matrix_unit: str
    warp_size: int
    multiprocessors: int
    shared_per_block: int
    shared_per_multiprocessor: int
    registers_per_multiprocessor: int
    max_registers_per_thread: int
    max_threads_per_multiprocessor: int
    memory_bandwidth: float
    peak_bf16: float
    l2_bytes: int
    descriptors: bool = False
    clock: float | None = None
    fp32_lanes: int | None = None
    exp2_lanes: int | None = None
    reached_bandwidth: float | None = None
    reached_bf16: float | None = None
    dot_latency: float | None = None

    @property
    def version(self) -> tuple[int, int] | None:
        """Compute capability (major, minor) of an NVIDIA GPU, else None."""
        if self.backend != "cuda":
            return None
        major, minor = divmod(int(self.arch), 10)
        return major, minor

    @property
    def ridge(self) -> float:
        """FLOP per byte from which on a bfloat16 kernel is bound by arithmetic."""
        return self.peak_bf16 / self.memory_bandwidth


def splits_reads(heads: int, chunks: int, multiprocessors: int) -> bool:
    """Whether what a scan reads goes to a chunk-parallel kernel of its own.

    A scan with fewer heads, all sequences', than half the multiprocessors leaves most of the GPU
    idle; the split one still has a sequential part, but a shorter one.
    """
    return chunks >= 16 and 2 * heads < multiprocessors


LEAST_SEGMENT = 8
"""Fewest chunks of a segment that the rule makes: fewer cost more than they save."""


def segment_chunks(heads: int, chunks: int, multiprocessors: int) -> int | None:
    """Chunks of the segments that a sequence is cut into, None where it stays whole.

    A scan of so few heads, all sequences', that they leave seven eighths of the GPU idle takes a
    step a chunk; summaries, the states between segments and the scans proper take together no
    more than half of that from four segments on.
    """
    if 8 * heads > multiprocessors or chunks < 4 * LEAST_SEGMENT:
        return None
    wanted = chunks * 2 * heads // multiprocessors
    size = max(LEAST_SEGMENT, 1 << max(0, wanted - 1).bit_length())
    return size if 4 * size <= chunks else None


def nearest_tables(target: Target, names: Iterable[str]) -> list[str]:
    """The tables of the target's vendor, named after targets: its own, older ones, newer ones."""
    if target.version is None:
        return sorted(n for n in names if n.startswith("gfx"))
    versions = {n: load_target(n).version or (0, 0) for n in names if n.startswith("sm_")}
    own = target.version
    older = sorted((n for n in versions if versions[n] <= own), key=lambda n: versions[n])
    newer = sorted((n for n in versions if versions[n] > own), key=lambda n: versions[n])
    return [*reversed(older), *newer]


def list_targets() -> tuple[str, ...]:
    """Names of the architectures with a data file, sorted."""
    names = (entry.name for entry in resources.files("lincodegen.targets").iterdir())
    return tuple(
        sorted(
            name.removesuffix(".toml")
            for name in names
            if name.endswith(".toml") and name.startswith(("sm_", "gfx"))
        )
    )


@cache
def load_target(name: str) -> Target:
    """The target ``name``; `TuningError` if no file lists it."""
    if name not in list_targets():
        raise TuningError(
            f"No target is called {name!r}; the listed ones are {', '.join(list_targets())}. "
            "For a GPU that is not listed use the figures of its driver (from_device)."
        )
    text = (
        resources.files("lincodegen.targets").joinpath(f"{name}.toml").read_text(encoding="utf-8")
    )
    return Target(name=name, **tomllib.loads(text))
