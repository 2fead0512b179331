"""What must not change a result, and what must not change a bit of it."""

from dataclasses import replace

import pytest
import torch
from op_cases import (
    FORMS,
    NAMES,
    device_of,
    differing,
    evaluated,
    evaluation,
    forward,
    judged,
    op_of,
    recurrence_of,
    small_case,
    small_trial,
)

from lincodegen.runtime.call import Call
from lincodegen.runtime.schedules import use_schedule
from lincodegen.testing import poisoned_empty
from lincodegen.verify.call import call
from lincodegen.verify.gradients import evaluate_op
from lincodegen.verify.inputs import Geometry, draw
from lincodegen.verify.properties import PROPERTIES
from lincodegen.verify.trials import Trial

# an op of every shape of kernel; all of them where the test is fast
SHAPES = (
    "mamba2",
    "gated_delta_rule",
    "gla",
    "kda",
    "gated_delta_product",
    "rwkv6",
    "rwkv7",
    "gsa",
    "linear_attention_normalized",
    "retention",
)
both_forms = pytest.mark.parametrize("form", FORMS)
every_op = pytest.mark.parametrize("name", NAMES)
every_shape = pytest.mark.parametrize("name", SHAPES)


def batch_of(name, count=2, length=20, heads=2, dtype=torch.float32):
    recurrence = recurrence_of(name)
    sizes = dict(zip(recurrence.dims, (20, 12, 8), strict=False))
    return draw(recurrence, Geometry(sizes, length, batch=count, heads=heads), dtype=dtype)


@both_forms
@every_op
def test_repeated_runs_are_bitwise_equal(name, form):
    case = small_case(name, length=37)
    first, second = evaluated(name, form, case), evaluated(name, form, case)
    assert differing(first, second) == []


@both_forms
@every_shape
def test_layout_of_tensors_and_gradients(name, form):
    """Windows of larger tensors that are NaN elsewhere, axes exchanged, sliced gradients."""
    case = batch_of(name)
    op, recurrence = op_of(name, form), recurrence_of(name)
    plain = evaluate_op(recurrence, case, op, device_of(form)).named()
    strided = evaluate_op(recurrence, case, op, device_of(form), PROPERTIES["strided"]).named()
    assert differing(plain, strided) == []


@both_forms
@every_shape
def test_expanded_gradients(name, form):
    """``sum().backward()`` hands a gradient of stride 0 in."""
    case = batch_of(name)
    recurrence, device = recurrence_of(name), device_of(form)

    def gradients(sums):
        leaves = {n: x.to(device).requires_grad_() for n, x in case.tensors.items()}
        outputs, finals = call(recurrence, op_of(name, form), leaves)
        total = sum(sums(x) for x in (*outputs.values(), *finals.values()))
        found = torch.autograd.grad(total, list(leaves.values()))
        for x in case.tensors.values():
            x.requires_grad_(False)
        return dict(zip(leaves, found, strict=True))

    expanded = gradients(lambda x: x.sum())
    dense = gradients(lambda x: (x * torch.ones_like(x)).sum())
    assert differing(expanded, dense) == []


@both_forms
@every_shape
def test_fewer_heads_are_repeated_heads(name, form):
    """Outputs bitwise; a gradient is the sum of those of its repetitions."""
    few = small_case(name, "repeated heads", 20)
    recurrence, most = recurrence_of(name), 2
    inputs = {x.name for x in recurrence.inputs}
    axes = {n: 2 if n in inputs else 0 for n in few.tensors}
    many = replace(
        few,
        tensors={n: repeated(x, most, axes[n]) for n, x in few.tensors.items()},
        initial_state={n: repeated(x, most, 1) for n, x in few.initial_state.items()},
        output_cotangents={n: spread(x, most, 2) for n, x in few.output_cotangents.items()},
        state_cotangents={n: spread(x, most, 1) for n, x in few.state_cotangents.items()},
    )
    got, want = evaluation(name, form, few), evaluation(name, form, many)
    for n, x in got.outputs.items():
        assert torch.equal(repeated(x, most, 2), want.outputs[n]), n
    for n, x in got.finals.items():
        assert torch.equal(repeated(x, most, 1), want.finals[n]), n
    for n, x in got.gradients.items():
        axis = axes[n]
        whole = want.gradients[n].unflatten(axis, (x.shape[axis], -1)).sum(axis + 1)
        torch.testing.assert_close(x, whole, rtol=1e-5, atol=1e-5 * float(whole.abs().max()))


def repeated(x, heads, axis):
    return x.repeat_interleave(heads // x.shape[axis], axis)


def spread(x, heads, axis):
    """The cotangent of one head out of each group of equal ones."""
    times = heads // x.shape[axis]
    return torch.cat([x] + [torch.zeros_like(x)] * (times - 1), axis) if times > 1 else x


@pytest.mark.parametrize("cut", [64, 128])
@both_forms
@every_shape
def test_carried_state_is_bitwise_at_chunks(name, form, cut):
    """A sequence cut at a multiple of the chunk, the state carried: the same bits."""
    if form == "triton" and cut == 128:
        cut = 64
    length = cut + 64
    recurrence = recurrence_of(name)
    case = replace(batch_of(name, 1, length), initial_state=small_case(name).initial_state)
    whole = forward(name, form, case)
    inputs = {x.name for x in recurrence.inputs}
    parts, state = [], case.initial_state
    for span in (slice(0, cut), slice(cut, None)):
        tensors = {n: x[:, span] if n in inputs else x for n, x in case.tensors.items()}
        part = forward(name, form, replace(case, tensors=tensors, initial_state=state))
        state = {s.name: part[f"final {s.name}"] for s in recurrence.states}
        parts.append(part)
    outputs = [n for n, _ in recurrence.outputs]
    joined = {n: torch.cat([p[n] for p in parts], 1) for n in outputs}
    joined |= {f"final {n}": x for n, x in state.items()}
    assert differing(joined, whole) == []


@both_forms
@every_shape
def test_batch_entries_and_heads_are_independent(name, form):
    """Alone or among others: outputs, final states and gradients of a row are the same bits."""
    case = batch_of(name, 3)
    whole = evaluation(name, form, case)
    inputs = {x.name for x in recurrence_of(name).inputs}
    one = slice(1, 2)
    row = replace(
        case,
        geometry=replace(case.geometry, batch=1),
        tensors={n: x[one] if n in inputs else x for n, x in case.tensors.items()},
        initial_state={n: x[one] for n, x in case.initial_state.items()},
        output_cotangents={n: x[one] for n, x in case.output_cotangents.items()},
        state_cotangents={n: x[one] for n, x in case.state_cotangents.items()},
    )
    alone = evaluation(name, form, row)
    assert differing(alone.outputs, {n: x[one] for n, x in whole.outputs.items()}) == []
    assert differing(alone.finals, {n: x[one] for n, x in whole.finals.items()}) == []
    gradients = {n: x[one] for n, x in whole.gradients.items() if n in inputs}
    assert differing({n: alone.gradients[n] for n in gradients}, gradients) == []


@both_forms
@every_shape
def test_order_of_heads(name, form):
    """Heads exchanged at the input are heads exchanged at the output, bit for bit."""
    case = small_case(name, length=20)
    inputs = {x.name for x in recurrence_of(name).inputs}
    exchanged = replace(
        case,
        tensors={n: x.flip(2 if n in inputs else 0) for n, x in case.tensors.items()},
        initial_state={n: x.flip(1) for n, x in case.initial_state.items()},
    )
    plain, other = forward(name, form, case), forward(name, form, exchanged)
    back = {n: x.flip(1 if n.startswith("final") else 2) for n, x in other.items()}
    assert differing(plain, back) == []


@pytest.mark.parametrize("chunk", [16, 32, 64])
@both_forms
@every_shape
def test_chunk_sizes_agree(name, form, chunk, monkeypatch):
    """Every chunk size is within the tolerance that the usual one has."""
    monkeypatch.setattr(Call, "chunk_size", property(lambda _: chunk))
    verdict = judged(name, form, [small_trial(name, length=70)])
    assert verdict.passed, str(verdict)


@pytest.mark.parametrize("chunk", [4, 16, 32, 128])
@every_op
def test_chunk_sizes_agree_in_float64(name, chunk, monkeypatch):
    """F1: whatever the chunk, the algebra is the recurrence's."""
    trial = small_trial(name, length=70, dtype=torch.float64)
    monkeypatch.setattr(Call, "chunk_size", property(lambda _: chunk))
    verdict = judged(name, "torch", [trial])
    assert verdict.passed, str(verdict)


@every_shape
def test_split_schedule_equals_scan(name):
    """The states first, then all reads at once: the same equations, the same results."""
    trial = small_trial(name, length=70)
    with use_schedule("split"):
        verdict = judged(name, "triton", [trial])
        split = forward(name, "triton", trial.case)
    assert verdict.passed, str(verdict)
    with use_schedule("scan"):
        scan = forward(name, "triton", trial.case)
    for n, x in scan.items():
        torch.testing.assert_close(split[n], x, rtol=1e-5, atol=1e-5 * float(x.abs().max()))


@pytest.mark.parametrize(("batch", "length"), [(2, 0), (0, 5), (0, 0)])
@both_forms
@every_op
def test_no_token_at_all(name, form, batch, length):
    """Empty outputs, the initial state handed through, and its gradient with it."""
    verdict = judged(
        name, form, [Trial.of(recurrence_of(name), batch_of(name, batch, length), torch.float32)]
    )
    assert all(row.passed for row in verdict.rows), str(verdict)
    case = batch_of(name, batch, length)
    found = evaluation(name, form, case)
    for state, x in found.finals.items():
        assert torch.equal(x, case.initial_state[state])
        assert torch.equal(found.initial[state], case.state_cotangents[state])
    assert all(not x.any() for x in found.gradients.values())


@both_forms
@every_op
def test_no_state_is_a_zero_state(name, form):
    case = small_case(name, length=20)
    zeros = {n: torch.zeros_like(x) for n, x in case.initial_state.items()}
    absent = evaluated(name, form, replace(case, initial_state=None))
    given = evaluated(name, form, replace(case, initial_state=zeros))
    assert differing(absent, {n: given[n] for n in absent}) == []


@both_forms
@every_op
def test_uninitialised_memory_is_never_read(name, form):
    """Everything allocated is NaN first: an element left out would show."""
    case = small_case(name, length=70)
    plain = evaluated(name, form, case)
    with poisoned_empty():
        poisoned = evaluated(name, form, case)
    assert differing(plain, poisoned) == []


@both_forms
@every_shape
def test_arguments_stay_as_they_are(name, form):
    case = small_case(name, length=20)
    tensors = {n: x.clone() for n, x in case.tensors.items()}
    states = {n: x.clone() for n, x in case.initial_state.items()}
    forward(name, form, case)
    assert differing(tensors, dict(case.tensors)) == []
    assert differing(states, dict(case.initial_state)) == []


@both_forms
@every_shape
def test_causality(name, form):
    """What comes later changes no bit of what came before."""
    case = small_case(name, length=40)
    inputs = {x.name for x in recurrence_of(name).inputs}
    tensors = {
        n: torch.cat([x[:, :25], x[:, :15].flip(1)], 1) if n in inputs else x
        for n, x in case.tensors.items()
    }
    plain, other = forward(name, form, case), forward(name, form, replace(case, tensors=tensors))
    for n, _ in recurrence_of(name).outputs:
        assert torch.equal(plain[n][:, :25], other[n][:, :25]), n
        assert not torch.equal(plain[n][:, 25:], other[n][:, 25:]), n


@pytest.mark.parametrize("backward_first", [True, False])
@both_forms
@every_shape
def test_backward_twice(name, form, backward_first):
    """A graph kept is a graph that gives the same gradients again, and adds them up."""
    case = small_case(name, length=20)
    device = device_of(form)
    leaves = {n: x.clone().to(device).requires_grad_() for n, x in case.tensors.items()}
    outputs, _ = call(recurrence_of(name), op_of(name, form), leaves)
    loss = sum((x * case.output_cotangents[n].to(device)).sum() for n, x in outputs.items())
    if backward_first:
        once = torch.autograd.grad(loss, list(leaves.values()), retain_graph=True)
        again = torch.autograd.grad(loss, list(leaves.values()))
        assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))
    else:
        loss.backward(retain_graph=True)
        loss.backward()
        twice = [x.grad for x in leaves.values()]
        assert all(x is not None and x.isfinite().all() for x in twice)


@both_forms
@pytest.mark.parametrize("name", ["gated_delta_rule", "rwkv6"])
def test_gradients_of_some_tensors_only(name, form):
    """Each tensor alone requires a gradient: it is the one that it has among all."""
    case = small_case(name, length=20)
    recurrence, device = recurrence_of(name), device_of(form)
    full = evaluation(
        name,
        form,
        replace(
            case,
            initial_state=None,
            state_cotangents={n: torch.zeros_like(x) for n, x in case.state_cotangents.items()},
        ),
    )
    for wanted in case.tensors:
        given = {n: x.clone().to(device) for n, x in case.tensors.items()}
        given[wanted].requires_grad_()
        outputs, _ = call(recurrence, op_of(name, form), given)
        cotangents = [case.output_cotangents[n].to(device) for n in outputs]
        (found,) = torch.autograd.grad(list(outputs.values()), [given[wanted]], cotangents)
        assert torch.equal(found.cpu(), full.gradients[wanted]), wanted
