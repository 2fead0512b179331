"""Generated ops in PyTorch's company: the compiler, tracers, autocast, checkpoints, gradcheck."""

import inspect
import shutil
from contextlib import nullcontext

import pytest
import torch
from op_cases import NAMES, device_of, op_of, recurrence_of
from torch._dynamo.testing import CompileCounterWithBackend
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.library import opcheck
from torch.utils.checkpoint import checkpoint

from lincodegen.loading import load_shipped
from lincodegen.runtime.backend import backend
from lincodegen.verify.inputs import Geometry, draw

OPS = (
    "retention",
    "gated_delta_rule",
    "gla",
    "mamba2",
    "gsa",
    "linear_attention_normalized",
)
every_op = pytest.mark.parametrize("name", OPS)
SIZES = (6, 5, 4)


@pytest.fixture(autouse=True)
def compiler_without_memory():
    torch.compiler.reset()


def drawn(name, length=9, batch=2, dtype=torch.float32, cu_seqlens=None):
    """Tensors and initial states of a call, all with gradients."""
    recurrence = recurrence_of(name)
    sizes = dict(zip(recurrence.dims, SIZES, strict=False))
    geometry = Geometry(sizes, length, batch=batch, heads=2, cu_seqlens=cu_seqlens)
    case = draw(recurrence, geometry, dtype=dtype)
    tensors = [x.detach().requires_grad_() for x in case.tensors.values()]
    states = [x.detach().requires_grad_() for x in case.initial_state.values()]
    return tensors, states


def state_of(states):
    return states[0] if len(states) == 1 else tuple(states)


def leaves(results):
    """Outputs and final states in a row."""
    flat = []
    for x in results:
        flat += [x] if isinstance(x, torch.Tensor) else list(x or ())
    return flat


def with_gradients(op, tensors, states=(), **options):
    """Results, then gradients of what was given."""
    if states:
        options["initial_state"] = state_of(states)
    results = leaves(op(*tensors, **options))
    total = sum(
        (x.double() * torch.arange(1.0, 1 + x.shape[-1], device=x.device)).sum() for x in results
    )
    return [*results, *torch.autograd.grad(total, [*tensors, *states])]


def flat_arguments(op, tensors, states):
    """The arguments of ``lincodegen::NAME``."""
    names = list(inspect.signature(op).parameters)
    constants = [None] * (names.index("initial_state") - len(tensors))
    return *tensors, *constants, *states, None, None


def compiled(op, compiler="aot_eager", **options):
    counter = CompileCounterWithBackend(compiler)
    return torch.compile(lambda *a, **k: op(*a, **k), fullgraph=True, backend=counter, **options), (
        counter
    )


def assert_equal(found, wanted):
    assert len(found) == len(wanted)
    for x, y in zip(found, wanted, strict=True):
        assert torch.equal(x, y)


@pytest.mark.parametrize(
    ("name", "given"), [*((name, True) for name in OPS), ("gated_delta_rule", False)]
)
def test_compiled_whole(name, given):
    op, (tensors, states) = load_shipped(name), drawn(name)
    states = states if given else ()
    function, _ = compiled(op)
    wanted = with_gradients(op, tensors, states, output_final_state=given)
    assert_equal(with_gradients(function, tensors, states, output_final_state=given), wanted)


@pytest.mark.parametrize("name", ("gated_delta_rule", "mamba2"))
def test_compiled_packed(name):
    offsets = (0, 0, 4, 9, 9, 16)
    op, (tensors, states) = load_shipped(name), drawn(name, 16, 1, cu_seqlens=offsets)
    options = {"cu_seqlens": torch.tensor(offsets), "output_final_state": True}
    wanted = with_gradients(op, tensors, states, **options)
    assert_equal(with_gradients(compiled(op)[0], tensors, states, **options), wanted)


def test_compiled_without_optional_parameters():
    for name, count in (("retention", 3), ("mamba2", 5)):
        op, (tensors, _) = load_shipped(name), drawn(name)
        wanted = with_gradients(op, tensors[:count])
        assert_equal(with_gradients(compiled(op)[0], tensors[:count]), wanted)


def test_at_most_two_compilations_over_twenty_lengths():
    name = "gated_delta_rule"
    op = load_shipped(name)
    function, counter = compiled(op)
    for length in (9, 70, *range(2, 20)):
        tensors, states = drawn(name, length, batch=1)
        wanted = leaves(op(*tensors, initial_state=state_of(states), output_final_state=True))
        found = leaves(function(*tensors, initial_state=state_of(states), output_final_state=True))
        assert_equal(found, wanted)
    assert counter.frame_count <= 2


def test_compiled_kernels():
    op, (tensors, states) = op_of("gated_delta_rule", "triton"), drawn("gated_delta_rule")
    device = device_of("triton")
    tensors, states = (
        [x.detach().to(device).requires_grad_() for x in y] for y in (tensors, states)
    )
    plain = load_shipped("gated_delta_rule")
    wanted = with_gradients(op, tensors, states, output_final_state=True)
    with backend("triton"):
        found = with_gradients(compiled(plain)[0], tensors, states, output_final_state=True)
    assert_equal(found, wanted)


@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler; none here")
def test_inductor():
    op, (tensors, states) = load_shipped("gated_delta_rule"), drawn("gated_delta_rule")
    wanted = with_gradients(op, tensors, states, output_final_state=True)
    found = with_gradients(compiled(op, "inductor")[0], tensors, states, output_final_state=True)
    torch.testing.assert_close(found, wanted)


def test_refusals_of_compiled_calls_name_the_argument():
    op, (tensors, _) = load_shipped("gated_delta_rule"), drawn("gated_delta_rule")
    with pytest.raises(TypeError, match="no argument chunk"):
        op.traced(*tensors, chunk=3)
    with pytest.raises(TypeError, match="q is given twice"):
        op.traced(*tensors, q=tensors[0])
    with pytest.raises(TypeError, match="beta is not given"):
        op.traced(*tensors[:-1])
    with pytest.raises(ValueError, match="has 2 entries; expected: a tuple of 1"):
        op.traced(*tensors, initial_state=(None, None))


@pytest.mark.parametrize("name", NAMES)
def test_opcheck(name):
    op, (tensors, states) = load_shipped(name), drawn(name, 3, 1)
    arguments = flat_arguments(op, tensors, states)
    assert set(opcheck(op.traced.forward, arguments).values()) == {"SUCCESS"}


@pytest.mark.parametrize("name", ("mamba2", "linear_attention_normalized"))
def test_opcheck_of_the_backward(name):
    op, (tensors, states) = load_shipped(name), drawn(name)
    arguments = [
        x.detach() if isinstance(x, torch.Tensor) else x
        for x in flat_arguments(op, tensors, states)
    ]
    grads = [torch.ones_like(x) for x in op.traced.forward(*arguments)]
    needed = [True] * (len(tensors) + len(states))
    tests = ("test_schema", "test_faketensor")
    found = opcheck(op.traced.backward, (*arguments, grads, needed), test_utils=tests)
    assert set(found.values()) == {"SUCCESS"}


@every_op
def test_no_second_derivative(name):
    op, (tensors, _) = load_shipped(name), drawn(name)
    for function in (op, op.traced):
        loss = function(*tensors)[0].square().sum()
        (gradient,) = torch.autograd.grad(loss, tensors[:1], create_graph=True)
        with pytest.raises(RuntimeError, match=r"differentiate twice|no gradient of its own"):
            gradient.sum().backward()


@every_op
def test_autocast_changes_nothing(name):
    op, (tensors, states) = load_shipped(name), drawn(name)
    wanted = with_gradients(op, tensors, states, output_final_state=True)
    for function in (op, op.traced):
        with torch.autocast("cpu", torch.bfloat16):
            found = with_gradients(function, tensors, states, output_final_state=True)
        assert_equal(found, wanted)


@every_op
@pytest.mark.parametrize("reentrant", (False, True))
def test_checkpoint(name, reentrant):
    op, (tensors, states) = load_shipped(name), drawn(name)
    wanted = with_gradients(op, tensors, states)

    def again(*arguments):
        own, entered = arguments[: len(tensors)], arguments[len(tensors) :]
        return op(*own, initial_state=state_of(entered))[0]

    results = checkpoint(again, *tensors, *states, use_reentrant=reentrant)
    total = sum(
        (x.double() * torch.arange(1.0, 1 + x.shape[-1], device=x.device)).sum()
        for x in leaves((results,))
    )
    total.backward()
    assert_equal([*leaves((results,)), *(x.grad for x in (*tensors, *states))], wanted)


@every_op
def test_meta_and_fake_tensors(name):
    op, (tensors, states) = load_shipped(name), drawn(name)
    wanted = leaves(op(*tensors, initial_state=state_of(states), output_final_state=True))
    shapes = [(x.shape, x.dtype, x.stride()) for x in wanted]
    with FakeTensorMode() as mode:
        fake = [mode.from_tensor(x) for x in tensors]
    on_meta = [x.detach().to("meta") for x in tensors]
    for given, context in ((on_meta, nullcontext()), (fake, mode)):
        for function in (op, op.traced):
            with context:
                found = leaves(function(*given, output_final_state=True))
            assert [(x.shape, x.dtype, x.stride()) for x in found] == shapes


@every_op
def test_gradients_against_differences_in_float64(name):
    op, (tensors, states) = load_shipped(name), drawn(name, 5, 1, torch.float64)

    def function(*arguments):
        own, entered = arguments[: len(tensors)], arguments[len(tensors) :]
        return tuple(leaves(op(*own, initial_state=state_of(entered), output_final_state=True)))

    assert torch.autograd.gradcheck(function, (*tensors, *states), fast_mode=True)


def test_transforms_of_functions_are_refused():
    op, (tensors, _) = load_shipped("gated_delta_rule"), drawn("gated_delta_rule")
    plain = [x.detach() for x in tensors]
    for function in (op, op.traced):
        gradient = torch.func.grad(lambda q, f=function: f(q, *plain[1:])[0].sum())
        with pytest.raises(RuntimeError, match="functorch transforms"):
            gradient(plain[0])


@every_op
def test_traced_gradients_of_any_layout(name):
    op, (tensors, _) = load_shipped(name), drawn(name)
    for function in (op, op.traced):
        output = function(*tensors)[0]
        expanded = torch.autograd.grad(output.sum(), tensors, retain_graph=True)
        assert_equal(expanded, torch.autograd.grad(output, tensors, torch.ones_like(output)))
        turned = torch.randn(*output.shape[:2], *output.shape[:1:-1]).transpose(2, -1)
        if turned.shape == output.shape:
            found = torch.autograd.grad(function(*tensors)[0], tensors, turned)
            whole = torch.autograd.grad(function(*tensors)[0], tensors, turned.contiguous())
            assert_equal(found, whole)
