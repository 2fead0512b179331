"""``op.step`` in company of the PyTorch compiler: an op that writes its states."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from op_cases import NAMES, device_of, recurrence_of
from test_decode import BATCH, SLOTS, bits, drawn, entered, token
from torch._dynamo.testing import CompileCounterWithBackend
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.library import opcheck

from lincodegen.loading import load_shipped
from lincodegen.runtime.backend import backend

every_op = pytest.mark.parametrize("name", NAMES)
SEVERAL = ("gated_delta_rule", "mamba2", "gsa", "linear_attention_normalized")


@pytest.fixture(autouse=True)
def compiler_without_memory():
    torch.compiler.reset()


def compiled(name, compiler="aot_eager"):
    """The step as a compiled graph, and the counter of compilations."""
    counter = CompileCounterWithBackend(compiler)
    op = load_shipped(name)
    return torch.compile(lambda **k: op.step(**k), fullgraph=True, backend=counter), counter


def state_of(states):
    return next(iter(states.values())) if len(states) == 1 else tuple(states.values())


def outputs_of(result):
    return result[0] if isinstance(result[0], tuple) else (result[0],)


def assert_equal(found, wanted):
    assert len(found) == len(wanted)
    assert all(torch.equal(bits(x), bits(y)) for x, y in zip(found, wanted, strict=True))


@every_op
def test_a_compiled_loop_is_the_eager_one(name):
    """Two tokens in one graph: outputs and states bit for bit, the states in place."""
    op, case = load_shipped(name), drawn(name, "grouped values")
    first, second = (token(name, case, t) for t in (0, 1))

    def loop(state):
        one, state = op.step(**first, state=state)
        two, state = op.step(**second, state=state)
        return one, two, state

    states, twins = entered(case, "torch"), entered(case, "torch")
    with backend("torch"):
        wanted = loop(state_of(states))
        found = torch.compile(loop, fullgraph=True, backend="aot_eager")(state_of(twins))
    for x, y in zip(found[:2], wanted[:2], strict=True):
        assert_equal(outputs_of((x,)), outputs_of((y,)))
    assert_equal(list(twins.values()), list(states.values()))
    after = found[2] if isinstance(found[2], tuple) else (found[2],)
    assert all(x is y for x, y in zip(after, twins.values(), strict=True))


@pytest.mark.parametrize("name", SEVERAL)
def test_compiled_with_a_pool_of_values_first(name):
    case, slots = drawn(name), torch.tensor([5, -1, 2], dtype=torch.int32)
    pools = [
        {
            n: (x.mT if x.dim() == 4 else x).new_full((SLOTS, *x.shape[1:]), 0.5).to(torch.bfloat16)
            for n, x in entered(case, "torch").items()
        }
        for _ in range(2)
    ]
    pools = [
        {n: x.mT.contiguous() if x.dim() == 4 else x for n, x in pool.items()} for pool in pools
    ]
    options = {"state_indices": slots, "state_v_first": True}
    with backend("torch"):
        wanted = load_shipped(name).step(
            **token(name, case, 0), state=state_of(pools[0]), **options
        )
        found = compiled(name)[0](**token(name, case, 0), state=state_of(pools[1]), **options)
    assert_equal(outputs_of(found), outputs_of(wanted))
    assert_equal(list(pools[1].values()), list(pools[0].values()))


@pytest.mark.parametrize("v_first", [False, True])
@pytest.mark.parametrize("name", SEVERAL)
def test_compiled_from_no_state(name, v_first):
    tensors = token(name, drawn(name), 0)
    with backend("torch"):
        wanted = load_shipped(name).step(**tensors, state_v_first=v_first)
        found = compiled(name)[0](**tensors, state_v_first=v_first)
    for x, y in zip(found, wanted, strict=True):
        assert_equal(outputs_of((x,)), outputs_of((y,)))


def test_compiled_kernels():
    name, device = "gated_delta_rule", device_of("triton")
    tensors = token(name, drawn(name), 0, device)
    states, twins = (entered(drawn(name), "triton") for _ in range(2))
    with backend("triton"):
        wanted = load_shipped(name).step(**tensors, state=states["S"])
        found = compiled(name)[0](**tensors, state=twins["S"])
    assert_equal([found[0], twins["S"]], [wanted[0], states["S"]])


def test_at_most_two_compilations_over_many_batches():
    name = "gated_delta_rule"
    function, counter = compiled(name)
    for batch in (3, 7, 2, 5, 9, 4, 11):
        tensors = {
            n: x[:1].repeat(batch, *(1,) * (x.dim() - 1))
            for n, x in token(name, drawn(name), 0).items()
        }
        states = [torch.ones(batch, 2, 20, 12) for _ in range(2)]
        wanted = load_shipped(name).step(**tensors, state=states[0])
        found = function(**tensors, state=states[1])
        assert_equal([found[0], states[1]], [wanted[0], states[0]])
    assert counter.frame_count <= 2


def arguments(name, begins):
    """Those of the op of torch.library."""
    case = drawn(name)
    op = load_shipped(name)
    tensors = list(token(name, case, 0).values())
    constants = [None] * len(recurrence_of(name).constants)
    states = [] if begins else [*entered(case, "torch").values(), None]
    return op.traced_step.overload(begins), (*tensors, *constants, *states, False)


@pytest.mark.parametrize(
    ("name", "begins"), [*((n, False) for n in NAMES), *((n, True) for n in SEVERAL)]
)
def test_opcheck(name, begins):
    overload, given = arguments(name, begins)
    assert set(opcheck(overload, given).values()) == {"SUCCESS"}


def test_fake_tensors():
    name = "gsa"
    overload, given = arguments(name, True)
    wanted = [(x.shape, x.dtype, x.stride()) for x in overload(*given)]
    with FakeTensorMode() as mode:
        fake = [mode.from_tensor(x) if isinstance(x, torch.Tensor) else x for x in given]
        assert [(x.shape, x.dtype, x.stride()) for x in overload(*fake)] == wanted


def test_gradients_are_not_asked_for():
    """Weights and inputs that need a gradient do not keep a step from being compiled."""
    name = "mamba2"
    tensors = {n: x.clone().requires_grad_() for n, x in token(name, drawn(name), 0).items()}
    states, twins = entered(drawn(name), "torch"), entered(drawn(name), "torch")
    with backend("torch"):
        wanted = load_shipped(name).step(**tensors, state=states["S"])
        found = compiled(name)[0](**tensors, state=twins["S"])
    assert not found[0].requires_grad
    assert_equal([found[0], twins["S"]], [wanted[0], states["S"]])


def test_an_import_waits_for_no_compiler():
    program = "import sys, lincodegen.ops as ops; ops.gla; print('torch._dynamo' in sys.modules)"
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"state_indices": torch.zeros(BATCH).long()}, "expected: a pool for state_indices"),
        ({"state": (None, torch.zeros(1))}, "expected, where the step is traced: 1 or None"),
    ],
)
def test_what_cannot_be_traced_is_refused(options, message):
    name = "gated_delta_rule"
    with pytest.raises(ValueError, match=message):
        load_shipped(name).traced_step(**token(name, drawn(name), 0), **options)
