"""Compare a public op, forward and every gradient, with its recurrence run in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypedDict, Unpack

import torch

from lincodegen.spec.step import Recurrence
from lincodegen.verify.adversaries import ADVERSARIES, applicable
from lincodegen.verify.call import Op
from lincodegen.verify.inputs import Arguments, Case, Geometry, draw
from lincodegen.verify.layout import tensors_of
from lincodegen.verify.properties import PROPERTIES
from lincodegen.verify.trials import HALF, Trial
from lincodegen.verify.verdict import Row, Verdict

LENGTHS = (0, 1, 2, 15, 16, 17, 63, 64, 65, 130)
DEFAULT_SIZES = (24, 40, 20, 36, 12, 28)
GEOMETRIES = ("repeated heads", "packed")
CALLS = ("optional absent", "constants 0.75", "constants 0", "float32 scalars")


@dataclass(frozen=True, slots=True)
class Plan:
    """What to try.

    ``sizes`` gives the dimensions, by default small ones that are no powers of two; ``cases``
    names adversaries, geometries, calls and properties, by default all that concern the recurrence;
    typical inputs are tried at all ``lengths``, the others at the last one. ``emulator`` is an op
    with the roundings that a 16-bit kernel declares.
    """

    sizes: Mapping[str, int] | None = None
    dtype: torch.dtype = torch.float32
    lengths: tuple[int, ...] = LENGTHS
    cases: tuple[str, ...] | None = None
    seed: int = 0
    emulator: Op | None = None

    def draws(self, recurrence: Recurrence) -> Iterator[Case]:
        """The cases one after the other, each drawn when it is asked for."""
        for name in cases_for(recurrence, self.dtype) if self.cases is None else self.cases:
            for length in self.lengths if name == "typical" else self.lengths[-1:]:
                case = draw(
                    recurrence,
                    self._geometry(recurrence, name, length),
                    dtype=self.dtype,
                    seed=self.seed,
                    case=name if name in ADVERSARIES else "typical",
                    arguments=_arguments(recurrence, name),
                )
                yield replace(case, name=name)

    def trials(self, recurrence: Recurrence) -> Iterator[Trial]:
        """The cases with their references."""
        for case in self.draws(recurrence):
            view = PROPERTIES.get(case.name)
            yield Trial.of(recurrence, case, self.dtype, self.emulator, view)

    def _geometry(self, recurrence: Recurrence, name: str, length: int) -> Geometry:
        sizes = self.sizes or dict(zip(recurrence.dims, DEFAULT_SIZES, strict=False))
        if name == "repeated heads":
            half = len(recurrence.inputs) // 2
            heads = {x.name: 2 if i < half else 4 for i, x in enumerate(recurrence.inputs)}
            return Geometry(
                sizes,
                length,
                heads=heads | dict.fromkeys((x.name for x in recurrence.parameters), 1),
            )
        if name in ("packed", "by sequence"):
            offsets = (0, 0, length // 7, length // 2, length // 2, length, length)
            return Geometry(sizes, length, batch=1, cu_seqlens=offsets)
        return Geometry(sizes, length)


class Options(TypedDict, total=False):
    """The fields of ``Plan`` as keyword arguments."""

    sizes: Mapping[str, int] | None
    dtype: torch.dtype
    lengths: tuple[int, ...]
    cases: tuple[str, ...] | None
    seed: int
    emulator: Op | None


def cases_for(recurrence: Recurrence, dtype: torch.dtype = torch.float32) -> tuple[str, ...]:
    """All cases that concern a recurrence."""
    tensors = tensors_of(recurrence)
    concerns = {
        "optional absent": any(x.default is not None for x in tensors),
        "constants 0.75": bool(recurrence.constants),
        "constants 0": bool(recurrence.constants),
        "float32 scalars": dtype in HALF and any(not x.shape for x in tensors),
    }
    names = (*GEOMETRIES, *(name for name in CALLS if concerns[name]))
    return (*applicable(recurrence), *names, *PROPERTIES)


def _arguments(recurrence: Recurrence, name: str) -> Arguments:
    """What is special about the arguments of a case."""
    if name == "optional absent":
        return Arguments(optional=False)
    if name == "float32 scalars":
        return Arguments(scalars=torch.float32)
    if name in ("constants 0", "constants 0.75"):
        value = float(name.removeprefix("constants "))
        return Arguments(constants={x.name: value for x in recurrence.constants})
    return Arguments()


def verify(
    recurrence: Recurrence,
    op: Op,
    *,
    device: str = "cpu",
    on_progress: Callable[[str], None] | None = None,
    **options: Unpack[Options],
) -> Verdict:
    """Run an op on drawn cases and judge outputs, final states and all gradients.

    Args:
        recurrence: What the op must compute.
        op: A public op, called as ``lincodegen.verify.call`` describes.
        device: Where the op's arguments lie.
        on_progress: Told the name of each case.
        **options: Fields of ``Plan``.
    """
    plan = Plan(**options)
    return verify_trials(recurrence, op, plan.trials(recurrence), device, on_progress)


def verify_trials(
    recurrence: Recurrence,
    op: Op,
    trials: Iterable[Trial],
    device: str = "cpu",
    on_progress: Callable[[str], None] | None = None,
) -> Verdict:
    """Judge an op by trials made before, so that many ops share the references."""
    rows: list[Row] = []
    skipped = 0
    dtype = ""
    for trial in trials:
        if on_progress is not None:
            on_progress(trial.case.label)
        found, left_out = trial.judge(op, device)
        rows += found
        skipped += left_out
        dtype = str(trial.dtype).removeprefix("torch.")
    return Verdict(recurrence.name, dtype, tuple(rows), skipped)
