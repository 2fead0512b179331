"""What an op accepts and returns: shapes, dtypes, heads, states, gradients, errors."""

import pytest
import torch
from built_ops import op_of

from lincodegen.runtime.backend import backend


@pytest.fixture(autouse=True)
def _torch_form():
    with backend("torch"):
        yield


def inputs(batch=2, length=5, heads=2, keys=4, values=3, **changes):
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(shape, generator=generator)

    given = {
        "q": draw(batch, length, heads, keys),
        "k": draw(batch, length, heads, keys),
        "v": draw(batch, length, heads, values),
        "g": -draw(batch, length, heads).abs(),
    }
    return given | changes


def test_positional_as_keyword_arguments():
    x = inputs()
    op = op_of("plain")
    by_place, no_state = op(x["q"], x["k"], x["v"], x["g"], 0.5)
    by_name, final = op(**x, scale=0.5, output_final_state=True)
    torch.testing.assert_close(by_place, by_name)
    assert no_state is None
    assert final.shape == (2, 2, 4, 3)


@pytest.mark.parametrize(
    ("dtype", "output", "state"),
    [
        (torch.float32, torch.float32, torch.float32),
        (torch.bfloat16, torch.bfloat16, torch.float32),
        (torch.float16, torch.float16, torch.float32),
        (torch.float64, torch.float64, torch.float64),
    ],
    ids=str,
)
def test_dtypes(dtype, output, state):
    x = {n: t.to(dtype).requires_grad_() for n, t in inputs().items()}
    initial = torch.zeros(2, 2, 4, 3, requires_grad=True)
    o, final = op_of("plain")(**x, initial_state=initial, output_final_state=True)
    assert (o.dtype, final.dtype) == (output, state)
    (o.sum() + final.sum()).backward()
    assert {t.grad.dtype for t in x.values()} == {dtype}
    assert initial.grad.dtype == torch.float32


def test_the_first_input_settles_the_output_s_dtype():
    x = inputs()
    o, _ = op_of("plain")(**(x | {"q": x["q"].bfloat16()}))
    assert o.dtype == torch.bfloat16
    o, final = op_of("plain")(**(x | {"g": x["g"].double()}), output_final_state=True)
    assert (o.dtype, final.dtype) == (torch.float32, torch.float64)


def test_gradients_only_where_required():
    x = inputs()
    x["k"].requires_grad_()
    o, _ = op_of("plain")(**x)
    o.sum().backward()
    assert x["k"].grad is not None
    assert all(x[n].grad is None for n in ("q", "v", "g"))


def test_a_final_state_alone_has_gradients():
    x = {n: t.requires_grad_() for n, t in inputs().items()}
    _, final = op_of("plain")(**x, output_final_state=True)
    final.sum().backward()
    assert not x["q"].grad.any()
    assert x["v"].grad.any()


def test_a_second_backward_is_refused():
    x = inputs()
    x["v"].requires_grad_()
    o, _ = op_of("plain")(**x)
    (grad,) = torch.autograd.grad(o.square().sum(), x["v"], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


def test_tensors_that_are_not_contiguous():
    x = inputs()
    strided = {n: t.transpose(1, 2).contiguous().transpose(1, 2) for n, t in x.items()}
    assert not strided["q"].is_contiguous()
    expected, _ = op_of("plain")(**x)
    found, _ = op_of("plain")(**strided)
    torch.testing.assert_close(found, expected)


def test_heads_of_a_tensor_are_repeated_and_their_gradients_summed():
    x = inputs(heads=4)
    for name in ("k", "v"):
        x[name] = x[name][:, :, :2].clone()
    full = {n: t.repeat_interleave(4 // t.shape[2], 2) for n, t in x.items()}
    for tensors in (x, full):
        for t in tensors.values():
            t.requires_grad_()
    expected, _ = op_of("plain")(**full)
    found, _ = op_of("plain")(**x)
    torch.testing.assert_close(found, expected)
    found.square().sum().backward()
    expected.square().sum().backward()
    for name in ("k", "v"):
        torch.testing.assert_close(x[name].grad, full[name].grad.unflatten(2, (2, 2)).sum(3))


def test_a_state_has_the_heads_of_what_updates_it():
    x = inputs(heads=2)
    x["q"] = torch.randn(2, 5, 6, 4, requires_grad=True)
    initial = torch.randn(2, 2, 4, 3, requires_grad=True)
    o, final = op_of("plain")(**x, initial_state=initial, output_final_state=True)
    assert o.shape == (2, 5, 6, 3)
    assert final.shape == (2, 2, 4, 3)
    per_head = [
        op_of("plain")(**(x | {"q": x["q"][:, :, j::3]}), initial_state=initial)[0]
        for j in range(3)
    ]
    torch.testing.assert_close(o, torch.stack(per_head, 3).flatten(2, 3))
    (found,) = torch.autograd.grad(o.square().sum() + final.sum(), initial)
    again = sum(y.square().sum() for y in per_head)
    (expected,) = torch.autograd.grad(again, initial)
    state = op_of("plain")(**x, initial_state=initial, output_final_state=True)[1]
    (carried,) = torch.autograd.grad(state.sum(), initial)
    torch.testing.assert_close(found, expected + carried)


@pytest.mark.parametrize(("batch", "length"), [(2, 0), (0, 5), (0, 0), (1, 1)])
def test_few_tokens(batch, length):
    x = {n: t.requires_grad_() for n, t in inputs(batch, length).items()}
    initial = torch.randn(batch, 2, 4, 3, requires_grad=True)
    o, final = op_of("plain")(**x, initial_state=initial, output_final_state=True)
    assert o.shape == (batch, length, 2, 3)
    (o.sum() + final.sum()).backward()
    assert all(t.grad.shape == t.shape for t in (*x.values(), initial))
    if not length:
        torch.testing.assert_close(final, initial)
        torch.testing.assert_close(initial.grad, torch.ones_like(initial))


def test_several_states_come_and_go_as_tuples():
    op = op_of("chained")
    shapes = {"q": [4], "k": [4], "s": [3], "v": [5], "g": [3]}
    x = {n: torch.randn(2, 6, 2, *s) for n, s in shapes.items()}
    x["g"] = -x["g"].abs()
    (o, p), (first, second) = op(**x, output_final_state=True)
    assert [t.shape for t in (o, p)] == [(2, 6, 2, 5), (2, 6, 2, 3)]
    assert [t.shape for t in (first, second)] == [(2, 2, 4, 3), (2, 2, 3, 5)]
    one_given, _ = op(**x, initial_state=(None, torch.zeros_like(second)))
    torch.testing.assert_close(one_given[0], o)


def test_a_step_without_state_begins_one():
    x = inputs(length=1)
    token = {n: t[:, 0] for n, t in x.items()}
    o, state = op_of("plain").step(**token)
    expected, final = op_of("plain")(**x, output_final_state=True)
    torch.testing.assert_close(o, expected[:, 0])
    torch.testing.assert_close(state, final)


def test_under_autocast_the_op_computes_as_without():
    x = inputs()
    expected, _ = op_of("plain")(**x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, _ = op_of("plain")(**x)
    assert torch.equal(found, expected)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"q": None}, TypeError, r"plain: q is None; expected: a tensor \[B, T, H, K\]"),
        ({"g": [1.0]}, TypeError, r"plain: g is list; expected: a tensor \[B, T, H\]"),
        ({"q": torch.zeros(2, 5, 2)}, ValueError, r"q has the shape \[2, 5, 2\]; expected: \[B, T"),
        ({"k": torch.zeros(2, 5, 2, 7)}, ValueError, r"k has K = 7; expected: K = 4 as q has"),
        ({"v": torch.zeros(2, 6, 2, 3)}, ValueError, r"v has B, T = 2, 6; expected: 2, 5 as q has"),
        (
            {"q": torch.zeros(2, 5, 3, 4)},
            ValueError,
            r"k has 2 heads; expected: a number that divides 3, the heads of q",
        ),
        ({"v": torch.zeros(2, 5, 2, 3).int()}, ValueError, r"v has int32; expected: float16"),
        ({"v": torch.zeros(2, 5, 2, 3, device="meta")}, ValueError, r"v has the device meta"),
        (
            {"cu_seqlens": torch.tensor([0, 5])},
            ValueError,
            r"B = 2 with cu_seqlens; expected: pack",
        ),
        ({"cu_seqlens": [0, 5]}, TypeError, r"cu_seqlens is list; expected: a tensor \[N \+ 1\]"),
        ({"cu_seqlens": torch.zeros(2, 2)}, ValueError, r"cu_seqlens has the shape \[2, 2\]"),
        ({"cu_seqlens": torch.zeros(2)}, ValueError, r"cu_seqlens has float32; expected: a tensor"),
        (
            {"initial_state": torch.zeros(2, 2, 4, 4)},
            ValueError,
            r"the initial state S has the shape \[2, 2, 4, 4\]; expected: \[2, 2, 4, 3\], "
            r"which is \[B, H, K, V\]",
        ),
        ({"initial_state": 0.0}, TypeError, r"the initial state S is float; expected: a tensor"),
        ({"initial_state": (None, None)}, ValueError, r"2 entries; expected: a tuple of 1 for S"),
    ],
)
def test_what_does_not_fit_is_named(changes, error, message):
    with pytest.raises(error, match=message):
        op_of("plain")(**inputs(**changes))


def test_an_absent_input_whose_sizes_nothing_shows():
    with pytest.raises(TypeError, match="chained: v is None"):
        op_of("chained")(**{n: torch.zeros(1, 1, 1, 2) for n in "qks"}, v=None, g=None)


@pytest.mark.parametrize(("name", "message"), [("jax", "expected: torch or triton")])
def test_an_unknown_backend(name, message):
    with pytest.raises(ValueError, match=message), backend(name):
        pass
