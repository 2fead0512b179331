"""Times from work and bytes, occupancy, and how predictions are compared with measured times."""

from dataclasses import replace

import pytest

from lincodegen.config import Config
from lincodegen.cost.launch import Compiled, holds_stacks, resident_programs, rounds, spilled_bytes
from lincodegen.cost.predict import Load, predict, rank_correlation
from lincodegen.cost.tile_functions import Decays, bounded_contract, halved_contract, inverse
from lincodegen.cost.work import Work
from lincodegen.targets import load_target

GPU = replace(
    load_target("sm_90"),
    multiprocessors=100,
    memory_bandwidth=1e12,
    peak_bf16=1e14,
    clock=1e9,
    fp32_lanes=100,
    exp2_lanes=10,
    reached_bandwidth=None,
    reached_bf16=None,
    dot_latency=1e-6,
)
"""1e13 float32 operations and 1e12 exponentials a second."""


def load(size=0, work=None, programs=100, resident=2, chain=0):
    return Load(size, work or Work(), programs, resident, chain, 1)


@pytest.mark.parametrize(
    ("given", "seconds", "limit"),
    [
        (load(size=10**9), 1e-3, "memory"),
        (load(work=Work({"bf16": 10**11})), 1e-3, "tensor cores"),
        (load(work=Work({}, vector=10**10)), 1e-3, "issue"),
        (load(work=Work({}, exp2=10**9)), 1e-3, "issue"),
        # a float32 product takes a fused operation a multiply-add
        (load(work=Work({"fp32": 2 * 10**10})), 1e-3, "issue"),
        (load(chain=1000), 1e-3, "serial chain"),
        # half of the multiprocessors have no program; with 150 half have twice the work
        (load(work=Work({"bf16": 10**11}), programs=50), 2e-3, "tensor cores"),
        (load(work=Work({"bf16": 10**11}), programs=150), 4e-3 / 3, "tensor cores"),
        # with one program on a multiprocessor products and arithmetic take turns
        (load(work=Work({"bf16": 10**11}, 5 * 10**9)), 1e-3, "tensor cores"),
        (load(work=Work({"bf16": 10**11}, 5 * 10**9), resident=1), 1.5e-3, "tensor cores"),
    ],
)
def test_the_longest_limit_sets_the_time(given, seconds, limit):
    found = predict(given, GPU)
    assert found.seconds == pytest.approx(seconds)
    assert found.limit == limit


def test_what_a_device_reaches_comes_before_its_peak():
    slow = replace(GPU, reached_bandwidth=5e11, reached_bf16=5e13)
    assert predict(load(size=10**9), slow).seconds == pytest.approx(2e-3)
    assert predict(load(work=Work({"bf16": 10**11})), slow).seconds == pytest.approx(2e-3)


def test_unknown_figures_are_none():
    bare = replace(GPU, clock=None, dot_latency=None)
    found = predict(load(size=10**9, work=Work({}, 10**12), chain=10**6), bare)
    assert (found.limits["issue"], found.limits["serial chain"]) == (None, None)
    assert (found.seconds, found.limit) == (pytest.approx(1e-3), "memory")


def test_occupancy_of_registers_shared_memory_and_threads():
    hopper, config = load_target("sm_90"), Config(64, 64, 64, 4, 2)

    def resident(registers, shared, warps=4):
        compiled = Compiled("sm_90", registers, 0, shared, {})
        return resident_programs(compiled, config._replace(num_warps=warps), hopper)

    # 65536 registers: 256 of 128 threads twice, 168 three times; one of 8 warps once
    assert [resident(255, 0), resident(168, 0), resident(255, 0, 8)] == [2, 3, 1]
    # 233472 bytes, of which CUDA keeps 1024 of each program
    assert [resident(32, 115_712), resident(32, 115_713), resident(32, 232_448)] == [2, 1, 1]
    assert resident(16, 0, 32) == 2
    assert [rounds(264, 2, hopper), rounds(265, 2, hopper)] == [1, 2]


def test_stacks_move_twice_and_share_the_room_of_shared_memory():
    hopper, config = load_target("sm_90"), Config(64, 64, 64, 8, 2)

    def compiled(stack):
        return Compiled("sm_90", 255, stack, 57_376, {})

    assert spilled_bytes(compiled(272), config, hopper) == 2 * 272 * 8 * 32
    # 233472 bytes: two programs with 57376 each leave 59360 a program, 231 a thread
    found = [holds_stacks(compiled(stack), 2, config, hopper) for stack in (0, 231, 232)]
    assert found == [True, True, False]


def test_tile_functions_by_hand():
    """Sixty-four tokens are halved six times, and each time all rows meet all columns."""
    assert inverse(16).float_dots == 6 * 2 * 16**3
    assert inverse(32).float_dots == 2 * inverse(16).float_dots + 2 * 2 * 16**3
    assert inverse(32).products == 2 * 6 + 2
    lengths, decays = (64, 64, 128), Decays(64, 1, 1, True)
    gram = halved_contract(lengths, decays, True)
    # a level: the log decays through a mask of 64 by 64, then the gram
    assert gram.operand_dots == 6 * (1 + 1) * 2 * 64 * 64 * 128
    assert (gram.exp2, gram.products) == (6 * 64 * 128, 6 * (1 + 1))
    bounded = bounded_contract(lengths, decays, True)
    assert (bounded.operand_dots, bounded.exp2) == (2 * 2 * 64 * 64 * 128, 64 * 128)
    # axes at two points have sums of their own
    apart = halved_contract(lengths, Decays(64, 1, 1, False), True)
    assert (apart.exp2, apart.operand_dots) == (2 * gram.exp2, 6 * (2 + 1) * 2 * 64 * 64 * 128)
    # float32 takes a log decay in three parts
    assert halved_contract(lengths, Decays(64, 1, 3, True), True).products == 6 * (3 + 1)


def test_rank_correlation():
    assert rank_correlation([1, 2, 3], [10, 200, 3000]) == pytest.approx(1)
    assert rank_correlation([1, 2, 3], [5, 4, 3]) == pytest.approx(-1)
    # ranks 0 1 2 3 and 0 2 1 3: 1 - 6 (1 + 1) / (4 (16 - 1))
    assert rank_correlation([1, 2, 3, 4], [1, 3, 2, 4]) == pytest.approx(0.8)
    # equal ones share the mean of their ranks: 0.5 0.5 2 with 0 1 2
    assert rank_correlation([1, 1, 2], [1, 2, 3]) == pytest.approx(3**0.5 / 2)


@pytest.mark.parametrize("pair", [([1], [1]), ([1, 2], [1, 2, 3]), ([1, 1], [1, 2])])
def test_rank_correlation_refuses_what_has_none(pair):
    with pytest.raises(ValueError, match=r"pairs"):
        rank_correlation(*pair)
