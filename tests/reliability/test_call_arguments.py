"""What a call may look like: layouts, absent tensors, which gradients are wanted, whose frame."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from one_head import one_head
from op_cases import (
    FORMS,
    NAMES,
    differing,
    evaluated,
    evaluation,
    forward,
    op_of,
    recurrence_of,
    sizes_of,
)
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.checkpoint import checkpoint

from lincodegen.loading import load_shipped
from lincodegen.runtime.backend import backend
from lincodegen.runtime.function import planning
from lincodegen.verify.call import call
from lincodegen.verify.inputs import Arguments, Geometry, draw

both_forms = pytest.mark.parametrize("form", FORMS)
every_op = pytest.mark.parametrize("name", NAMES)


def exchanged(x):
    return x.transpose(0, -1).contiguous().transpose(0, -1)


def sliced(x):
    larger = torch.full((*x.shape[:-1], 2 * x.shape[-1] + 1), torch.nan, dtype=x.dtype)
    larger[..., 1::2] = x
    return larger[..., 1::2]


def shifted(x):
    """Contiguous, one element into a storage that is NaN around it."""
    storage = torch.full((x.numel() + 2,), torch.nan, dtype=x.dtype)
    storage[1:-1] = x.flatten()
    return storage[1:-1].view(x.shape)


def expanded(x):
    """Stride 0 over tokens: every token is the first one."""
    return x[:, :1].expand(x.shape) if x.dim() > 2 else x[:1].expand(x.shape)


LAYOUTS = {f.__name__: f for f in (exchanged, sliced, shifted, expanded)}


def results_of(name, form, tensors, states, change):
    """Results and gradients with leaves whose layout is what ``change`` makes of a tensor."""
    leaves = [change(x).requires_grad_() for x in (*tensors.values(), *states.values())]
    given = dict(zip((*tensors, *states), leaves, strict=True))
    outputs, finals = call(
        recurrence_of(name),
        op_of(name, form),
        {n: given[n] for n in tensors},
        {n: given[n] for n in states},
    )
    named = {**outputs, **{f"final {n}": x for n, x in finals.items()}}
    generator = torch.Generator().manual_seed(0)
    cotangents = [change(torch.randn(x.shape, generator=generator)) for x in named.values()]
    found = torch.autograd.grad(list(named.values()), leaves, cotangents)
    return {**named, **{f"grad {n}": x for n, x in zip(given, found, strict=True)}}


@pytest.mark.parametrize("layout", LAYOUTS)
@every_op
def test_every_layout_gives_the_same_bits(name, layout):
    """Of inputs, parameters, states and of all gradients that come in."""
    case = draw(recurrence_of(name), Geometry(sizes_of(name), 5, batch=2, heads=3))
    tensors, states = dict(case.tensors), dict(case.initial_state)
    change = LAYOUTS[layout]
    if layout == "expanded":
        tensors = {n: expanded(x).contiguous() for n, x in tensors.items()}
        states = {n: expanded(x).contiguous() for n, x in states.items()}

    def plain(x):
        return change(x).contiguous()

    wanted = results_of(name, "torch", tensors, states, plain)
    assert differing(results_of(name, "torch", tensors, states, change), wanted) == []


@every_op
def test_kernels_take_shifted_windows(name):
    """Contiguous operands that start one element into a storage of NaN."""
    case = one_head(name, 3)
    given = dict(case.tensors), dict(case.initial_state)
    wanted = results_of(name, "triton", *given, torch.clone)
    assert differing(results_of(name, "triton", *given, shifted), wanted) == []


@both_forms
@every_op
def test_a_head_reads_no_other(name, form):
    """NaN in all that the first head has: the second is what it is alone, bit for bit."""
    case = draw(recurrence_of(name), Geometry(sizes_of(name), 3, batch=1, heads=2))
    inputs = {x.name for x in recurrence_of(name).inputs}
    axes = {n: 2 if n in inputs else 0 for n in case.tensors}

    def spoiled(x, axis):
        x = x.clone()
        x.select(axis, 0).fill_(torch.nan)
        return x

    def second(values, axis):
        at = axes if axis is None else dict.fromkeys(values, axis)
        return {n: x.narrow(at[n], 1, 1) for n, x in values.items()}

    other = replace(
        case,
        tensors={n: spoiled(x, axes[n]) for n, x in case.tensors.items()},
        initial_state={n: spoiled(x, 1) for n, x in case.initial_state.items()},
    )
    alone = replace(
        case,
        tensors=second(case.tensors, None),
        initial_state=second(case.initial_state, 1),
        output_cotangents=second(case.output_cotangents, 2),
        state_cotangents=second(case.state_cotangents, 1),
    )
    wanted, found = evaluation(name, form, alone), evaluation(name, form, other)
    for part, axis in (("outputs", 2), ("finals", 1), ("initial", 1), ("gradients", None)):
        a, b = getattr(wanted, part), second(getattr(found, part), axis)
        assert all(x.isfinite().all() for x in a.values()), part
        assert differing(a, b) == [], part


OPTIONAL = [n for n in NAMES if any(x.default for x in recurrence_of(n).parameters)]


def default_of(name, parameter, heads):
    """The default of a parameter as the runtime fills it in."""
    case = draw(
        recurrence_of(name),
        Geometry(sizes_of(name), 2, batch=1, heads=heads),
        arguments=Arguments(optional=False),
    )
    with planning():
        plan = load_shipped(name)(**case.tensors)
    return plan.call.tensors[parameter].reshape(heads, -1)[:, 0]


@both_forms
@pytest.mark.parametrize("name", OPTIONAL)
def test_an_absent_tensor_is_its_default(name, form):
    """Results and all other gradients are the same bits."""
    recurrence = recurrence_of(name)
    geometry = Geometry(sizes_of(name), 9, batch=1, heads=2)
    absent = draw(recurrence, geometry, arguments=Arguments(optional=False))
    given = {
        x.name: default_of(name, x.name, 2) for x in recurrence.parameters if x.default is not None
    }
    with_default = replace(absent, tensors={**absent.tensors, **given})
    a, b = evaluated(name, form, absent), evaluated(name, form, with_default)
    assert differing(a, {n: b[n] for n in a}) == []
    assert b.keys() - a.keys() == {f"grad {n}" for n in given}


@every_op
def test_each_gradient_alone(name):
    """Every subset of one: the gradient of a tensor does not depend on which are wanted."""
    case = one_head(name, 5)
    full = evaluation(name, "torch", case)
    wanted = {**full.gradients, **full.initial}
    for key in wanted:
        given = {n: x.clone() for n, x in case.tensors.items()}
        states = {n: x.clone() for n, x in case.initial_state.items()}
        leaf = given[key] if key in given else states[key]
        leaf.requires_grad_()
        outputs, finals = call(recurrence_of(name), op_of(name, "torch"), given, states)
        results = [*outputs.values(), *finals.values()]
        cotangents = [*case.output_cotangents.values(), *case.state_cotangents.values()]
        (found,) = torch.autograd.grad(results, [leaf], cotangents)
        assert torch.equal(found, wanted[key]), key


@every_op
def test_gradients_against_differences_of_every_op(name):
    case = draw(
        recurrence_of(name),
        Geometry(dict.fromkeys(recurrence_of(name).dims, 3), 4, batch=1, heads=1),
        dtype=torch.float64,
    )
    names, states = list(case.tensors), list(case.initial_state)
    given = (*case.tensors.values(), *case.initial_state.values())
    leaves = [x.clone().requires_grad_() for x in given]

    def function(*values):
        tensors = dict(zip(names, values, strict=False))
        given = dict(zip(states, values[len(names) :], strict=True))
        outputs, finals = call(recurrence_of(name), op_of(name, "torch"), tensors, given)
        return (*outputs.values(), *finals.values())

    assert torch.autograd.gradcheck(function, leaves, fast_mode=True)


@both_forms
@every_op
def test_a_forward_for_a_backward_is_the_same_forward(name, form):
    """What is kept for the backward changes no bit of the results."""
    case = one_head(name, 5)
    found = evaluation(name, form, case)
    results = {**found.outputs, **{f"final {n}": x for n, x in found.finals.items()}}
    assert differing(forward(name, form, case), results) == []


@every_op
def test_autocast_and_checkpoints(name):
    """Under autocast, and computed again by either kind of checkpoint: the same bits."""
    case = one_head(name, 5)
    wanted = evaluation(name, "torch", case)
    names = list(case.tensors)
    given = list(case.initial_state.values())
    state = given[0] if len(given) == 1 else tuple(given)
    op = op_of(name, "torch")

    def outputs_of(*values):
        output, _ = op(**dict(zip(names, values, strict=True)), initial_state=state)
        return output

    reference = evaluation(
        name,
        "torch",
        replace(
            case,
            state_cotangents={n: torch.zeros_like(x) for n, x in case.state_cotangents.items()},
        ),
    )
    for context, again in (
        (torch.autocast("cpu", torch.bfloat16), None),
        (nullcontext(), True),
        (nullcontext(), False),
    ):
        leaves = [x.clone().requires_grad_() for x in case.tensors.values()]
        with context:
            output = (
                outputs_of(*leaves)
                if again is None
                else checkpoint(outputs_of, *leaves, use_reentrant=again)
            )
        output = output if isinstance(output, tuple) else (output,)
        assert differing(dict(zip(wanted.outputs, output, strict=True)), wanted.outputs) == []
        torch.autograd.backward(output, list(case.output_cotangents.values()))
        found = {n: x.grad for n, x in zip(names, leaves, strict=True)}
        assert differing(found, reference.gradients) == []


@every_op
def test_shapes_without_values(name):
    """Fake tensors and those of the meta device: shape, dtype and strides of real results."""
    case = one_head(name, 5)
    op = load_shipped(name)

    def described(results):
        flat = [y for x in results for y in (x if isinstance(x, tuple) else (x,))]
        return [(x.shape, x.dtype, strides(x)) for x in flat]

    def strides(x):
        """Those of axes longer than one: the others say nothing."""
        return [step for step, size in zip(x.stride(), x.shape, strict=True) if size > 1]

    with backend("torch"):
        wanted = described(op(**case.tensors, output_final_state=True))
        on_meta = {n: x.to("meta") for n, x in case.tensors.items()}
        assert described(op(**on_meta, output_final_state=True)) == wanted
        with FakeTensorMode() as mode:
            fake = {n: mode.from_tensor(x) for n, x in case.tensors.items()}
            assert described(op(**fake, output_final_state=True)) == wanted


def test_there_are_optional_tensors():
    assert len(OPTIONAL) >= 3


# the others are compiled with their gradients in tests/ops
COMPILED = ("retention", "gated_delta_rule", "gla", "mamba2", "gsa", "linear_attention_normalized")


@pytest.mark.parametrize("name", [n for n in NAMES if n not in COMPILED])
def test_compiled_without_a_break(name):
    """``fullgraph=True``: the bits of the eager call."""
    torch.compiler.reset()
    case = one_head(name, 5)
    op = load_shipped(name)
    function = torch.compile(
        lambda *x: op(*x, output_final_state=True), fullgraph=True, backend="aot_eager"
    )
    with backend("torch"), torch.no_grad():
        wanted, found = (f(*case.tensors.values()) for f in (op, function))
    assert torch.equal(wanted[0], found[0])
