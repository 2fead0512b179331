"""The schedule that cuts sequences into segments, scanned side by side from their own states."""

import pytest
import torch
from op_cases import (
    HAS_CUDA,
    NAMES,
    device_of,
    evaluated,
    forward,
    judged,
    op_of,
    recurrence_of,
    small_case,
    small_trial,
)
from test_packed import PACKINGS, arguments, gradients, run, separate
from triton.runtime.interpreter import GridExecutor

from lincodegen.runtime.pins import use_config
from lincodegen.runtime.schedules import use_schedule


@pytest.mark.parametrize("name", NAMES)
def test_segments_are_the_recurrence(name):
    """Three segments of a chunk: results and gradients against the token loop in float64."""
    with use_config(name, chunk_size=16), use_schedule("segment", 1):
        verdict = judged(name, "triton", [small_trial(name, length=38)])
    assert verdict.passed, str(verdict)


@pytest.mark.parametrize("name", ["gated_delta_rule", "retention", "linear_attention_normalized"])
def test_segments_equal_whole_sequences(name):
    """Five chunks in segments of three."""
    case = small_case(name, length=70)
    with use_config(name, chunk_size=16):
        with use_schedule("segment", 3):
            cut = forward(name, "triton", case)
        with use_schedule("scan"):
            scan = forward(name, "triton", case)
    for n, x in scan.items():
        torch.testing.assert_close(cut[n], x, rtol=1e-5, atol=1e-5 * float(x.abs().max()))


@pytest.mark.parametrize("name", ["gated_delta_rule", "mamba2", "gla"])
def test_packed_sequences_are_cut_as_they_are_alone(name):
    """Bit for bit: a segment has as many chunks wherever its sequence lies; empty ones included."""
    offsets = PACKINGS["empty ones"]
    op, (tensors, states) = op_of(name, "triton"), arguments(name, "triton", offsets)
    cu_seqlens = torch.tensor(offsets, device=device_of("triton"))
    with use_config(name, chunk_size=16), use_schedule("segment", 1):
        packed, _ = run(op, tensors.values(), states, cu_seqlens=cu_seqlens)
        host, _ = run(op, tensors.values(), states, cu_seqlens_cpu=cu_seqlens.cpu())
        alone = separate(op, name, tensors, states, offsets)
        assert all(torch.equal(a, b) for a, b in zip(packed, alone, strict=True))
        assert all(torch.equal(a, b) for a, b in zip(packed, host, strict=True))
        inputs = {x.name for x in recurrence_of(name).inputs}
        leaves = (*(x for n, x in tensors.items() if n in inputs), *states)
        found, wanted = gradients(packed, leaves), gradients(alone, leaves)
    for a, b in zip(found, wanted, strict=True):
        assert (a is None and b is None) or torch.equal(a, b)


def test_a_batch_is_cut_sequence_by_sequence():
    """Two sequences of a batch: the bits that each has alone."""
    op = op_of("gated_delta_rule", "triton")
    tensors = small_case("gated_delta_rule", length=70).tensors
    batch = {n: torch.cat([x, x.flip(1)]) for n, x in tensors.items()}
    with use_config("gated_delta_rule", chunk_size=16), use_schedule("segment", 2):
        both, _ = op(*batch.values())
        alone = [op(*(x[i : i + 1] for x in batch.values()))[0] for i in range(2)]
    assert torch.equal(both, torch.cat(alone))


def test_a_backward_runs_over_the_segments_of_its_forward():
    """Whatever schedule is pinned by then, as in a thread of autograd's own."""
    op, name = op_of("gated_delta_rule", "triton"), "gated_delta_rule"
    tensors, states = arguments(name, "triton", PACKINGS["one"])
    with use_config(name, chunk_size=16):
        with use_schedule("segment", 1):
            results, _ = run(op, tensors.values(), states)
            inside = gradients(run(op, tensors.values(), states)[0], tuple(tensors.values()))
        outside = gradients(results, tuple(tensors.values()))
    assert all(torch.equal(a, b) for a, b in zip(inside, outside, strict=True))


@pytest.mark.parametrize("name", ["gated_delta_rule", "mamba2"])
@pytest.mark.skipif(HAS_CUDA, reason="launches are noted in Triton's interpreter alone")
def test_segments_launch_their_summaries(name, monkeypatch):
    """The schedule is what it says: a summary a direction, and scans of as many segments."""
    grids = {}
    launch = GridExecutor.__call__

    def noted(executor, *args, **kwargs):
        grids[executor.fn.__name__.removeprefix(f"{name}_")] = executor.grid
        return launch(executor, *args, **kwargs)

    monkeypatch.setattr(GridExecutor, "__call__", noted)
    with use_config(name, chunk_size=16), use_schedule("segment", 2):
        evaluated(name, "triton", small_case(name, length=70))
    assert {"summary_fwd_kernel", "summary_bwd_kernel", "hand_over_kernel"} <= set(grids)
    assert grids["scan_fwd_kernel"] == (3 * 2,)
    # a tile of each scan, where both are on one grid
    back = {n: grid for n, grid in grids.items() if n in ("scan_bwd_kernel", "scans_bwd_kernel")}
    assert list(back.values()) == [(3 * 2 * (3 if "scans_bwd_kernel" in back else 1),)]


def test_segments_without_the_schedule_are_refused():
    message = r"segment_chunks = 2 with schedule 'scan'; expected"
    with pytest.raises(ValueError, match=message), use_schedule("scan", 2):
        pass
