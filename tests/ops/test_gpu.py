"""Every shipped op compiled and run on a GPU against its recurrence in float64."""

import pytest
import torch

import lincodegen.ops
from lincodegen.config import SCHEDULES
from lincodegen.resources import specs_dir
from lincodegen.runtime.schedules import use_schedule
from lincodegen.spec.loader import load
from lincodegen.verify import verify

NAMES = sorted(path.stem for path in specs_dir().glob("*.yaml"))


@pytest.mark.gpu
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_op_agrees_with_its_recurrence(name, dtype, schedule):
    recurrence = load(specs_dir() / f"{name}.yaml")
    sizes = dict.fromkeys(recurrence.dims, 64) | {"V": 128}
    sizes = {dim: size for dim, size in sizes.items() if dim in recurrence.dims}
    with use_schedule(schedule, int(schedule == "segment")):
        verdict = verify(
            recurrence,
            getattr(lincodegen.ops, name),
            device="cuda",
            sizes=sizes,
            dtype=dtype,
            lengths=(1, 65, 200),
        )
    assert verdict.passed, str(verdict)


@pytest.mark.gpu
@pytest.mark.parametrize("name", NAMES)
def test_two_runs_are_bitwise_equal(name):
    recurrence = load(specs_dir() / f"{name}.yaml")
    op = getattr(lincodegen.ops, name)
    generator = torch.Generator("cuda").manual_seed(0)
    tensors = [
        torch.randn(1, 512, 4, *(64 for _ in t.shape), device="cuda", generator=generator)
        .abs()
        .neg()
        for t in recurrence.inputs
    ]
    if (
        any(d.constant is not None for t in recurrence.inputs for d in t.shape)
        or recurrence.parameters
    ):
        pytest.skip("the recurrence has axes of fixed size or parameters")
    first, second = op(*tensors), op(*tensors)
    assert torch.equal(first[0], second[0])
