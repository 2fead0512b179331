"""Shipped ops in each of their forms, and how a case is put to one of them."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch

from lincodegen.loading import load_shipped, shipped_names
from lincodegen.resources import specs_dir
from lincodegen.runtime.backend import backend
from lincodegen.spec import loader
from lincodegen.spec.step import Recurrence
from lincodegen.verify import Verdict
from lincodegen.verify.harness import Plan
from lincodegen.verify.inputs import Case, Geometry, draw
from lincodegen.verify.trials import Trial
from lincodegen.verify.verdict import Row

NAMES = shipped_names()
FORMS = ("torch", "triton")
SIZES = (20, 12, 8)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

Op = Callable[..., Any]


@cache
def recurrence_of(name: str) -> Recurrence:
    return loader.load(specs_dir() / f"{name}.yaml")


def op_of(name: str, form: str) -> Op:
    """The op with its path named, so that the machine does not choose it."""
    op = load_shipped(name)
    if op.signature.has_kernels is False and form == "triton":
        raise AssertionError(f"{name} has no Triton form")

    def call(*args: object, **kwargs: object) -> Any:
        with backend(form):
            return op(*args, **kwargs)

    return _both_ways(call, form)


def _both_ways(call: Op, form: str) -> Op:
    """The path of a call is settled in its forward, and the backward keeps to it."""
    call.__name__ = form
    return call


def sizes_of(recurrence: Recurrence, sizes: tuple[int, ...] = SIZES) -> dict[str, int]:
    return dict(zip(recurrence.dims, sizes, strict=False))


def small_case(
    name: str,
    case: str = "typical",
    *,
    length: int = 37,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    sizes: tuple[int, ...] = SIZES,
) -> Case:
    """One sequence of two heads: what the interpreter is fast enough for."""
    recurrence = recurrence_of(name)
    geometry = Geometry(sizes_of(recurrence, sizes), length, batch=1, heads=2)
    return draw(recurrence, geometry, dtype=dtype, case=case, seed=seed)


@cache
def trials(
    name: str, cases: tuple[str, ...], lengths: tuple[int, ...], dtype: torch.dtype
) -> tuple[Trial, ...]:
    """References of a plan's cases, shared by the forms of an op."""
    recurrence = recurrence_of(name)
    plan = Plan(sizes=sizes_of(recurrence), dtype=dtype, lengths=lengths, cases=cases)
    return tuple(plan.trials(recurrence))


def judged(name: str, form: str, made: tuple[Trial, ...]) -> Verdict:
    rows: list[Row] = []
    for trial in made:
        rows += trial.judge(op_of(name, form), DEVICE if form == "triton" else "cpu")[0]
    dtype = str(made[0].dtype).removeprefix("torch.")
    return Verdict(name, dtype, tuple(rows))
