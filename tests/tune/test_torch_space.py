"""The space of the PyTorch form on a CPU: its points, and what each of its values does."""

import pytest
import torch

import lincodegen.ops
from lincodegen.config import OpConfig, TorchConfig
from lincodegen.resources import generated_dir
from lincodegen.runtime import blocks
from lincodegen.runtime.backend import backend
from lincodegen.runtime.chunks import unit_lower_inverse
from lincodegen.runtime.threads import at_most
from lincodegen.runtime.tuned import Chosen, running, use_op_config
from lincodegen.tune.gate import Subject, Work
from lincodegen.tune.session import torch_form
from lincodegen.tune.torch_space import WHOLE, TorchSpace

SOLVING, PLAIN = "gated_delta_rule", "retention"
TORCH = TorchConfig(solve_block=16, block_elements=1 << 12, threads=1)
FORM = TorchSpace(tokens=2048, heads=8, head_elements=2048 * 64, solves=True, threads=2)


def form(op, heads=8, tokens=512, size=64):
    subject = Subject(generated_dir() / op, "torch", "cpu", "float32", {"K": size, "V": size})
    return torch_form(subject, Work(heads, tokens))


def arguments(op, tokens=100, heads=4, size=16):
    torch.manual_seed(0)
    shapes = [(1, tokens, heads, *(size for _ in x.shape)) for x in op.signature.inputs]
    found = []
    for x, shape in zip(op.signature.inputs, shapes, strict=True):
        value = torch.rand(shape) / size**0.5
        found.append((-value if x.domain.endswith("0]") else value).requires_grad_())
    return found


def results(op, config):
    given = arguments(op)
    with backend("torch"), use_op_config(op.signature.name, config):
        y, state = op(*given, output_final_state=True)
        return [y, state, *torch.autograd.grad((y.sum() + state.square().sum()), given)]


def test_there_are_enough_points_to_search():
    space = FORM.space()
    assert len(space.points) >= 150
    configs = [FORM.config(p) for p in space.points]
    assert len(set(configs)) == len(configs)
    assert set(FORM.starts()) <= set(space.points)


def test_what_solves_nothing_has_no_block_of_the_solve():
    solve = {p.name: p.values for p in form(PLAIN).space().parameters}["solve_block"]
    assert solve == (WHOLE,)
    assert len(form(SOLVING).space().points) > len(form(PLAIN).space().points)


def test_all_threads_are_no_limit():
    limits = {p[3]: FORM.config(p).torch.threads for p in FORM.space().points}
    assert limits == {1: 1, 2: None}


@pytest.mark.parametrize(("heads", "threads"), [(1, 1), (6, 3), (8, 4)])
def test_every_point_is_the_one_nearest_to_its_own_configuration(heads, threads):
    own = TorchSpace(300, heads, 300 * 24, True, threads)
    for point in own.space().points:
        assert own.nearest(own.config(point)) == point


def test_the_point_nearest_to_a_configuration_of_other_calls():
    short = TorchSpace(tokens=40, heads=2, head_elements=40 * 64, solves=True, threads=1)
    far = OpConfig(256, torch=TorchConfig(64, 1 << 20, 8))
    assert short.nearest(far) == (32, WHOLE, 8192, 1)
    assert short.nearest(far) in short.space().points
    assert short.nearest(OpConfig(64)) is None


@pytest.mark.parametrize("config", [OpConfig(64), OpConfig(64, torch=TORCH)])
def test_a_configuration_is_read_as_it_was_written(config):
    assert OpConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"solve_block": 3}, "solve_block = 3; expected: a power of two"),
        ({"solve_block": 0}, "solve_block = 0 is nothing"),
        ({"block_elements": None}, "block_elements = None is nothing"),
        ({"block_elements": 1 << 40}, "block_elements = 1099511627776 is nothing"),
        ({"threads": 0}, "threads = 0 is nothing"),
        ({"threads": True}, "threads = True is nothing"),
    ],
)
def test_values_that_no_op_takes_are_refused(change, told):
    data = OpConfig(64, torch=TORCH).to_json()
    data["torch"] |= change
    with pytest.raises(ValueError, match=told):
        OpConfig.from_json(data)


def test_what_is_no_object_is_refused():
    with pytest.raises(ValueError, match="torch is list; expected: an object"):
        OpConfig.from_json({"chunk_size": 64, "kernels": {}, "torch": []})


@pytest.mark.parametrize("block", [1, 2, 8, 16, 64, WHOLE])
@pytest.mark.parametrize("rows", [1, 5, 32, 96])
def test_blocks_of_the_solve_give_the_same_inverse(rows, block):
    generator = torch.Generator().manual_seed(rows)
    n = torch.randn(3, rows, rows, generator=generator, dtype=torch.float64).tril(-1) / rows**0.5
    config = OpConfig(64, torch=TORCH._replace(solve_block=block))
    with running(Chosen(config)):
        found = unit_lower_inverse(n)
    eye = torch.eye(rows, dtype=n.dtype)
    torch.testing.assert_close(found @ (eye - n), eye.expand_as(n), rtol=0, atol=1e-11)


@pytest.mark.parametrize("op", [SOLVING, PLAIN])
def test_an_op_gives_the_same_whatever_is_chosen(op):
    op = getattr(lincodegen.ops, op)
    plain = results(op, OpConfig(64))
    for config in (OpConfig(64, torch=TORCH), OpConfig(32, torch=TorchConfig(8, 1 << 30))):
        for x, y in zip(results(op, config), plain, strict=True):
            torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-4)


def test_heads_go_into_blocks_of_the_size_that_is_chosen(monkeypatch):
    counts = []
    of = blocks.count_of

    def watched(layout, tokens):
        counts.append(of(layout, tokens))
        return counts[-1]

    monkeypatch.setattr(blocks, "count_of", watched)
    op = getattr(lincodegen.ops, SOLVING)
    results(op, OpConfig(64))
    assert set(counts) == {1}
    counts.clear()
    results(op, OpConfig(64, torch=TORCH))
    assert set(counts) == {2}


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_threads_are_those_of_the_table_while_an_op_runs_and_no_longer(two_threads, monkeypatch):
    seen = []
    of = blocks.parted

    def watched(*arguments):
        seen.append(torch.get_num_threads())
        return of(*arguments)

    monkeypatch.setattr(blocks, "parted", watched)
    op = getattr(lincodegen.ops, SOLVING)
    results(op, OpConfig(64, torch=TORCH))
    assert seen == [1, 1], "forward and backward"
    assert torch.get_num_threads() == 2
    seen.clear()
    results(op, OpConfig(64, torch=TORCH._replace(threads=None)))
    assert seen == [2, 2]


def test_threads_come_back_where_an_op_raises_and_are_never_more(two_threads):
    def fail():
        with at_most(1):
            assert torch.get_num_threads() == 1
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert torch.get_num_threads() == 2
    with at_most(64):
        assert torch.get_num_threads() == 2
