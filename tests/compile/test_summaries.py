"""The kernels that only the schedule of segments launches, compiled without a device."""

from pathlib import Path

import pytest

from lincodegen.compile import CompileJob, compile_many
from lincodegen.compile.launches import job_of
from lincodegen.config import Config
from lincodegen.pipeline import compile_spec
from lincodegen.resources import defaults_dir, specs_dir
from lincodegen.runtime import handover
from lincodegen.targets import load_target
from lincodegen.tune.kernels import op_kernels
from lincodegen.tune.table import read_table

SIZES = {"K": 128, "V": 128}
WARPS = 4


@pytest.mark.parametrize("name", ["gated_delta_rule", "retention", "kda"])
def test_summaries_spill_no_more_than_the_scans_whose_tiles_they_take(name, tmp_path):
    """On sm_90, at the defaults of those scans; their products run on tensor cores."""
    kernels = op_kernels(name, compile_spec(specs_dir() / f"{name}.yaml").programs)
    path = tmp_path / "kernels.py"
    path.write_text(kernels.text, encoding="utf-8")
    entry = read_table(defaults_dir() / "sm_90.json")[1]["bf16 128"][name]
    jobs, rows = [], []
    for kernel in kernels.summaries:
        row = entry["kernels"][kernel.kernel.tiled_as]
        names = ("tile_k", "tile_v", "num_warps", "num_stages")
        config = Config(entry["chunk_size"], *(row[n] for n in names))
        rows.append(row)
        jobs.append(job_of(kernel.launch, path, SIZES, "bf16", load_target("sm_90"), config))
    assert len(jobs) == 2
    for found, row in zip(compile_many(jobs, timeout_s=120), rows, strict=True):
        assert found.stack_bytes <= row.get("stack_bytes", 0)
        assert found.wgmma + found.mma > 0


@pytest.mark.parametrize("width", [256, 129])
@pytest.mark.parametrize("target", ["sm_80", "sm_90", "gfx942"])
def test_states_are_handed_on_without_a_spill(target, width):
    tensors = dict.fromkeys(("first", "local", "maps", "handed"), "*fp32")
    sizes = {"H": 8, **SIZES, "W": width, "BK": 128, "BV": 16, "BJ": 32}
    jobs = [
        CompileJob(
            Path(handover.__file__),
            "hand_over_kernel",
            {**tensors, "owned": "*i64"},
            {**sizes, "L": 128 if reverse else width, "REVERSE": reverse},
            load_target(target),
            WARPS,
        )
        for reverse in (False, True)
    ]
    assert [found.stack_bytes for found in compile_many(jobs, timeout_s=120)] == [0, 0]
