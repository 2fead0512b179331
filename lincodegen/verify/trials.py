"""A case with all that an op is compared with; made once, used for many ops."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lincodegen.spec.step import Recurrence
from lincodegen.verify import compare
from lincodegen.verify.call import Op
from lincodegen.verify.compare import Outcome
from lincodegen.verify.gates import decay_factors, gates
from lincodegen.verify.gradients import Evaluation, evaluate_op, evaluate_reference
from lincodegen.verify.inputs import Case
from lincodegen.verify.properties import Property
from lincodegen.verify.verdict import Row

HALF = (torch.bfloat16, torch.float16)
COLLINEAR = ("identical keys", "cosine 0.9")


@dataclass(frozen=True, slots=True)
class Trial:
    """The exact result, the naive float32 one, and for 16-bit types a rounded one.

    ``rounded`` is the emulator's result where ``emulated``, else that of the recurrence in
    float32 with the operands of its products in the tested dtype. ``scales`` has the scale of
    the gates' gradients, by name of row.
    """

    recurrence: Recurrence
    case: Case
    dtype: torch.dtype
    exact: Mapping[str, Tensor]
    naive: Mapping[str, Tensor]
    rounded: Mapping[str, Tensor]
    emulated: bool
    scales: Mapping[str, float]
    view: Property | None = None

    @staticmethod
    def of(
        recurrence: Recurrence,
        case: Case,
        dtype: torch.dtype,
        emulator: Op | None = None,
        view: Property | None = None,
    ) -> Trial:
        """Run the references of a case; the op will be called as ``view`` has it."""
        exact = evaluate_reference(recurrence, case, torch.float64)
        naive = evaluate_reference(recurrence, case, torch.float32).named()
        rounded = naive
        if dtype in HALF:
            evaluation = (
                evaluate_reference(recurrence, case, torch.float32, operands=dtype)
                if emulator is None
                else evaluate_op(recurrence, case, emulator)
            )
            rounded = evaluation.named()
        return Trial(
            recurrence,
            case,
            dtype,
            exact.named(),
            naive,
            rounded,
            emulator is not None and dtype in HALF,
            _gate_scales(recurrence, case, exact),
            view,
        )

    def judge(self, op: Op, device: str = "cpu") -> tuple[list[Row], int]:
        """The rows of an op, and how many entries were left out."""
        try:
            actual = evaluate_op(self.recurrence, self.case, op, device, self.view).named()
        except Exception as error:  # noqa: BLE001 - whatever an op raises is the op's failure
            note = f"{type(error).__name__}: {error}".splitlines()[0]
            return [Row(self.case.label, "call", "F6", math.inf, 0.0, False, note=note)], 0
        rows: list[Row] = []
        skipped = 0
        for name, a in actual.items():
            if self._rounded_by_piece(name):
                continue
            left_out = self._undefined(name, a) | self._out_of_range(name, a)
            skipped += int(left_out.sum())
            rows += self._rows(name, a, left_out)
        return rows, skipped

    def _rounded_by_piece(self, name: str) -> bool:
        """A parameter's 16-bit gradient, summed over calls that each round their part of it."""
        parameters = {f"grad {x.name}" for x in self.recurrence.parameters}
        return self.view is not None and self.dtype in HALF and name in parameters

    def _undefined(self, name: str, actual: Tensor) -> Tensor:
        """Entries where a decay factor is 0 and the op says that its gradient is 0."""
        tensor = name.removeprefix("grad ")
        if name == tensor or tensor not in decay_factors(self.recurrence):
            return torch.zeros_like(actual, dtype=torch.bool)
        return (self.case.tensors[tensor] == 0) & (actual == 0) & (self.exact[name] != 0)

    def _out_of_range(self, name: str, actual: Tensor) -> Tensor:
        """Entries whose exact value the dtype of the result cannot hold."""
        exact = self.exact[name].abs()
        return exact.isfinite() & (exact > torch.finfo(actual.dtype).max)

    def _rows(self, name: str, actual: Tensor, left_out: Tensor) -> list[Row]:
        a, r, n, e = (
            x.masked_fill(left_out, 0.0)
            for x in (actual, self.exact[name], self.naive[name], self.rounded[name])
        )
        scale = self.scales.get(name)
        label = self.case.label
        if compare.ill_conditioned(r, n, scale):
            missing = ~a.isfinite() & n.isfinite()
            return [
                Row(
                    label,
                    name,
                    "",
                    compare.largest(compare.difference(a, r)),
                    math.inf,
                    not bool(missing.any()),
                    ill_conditioned=True,
                )
            ]
        outcomes = self._outcomes(name, (a, r, e), scale)
        return [Row(label, name, o.rule, o.error, o.bound, o.passed) for o in outcomes]

    def _outcomes(
        self, name: str, tensors: tuple[Tensor, Tensor, Tensor], scale: float | None
    ) -> list[Outcome]:
        a, r, e = tensors
        if self.dtype == torch.float64:
            return [compare.f1(a, r)]
        if self.dtype in HALF:
            outcomes = [compare.f3(a, r, e, dtype=self.dtype, scale=scale)]
            if self.emulated:
                outcomes.append(compare.f3_emulated(a, e, dtype=self.dtype, scale=scale))
        else:
            outcomes = [compare.f2(a, r, e, unit=self._unit(), scale=scale, times=self._times())]
        if scale is None and self._has_tokens(name):
            outcomes.append(compare.f5(a, r, e, unit=self._unit(), times=self._times()))
        return outcomes

    def _times(self) -> int:
        collinear = self.case.name in COLLINEAR
        return compare.TIMES_NAIVE_COLLINEAR if collinear else compare.TIMES_NAIVE

    def _unit(self) -> float:
        """u of the products: PyTorch's global switch may allow tf32 for float32."""
        if self.dtype in HALF:
            return compare.roundoff(self.dtype) / 2
        exact = torch.get_float32_matmul_precision() == "highest"
        return compare.FLOAT32_ROUNDOFF if exact else compare.TF32_ROUNDOFF

    def _has_tokens(self, name: str) -> bool:
        inputs = {f"grad {x.name}" for x in self.recurrence.inputs}
        return name in inputs or name in self.case.output_cotangents


def _gate_scales(recurrence: Recurrence, case: Case, exact: Evaluation) -> dict[str, float]:
    """Per gate the size of the terms whose difference its gradient is.

    A parameter's gradient adds those of all tokens, whose errors add up as their root.
    """
    names = gates(recurrence)
    pairs = [
        (case.tensors[x.name], exact.gradients[x.name])
        for x in recurrence.inputs
        if x.name in exact.gradients and x.name not in names
    ]
    states = [(x, case.state_cotangents[name]) for name, x in exact.finals.items()]
    states += [(x, exact.initial[name]) for name, x in (case.initial_state or {}).items()]
    pairs += [(x[:, None], dx[:, None]) for x, dx in states]
    scale = compare.f4_scale(pairs)
    tokens = case.geometry.batch * max(case.geometry.length, 1)
    inputs = {x.name for x in recurrence.inputs}
    scales: dict[str, float] = {}
    for name in names & set(exact.gradients):
        size = compare.largest(exact.gradients[name])
        spread = 1.0 if name in inputs else math.sqrt(tokens)
        scales[f"grad {name}"] = max(size, scale * spread)
    return scales
