"""The PyTorch form with some heads and tokens at a time: the same bits, for every op."""

import pytest
import torch
from op_cases import NAMES, evaluated, op_of, recurrence_of, sizes_of

from lincodegen.runtime import blocks, tuned
from lincodegen.runtime.call import Layout
from lincodegen.verify.inputs import Geometry, draw

LENGTH = 70


def drawn(name, heads, cu_seqlens=None):
    batch = 2 if cu_seqlens is None else 1
    geometry = Geometry(sizes_of(name), LENGTH, batch=batch, heads=heads, cu_seqlens=cu_seqlens)
    return draw(recurrence_of(name), geometry)


@pytest.fixture
def limit(monkeypatch):
    """Sets the sizes of blocks; gives the numbers of blocks that layouts get from then on."""
    found, own = [], blocks.count_of

    def count_of(*arguments):
        found.append(own(*arguments))
        return found[-1]

    def limit(elements, stretch=None, chunk=None):
        monkeypatch.setattr(blocks, "count_of", count_of)
        monkeypatch.setattr(blocks, "MOST_ELEMENTS", elements)
        if stretch is not None:
            monkeypatch.setattr(blocks, "LEAST_STRETCH", stretch)
        if chunk is not None:
            monkeypatch.setattr(Layout, "chunk_size", chunk)
        tuned.forget()
        return found

    yield limit
    monkeypatch.undo()
    # layouts remember how they are cut
    tuned.forget()


def assert_the_same(name, found, whole):
    """The same bits but for gradients of parameters: sums over tokens."""
    sums = {f"grad {x.name}" for x in recurrence_of(name).parameters}
    for tensor, x in whole.items():
        slack = 1e-6 * float(x.abs().max()) if tensor in sums else 0.0
        assert (found[tensor] - x).abs().max() <= slack, tensor


@pytest.mark.parametrize("name", NAMES)
def test_stretches_of_a_sequence_are_the_same_bits(name, monkeypatch, limit):
    """Stretches of a chunk: states are handed on, and their cotangents back."""
    case = drawn(name, 2)
    limit(blocks.MOST_ELEMENTS, chunk=16)
    whole = evaluated(name, "torch", case)
    lengths, own = [], blocks.stretches
    monkeypatch.setattr(blocks, "stretches", lambda *a: lengths.append(own(*a)) or lengths[-1])
    limit(1, stretch=1)
    found = evaluated(name, "torch", case)
    assert {tuple(x.stop - x.start for x in rows) for rows in lengths} == {(16, 16, 16, 22)}
    assert_the_same(name, found, whole)


@pytest.mark.parametrize("cu_seqlens", [None, (0, 30, 30, LENGTH)], ids=["plain", "packed"])
@pytest.mark.parametrize("name", NAMES)
def test_results_and_gradients_are_the_same_bits(name, cu_seqlens, limit):
    case = drawn(name, 4, cu_seqlens)
    whole = evaluated(name, "torch", case)
    counts = limit(1)
    found = evaluated(name, "torch", case)
    assert set(counts) == {4}
    assert_the_same(name, found, whole)


def test_a_short_sequence_goes_into_as_many_blocks_as_a_long_one(limit):
    """By themselves the 10 tokens of one would be one block, the 60 of the other four.

    Packed sequences go in no stretches, so that blocks are counted for all their tokens.
    """
    name = "retention"
    case = drawn(name, 4, (0, 10, LENGTH))
    limit(blocks.MOST_ELEMENTS, stretch=1, chunk=16)
    whole = evaluated(name, "torch", case)
    counts = limit(10 * 4 * max(sizes_of(name).values()))
    counts.clear()
    found = evaluated(name, "torch", case)
    assert set(counts) == {4}
    assert_the_same(name, found, whole)


def test_blocks_keep_groups_of_heads_whole(limit):
    name = "gated_delta_rule"
    case = drawn(name, {"q": 2, "k": 2, "v": 8, "g": 8, "beta": 8})
    whole = evaluated(name, "torch", case)
    counts = limit(1)
    found = evaluated(name, "torch", case)
    assert set(counts) == {2}
    assert all(torch.equal(found[tensor], x) for tensor, x in whole.items())


def test_few_heads_are_one_block(limit):
    counts = limit(blocks.MOST_ELEMENTS)
    op_of("retention", "torch")(**drawn("retention", 4).tensors)
    assert counts == [1]
