"""What only a CUDA device can show: graphs, streams, synchronisation, sizes, launches, devices."""

import gc
import importlib
import itertools
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from op_cases import NAMES, judged, op_of, recurrence_of, small_trial

from lincodegen.loading import load_shipped
from lincodegen.runtime.pins import use_config
from lincodegen.verify import compare
from lincodegen.verify.inputs import Geometry, draw
from lincodegen.verify.reference import run

pytestmark = pytest.mark.gpu
every_op = pytest.mark.parametrize("name", NAMES)
RUNS = 10
SIZE = 64


def case_of(name, length=200, batch=1, heads=2, seed=0, size=SIZE, cu_seqlens=None):
    sizes = dict.fromkeys(recurrence_of(name).dims, size)
    geometry = Geometry(sizes, length, batch=batch, heads=heads, cu_seqlens=cu_seqlens)
    return draw(recurrence_of(name), geometry, dtype=torch.bfloat16, seed=seed)


def on(device, case):
    """Leaves and initial states of a case on a device."""
    tensors = {n: x.to(device).requires_grad_() for n, x in case.tensors.items()}
    states = [x.to(device).requires_grad_() for x in case.initial_state.values()]
    return tensors, states


def forward_backward(name, tensors, states, **packing):
    """Outputs, final states and gradients in a row."""
    given = states[0] if len(states) == 1 else tuple(states)
    results = op_of(name, "triton")(
        **tensors, initial_state=given, output_final_state=True, **packing
    )
    flat = [y for x in results for y in (x if isinstance(x, tuple) else (x,))]
    leaves = [*tensors.values(), *states]
    return [*flat, *torch.autograd.grad(flat, leaves, [torch.ones_like(x) for x in flat])]


def same(a, b):
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@every_op
def test_many_runs_give_the_same_bits(name):
    """Forward and backward, among them a run on a device that has other work."""
    tensors, states = on("cuda", case_of(name, 513))
    first = forward_backward(name, tensors, states)
    noise = torch.randn(2048, 2048, device="cuda")
    for _ in range(RUNS):
        with torch.cuda.stream(torch.cuda.Stream()):
            noise @ noise
        assert same(forward_backward(name, tensors, states), first)


@every_op
def test_a_graph_replayed_with_other_inputs(name):
    """Captured once, forward and backward; replayed three times: the bits of an eager call."""
    tensors, states = on("cuda", case_of(name))
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        forward_backward(name, tensors, states)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = forward_backward(name, tensors, states)
    for seed in (1, 2, 3):
        fresh, fresh_states = on("cuda", case_of(name, seed=seed))
        with torch.no_grad():
            for x, y in zip(
                (*tensors.values(), *states), (*fresh.values(), *fresh_states), strict=True
            ):
                x.copy_(y)
        graph.replay()
        assert same(captured, forward_backward(name, fresh, fresh_states))


@every_op
def test_a_stream_of_its_own(name):
    """Work on another stream follows what that stream waits for."""
    tensors, states = on("cuda", case_of(name))
    wanted = forward_backward(name, tensors, states)
    stream = torch.cuda.Stream()
    late = {n: torch.empty_like(x) for n, x in tensors.items()}
    busy = torch.zeros(4096, 4096, device="cuda")
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(20):
            busy = busy @ busy
        with torch.no_grad():
            for n, x in late.items():
                x.copy_(tensors[n])
        leaves = {n: x.requires_grad_() for n, x in late.items()}
        found = forward_backward(name, leaves, states)
    torch.cuda.current_stream().wait_stream(stream)
    assert same(found, wanted)


@every_op
def test_packed_sequences_do_not_wait_for_the_device(name):
    """Offsets on the device: no synchronisation, forward and backward."""
    offsets = (0, 0, 40, 41, 200)
    tensors, states = on("cuda", case_of(name, 200, cu_seqlens=offsets))
    cu_seqlens = torch.tensor(offsets, device="cuda", dtype=torch.int32)
    wanted = forward_backward(name, tensors, states, cu_seqlens=cu_seqlens)
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = forward_backward(name, tensors, states, cu_seqlens=cu_seqlens)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert same(found, wanted)


@every_op
def test_storage_offsets_of_one_element(name):
    """Operands that are not aligned give the bits of aligned ones."""
    tensors, states = on("cuda", case_of(name))

    def moved(x):
        storage = torch.full((x.numel() + 1,), torch.nan, dtype=x.dtype, device=x.device)
        storage[1:] = x.detach().flatten()
        return storage[1:].view(x.shape).requires_grad_()

    shifted = {n: moved(x) for n, x in tensors.items()}
    wanted = forward_backward(name, tensors, states)
    assert same(forward_backward(name, shifted, [moved(x) for x in states]), wanted)


@every_op
def test_more_programs_than_65535(name):
    """B H = 65,537 sequences of one token: the last is what it is alone."""
    tensors, states = on("cuda", case_of(name, 1, batch=65_537, heads=1, size=16))
    inputs = {x.name for x in recurrence_of(name).inputs}
    whole = forward_backward(name, tensors, states)
    last = {n: x.detach()[-1:] if n in inputs else x.detach() for n, x in tensors.items()}
    alone = forward_backward(
        name,
        {n: x.requires_grad_() for n, x in last.items()},
        [x.detach()[-1:].requires_grad_() for x in states],
    )
    results = len(states) + len(recurrence_of(name).outputs)
    assert same([x[-1:] for x in whole[:results]], alone[:results])


@every_op
def test_a_million_tokens(name):
    """Finite, and the last tokens are those of a run that starts at their carried state."""
    length, tail = 1_000_000, 1_000
    case = case_of(name, 1_000, heads=1)
    inputs = {x.name for x in recurrence_of(name).inputs}
    tensors = {
        n: (x.repeat(1, length // 1_000, *(1,) * (x.dim() - 2)) if n in inputs else x).cuda()
        for n, x in case.tensors.items()
    }
    op = op_of(name, "triton")
    with torch.no_grad():
        outputs, _ = op(**tensors)
        head = {n: x[:, :-tail] if n in inputs else x for n, x in tensors.items()}
        _, carried = op(**head, output_final_state=True)
    carried = carried if isinstance(carried, tuple) else (carried,)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    named = {s.name: x.cpu() for s, x in zip(recurrence_of(name).states, carried, strict=True)}
    exact, _ = run(recurrence_of(name), dict(case.tensors), initial_state=named)
    for (n, _), x in zip(recurrence_of(name).outputs, outputs, strict=True):
        assert x.isfinite().all()
        error = compare.largest(compare.difference(x[:, -tail:].cpu(), exact[n]))
        assert error <= 2.0**-5 * max(1.0, compare.largest(exact[n]))


@pytest.mark.parametrize("name", ["gated_delta_rule", "kda", "mamba2"])
def test_more_elements_than_an_int32(name):
    """Queries of more than 2^31 elements: the last sequence is what it is alone."""
    if torch.cuda.get_device_properties(0).total_memory < 60 << 30:
        pytest.skip("needs 60 GiB of device memory")
    inputs = {x.name for x in recurrence_of(name).inputs}
    case = case_of(name, 1024, heads=8, size=128)
    count = 2**31 // (1024 * 8 * 128) + 1
    few = {n: x.cuda() for n, x in case.tensors.items()}
    many = {
        n: x.expand(count, *x.shape[1:]).contiguous() if n in inputs else x for n, x in few.items()
    }
    op = op_of(name, "triton")
    with torch.no_grad():
        whole, alone = op(**many)[0], op(**few)[0]
    assert many[next(iter(inputs & many.keys()))].numel() > 0
    assert torch.equal(whole[-1:], alone)


CONFIGS = list(itertools.product((16, 32, 64), (16, 32, 64, 128), (1, 2, 4, 8), (1, 2, 3)))


@pytest.mark.slow
@pytest.mark.timeout(7200)
@every_op
def test_every_configuration(name):
    """Chunk sizes, tiles, warps and stages that fit the device: each right, gradients too."""
    trial = small_trial(name, "typical", 130, torch.bfloat16, (64, 64, 64))
    ran = 0
    for chunk_size, tile, num_warps, num_stages in CONFIGS:
        fields = {"tile_k": tile, "tile_v": tile, "num_warps": num_warps, "num_stages": num_stages}
        # the backward in this thread sees the configuration, too
        one_thread = torch.autograd.set_multithreading_enabled(False)
        with one_thread, use_config(name, chunk_size=chunk_size, **fields):
            verdict = judged(name, "triton", [trial])
        notes = [row.note or "" for row in verdict.rows]
        if any("OutOfResources" in note or "out of resource" in note for note in notes):
            continue
        ran += 1
        assert verdict.passed, (chunk_size, fields, str(verdict))
    assert ran >= len(CONFIGS) // 4


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
@every_op
def test_the_device_is_that_of_the_tensors(name):
    """Tensors on the second device while the first is current: run there, with the same bits."""
    case = case_of(name)
    with torch.cuda.device(0):
        there = forward_backward(name, *on("cuda:1", case))
        assert {x.device for x in there} == {torch.device("cuda", 1)}
        assert torch.cuda.current_device() == 0
        here = forward_backward(name, *on("cuda:0", case))
    assert same([x.cpu() for x in here], [x.cpu() for x in there])


@pytest.mark.parametrize("name", ["gated_delta_rule", "mamba2"])
def test_too_little_memory_is_an_error_that_leaves_nothing_behind(name):
    tensors, states = on("cuda", case_of(name, 4096, heads=8))
    wanted = forward_backward(name, tensors, states)
    wanted = [x.cpu() for x in wanted]
    gc.collect()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    reserved = torch.cuda.memory_reserved() + (1 << 20)
    torch.cuda.set_per_process_memory_fraction(
        reserved / torch.cuda.get_device_properties(0).total_memory
    )
    try:
        with pytest.raises(torch.OutOfMemoryError):
            forward_backward(name, tensors, states)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    gc.collect()
    assert torch.cuda.memory_allocated() == before
    assert same([x.cpu() for x in forward_backward(name, tensors, states)], wanted)


@every_op
def test_each_kernel_keeps_to_its_memory(name):
    """NaN around every operand, lengths 1 to 32: the results of operands without neighbours."""
    for length in (1, 2, 15, 16, 17, 31, 32):
        tensors, states = on("cuda", case_of(name, length, heads=1, size=20))

        def guarded(x):
            storage = torch.full((3, *x.shape), torch.nan, dtype=x.dtype, device=x.device)
            storage[1] = x.detach()
            return storage[1].requires_grad_()

        fenced = {n: guarded(x) for n, x in tensors.items()}
        found = forward_backward(name, fenced, [guarded(x) for x in states])
        assert all(x.isfinite().all() for x in found)
        assert same(found, forward_backward(name, tensors, states))


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("compute-sanitizer") is None, reason="compute-sanitizer is not on the path"
)
@pytest.mark.parametrize("tool", ["memcheck", "racecheck"])
@every_op
def test_the_sanitizer_finds_nothing(name, tool):
    module, test = Path(__file__), "test_each_kernel_keeps_to_its_memory"
    command = ["compute-sanitizer", "--tool", tool, "--error-exitcode", "9", sys.executable]
    command += ["-m", "pytest", "-q", f"{module}::{test}[{name}]"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=module.parents[2])
    assert done.returncode == 0, done.stdout[-4000:]


@every_op
def test_kernels_are_compiled_once_for_all_lengths(name):
    """Twenty lengths of one chunk count class give no kernel that one length did not give."""
    kernels = importlib.import_module(f"{load_shipped(name).__module__}.kernels")
    jitted = [x for n, x in vars(kernels).items() if n.endswith("_kernel")]

    def variants():
        return sum(len(c[0]) for k in jitted for c in k.device_caches.values())

    forward_backward(name, *on("cuda", case_of(name, 100)))
    first = variants()
    for length in range(101, 121):
        forward_backward(name, *on("cuda", case_of(name, length)))
    assert variants() == first
