"""Scans that load through tensor descriptors, compiled without a device."""

from dataclasses import replace

import pytest

from lincodegen.compile import compile_many
from lincodegen.compile.launches import job_of
from lincodegen.config import Config
from lincodegen.pipeline import compile_spec
from lincodegen.resources import specs_dir
from lincodegen.targets import load_target
from lincodegen.tune.kernels import op_kernels

SIZES = {"K": 128, "V": 128}
TILES = Config(64, 128, 64, 4, 2)


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """The scans of an op with one matrix state, by label, and the file of its kernels."""
    kernels = op_kernels("retention", compile_spec(specs_dir() / "retention.yaml").programs)
    path = tmp_path_factory.mktemp("kernels") / "kernels.py"
    path.write_text(kernels.text, encoding="utf-8")
    return {k.launch.label: k.launch for k in kernels.kernels if k.kernel.carry}, path


def jobs_of(scans, target, config=TILES, dtype="bf16"):
    launches, path = scans
    return [job_of(x, path, SIZES, dtype, load_target(target), config) for x in launches.values()]


@pytest.mark.parametrize("target", ["sm_90", "sm_100", "sm_120"])
def test_tiles_come_by_the_copy_unit_and_go_to_the_tensor_cores_as_before(scans, target):
    """As many matrix instructions, and no tile more in shared memory, where these read from it."""
    small = TILES._replace(tile_v=32, num_stages=1 if target == "sm_120" else 2)
    jobs = jobs_of(scans, target, small) + jobs_of(scans, target, small._replace(descriptors=True))
    if target != "sm_90":
        jobs = [job for job in jobs if "scan_fwd" in job.kernel_name]
    found = compile_many(jobs, timeout_s=120)
    half = len(jobs) // 2
    for plain, described in zip(found[:half], found[half:], strict=True):
        assert (plain.error, described.error) == (None, None)
        assert plain.tensor_copies == 0
        assert described.tensor_copies >= 2
        assert described.matrix_instructions == plain.matrix_instructions
        assert described.shared_bytes <= plain.shared_bytes + 1024


def test_the_block_of_a_descriptor_is_the_tile(scans):
    config = TILES._replace(descriptors=True)
    found = {job.kernel_name: job.arguments for job in jobs_of(scans, "sm_90", config, "fp32")}
    scan = next(a for name, a in found.items() if "scan_fwd" in name)
    assert scan["q"] == scan["k"] == "tensordesc<fp32[1,1,64,128]>"
    assert scan["v"] == "tensordesc<fp32[1,1,64,64]>"
    assert scan["o"] == "*fp32"
    assert "tensordesc" not in str([job.arguments for job in jobs_of(scans, "sm_90")])


def test_a_type_that_is_none_is_named(scans):
    job = jobs_of(scans, "sm_90")[0]
    texts = "tensordesc<bf17[64,64]>", "tensordesc<bf16>", "bf16"
    wrong = [replace(job, arguments={**job.arguments, "k": text}) for text in texts]
    for text, found in zip(texts, compile_many(wrong, workers=1, timeout_s=120), strict=True):
        assert f"argument k: {text!r} is no pointer type" in str(found.error)
