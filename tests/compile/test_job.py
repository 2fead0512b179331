"""Jobs and resources as data, and what is read off a compiled kernel's text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lincodegen.compile import CompileJob, Resources
from lincodegen.compile.assembly import amd_usage
from lincodegen.compile.toolchain import find_tool, triton_folder
from lincodegen.errors import LincodegenError
from lincodegen.targets import load_target

JOB = CompileJob(
    source_path=Path(__file__).parent / "gated_scan.py",
    kernel_name="scan_fwd_kernel",
    arguments={"q": "*bf16", "T": 4096, "scale": 0.1, "ht": None},
    constexprs={"K": 128, "FLAG": True},
    target=replace(load_target("sm_120"), name="sm_121", arch="121"),
    num_warps=8,
    options={"maxnreg": 168},
)

GOOD = Resources(
    registers=128,
    stack_bytes=0,
    shared_bytes=65_536,
    tensor_memory_columns=0,
    wgmma=8,
    mma=4,
    tcgen05=0,
    mfma=0,
    local_loads=0,
    local_stores=0,
    num_warps=4,
    seconds=0.5,
    error=None,
)


def test_a_job_survives_json_with_an_unlisted_target() -> None:
    text = JOB.to_json()
    assert "\n" not in text
    assert CompileJob.from_json(text) == JOB


def test_matrix_instructions_of_every_unit_count() -> None:
    assert GOOD.matrix_instructions == 12


@pytest.mark.parametrize(
    ("changes", "target", "reason"),
    [
        ({}, "gfx942", None),
        ({"shared_bytes": 65_537}, "gfx942", "65537 bytes of shared memory, gfx942 has 65536"),
        ({"shared_bytes": 65_537}, "sm_90", None),
        ({"stack_bytes": 64}, "sm_90", None),
        ({"stack_bytes": 72}, "sm_90", "spills: 72 bytes"),
        ({"error": "no kernel after 3 s"}, "sm_90", "no kernel after 3 s"),
    ],
)
def test_excess_says_why_a_kernel_should_not_run(
    changes: dict[str, int | str], target: str, reason: str | None
) -> None:
    found = replace(GOOD, **changes).excess(load_target(target))
    assert (found is None) if reason is None else (reason in str(found))


def test_a_failure_keeps_its_reason() -> None:
    failed = Resources.failure(JOB, "out of luck", 2.5)
    assert (failed.error, failed.num_warps, failed.seconds) == ("out of luck", 8, 2.5)
    assert failed.excess(JOB.target) == "out of luck"


AMDGCN = """
	v_mfma_f32_16x16x16_bf16 a[0:3], v[2:3], v[4:5], a[0:3]
	v_mfma_f32_16x16x16_bf16 a[4:7], v[2:3], v[4:5], a[4:7]
	scratch_store_dwordx4 off, v[0:3], s32
	scratch_load_dwordx4 v[0:3], off, s32
	scratch_load_dword v4, off, s32 offset:16
    .private_segment_fixed_size: 48
    .vgpr_count:     384
"""


def test_amd_assembly_is_counted() -> None:
    usage = amd_usage(AMDGCN)
    assert (usage.registers, usage.stack_bytes, usage.mfma) == (384, 48, 2)
    assert (usage.local_loads, usage.local_stores) == (2, 1)


def test_a_listing_without_registers_is_an_error() -> None:
    with pytest.raises(LincodegenError, match="vgpr_count"):
        amd_usage(".private_segment_fixed_size: 0")


@pytest.mark.parametrize("tool", ["ptxas", "cuobjdump", "nvdisasm"])
def test_the_tools_of_tritons_wheel_are_found(tool: str) -> None:
    path, folder = find_tool(tool), triton_folder()
    assert path is not None
    assert folder is not None
    assert path.is_relative_to(folder)
    assert find_tool("no-such-tool") is None
