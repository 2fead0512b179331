"""The target of a device that is present, listed or not, from its driver's properties."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from lincodegen.errors import TuningError
from lincodegen.targets.target import Target, list_targets, load_target


class DeviceProperties(Protocol):
    """What every driver tells; the rest is asked for by name and may be missing."""

    name: str
    major: int
    minor: int
    multi_processor_count: int


def from_device(properties: DeviceProperties) -> Target:
    """The target of a device, given ``torch.cuda.get_device_properties(device)``.

    A listed architecture keeps the figures that drivers do not tell (matrix unit, registers per
    thread). An unlisted one takes these from its nearest listed relative. What the driver does
    tell counts always; rates scale with the number of multiprocessors unless the device is the
    listed one.
    """
    name, relative = _relative(properties)
    count = int(properties.multi_processor_count)
    scale = count / relative.multiprocessors
    shared = int(getattr(properties, "shared_memory_per_block_optin", 0) or 0)
    bandwidth = _bandwidth(properties) or relative.memory_bandwidth * scale
    return replace(
        relative,
        name=name,
        arch=name.removeprefix("sm_"),
        device=str(properties.name),
        warp_size=int(getattr(properties, "warp_size", relative.warp_size)),
        multiprocessors=count,
        # ROCm leaves the opt-in figure at 0
        shared_per_block=shared or relative.shared_per_block,
        shared_per_multiprocessor=_told(
            properties, "shared_memory_per_multiprocessor", relative.shared_per_multiprocessor
        ),
        registers_per_multiprocessor=_told(
            properties, "regs_per_multiprocessor", relative.registers_per_multiprocessor
        ),
        max_threads_per_multiprocessor=_told(
            properties, "max_threads_per_multi_processor", relative.max_threads_per_multiprocessor
        ),
        memory_bandwidth=bandwidth,
        peak_bf16=relative.peak_bf16 * scale,
        l2_bytes=_second_level_cache(properties, relative),
        reached_bandwidth=_scaled(
            relative.reached_bandwidth, bandwidth / relative.memory_bandwidth
        ),
        reached_bf16=_scaled(relative.reached_bf16, scale),
    )


def _scaled(figure: float | None, scale: float) -> float | None:
    return None if figure is None else figure * scale


def _relative(properties: DeviceProperties) -> tuple[str, Target]:
    """The device's own name and the listed target nearest to it."""
    architecture = str(getattr(properties, "gcnArchName", "") or "").split(":")[0]
    if architecture.startswith("gfx"):
        return architecture, _nearest_amd(architecture)
    major, minor = int(properties.major), int(properties.minor)
    return f"sm_{major}{minor}", _nearest_nvidia(major, minor)


def _nearest_nvidia(major: int, minor: int) -> Target:
    """Same generation and the highest older revision, else the nearest older generation."""
    own, names = f"sm_{major}{minor}", list_targets()
    if own in names:
        return load_target(own)
    listed = [load_target(name) for name in names if name.startswith("sm_")]
    older = [t for t in listed if t.version is not None and t.version <= (major, minor)]
    if not older:
        raise TuningError(
            f"The GPU has compute capability {major}.{minor}; lincodegen needs 8.0 or higher."
        )
    best = max(older, key=lambda target: target.version or (0, 0))
    if best.version is not None and best.version[0] == major:
        return best
    # an unknown generation: only warp-level matrix instructions and pointers are sure to work
    return replace(best, matrix_unit="mma.sync", descriptors=False)


def _nearest_amd(architecture: str) -> Target:
    if architecture in list_targets():
        return load_target(architecture)
    if architecture.startswith("gfx9"):
        return load_target("gfx942")
    raise TuningError(
        f"The GPU is a {architecture}; of AMD's GPUs lincodegen knows the gfx9 family "
        "(CDNA, from gfx942)."
    )


def _told(properties: DeviceProperties, name: str, otherwise: int) -> int:
    return int(getattr(properties, name, 0) or otherwise)


def _second_level_cache(properties: DeviceProperties, relative: Target) -> int:
    # ROCm tells the cache of one die
    if relative.backend == "hip":
        return relative.l2_bytes
    return _told(properties, "L2_cache_size", relative.l2_bytes)


def _bandwidth(properties: DeviceProperties) -> float | None:
    """Bytes per second from clock (kHz) and width (bits), twice a cycle; None if not told."""
    clock = getattr(properties, "memory_clock_rate", 0) or 0
    width = getattr(properties, "memory_bus_width", 0) or 0
    return 2e3 * clock * width / 8 or None
