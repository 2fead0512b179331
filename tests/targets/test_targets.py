"""The listed architectures, and the targets of devices that no file lists."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from lincodegen.errors import TuningError
from lincodegen.targets import (
    Target,
    from_device,
    list_targets,
    load_target,
    nearest_tables,
    splits_reads,
)

LISTED = (
    "gfx942", "gfx950", "sm_100", "sm_103", "sm_120", "sm_80", "sm_86", "sm_89", "sm_90",
)  # fmt: skip


def nvidia(major: int, minor: int, **changes: object) -> SimpleNamespace:
    """What torch tells of a GB10 (DGX Spark), with changes."""
    return SimpleNamespace(
        **{
            "name": "NVIDIA GB10",
            "major": major,
            "minor": minor,
            "multi_processor_count": 48,
            "warp_size": 32,
            "shared_memory_per_block_optin": 101_376,
            "shared_memory_per_multiprocessor": 102_400,
            "regs_per_multiprocessor": 65_536,
            "max_threads_per_multi_processor": 1536,
            "L2_cache_size": 25_165_824,
            **changes,
        }
    )


def test_the_listed_architectures() -> None:
    assert list_targets() == LISTED


@pytest.mark.parametrize("name", LISTED)
def test_figures_are_plausible(name: str) -> None:
    target = load_target(name)
    assert target.name == name
    assert target.backend == ("cuda" if name.startswith("sm_") else "hip")
    assert name.endswith(target.arch)
    assert target.warp_size == (32 if target.backend == "cuda" else 64)
    assert 64 * 1024 <= target.shared_per_block <= target.shared_per_multiprocessor <= 256 * 1024
    assert 100 < target.ridge < 400
    assert 6e11 < target.memory_bandwidth < 1e13
    assert target.l2_bytes < 200e6
    assert target.max_registers_per_thread in (255, 512)
    units = {"sm_90": "wgmma", "sm_100": "tcgen05", "sm_103": "tcgen05"}
    assert target.matrix_unit == (
        units.get(name, "mma.sync") if target.backend == "cuda" else "mfma"
    )


@pytest.mark.parametrize(
    ("name", "limit"),
    [("sm_80", 163), ("sm_86", 99), ("sm_89", 99), ("sm_90", 227), ("sm_100", 227),
     ("sm_103", 227), ("sm_120", 99), ("gfx942", 64), ("gfx950", 160)],
)  # fmt: skip
def test_shared_memory_per_block_in_kilobytes(name: str, limit: int) -> None:
    assert load_target(name).shared_per_block == limit * 1024


def test_descriptors_came_with_hopper() -> None:
    found = {name for name in list_targets() if load_target(name).descriptors}
    assert found == {"sm_90", "sm_100", "sm_103", "sm_120"}


def test_version_orders_nvidia_targets() -> None:
    assert load_target("sm_103").version == (10, 3)
    assert load_target("sm_90").version == (9, 0)
    assert load_target("gfx942").version is None


def test_an_unknown_name_is_an_error_with_the_known_ones() -> None:
    with pytest.raises(TuningError, match=r"sm_77.*sm_80.*from_device"):
        load_target("sm_77")


def test_an_unlisted_device_gets_its_drivers_figures_and_its_relatives_unit() -> None:
    target = from_device(nvidia(12, 1, memory_clock_rate=4_266_000, memory_bus_width=256))
    relative = load_target("sm_120")
    assert target == Target(
        name="sm_121",
        backend="cuda",
        arch="121",
        device="NVIDIA GB10",
        matrix_unit="mma.sync",
        warp_size=32,
        multiprocessors=48,
        shared_per_block=101_376,
        shared_per_multiprocessor=102_400,
        registers_per_multiprocessor=65_536,
        max_registers_per_thread=255,
        max_threads_per_multiprocessor=1536,
        memory_bandwidth=pytest.approx(273e9, rel=1e-3),
        peak_bf16=pytest.approx(relative.peak_bf16 * 48 / 170),
        l2_bytes=25_165_824,
        descriptors=True,
        clock=relative.clock,
        fp32_lanes=relative.fp32_lanes,
        exp2_lanes=relative.exp2_lanes,
    )


def test_without_clock_the_bandwidth_scales_with_the_multiprocessors() -> None:
    target = from_device(nvidia(12, 1))
    expected = load_target("sm_120").memory_bandwidth * 48 / 170
    assert target.memory_bandwidth == pytest.approx(expected)


def test_what_a_device_reaches_scales_with_its_peak() -> None:
    """An H200 has an H100's multiprocessors and more bandwidth."""
    listed = load_target("sm_90")
    target = from_device(
        nvidia(9, 0, multi_processor_count=132, memory_clock_rate=3_201_000, memory_bus_width=6144)
    )
    share = listed.reached_bandwidth / listed.memory_bandwidth
    assert target.reached_bandwidth == pytest.approx(share * target.memory_bandwidth)
    assert target.reached_bf16 == pytest.approx(listed.reached_bf16)


@pytest.mark.parametrize("name", list_targets())
def test_float32_lanes_are_below_matrix_units_and_give_the_data_sheets_order(name: str) -> None:
    """Data sheets: 19.5e12 (A100) to 163e12 (MI300X) FLOP a second outside of matrix units."""
    target = load_target(name)
    rate = 2 * target.clock * target.fp32_lanes * target.multiprocessors
    assert 1.9e13 < rate < 1.7e14
    assert rate < target.peak_bf16


def test_tables_of_defaults_are_tried_from_the_nearest() -> None:
    names = ["sm_80", "sm_90", "sm_100", "gfx942", "sm_120"]
    assert nearest_tables(load_target("sm_90"), names) == ["sm_90", "sm_80", "sm_100", "sm_120"]
    assert nearest_tables(load_target("sm_89"), names)[0] == "sm_80"
    assert nearest_tables(load_target("gfx950"), names) == ["gfx942"]


@pytest.mark.parametrize(
    ("heads", "chunks", "split"), [(65, 16, True), (66, 16, False), (65, 15, False)]
)
def test_few_heads_and_many_chunks_split_reads_off(heads: int, chunks: int, split: bool) -> None:
    assert splits_reads(heads, chunks, 132) is split


def test_a_listed_architecture_on_another_device_keeps_the_devices_bandwidth() -> None:
    target = from_device(
        nvidia(
            9,
            0,
            name="NVIDIA H200",
            multi_processor_count=132,
            memory_clock_rate=3_201_000,
            memory_bus_width=6144,
            shared_memory_per_block_optin=232_448,
        )
    )
    assert (target.name, target.matrix_unit) == ("sm_90", "wgmma")
    assert target.memory_bandwidth == pytest.approx(4.917e12, rel=1e-3)
    assert target.peak_bf16 == load_target("sm_90").peak_bf16


def test_an_unknown_generation_is_only_trusted_with_warp_level_matrix_instructions() -> None:
    assert from_device(nvidia(13, 0)).matrix_unit == "mma.sync"
    assert from_device(nvidia(11, 0)).matrix_unit == "mma.sync"
    assert not from_device(nvidia(11, 0)).descriptors


def test_gpus_without_bfloat16_are_refused() -> None:
    with pytest.raises(TuningError, match=r"7\.5.*needs 8\.0"):
        from_device(nvidia(7, 5))


def amd(architecture: str) -> SimpleNamespace:
    """What torch tells of an MI300X."""
    return SimpleNamespace(
        name="AMD Instinct MI300X",
        gcnArchName=architecture,
        major=9,
        minor=4,
        multi_processor_count=304,
        warp_size=64,
        shared_memory_per_block_optin=0,
        L2_cache_size=4_194_304,
    )


def test_amd_devices_are_known_by_their_architecture() -> None:
    target = from_device(amd("gfx942:sramecc+:xnack-"))
    assert (target.name, target.arch, target.warp_size) == ("gfx942", "gfx942", 64)
    assert target.shared_per_block == 65_536
    assert target.memory_bandwidth == load_target("gfx942").memory_bandwidth
    assert from_device(amd("gfx90a")).arch == "gfx90a"
    with pytest.raises(TuningError, match="gfx1100"):
        from_device(amd("gfx1100"))
