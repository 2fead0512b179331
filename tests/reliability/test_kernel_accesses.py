"""Where kernels read and write: inside their arguments, each address once, of tensors of any size.

Kernels run in the interpreter with every address looked at.
"""

import importlib
import os

import careless_kernels
import pytest
import torch
from access_log import LARGE, logged_accesses, virtual, virtual_allocations
from op_cases import (
    NAMES,
    evaluated,
    forward,
    judged,
    op_of,
    recurrence_of,
    small_case,
    small_trial,
)
from triton.runtime.errors import InterpreterError

from lincodegen.loading import load_shipped
from lincodegen.runtime.pins import use_config
from lincodegen.runtime.schedules import use_schedule
from lincodegen.verify.gradients import evaluate_op
from lincodegen.verify.inputs import Geometry, draw

pytestmark = pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") != "1", reason="needs Triton's interpreter"
)
every_op = pytest.mark.parametrize("name", NAMES)
ENTRIES = 3
"""Batch entries of the call that is made large."""
BATCH = ENTRIES * ((1 << 27) // ENTRIES + 1)


@every_op
def test_accesses_stay_inside_and_stores_are_single(name):
    """Sizes and a length that fill no tile; forward and backward."""
    with logged_accesses() as log:
        evaluated(name, "triton", small_case(name, length=19, sizes=(20, 12, 8)))
    assert len(log.launches) >= 2
    for launch in log.launches:
        assert launch.reads, launch.kernel
        assert launch.writes, launch.kernel


@pytest.mark.parametrize("name", ["gated_delta_rule", "gla"])
def test_accesses_through_descriptors(name):
    """Blocks that reach beyond tokens and channels read nothing there, and as much within."""
    counts = []
    for described in (0, 1):
        pinned = use_config(name, tile_v=16, chunk_size=16, descriptors=described)
        with pinned, use_schedule("scan"), logged_accesses() as log:
            evaluated(name, "triton", small_case(name, length=19, sizes=(20, 20, 8)))
        counts.append([(launch.kernel, launch.reads, launch.writes) for launch in log.launches])
    assert counts[0] == counts[1]


@pytest.mark.parametrize("schedule", ["split", "recurrent"])
@every_op
def test_accesses_of_the_other_schedules(name, schedule):
    with use_schedule(schedule), logged_accesses() as log:
        forward(name, "triton", small_case(name, length=5, sizes=(20, 12, 8)))
    assert log.launches


@every_op
def test_accesses_of_segments(name):
    """A sequence of two segments, a chunk each."""
    case = small_case(name, length=17, sizes=(20, 12, 8))
    pinned = use_config(name, chunk_size=16), use_schedule("segment", 1)
    with pinned[0], pinned[1], logged_accesses() as log:
        forward(name, "triton", case)
    assert log.launches


@every_op
def test_tiles_smaller_than_a_head(name):
    """Keys and values shared out among programs and passes: the same results."""
    trial = small_trial(name, length=9, sizes=(20, 28, 20))
    with use_config(name, tile_k=16, tile_v=16, chunk_size=16), logged_accesses():
        verdict = judged(name, "triton", [trial])
    assert verdict.passed, str(verdict)


def recorded_calls(name, monkeypatch):
    """The arguments of the two launchers in a small call of ``ENTRIES`` batch entries."""
    kernels = importlib.import_module(f"{load_shipped(name).__module__}.kernels")
    calls = []
    for label in list(vars(kernels)):
        launcher = getattr(kernels, label)
        if label.startswith(("forward", "backward")) and callable(launcher):

            def spy(*args, launcher=launcher):
                calls.append((launcher, args))
                return launcher(*args)

            monkeypatch.setattr(kernels, label, spy)
    return calls


def enlarged(argument):
    """The same argument of ``BATCH`` entries, in virtual memory; what has no batch stays."""
    if isinstance(argument, tuple):
        return tuple(enlarged(x) for x in argument)
    if not isinstance(argument, torch.Tensor) or argument.shape[0] % ENTRIES:
        return argument
    shape = (argument.shape[0] // ENTRIES * BATCH, *argument.shape[1:])
    return virtual(shape, argument.dtype)


@every_op
def test_offsets_beyond_two_to_the_31(name, monkeypatch):
    """The first and the last program of every kernel: each touches its own batch entry alone."""
    recurrence = recurrence_of(name)
    geometry = Geometry(dict.fromkeys(recurrence.dims, 16), 1, batch=ENTRIES, heads=1)
    calls = recorded_calls(name, monkeypatch)
    evaluate_op(recurrence, draw(recurrence, geometry), op_of(name, "triton"))
    assert len(calls) >= 2
    for launcher, arguments in calls:
        large = [enlarged(x) for x in arguments]
        sizes = [x.numel() for x in large if isinstance(x, torch.Tensor)]
        assert max(sizes) > 2**31
        with logged_accesses(BATCH) as log, virtual_allocations():
            launcher(*large)
        assert log.launches
        assert all(launch.writes for launch in log.launches)
    assert LARGE < BATCH


@pytest.mark.parametrize(
    ("kernel", "count", "found"),
    [
        ("tail_kernel", 20, "tail_kernel: 12 accesses outside"),
        ("shared_kernel", 32, "shared_kernel: 16 addresses are written more than once"),
        ("narrow_kernel", 1 << 28, "narrow_kernel: 16 accesses outside"),
        ("wide_kernel", 1 << 28, None),
    ],
)
def test_the_log_finds_what_it_is_for(kernel, count, found):
    rows = -(-count // 16)
    x, y = virtual((rows, 16), torch.float32)[:, :16], virtual((count, 16), torch.float32)
    x = x.view(-1)[:count] if count < LARGE else y
    grid = (rows,) if count < LARGE else (count,)
    with logged_accesses(count) as log:
        if found is None:
            getattr(careless_kernels, kernel)[grid](x, y)
            assert log.launches[0].writes == 32
        else:
            with pytest.raises((AssertionError, InterpreterError), match=found):
                getattr(careless_kernels, kernel)[grid](x, y)
