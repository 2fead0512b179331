"""The values of a call against what its arguments promise; waits for the device."""

from __future__ import annotations

import math
from functools import cache
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from lincodegen.runtime.lazy import Lazy

if TYPE_CHECKING:
    from lincodegen.runtime.call import Call
    from lincodegen.runtime.packing import Packing
    from lincodegen.runtime.signature import Argument

packed = Lazy("lincodegen.runtime.packing")

FINITE = "(-inf, inf)"
NORM_ROUNDINGS = 4
"""Roundings, of the tensor's dtype, that a norm may be past its interval."""


class Interval(NamedTuple):
    """The reals between two ends, each included or not."""

    low: float
    high: float
    includes_low: bool
    includes_high: bool

    def holds(self, x: Tensor, slack: float = 0.0) -> Tensor:
        """Where values lie within, the ends rounded as x is; NaN lies nowhere.

        ``slack`` is the relative error that values may have at a finite end.
        """
        low, high = (_outward(end, x.dtype, slack) for end in (self.low, self.high))
        above = x >= low[0] if self.includes_low else x > low[0]
        return above & (x <= high[1] if self.includes_high else x < high[1])


def _outward(end: float, dtype: torch.dtype, slack: float) -> tuple[float, float]:
    """The least and the largest that an end of an interval may be taken for."""
    if math.isinf(end):
        return end, end
    rounded = float(torch.tensor(end, dtype=torch.float64).to(dtype))
    margin = slack * abs(end)
    return min(rounded, end - margin), max(rounded, end + margin)


@cache
def interval(text: str) -> Interval:
    """The interval that is written ``[-inf, 0)``."""
    low, high = text[1:-1].split(",")
    return Interval(float(low), float(high), text[0] == "[", text[-1] == "]")


def check_values(call: Call, /, **constants: float | None) -> None:
    """Looks at every value of a call, before defaults stand in for what is not given.

    Raises:
        ValueError: a value lies outside its domain, a norm outside its interval, a state or a
            constant is not finite, or offsets of packed sequences do not fit.
    """
    name = call.signature.name
    if call.packing is not None:
        _check_packing(name, call.packing, call.length)
    inputs = call.signature.inputs
    for argument in (*inputs, *call.signature.parameters):
        given = call.tensors[argument.name]
        if given is not None:
            _check_tensor(name, argument, given if argument in inputs else given[0, 0])
    for state, value in zip(call.signature.states, call.states, strict=True):
        if value is not None:
            _check_domain(name, f"the initial state {state.name}", value, FINITE)
    for key, constant in constants.items():
        if constant is not None and not math.isfinite(constant):
            raise ValueError(f"{name}: {key} is {constant}; expected: a finite number")


def _check_packing(op: str, packing: Packing, tokens: int) -> None:
    """Offsets on the device, and that the host's are the same."""
    lengths = packed.checked_lengths(op, "cu_seqlens", packing.cu_seqlens.tolist(), tokens)
    host = list(accumulate(packing.lengths or lengths, initial=0))
    for i, (a, b) in enumerate(zip(host, accumulate(lengths, initial=0), strict=True)):
        if a != b:
            raise ValueError(f"{op}: cu_seqlens_cpu[{i}] is {a}; expected: {b} as in cu_seqlens")


def _check_tensor(op: str, argument: Argument, x: Tensor) -> None:
    x = x.detach()
    _check_domain(op, argument.name, x, argument.domain or FINITE)
    if argument.norm:
        norms = torch.linalg.vector_norm(x.double(), dim=-1)
        slack = NORM_ROUNDINGS * torch.finfo(x.dtype).eps
        holds = interval(argument.norm).holds(norms, slack)
        _refuse_first(op, f"the norm of {argument.name}", (norms, holds), argument.norm)


def _check_domain(op: str, name: str, x: Tensor, domain: str) -> None:
    x = x.detach()
    _refuse_first(op, name, (x, interval(domain).holds(x)), domain)


def _refuse_first(op: str, name: str, values: tuple[Tensor, Tensor], wanted: str) -> None:
    """Names the first value that does not hold."""
    x, holds = values
    if bool(holds.all()):
        return
    flat = int((~holds).flatten().to(torch.uint8).argmax())
    index = [int(i) for i in torch.unravel_index(torch.tensor(flat), x.shape)]
    found = x.flatten()[flat].item()
    raise ValueError(f"{op}: {name} is {found:g} at {index}; expected: values in {wanted}")
