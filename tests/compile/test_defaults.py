"""The default of every kernel of every shipped op, compiled for each target and held to its record.

Compiled are bfloat16 operands and K = V = 128, through the launch path of a GPU that is not there.
"""

import importlib.metadata
from functools import cache

import pytest

from lincodegen.loading import shipped_names
from lincodegen.pipeline import compile_spec
from lincodegen.resources import defaults_dir, specs_dir
from lincodegen.targets import load_target
from lincodegen.tune.compiled import compile_defaults
from lincodegen.tune.kernels import op_kernels
from lincodegen.tune.preference import STACK_BYTES
from lincodegen.tune.table import read_table

TARGETS = ("sm_80", "sm_90", "sm_100", "sm_120", "gfx942")
CLASS = "bf16 128"
WARPGROUP_ROWS = 64
RECORDED = ("registers", "stack_bytes", "shared_bytes", "wgmma", "mma", "tcgen05", "mfma")
VERSION = importlib.metadata.version("triton")


@cache
def kernels_of(name):
    compiled = compile_spec(specs_dir() / f"{name}.yaml")
    return op_kernels(name, compiled.programs)


def recorded(target, name):
    return read_table(defaults_dir() / f"{target}.json")[1][CLASS][name]


@pytest.mark.parametrize("name", shipped_names())
@pytest.mark.parametrize("target", TARGETS)
def test_defaults_are_recorded(target, name):
    labels = {kernel.launch.label for kernel in kernels_of(name).kernels}
    assert recorded(target, name)["kernels"].keys() == labels


@pytest.mark.parametrize("name", shipped_names())
@pytest.mark.parametrize("target", TARGETS)
def test_kernels_compile_as_recorded(target, name):
    report = compile_defaults(kernels_of(name), [target], lambda _: None)
    assert report.ok, str(report)
    version = read_table(defaults_dir() / f"{target}.json")[0]
    if version != VERSION:
        pytest.skip(f"all compile; recorded are the resources under Triton {version}")
    entries = recorded(target, name)["kernels"]
    found = {
        k.label: {n: getattr(k.resources, n) for n in RECORDED if getattr(k.resources, n)}
        for k in report.kernels
    }
    known = {
        label: {n: entry[n] for n in RECORDED if entry.get(n)} for label, entry in entries.items()
    }
    assert found == known


@pytest.mark.parametrize("name", shipped_names())
def test_hopper_uses_its_matrix_unit(name):
    """Warpgroup products alone, of tiles that feed them, and what exceeds the stack is named.

    An op with several writes a token has fewer tokens a chunk: products with one row a token have
    too few rows for a warpgroup there.
    """
    entry = recorded("sm_90", name)
    assert entry["chunk_size"] >= 16
    for label, kernel in entry["kernels"].items():
        assert kernel["tile_v"] >= 32, label
        assert kernel["tile_k"] >= 64, label
        assert not kernel.get("mma") or entry["chunk_size"] < WARPGROUP_ROWS, label
        assert kernel.get("exceeds", 0) == (
            kernel["stack_bytes"] if kernel["stack_bytes"] > STACK_BYTES else 0
        ), label


@pytest.mark.parametrize("target", TARGETS)
def test_kernels_fit(target):
    limit = load_target(target).shared_per_block
    for name in shipped_names():
        for label, kernel in recorded(target, name)["kernels"].items():
            assert kernel["shared_bytes"] <= limit, (name, label)
