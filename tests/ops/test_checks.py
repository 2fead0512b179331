"""``check_inputs=True``: every promise of every op, broken once, is named; what is kept passes."""

import math
import re

import pytest
import torch
from op_cases import NAMES, device_of, op_of, recurrence_of, small_case

from lincodegen.emit.op_docs import interval_text
from lincodegen.loading import load_shipped
from lincodegen.runtime.call import Call
from lincodegen.runtime.checks import check_values, interval
from lincodegen.runtime.function import planning
from lincodegen.runtime.packing import Packing
from lincodegen.spec.step import REALS
from lincodegen.verify.layout import tensors_of

LENGTH = 7
every_op = pytest.mark.parametrize("name", NAMES)


def case_of(name, dtype=torch.float32):
    """Tensors and initial states of a short case."""
    case = small_case(name, length=LENGTH, dtype=dtype)
    return dict(case.tensors), tuple((case.initial_state or {}).values())


def checked(name, tensors, states=None, **keywords):
    """The results of a call that is checked, as a flat list."""
    state = states[0] if states and len(states) == 1 else states
    keywords = {"check_inputs": True, "output_final_state": True, **keywords}
    results = op_of(name, "torch")(**tensors, initial_state=state, **keywords)
    return [y for x in results for y in (x if isinstance(x, tuple) else (x,))]


def broken(x, value):
    """A copy with one element in its middle replaced, and where that is."""
    index = [n // 2 for n in x.shape]
    copy = x.clone()
    copy[tuple(index)] = value
    return copy, index


def refused(name, tensors, message, states=None):
    with pytest.raises(ValueError, match=re.escape(message)):
        checked(name, tensors, states)
    # nothing is looked at by default
    with planning():
        load_shipped(name)(**tensors)


def outside(domain):
    """Values past the ends of a domain, and NaN."""
    values = [math.nan]
    for end, includes, sign in (
        (domain.low, domain.includes_low, -1.0),
        (domain.high, domain.includes_high, 1.0),
    ):
        if math.isfinite(end):
            values.append(end + sign * 0.01)
        values += [] if includes and math.isinf(end) else [sign * math.inf]
    return values


@every_op
def test_every_value_outside_its_domain_is_named(name):
    for argument in tensors_of(recurrence_of(name)):
        wanted = interval_text(argument.domain)
        for value in outside(argument.domain):
            tensors, states = case_of(name)
            tensors[argument.name], index = broken(tensors[argument.name], value)
            message = (
                f"{name}: {argument.name} is {value:g} at {index}; expected: values in {wanted}"
            )
            refused(name, tensors, message, states)


@every_op
def test_norms_are_compared(name):
    for argument in tensors_of(recurrence_of(name)):
        if argument.norm is None:
            continue
        tensors, states = case_of(name)
        x = tensors[argument.name].clone()
        index = [n // 2 for n in x.shape[:-1]]
        x[tuple(index)] = 0.0
        x[(*index, 0)] = 1.25
        tensors[argument.name] = x
        message = (
            f"{name}: the norm of {argument.name} is 1.25 at {index}; "
            f"expected: values in {interval_text(argument.norm)}"
        )
        refused(name, tensors, message, states)


@every_op
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_ends_of_domains_pass(name, dtype):
    """All tensors at an end that belongs to their domain, rounded to their dtype; keys of norm 1.

    The results are those without a check, bit for bit.
    """
    for side in ("low", "high"):
        tensors, states = case_of(name, dtype)
        for argument in tensors_of(recurrence_of(name)):
            end = getattr(argument.domain, side)
            x = tensors[argument.name]
            if getattr(argument.domain, f"includes_{side}"):
                tensors[argument.name] = torch.full_like(x, end)
            elif argument.norm is not None:
                unit = torch.nn.functional.normalize(x.float(), dim=-1)
                tensors[argument.name] = (unit * getattr(argument.norm, side)).to(dtype)
        found = checked(name, tensors, states)
        plain = checked(name, tensors, states, check_inputs=False)
        for a, b in zip(found, plain, strict=True):
            assert torch.equal(a, b)


@every_op
def test_results_and_gradients_are_unchanged(name):
    tensors, states = case_of(name)
    leaves = {n: x.clone().requires_grad_() for n, x in tensors.items()}
    found = []
    for check in (False, True):
        results = checked(name, leaves, states, check_inputs=check)
        total = sum(x.float().square().sum() for x in results)
        found.append([*results, *torch.autograd.grad(total, list(leaves.values()))])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@every_op
def test_states_are_finite(name):
    for number, state in enumerate(recurrence_of(name).states):
        tensors, states = case_of(name)
        changed, index = broken(states[number], math.inf)
        states = (*states[:number], changed, *states[number + 1 :])
        message = (
            f"{name}: the initial state {state.name} is inf at {index}; "
            "expected: values in (-inf, inf)"
        )
        refused(name, tensors, message, states)


@every_op
def test_constants_are_finite(name):
    tensors, _ = case_of(name)
    for constant in recurrence_of(name).constants:
        message = f"{name}: {constant.name} is nan; expected: a finite number"
        with pytest.raises(ValueError, match=re.escape(message)):
            checked(name, tensors, **{constant.name: math.nan})


def test_constants_are_no_tensors():
    """Always: a gradient of it would be lost without a word."""
    tensors, _ = case_of("gla")
    with pytest.raises(TypeError, match="gla: a constant is a tensor; expected: a number"):
        load_shipped("gla")(**tensors, scale=torch.tensor(0.5, requires_grad=True))


@every_op
def test_the_signature_has_the_domains_of_the_spec(name):
    signature = load_shipped(name).signature
    arguments = {x.name: x for x in (*signature.inputs, *signature.parameters)}
    for tensor in tensors_of(recurrence_of(name)):
        domain, norm = arguments[tensor.name].domain, arguments[tensor.name].norm
        for text, promise in ((domain, tensor.domain), (norm, tensor.norm)):
            if promise in (REALS, None):
                assert text == ""
                continue
            found, fields = interval(text), ("low", "high", "includes_low", "includes_high")
            assert all(getattr(found, f) == getattr(promise, f) for f in fields)


@every_op
def test_the_check_is_the_last_argument(name):
    function = load_shipped(name).__wrapped__
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    assert names[-1] == "check_inputs"
    assert function.__defaults__[-1] is False


def test_absent_tensors_and_no_tokens_pass():
    tensors, _ = case_of("retention")
    checked("retention", {n: x for n, x in tensors.items() if n != "g"})
    checked("gla", {n: x[:, :0] for n, x in case_of("gla")[0].items()})


OFFSETS = [
    ([1, 3, LENGTH], "cu_seqlens[0] is 1"),
    ([0, 5, 3, LENGTH], "cu_seqlens[2] is 3 after 5"),
    ([0, 3, LENGTH - 1], f"cu_seqlens[2] is {LENGTH - 1}"),
    ([0, 3, LENGTH + 1], f"cu_seqlens[2] is {LENGTH + 1}"),
    ([0, -1, LENGTH], "cu_seqlens[1] is -1 after 0"),
]


@pytest.mark.parametrize(("offsets", "found"), OFFSETS)
def test_offsets_that_the_host_does_not_know(offsets, found):
    """As on a device, where a call looks at no value unless it is told to."""
    tensors, _ = case_of("gla")
    with planning():
        plan = load_shipped("gla")(**tensors)
    packing = Packing(torch.tensor(offsets, device=device_of("triton")), None)
    wanted = f"offsets that start at 0, never fall and end at T = {LENGTH}"
    with pytest.raises(ValueError, match=re.escape(f"gla: {found}; expected: {wanted}")):
        check_values(Call(plan.call.layout, plan.call.tensors, plan.call.states, packing))


@pytest.mark.parametrize("name", ["cu_seqlens", "cu_seqlens_cpu"])
@pytest.mark.parametrize(("offsets", "found"), OFFSETS)
def test_offsets_that_the_host_knows(name, offsets, found):
    """These are compared always."""
    tensors, _ = case_of("gla")
    found = found.replace("cu_seqlens", name)
    with pytest.raises(ValueError, match=re.escape(f"gla: {found}; expected: offsets")):
        load_shipped("gla")(**tensors, **{name: torch.tensor(offsets)})


def test_copies_of_offsets_are_the_same():
    tensors, _ = case_of("gla")
    given = {
        "cu_seqlens": torch.tensor([0, 3, LENGTH]),
        "cu_seqlens_cpu": torch.tensor([0, 4, LENGTH]),
    }
    with pytest.raises(ValueError, match=r"cu_seqlens_cpu\[1\] is 4; expected: 3 as in cu_seqlens"):
        checked("gla", tensors, **given)
    given["cu_seqlens_cpu"] = given["cu_seqlens"].int()
    checked("gla", tensors, **given)


def test_a_traced_call_has_no_values():
    tensors, _ = case_of("gla")
    shapes = {n: x.to("meta") for n, x in tensors.items()}
    with pytest.raises(ValueError, match="gla: check_inputs is True where the op is traced"):
        load_shipped("gla")(*shapes.values(), check_inputs=True)


def test_a_summary_of_a_segment_is_checked():
    tensors, _ = case_of("rwkv7")
    op = load_shipped("rwkv7")
    op.segment_summary(**tensors, check_inputs=True)
    tensors["w"] = tensors["w"] + 1.0
    with pytest.raises(ValueError, match="rwkv7: w is "):
        op.segment_summary(**tensors, check_inputs=True)
