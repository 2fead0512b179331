import inspect
import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from fla_calls import CALLS, HV, SCALARS, H, K, N, T, V, draw, product, qkv, token, unit
from torch import Tensor

from lincodegen.integrations import fla
from lincodegen.resources import specs_dir
from lincodegen.spec import loader
from lincodegen.verify import reference

SIGNATURES = json.loads((Path(__file__).parent / "fla_signatures.json").read_text())
OFFSETS = [0, 8, 8, T]
EXACT = 1e-9


def run(call, **options):
    """The function's outputs and final state, a tuple of tensors."""
    given = {**call.tensors, **call.options, **options}
    return getattr(fla, call.function)(**given)


def expected(call, initial=None, cu_seqlens=None) -> tuple[Tensor, list[Tensor]]:
    recurrence = loader.load(specs_dir() / f"{call.spec}.yaml")
    names = [x.name for x in recurrence.states]
    tensors = call.expected(call.tensors)
    outputs, finals = reference.run(
        recurrence,
        {n: x for n, x in tensors.items() if x is not None},
        constants=call.constants,
        initial_state=dict(zip(names, initial or [], strict=False)),
        cu_seqlens=cu_seqlens,
    )
    (output,) = outputs.values()
    return output, list(finals.values())


def states_of(call, count: int) -> list[Tensor]:
    return [draw(20 + i, count, *shape).abs() for i, shape in enumerate(call.states)]


def as_given(states: list[Tensor]):
    return states[0] if len(states) == 1 else tuple(states)


def as_spec(states: list[Tensor], finals: list[Tensor]) -> list[Tensor]:
    return [x.reshape(y.shape) for x, y in zip(states, finals, strict=True)]


def close(a: Tensor, b: Tensor) -> bool:
    return bool((a.double() - b.double()).norm() <= EXACT * b.double().norm())


def parts(state) -> list[Tensor]:
    return list(state) if isinstance(state, tuple) else [state]


@pytest.mark.parametrize("name", SIGNATURES)
def test_parameters_are_the_librarys(name):
    wanted, found = SIGNATURES[name], inspect.signature(getattr(fla, name)).parameters
    positional = {n: p for n, p in found.items() if p.kind is p.POSITIONAL_OR_KEYWORD}
    assert list(positional) == [*wanted["required"], *wanted["optional"]]
    assert {n: positional[n].default for n in wanted["optional"]} == wanted["optional"]
    assert all(positional[n].default is inspect.Parameter.empty for n in wanted["required"])
    extra = any(p.kind is p.VAR_KEYWORD for p in found.values())
    assert extra == wanted["extra"]


def test_every_function_has_a_signature_and_a_call():
    assert set(dir(fla)) == set(SIGNATURES) == {x.function for x in CALLS}


@pytest.mark.parametrize("call", CALLS, ids=str)
def test_results_are_those_of_the_recurrence(call):
    output, finals = expected(call)
    o, state = run(call, output_final_state=True)
    assert close(o, output)
    assert all(close(a.reshape(b.shape), b) for a, b in zip(parts(state), finals, strict=True))
    assert run(call, output_final_state=False)[1] is None


@pytest.mark.parametrize("call", CALLS, ids=str)
def test_packed_sequences_have_their_own_states(call):
    shapes = [x.shape[1:] for x in expected(call)[1]]
    states = states_of(call, N)
    initial = [x.reshape(N, *shape) for x, shape in zip(states, shapes, strict=True)]
    output, finals = expected(call, initial, OFFSETS)
    o, state = run(
        call,
        initial_state=as_given(states),
        output_final_state=True,
        cu_seqlens=torch.tensor(OFFSETS),
    )
    assert close(o, output)
    assert [x.shape for x in parts(state)] == [x.shape for x in states]
    assert all(close(a.reshape(b.shape), b) for a, b in zip(parts(state), finals, strict=True))


@pytest.mark.parametrize("call", CALLS, ids=str)
def test_gradients_are_those_of_the_recurrence(call):
    def gradients(function):
        leaves = [x for x in call.tensors.values() if x is not None]
        for x in leaves:
            x.grad = None
            x.requires_grad_(True)
        try:
            output = function()
            (output * draw(30, *output.shape)).sum().backward()
            return [x.grad for x in leaves]
        finally:
            for x in leaves:
                x.requires_grad_(False)

    ours, wanted = gradients(lambda: run(call)[0]), gradients(lambda: expected(call)[0])
    assert all(close(a, b) for a, b in zip(ours, wanted, strict=True))


@pytest.mark.parametrize(
    "name", ["fused_recurrent_gated_delta_rule", "fused_recurrent_kda", "fused_recurrent_gsa"]
)
def test_a_token_at_a_time_leaves_the_given_state_as_it_is(name):
    call = next(x for x in CALLS if x.function == name)
    output, finals = expected(call)
    states = None
    for t in range(T):
        one = {n: x[:, t : t + 1] for n, x in call.tensors.items()}
        before = None if states is None else [x.clone() for x in parts(states)]
        o, new = getattr(fla, name)(**one, initial_state=states, output_final_state=True)
        if before is not None:
            assert all(torch.equal(a, b) for a, b in zip(parts(states), before, strict=True))
        assert close(o, output[:, t : t + 1])
        states = new
    assert all(close(a, b) for a, b in zip(parts(states), finals, strict=True))


@pytest.mark.parametrize("flag", ["state_v_first", "transpose_state_layout"])
def test_states_may_have_values_first(flag):
    call = next(x for x in CALLS if x.function == "chunk_gated_delta_rule")
    (state,) = states_of(call, 1)
    o, final = run(call, initial_state=state, output_final_state=True)
    options = {flag: True, "output_final_state": True}
    same, turned = run(call, initial_state=state.transpose(-1, -2).contiguous(), **options)
    assert close(same, o)
    assert turned.shape == (1, HV, V, K)
    assert turned.is_contiguous()
    assert close(turned.transpose(-1, -2), final)


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("norm", [False, True])
def test_a_product_of_any_number_of_factors(n, norm):
    given = product(n, gated=True)
    o, state = fla.chunk_gated_delta_product(
        **given, num_householder=n, use_qk_l2norm_in_kernel=norm, output_final_state=True
    )
    q, k = (x / (x.square().sum(-1, keepdim=True) + 1e-6 * norm).sqrt() if norm else x
            for x in (given["q"], given["k"]))  # fmt: skip
    S = torch.zeros(1, H, K, V, dtype=torch.float64)
    for t in range(T):
        S = S * given["g"][:, t].exp()[..., None, None]
        for j in range(t * n, (t + 1) * n):
            read = torch.einsum("bhkv,bhk->bhv", S, k[:, j])
            write = given["beta"][:, j, :, None] * (given["v"][:, j] - read)
            S = S + k[:, j, :, :, None] * write[:, :, None]
        wanted = torch.einsum("bhkv,bhk->bhv", S, q[:, t]) * K**-0.5
        assert close(o[:, t], wanted)
    assert close(state, S)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_outputs_have_the_inputs_dtype_and_states_float32(dtype):
    call = next(x for x in CALLS if str(x) == "chunk_delta_rule normalised")
    tensors = {n: x.to(dtype) for n, x in call.tensors.items()}
    for length in (1, T):
        own = {n: x[:, :length] for n, x in tensors.items()}
        o, state = fla.chunk_delta_rule(**own, **call.options, output_final_state=True)
        assert (o.dtype, state.dtype) == (dtype, torch.float32)


REFUSED = [
    ("chunk_kda", {"return_intermediate_states": True}),
    ("chunk_kda", {"use_graph": True}),
    ("chunk_gated_delta_rule", {"cp_context": object()}),
    ("chunk_gated_delta_rule", {"head_first": True}),
    ("fused_recurrent_gated_delta_rule", {"gv": token(5, HV, V)}),
    ("fused_recurrent_gated_delta_rule", {"beta": token(5, HV, V)}),
    ("fused_recurrent_gla", {"reverse": True}),
    ("chunk_gsa", {"g": None}),
    ("fused_recurrent_kda", {"use_gate_in_kernel": True, "A_log": None}),
]


@pytest.mark.parametrize(("name", "options"), REFUSED)
def test_arguments_that_no_op_honours_are_named(name, options):
    call = next(x for x in CALLS if x.function == name)
    *_, argument = options
    with pytest.raises(ValueError, match=f"^{name}: {argument} is .*; expected: "):
        run(call, **options)


def test_unknown_arguments_are_errors_where_the_library_takes_none():
    with pytest.raises(TypeError, match="unexpected"):
        fla.chunk_gla(**qkv(), g=unit(5, H, K), chunk_size=64)
    with pytest.raises(AttributeError, match="chunk_mamba"):
        _ = fla.chunk_mamba
    assert fla.chunk_gated_delta_rule(**qkv(HV), **SCALARS, chunk_size=64)[1] is None


def test_nothing_heavy_is_imported_before_it_is_needed():
    program = (
        "import sys, lincodegen.integrations; "
        "print({'transformers', 'fla', 'triton'} & {n.partition('.')[0] for n in sys.modules})"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stdout.strip() == "set()", result.stdout + result.stderr


def test_offsets_cover_an_empty_sequence():
    assert any(a == b for a, b in pairwise(OFFSETS))
