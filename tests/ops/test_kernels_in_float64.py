"""Kernels in float64: their text with float32 read as float64, in the interpreter.

The tolerances of float32 hide an error of a few roundings. Here kernels are held to the
recurrence, and their gradients to differences of their own results, in sixteen digits.
"""

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest
import torch
from op_cases import NAMES, recurrence_of
from triton.runtime.interpreter import GridExecutor

from lincodegen.resources import generated_dir
from lincodegen.runtime import bounded, tiles
from lincodegen.runtime.pins import use_config
from lincodegen.runtime.schedules import use_schedule
from lincodegen.testing import install_interpreter_fixes
from lincodegen.verify.gradients import evaluate_op, evaluate_reference
from lincodegen.verify.inputs import Geometry, draw

LENGTH, SIZES = 19, (18, 17, 16)
TOLERANCE = 1e-13
"""Of the largest entry of a tensor; kernels in float32 are at 1e-6."""
SLOW = ("dplr", "gsa", "kda_qk_l2norm")
"""Their kernels are made of parts that those of other ops have, too."""
SHARED = {"tiles": tiles, "bounded": bounded}
"""Modules of tile functions, which are read as float64 too."""


def in_float64(text):
    for name in SHARED:
        text = text.replace(f"from lincodegen.runtime.{name} import", f"from .{name} import")
    text = text.replace("tl.float32", "tl.float64").replace("torch.float32", "torch.float64")
    # the parts in which a log decay goes through a product: one holds all of it
    return text.replace("tl.bfloat16", "tl.float64")


def op_in_float64(name, folder):
    """The op of a copy of a generated package."""
    copied = folder / f"{name}_in_float64"
    shutil.copytree(generated_dir() / name, copied, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("kernels.py", "recurrent_kernels.py"):
        path = copied / file
        path.write_text(in_float64(path.read_text(encoding="utf-8")), encoding="utf-8")
    for shared, module in SHARED.items():
        text = Path(module.__file__).read_text(encoding="utf-8")
        (copied / f"{shared}.py").write_text(in_float64(text), encoding="utf-8")
    spec = importlib.util.spec_from_file_location(
        copied.name, copied / "__init__.py", submodule_search_locations=[str(copied)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[copied.name] = module
    spec.loader.exec_module(module)
    return vars(module)[name]


@pytest.fixture
def kernels_of(tmp_path, monkeypatch):
    """Gives an op that takes its kernels for float64."""
    install_interpreter_fixes()
    monkeypatch.setattr("lincodegen.runtime.tuned._folders", {})
    monkeypatch.setattr("lincodegen.runtime.signature.chosen_backend", lambda *_: "triton")
    yield lambda name: op_in_float64(name, tmp_path)
    for name in [n for n in sys.modules if n.partition(".")[0].endswith("_in_float64")]:
        del sys.modules[name]


def drawn(name, length=LENGTH):
    recurrence = recurrence_of(name)
    sizes = dict(zip(recurrence.dims, SIZES, strict=False))
    geometry = Geometry(sizes, length, batch=1, heads=1)
    return draw(recurrence, geometry, dtype=torch.float64)


@pytest.mark.parametrize("name", NAMES)
def test_they_are_the_recurrence(name, kernels_of, monkeypatch):
    case, launched = drawn(name), []
    launch = GridExecutor.__call__

    def noted(executor, *args, **kwargs):
        launched.append(executor.fn.__name__)
        return launch(executor, *args, **kwargs)

    monkeypatch.setattr(GridExecutor, "__call__", noted)
    with use_config(name, chunk_size=16):
        found = evaluate_op(recurrence_of(name), case, kernels_of(name)).named()
    assert {n.rpartition("_")[0][-4:] for n in launched} >= {"_fwd", "_bwd"}, launched
    exact = evaluate_reference(recurrence_of(name), case, torch.float64).named()
    errors = {n: float((found[n] - x).abs().max() / x.abs().max()) for n, x in exact.items()}
    assert max(errors.values()) <= TOLERANCE, errors


@pytest.mark.parametrize("name", [n for n in NAMES if n not in SLOW])
def test_their_gradients_are_those_of_differences(name, kernels_of):
    case = drawn(name, 5)
    op = kernels_of(name)
    tensors = [x.requires_grad_() for x in case.tensors.values()]
    states = [x.requires_grad_() for x in case.initial_state.values()]

    def function(*arguments):
        own, entered = arguments[: len(tensors)], arguments[len(tensors) :]
        state = entered[0] if len(entered) == 1 else entered
        outputs, finals = op(*own, initial_state=state, output_final_state=True)
        return tuple(
            x for part in (outputs, finals) for x in (part if isinstance(part, tuple) else [part])
        )

    assert torch.autograd.gradcheck(function, (*tensors, *states), fast_mode=True)


@pytest.mark.parametrize("name", ["mamba2", "retention"])
@pytest.mark.parametrize("schedule", [("scan", 0), ("segment", 5)], ids=["scan", "segment"])
def test_sums_over_chunks_go_on_from_borders(name, schedule, kernels_of):
    """Two borders and a rest: states are kept at the end of every eighth chunk of a scan."""
    case = drawn(name, 16 * 19 + 3)
    with use_config(name, chunk_size=16), use_schedule(*schedule):
        found = evaluate_op(recurrence_of(name), case, kernels_of(name)).named()
    exact = evaluate_reference(recurrence_of(name), case, torch.float64).named()
    errors = {n: float((found[n] - x).abs().max() / x.abs().max()) for n, x in exact.items()}
    assert max(errors.values()) <= TOLERANCE, errors
