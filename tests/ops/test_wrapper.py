"""What stands between a caller and the computation: how much of it there is, what it remembers."""

import importlib
import sys
from contextlib import contextmanager

import pytest
import torch

import lincodegen
from lincodegen.ops import gated_delta_rule
from lincodegen.runtime.call import Call
from lincodegen.runtime.function import Body, surroundings
from lincodegen.runtime.pins import use_config

B, T, H, K, V = 1, 8, 2, 16, 16
MOST_CALLS = 75
"""Of Python functions, properties too, in a call whose arguments look like an earlier one's."""


def arguments(length=T, heads=H, dtype=torch.float32, grad=False):
    torch.manual_seed(0)
    q, k, v = (torch.randn(B, length, heads, size, dtype=dtype) for size in (K, K, V))
    g, beta = -torch.rand(B, length, heads, dtype=dtype), torch.rand(B, length, heads, dtype=dtype)
    return [x.requires_grad_(grad) for x in (q, k, v, g, beta)]


def python_calls(function):
    found = []

    def note(frame, event, _):
        if event == "call":
            found.append(frame.f_code.co_qualname)

    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(None)
    return found


@pytest.fixture
def idle(monkeypatch):
    """The op with a computation that returns what was made before."""
    module = importlib.import_module(gated_delta_rule.__module__)
    results = (torch.zeros(B, T, H, V),), (torch.zeros(B, H, K, V),), ((torch.zeros(3),),)
    body = vars(module)["_BODY"]
    monkeypatch.setattr(module, "_BODY", Body(lambda *_: results, body.backward, body.recurrent))
    return gated_delta_rule


def test_a_call_runs_few_functions(idle):
    given = arguments(grad=True)
    idle(*given)
    found = python_calls(lambda: idle(*given))
    assert len(found) <= MOST_CALLS, found


def test_arguments_are_read_one_by_one_but_once():
    signature = gated_delta_rule.signature
    first = signature.call(arguments())
    assert signature.call(arguments()).layout is first.layout
    assert signature.call(arguments(length=T + 1)).layout is not first.layout


@pytest.mark.parametrize(
    "other", [arguments(length=5), arguments(heads=4), arguments(dtype=torch.float64)]
)
def test_another_shape_or_dtype_is_another_layout(other):
    signature = gated_delta_rule.signature
    signature.call(arguments())
    layout = signature.call(other).layout
    assert (layout.length, layout.heads["output o"], layout.output_dtype) == (
        *other[0].shape[1:3],
        other[0].dtype,
    )


def test_a_named_backend_or_configuration_is_not_remembered():
    signature, given = gated_delta_rule.signature, arguments()
    with lincodegen.backend("torch"):
        assert signature.call(given).backend == "torch"
    with lincodegen.backend("triton"):
        assert signature.call(given).backend == "triton"
        with use_config("gated_delta_rule", chunk_size=16):
            assert signature.call(given).layout.chunk_limit == 16
        assert signature.call(given).layout.chunk_limit != 16


def test_the_number_of_packed_sequences_counts():
    given, state = arguments(), torch.zeros(2, H, K, V)
    two, three = torch.tensor([0, 3, T]), torch.tensor([0, 3, 4, T])
    gated_delta_rule(*given, initial_state=state, cu_seqlens=two)
    with pytest.raises(ValueError, match="the initial state S has the shape"):
        gated_delta_rule(*given, initial_state=state, cu_seqlens=three)
    with pytest.raises(ValueError, match="the initial state S has the shape"):
        gated_delta_rule(*given, initial_state=state)


def test_bad_arguments_are_refused_each_time():
    given = arguments()
    gated_delta_rule(*given)
    for _ in range(2):
        with pytest.raises(ValueError, match="beta has"):
            gated_delta_rule(*given[:4], given[4][:, :-1])
        with pytest.raises(TypeError, match="q is ndarray"):
            gated_delta_rule(given[0].numpy(), *given[1:])


def test_a_token_is_no_sequence():
    token = [x[:, 0] for x in arguments()]
    gated_delta_rule.step(*token)
    with pytest.raises(ValueError, match="q has the shape"):
        gated_delta_rule(*token)


def test_layouts_do_not_pile_up(monkeypatch):
    monkeypatch.setattr("lincodegen.runtime.signature.MOST_LAYOUTS", 4)
    signature = gated_delta_rule.signature
    for length in range(1, 12):
        signature.call(arguments(length=length))
    assert len(signature.layouts) <= 4


@pytest.mark.parametrize(("own", "entered"), [(0, []), (1, [torch.device("cuda", 1)])])
def test_kernels_are_launched_on_the_device_of_the_tensors(own, entered, monkeypatch):
    """Whatever device is current; a context is entered only where it differs."""
    found = []

    @contextmanager
    def noted(device):
        found.append(device)
        yield

    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "device", noted)
    call = gated_delta_rule.signature.call(arguments())
    layout = call.layout.changed(device=torch.device("cuda", own))
    with surroundings(Call(layout, call.tensors, call.states)):
        assert found == entered
