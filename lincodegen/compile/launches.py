"""Compile jobs of an op's kernels: the arguments of a typical call, with tiles from a config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lincodegen.compile.job import Argument, CompileJob
from lincodegen.config import Config
from lincodegen.targets import Target

TOKENS = 4096
HEADS = 32
SEQUENCE_HEADS = 64
LEAST_TILE = 16


@dataclass(frozen=True, slots=True)
class KernelLaunch:
    """What the launcher of one kernel passes to it.

    Attributes:
        label: the kernel within its op, as in ``scan_fwd``.
        name: its function.
        pointers: tensors by name, and whether they have the operands' dtype; else float32.
        scalars: floating-point arguments.
        integers: integer arguments with their typical values.
        absent: tensors that are None in this call.
        constants: names of its constexpr parameters.
        cut: the axes of "k" and "v" that it takes in tiles; it holds the others whole.
        row_tiles: the pointers that may be descriptors of rows, and the axis of their channels.
        fixed: constexpr parameters that have one value whatever the configuration.
    """

    label: str
    name: str
    pointers: tuple[tuple[str, bool], ...]
    scalars: tuple[str, ...]
    integers: tuple[tuple[str, int], ...]
    absent: tuple[str, ...]
    constants: tuple[str, ...]
    cut: tuple[str, ...]
    row_tiles: tuple[tuple[str, str], ...] = ()
    fixed: tuple[tuple[str, int], ...] = ()


def whole_tile(size: int) -> int:
    """The tile that holds an axis: a power of two, what a dot takes at least."""
    return max(LEAST_TILE, 1 << (size - 1).bit_length())


def job_of(
    launch: KernelLaunch,
    path: Path,
    sizes: Mapping[str, int],
    dtype: str,
    target: Target,
    config: Config,
) -> CompileJob:
    """The job of one kernel of the module ``path``.

    ``sizes`` are K and V, ``dtype`` Triton's name of that of the operands, as in ``bf16``.
    """
    kinds = {True: f"*{dtype}", False: "*fp32"}
    arguments: dict[str, Argument] = {name: kinds[wide] for name, wide in launch.pointers}
    arguments |= dict.fromkeys(launch.scalars, 0.088)
    arguments |= dict(launch.integers)
    values = {
        **{size: sizes[size] for size in sizes},
        "W": sum(sizes.values()),
        "BT": config.chunk_size,
        "BK": _tile(launch, "k", sizes, config.tile_k),
        "BV": _tile(launch, "v", sizes, config.tile_v),
        **{f"P{size}": whole_tile(n) for size, n in sizes.items()},
        **dict(launch.fixed),
        "PRECISION": config.precision or "ieee",
        "INVERSE": config.inverse or "ieee",
        "SCALES": config.scales or "computed",
        "ORDER": config.order or "product",
    }
    if config.descriptors:
        for name, axis in launch.row_tiles:
            block = f"1,1,{config.chunk_size},{values[f'B{axis.upper()}']}"
            arguments[name] = f"tensordesc<{dtype}[{block}]>"
    constants = {name: values.get(name, HEADS) for name in launch.constants}
    arguments |= dict.fromkeys(launch.absent)
    return CompileJob(
        path, launch.name, arguments, constants, target, config.num_warps, config.num_stages
    )


def _tile(launch: KernelLaunch, axis: str, sizes: Mapping[str, int], tile: int) -> int:
    whole = whole_tile(sizes.get(axis.upper(), 1))
    return min(tile, whole) if axis in launch.cut else whole
