"""Shipped ops in each of their forms, and the small cases that are put to them."""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch

from lincodegen.loading import load_shipped, shipped_names
from lincodegen.resources import specs_dir
from lincodegen.runtime.backend import backend
from lincodegen.spec import loader
from lincodegen.spec.step import Recurrence
from lincodegen.verify import Verdict
from lincodegen.verify.adversaries import ADVERSARIES
from lincodegen.verify.call import call
from lincodegen.verify.emulation import emulator
from lincodegen.verify.gradients import Evaluation, evaluate_op
from lincodegen.verify.inputs import Arguments, Case, Geometry, draw
from lincodegen.verify.trials import Trial

NAMES = shipped_names()
FORMS = ("torch", "triton")
SIZES = (20, 12, 8)
HAS_CUDA = torch.cuda.is_available()

Op = Callable[..., Any]


@cache
def recurrence_of(name: str) -> Recurrence:
    return loader.load(specs_dir() / f"{name}.yaml")


def op_of(name: str, form: str) -> Op:
    """The op on the path named, whatever the machine suggests."""
    op = load_shipped(name)
    assert op.signature.has_kernels, f"{name} has no Triton form"

    def run(*args: object, **kwargs: object) -> Any:
        with backend(form):
            return op(*args, **kwargs)

    return run


def device_of(form: str) -> str:
    return "cuda" if HAS_CUDA and form == "triton" else "cpu"


def sizes_of(name: str, sizes: tuple[int, ...] = SIZES) -> dict[str, int]:
    return dict(zip(recurrence_of(name).dims, sizes, strict=False))


@cache
def small_case(
    name: str,
    case: str = "typical",
    length: int = 37,
    dtype: torch.dtype = torch.float32,
    sizes: tuple[int, ...] = SIZES,
    seed: int = 0,
) -> Case:
    """One sequence of two heads; four where some tensors have fewer."""
    recurrence = recurrence_of(name)
    heads: int | Mapping[str, int] = 2
    if case == "repeated heads":
        heads = {x.name: 1 if i % 2 else 2 for i, x in enumerate(recurrence.inputs)}
        heads |= {x.name: 1 for x in recurrence.parameters}
    return draw(
        recurrence,
        Geometry(sizes_of(name, sizes), length, batch=1, heads=heads),
        dtype=dtype,
        seed=seed,
        case=case if case in ADVERSARIES else "typical",
        arguments=Arguments(optional=case != "optional absent"),
    )


@cache
def small_trial(
    name: str,
    case: str = "typical",
    length: int = 37,
    dtype: torch.dtype = torch.float32,
    sizes: tuple[int, ...] = SIZES,
    emulated: bool = False,
) -> Trial:
    """The case with its references, made once for all forms of an op."""
    drawn = small_case(name, case, length, dtype, sizes)
    rounded = emulator(load_shipped(name), dtype) if emulated else None
    return Trial.of(recurrence_of(name), drawn, dtype, rounded)


def judged(name: str, form: str, trials: list[Trial]) -> Verdict:
    """The verdict on one form of an op; readable where it fails."""
    op = op_of(name, form)
    rows = [row for trial in trials for row in trial.judge(op, device_of(form))[0]]
    return Verdict(f"{name}, {form}", str(trials[0].dtype).removeprefix("torch."), tuple(rows))


def evaluated(name: str, form: str, case: Case) -> dict[str, torch.Tensor]:
    """Outputs, final states and all gradients by name."""
    return evaluation(name, form, case).named()


def evaluation(name: str, form: str, case: Case) -> Evaluation:
    return evaluate_op(recurrence_of(name), case, op_of(name, form), device_of(form))


def forward(name: str, form: str, case: Case) -> dict[str, torch.Tensor]:
    """Outputs and final states by name, without gradients."""
    device = device_of(form)
    given = {n: x.to(device) for n, x in case.tensors.items()}
    states = {n: x.to(device) for n, x in (case.initial_state or {}).items()}
    with torch.no_grad():
        outputs, finals = call(
            recurrence_of(name), op_of(name, form), given, states or None, constants=case.constants
        )
    return {**outputs, **{f"final {n}": x for n, x in finals.items()}}


def differing(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> list[str]:
    """The names whose tensors are not the same bit for bit."""
    assert a.keys() == b.keys()
    return [name for name in a if not torch.equal(a[name], b[name])]
