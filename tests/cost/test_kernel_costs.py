"""FLOPs and bytes of kernels: counted by hand, and against the text of every shipped kernel."""

import re
from dataclasses import replace

import pytest

from lincodegen.config import Config
from lincodegen.cost.launch import Compiled
from lincodegen.cost.model import kernel_cost
from lincodegen.cost.sizes import CallSizes, KernelSizes
from lincodegen.cost.traffic import PARTS, group_tensors, kernel_traffic
from lincodegen.cost.work import dots_in_a_row
from lincodegen.emit.triton_roles import print_kernel
from lincodegen.loading import shipped_names
from lincodegen.schedule.kernels import schedule
from lincodegen.targets import load_target

C, K, V, TOKENS = 64, 128, 128, 8192
STATE = K * V * 4 / TOKENS
"""Bytes a token and head of a state in float32, initial or final."""
NB = 2
"""Chunks between two kept states."""
CHUNK_STATES = K * V * 2 / C
"""Of one state a chunk in bfloat16."""
ROW = 128 * 2
"""Of a vector in bfloat16."""
NUMBER = 4
"""Of one value a token, in float32."""


def launches(direction, tokens):
    """Per launch (bytes, products once, products with repeats), per token and head."""
    return {
        x.label: (
            x.bytes / tokens,
            x.kernel.once.matrix / tokens if x.kernel else 0,
            x.kernel.executed.matrix / tokens if x.kernel else 0,
        )
        for x in direction.launches
    }


def test_retention_by_hand(cost_at):
    """Sun et al. 2023, equation 7: O = (Q K^T . D) V + decay Q S, S' = decay S + K^T (decay V).

    Products take 2 FLOPs a multiply-add: a [C, K] by [K, C] one 2 C K a token, one with the state
    2 K V. Tiles of 64 values make two programs, each with its own Q K^T.
    """
    cost = cost_at("retention")
    n = cost.sizes.token_heads
    forward = {
        # the decay of a head is a parameter: it is repeated over the tokens
        "repeat g": (NUMBER, 0, 0),
        # q, k, v, o; g; two states
        "scan_fwd": (
            4 * ROW + NUMBER + 2 * STATE,
            2 * C * K + 2 * C * V + 4 * K * V,
            2 * (2 * C * K) + 2 * C * V + 4 * K * V,
        ),
    }
    assert launches(cost.forward, n) == forward
    backward = {
        "repeat g": (NUMBER, 0, 0),
        # dQ = dP K + dO S^T; S' = decay S + K^T V: k, v, do, q, g; dq; S at borders
        # dK = dP^T Q + V dS^T, dV = P^T dO + K dS, dS' = decay dS + Q^T dO twice: the same,
        # dk, dv; dS at borders. Of the clocks two parts at reads and at writes
        "scans_bwd": (
            4 * ROW + NUMBER + 3 * ROW + 2 * CHUNK_STATES / NB + 2 * 2 * NUMBER + 4 * STATE,
            6 * C * (K + V) + 12 * K * V,
            # dP twice and P, again for every tile
            6 * C * (K + V) + 12 * K * V + 4 * C * V + 2 * C * K,
        ),
        "sum dG_t0": (3 * NUMBER, 0, 0),
        "sum dG_w": (3 * NUMBER, 0, 0),
        # dg from both and g, and <S, dS> at borders
        "clocks_bwd": (4 * NUMBER + 2 * CHUNK_STATES / NB + 2 * STATE, 0, 0),
    }
    assert launches(cost.backward, n) == backward


def test_delta_rule_by_hand(cost_at):
    """Yang et al. 2024, the WY form: A = (I + beta tril(K K^T))^-1, U = A beta (V - K S),

    O = Q S + tril(Q K^T) U, S' = S + K^T U. The inverse of 64 rows takes four blocks of 16 with
    six products each, two merges to 32 and one to 64 of two products each.
    """
    cost = cost_at("delta_rule")
    n = cost.sizes.token_heads
    inverse = (4 * 6 * 2 * 16**3 + 2 * 2 * 2 * 16**3 + 2 * 2 * 32**3) / C
    stored_inverse = 2 * C
    scan = 2 * C * K + 4 * C * V + 6 * K * V
    assert launches(cost.forward, n) == {
        "prep_fwd": (ROW + NUMBER + stored_inverse, 2 * C * K + inverse, 2 * C * K + inverse),
        "scan_fwd": (
            4 * ROW + NUMBER + stored_inverse + 2 * STATE,
            scan,
            scan + 2 * C * K,
        ),
    }
    found = launches(cost.backward, n)
    # k, v, beta, A; z and the states
    assert found["states_fwd"][:2] == (
        3 * ROW + NUMBER + stored_inverse + CHUNK_STATES + 2 * STATE,
        4 * K * V + 2 * C * V,
    )
    # k, q, do, beta, A; dr, dv and the cotangents of the states
    assert found["scan_bwd"][:2] == (
        5 * ROW + NUMBER + stored_inverse + CHUNK_STATES + 2 * STATE,
        scan,
    )
    # k, q, v, do, z, dr, beta, S, dS'; dq, dk; two parts of dbeta
    assert found["gradient_bwd"][0] == 8 * ROW + NUMBER + 2 * CHUNK_STATES + 2 * NUMBER
    assert found["sum dbeta"] == (3 * NUMBER, 0, 0)


def test_what_a_chunk_size_and_a_tile_change(cost_at):
    """Half the chunk: twice the states, half of its products. A whole tile: nothing repeated."""
    small = cost_at("retention", config=Config(32, 128, 128, 4, 2))
    n = small.sizes.token_heads
    found = launches(small.backward, n)
    assert found["clocks_bwd"][0] == 4 * NUMBER + 4 * CHUNK_STATES / NB + 2 * STATE
    assert launches(small.forward, n)["scan_fwd"][1:] == (2 * 32 * 256 + 4 * K * V,) * 2
    # but for roles on one grid, each of which reads what it needs
    alone = [x for d in small.directions for x in d.launches if x.label != "scans_bwd"]
    assert all(a.moved == a.bytes for x in alone for a in x.accesses)


def test_what_does_not_fit_beside_shared_memory_goes_to_memory(op_of):
    """The same kernel with stacks of 0, of 64 and of 5000 bytes a thread."""
    plan, programs = op_of("gated_delta_rule")
    group, program, target = plan.groups[0], programs[0], load_target("sm_80")
    kernel = next(k for k in schedule(program).own if k.name == "gradient_bwd")
    config = Config(64, 64, 32, 4, 2)
    sizes = KernelSizes(CallSizes(), program, kernel, config)
    tensors = group_tensors(program, group)

    def cost(stack):
        compiled = Compiled("sm_80", 255, stack, 32_768, {})
        return kernel_cost(kernel.name, sizes, tensors, compiled, target)

    none, little, much = map(cost, (0, 64, 5000))
    programs_of = none.kernel.programs
    assert [x.kernel.spilled for x in (none, little)] == [0, 2 * 64 * 128 * programs_of]
    assert little.time.limits["memory"] == none.time.limits["memory"]
    assert little.time.limits["issue"] > none.time.limits["issue"]
    beyond = much.time.limits["memory"] - none.time.limits["memory"]
    assert beyond == pytest.approx(much.kernel.spilled / target.memory_bandwidth)


def test_a_short_sequence_takes_a_shorter_chunk(cost_at):
    """As a launch does: 20 tokens are one chunk of 32, three are one of 16."""
    for tokens, chunk_size in ((20, 32), (3, 16), (65, 64)):
        (scan,) = cost_at("linear_attention", tokens=tokens).forward.kernels
        assert scan.kernel.default.config.chunk_size == chunk_size
        assert scan.kernel.chunks == -(-tokens // chunk_size)


def test_few_heads_split_the_forward(cost_at):
    """As a launch does: 4 sequences of 8 heads are fewer programs than half the multiprocessors."""
    few = cost_at("retention", heads=8)
    assert [x.label for x in few.forward.kernels] == ["states_fwd", "output_fwd"]
    many = cost_at("retention", heads=32)
    assert [x.label for x in many.forward.kernels] == ["scan_fwd"]


def test_bytes_follow_the_dtype_and_the_dimensions(cost_at):
    wide = cost_at("linear_attention", dtype="fp32")
    n = wide.sizes.token_heads
    assert launches(wide.forward, n)["scan_fwd"][0] == 8 * ROW + 2 * STATE
    longer = cost_at("linear_attention", dims={"V": 256})
    assert launches(longer.forward, n)["scan_fwd"][0] == 2 * ROW + 2 * (2 * ROW) + 4 * STATE


@pytest.mark.parametrize("name", shipped_names())
def test_tensors_and_products_are_those_of_the_printed_kernels(op_of, name):
    plan, programs = op_of(name)
    call = CallSizes(batch=1, tokens=4096, heads=2)
    for group, program in zip(plan.groups, programs, strict=True):
        cut, tensors = schedule(program), group_tensors(program, group)
        for kernel in cut.own:
            printed = print_kernel(program, kernel, name)
            sizes = KernelSizes(call, program, kernel, Config(32, 64, 64, 4, 1))
            counted = [(a.tensor, a.written) for a in kernel_traffic(sizes, tensors)]
            expected = [tensor_of(pointer, tensors) for pointer in printed.pointers]
            found = [tensor.removesuffix(PARTS) for tensor, _ in counted]
            assert set(found) == set(expected), printed.name
            assert len(found) == len(expected), printed.name
            stores = printed.text.count("tl.store(")
            assert sum(written for _, written in counted) == stores, printed.name
            if not re.search(r"(decayed|bounded)_(?!dot)\w+\(|unit_lower_inverse\(", printed.text):
                roles = [replace(sizes, kernel=scan) for scan in kernel.scans]
                products = sum(dots_in_a_row(role) for role in roles)
                calls = re.findall(r"(?:tl\.dot|\w+_dot|dot_of_scaled)\(", printed.text)
                assert products == len(calls), printed.name


def tensor_of(pointer, tensors):
    """What a kernel's argument is called among the tensors of the op."""
    if pointer in tensors.operands:
        return tensors.operands[pointer][0]
    if re.fullmatch(r"do\d*", pointer):
        return f"d{tensors.reads[int(pointer[2:] or 0)]}"
    if re.fullmatch(r"o\d*", pointer):
        return tensors.reads[int(pointer[1:] or 0)]
    return tensors.own(pointer)
