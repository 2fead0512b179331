"""One call with everything it yields: outputs, final states and every gradient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from lincodegen.spec.step import Recurrence
from lincodegen.verify.call import Op, call
from lincodegen.verify.inputs import Case
from lincodegen.verify.properties import Property, Results
from lincodegen.verify.reference import run


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Results and gradients by name, on the CPU; ``initial`` has those of initial states."""

    outputs: Mapping[str, Tensor]
    finals: Mapping[str, Tensor]
    gradients: Mapping[str, Tensor]
    initial: Mapping[str, Tensor]

    def named(self) -> dict[str, Tensor]:
        """All tensors under the names that a verdict's rows use."""
        return {
            **self.outputs,
            **{f"final {name}": x for name, x in self.finals.items()},
            **{f"grad {name}": x for name, x in self.gradients.items()},
            **{f"grad initial {name}": x for name, x in self.initial.items()},
        }


def evaluate_reference(
    recurrence: Recurrence,
    case: Case,
    dtype: torch.dtype,
    operands: torch.dtype | None = None,
) -> Evaluation:
    """The recurrence in ``dtype``, gradients by autograd; ``operands`` as in ``run``."""
    tensors = {name: _leaf(x.to(dtype)) for name, x in case.tensors.items()}
    states = {name: _leaf(x.to(dtype)) for name, x in (case.initial_state or {}).items()}
    results = run(
        recurrence,
        tensors,
        constants=case.constants,
        initial_state=states,
        cu_seqlens=case.geometry.cu_seqlens,
        dtype=dtype,
        operands=operands,
    )
    return _with_gradients(case, results, tensors, states)


def evaluate_op(
    recurrence: Recurrence,
    case: Case,
    op: Op,
    device: str = "cpu",
    view: Property | None = None,
) -> Evaluation:
    """A public op on ``device``, called as ``view`` has it.

    Raises:
        ValueError: The op changed an argument, or returned a tensor of a wrong shape or dtype.
    """
    tensors = {name: _leaf(x.to(device)) for name, x in case.tensors.items()}
    states = {name: _leaf(x.to(device)) for name, x in (case.initial_state or {}).items()}
    offsets = case.geometry.cu_seqlens
    packed = None if offsets is None else torch.tensor(offsets, dtype=torch.int32, device=device)
    direct = partial(call, recurrence, op, constants=case.constants)
    called = direct if view is None else view(recurrence, direct)
    results = called(tensors, states if case.initial_state is not None else None, packed)
    _check(results[0], case.output_cotangents, "output")
    _check(results[1], case.state_cotangents, "final state")
    evaluation = _with_gradients(case, results, tensors, states)
    given = {**case.tensors, **(case.initial_state or {})}
    for name, x in (tensors | states).items():
        if not torch.equal(x.detach().cpu().nan_to_num(), given[name].nan_to_num()):
            raise ValueError(f"{name}: changed in place")
    return evaluation


def _leaf(x: Tensor) -> Tensor:
    return x.detach().clone().requires_grad_()


def _check(values: Mapping[str, Tensor], expected: Mapping[str, Tensor], what: str) -> None:
    for name, x in values.items():
        wanted = expected[name]
        if x.shape != wanted.shape or x.dtype != wanted.dtype:
            raise ValueError(
                f"{what} {name}: {tuple(x.shape)} {x.dtype}, "
                f"expected {tuple(wanted.shape)} {wanted.dtype}"
            )


def _with_gradients(
    case: Case, results: Results, tensors: Mapping[str, Tensor], states: Mapping[str, Tensor]
) -> Evaluation:
    """Gradients of every leaf; zero where nothing depends on it."""
    outputs, finals = results
    pairs = [(x, case.output_cotangents[name]) for name, x in outputs.items()]
    pairs += [(x, case.state_cotangents[name]) for name, x in finals.items()]
    pairs = [(y, dy.to(y)) for y, dy in pairs if y.requires_grad]
    leaves = [*tensors.values(), *states.values()]
    found = (
        torch.autograd.grad(
            [y for y, _ in pairs], leaves, [dy for _, dy in pairs], allow_unused=True
        )
        if pairs
        else [None] * len(leaves)
    )
    gradients = [
        torch.zeros_like(x) if dx is None else dx for x, dx in zip(leaves, found, strict=True)
    ]
    named = [dx.detach().cpu() for dx in gradients]
    return Evaluation(
        {name: x.detach().cpu() for name, x in outputs.items()},
        {name: x.detach().cpu() for name, x in finals.items()},
        dict(zip(tensors, named[: len(tensors)], strict=True)),
        dict(zip(states, named[len(tensors) :], strict=True)),
    )
