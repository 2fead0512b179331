"""Scans that load through tensor descriptors: the bits that they give through pointers.

On a CUDA device the backward, in a thread of its own, sees no pin: it loads through pointers.
"""

import gc
import weakref

import pytest
import torch
from op_cases import HAS_CUDA, device_of, op_of, recurrence_of, sizes_of, small_case
from test_packed import arguments, gradients, run

from lincodegen.config import Config, OpConfig
from lincodegen.runtime import descriptors
from lincodegen.runtime.descriptors import has_descriptors, rows_of
from lincodegen.runtime.launch import tiles
from lincodegen.runtime.pins import use_config
from lincodegen.runtime.schedules import use_schedule
from lincodegen.runtime.tuned import Chosen, running

DEVICE = torch.device(device_of("triton"))
CASES = [
    ("gated_delta_rule", "typical"),
    ("gated_delta_rule", "repeated heads"),
    ("gated_delta_product", "typical"),
    ("mamba2", "repeated heads"),
]
ASKED = {"descriptors": True, "BK": 32, "BV": 16}


@pytest.fixture
def built(monkeypatch):
    """The descriptors that launchers build, as the sizes of their blocks."""
    if not has_descriptors(DEVICE):
        pytest.skip(f"{torch.cuda.get_device_name()} has no tensor descriptors")
    blocks, make = [], descriptors.TensorDescriptor

    def noted(x, shape, strides, block):
        blocks.append(tuple(block))
        return make(x, shape, strides, block)

    monkeypatch.setattr(descriptors, "TensorDescriptor", noted)
    return blocks


def two_sequences(name, case="typical", length=21, **changes):
    """Leaves of two sequences of a batch, by name; parameters as they are."""
    found = small_case(name, case, length, **changes).tensors
    inputs = {x.name for x in recurrence_of(name).inputs}
    batch = {n: torch.cat([x, x.flip(1)]) if n in inputs else x for n, x in found.items()}
    return {n: x.to(DEVICE).requires_grad_() for n, x in batch.items()}


def results_of(name, tensors, schedule="scan", *, states=(), described, **packing):
    """Results, then gradients."""
    with (
        use_config(name, chunk_size=16, tile_v=16, descriptors=int(described)),
        use_schedule(*([schedule] if isinstance(schedule, str) else schedule)),
    ):
        op = op_of(name, "triton")
        if states:
            results, _ = run(op, tensors.values(), states, **packing)
        else:
            given = op(*tensors.values(), output_final_state=True)
            results = [x for g in given for x in (g if isinstance(g, tuple) else (g,))]
        leaves = [x for x in (*tensors.values(), *states) if x.is_floating_point()]
        return [*results, *gradients(results, leaves)]


def assert_same_bits(found, wanted):
    assert len(found) == len(wanted)
    for a, b in zip(found, wanted, strict=True):
        assert (a is None and b is None) or torch.equal(a, b)


@pytest.mark.parametrize(("name", "case"), CASES)
def test_either_way_to_load_gives_the_same_bits(built, name, case):
    """Two sequences whose last chunk has five tokens, two tiles of values, the second of four."""
    tensors = two_sequences(name, case, sizes=(20, 20, 8))
    through_pointers = results_of(name, tensors, described=False)
    assert not built
    assert_same_bits(results_of(name, tensors, described=True), through_pointers)
    assert {block[:3] for block in built} == {(1, 1, 16)}


def test_a_split_schedule_scans_through_descriptors_too(built):
    tensors = two_sequences("gated_delta_rule")
    through_pointers = results_of("gated_delta_rule", tensors, "split", described=False)
    found = results_of("gated_delta_rule", tensors, "split", described=True)
    assert_same_bits(found, through_pointers)
    # k and v for the states, twice; k, q and the cotangent on the way back
    assert len(built) == (2 if HAS_CUDA else 7)


@pytest.mark.parametrize("sizes", [(48, 12, 8), (20, 16, 8)])
def test_rows_of_an_odd_number_of_bytes_are_loaded_through_pointers(built, sizes):
    """In bfloat16, where 48 and 16 channels are multiples of 16 bytes, 12 and 20 are not."""
    name = "gated_delta_rule"
    tensors = two_sequences(name, dtype=torch.bfloat16, sizes=sizes)
    through_pointers = results_of(name, tensors, described=False)
    assert_same_bits(results_of(name, tensors, described=True), through_pointers)
    keys, values = sizes_of(name, sizes).values()
    # q, k and v; k and v again for the states; k, q and the cotangent on the way back
    counts = (2, 1) if HAS_CUDA else (5, 3)
    assert len(built) == counts[0] * (keys % 8 == 0) + counts[1] * (values % 8 == 0)


@pytest.mark.parametrize("described", [False, True])
def test_what_is_not_finite_stays_in_its_sequence(described):
    """The second sequence of a batch begins where the last chunk of the first one ends."""
    name = "gated_delta_rule"
    tensors = two_sequences(name)
    broken = {n: torch.cat([x[:1], x[1:] * float("nan")]) for n, x in tensors.items()}
    with use_config(name, chunk_size=16, descriptors=int(described)), use_schedule("scan"):
        op = op_of(name, "triton")
        found, wanted = op(*broken.values())[0], op(*tensors.values())[0]
    assert torch.equal(found[:1], wanted[:1])
    assert found[:1].isfinite().all()
    assert found[1:].isnan().any()


def test_packed_sequences_are_loaded_through_pointers(built):
    name, offsets = "gated_delta_rule", (0, 0, 16, 21)
    tensors, states = arguments(name, "triton", offsets)
    where = {"states": states, "cu_seqlens": torch.tensor(offsets, device=DEVICE)}
    found = results_of(name, tensors, described=True, **where)
    assert not built
    assert_same_bits(found, results_of(name, tensors, described=False, **where))


def test_segments_are_loaded_through_pointers(built):
    tensors = two_sequences("gated_delta_rule", length=17)
    found = results_of("gated_delta_rule", tensors, ("segment", 1), described=True)
    assert not built
    cut = results_of("gated_delta_rule", tensors, ("segment", 1), described=False)
    assert_same_bits(found, cut)


def test_a_tuned_configuration_asks_for_descriptors():
    kernels = (
        ("scan_bwd", Config(16, 32, 16, 4, 1)),
        ("scan_fwd", Config(16, 32, 16, 4, 1, descriptors=True)),
    )
    x = torch.zeros(1, dtype=torch.bfloat16)
    with running(Chosen(OpConfig(16, kernels))):
        asked = [tiles("probe", n, "v", x, K=32, V=16) for n, _ in kernels]
    assert [bool(a.get("descriptors")) for a in asked] == [False, True]
    assert not tiles("probe", "scan_fwd", "v", x, K=32, V=16).get("descriptors")


def test_a_descriptor_sees_the_rows_of_every_head(built):
    x = torch.zeros(2, 37, 3, 20, device=DEVICE)
    found = rows_of(x, "BK", ASKED, 16, None)
    assert (found.shape, found.block_shape) == ([2, 3, 37, 20], [1, 1, 16, 32])
    seen = torch.as_strided(x, found.shape, found.strides)
    assert seen.data_ptr() == x.data_ptr()
    assert torch.equal(seen, x.transpose(1, 2))


@pytest.mark.parametrize("why", ["not asked for", "packed", "base", "row", "empty", "device"])
def test_a_tensor_stands_where_no_descriptor_can(monkeypatch, why):
    shape = {"row": (1, 5, 3, 18), "empty": (1, 0, 3, 20)}.get(why, (1, 5, 3, 20))
    flat = torch.zeros(1 + 5 * 3 * 20, device=DEVICE)
    count = torch.Size(shape).numel()
    x = flat[1 : 1 + count].view(shape) if why == "base" else flat[:count].view(shape)
    able = why != "device"
    monkeypatch.setattr(descriptors, "has_descriptors", lambda device: able)
    config = {} if why == "not asked for" else ASKED
    packed = torch.tensor([0, 5]) if why == "packed" else None
    assert rows_of(x, "BK", config, 16, packed) is x


def test_no_descriptor_outlives_its_tensor(built):
    x = torch.zeros(1, 5, 3, 20, device=DEVICE)
    kept, found = weakref.ref(x), rows_of(x, "BK", ASKED, 16, None)
    assert found.base is x
    del x, found
    gc.collect()
    assert kept() is None


@pytest.mark.parametrize("value", [2, -1])
def test_a_pin_is_a_flag(value):
    with (
        pytest.raises(ValueError, match=f"descriptors = {value}; expected: 0 or 1"),
        use_config("retention", descriptors=value),
    ):
        pass
