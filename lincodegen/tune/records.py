"""What tuning has found out: one record per configuration that was judged or timed.

A record holds all that is needed to trust it later: what was tried, on which device, under which
compiler, for which text of the kernels, and what the gate said of it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

from lincodegen.config import Bucket, OpConfig

FORMAT = 1
PASSED = "passed"
VERDICTS = (PASSED, "wrong", "nondeterministic", "raised", "died", "timeout")

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Gate:
    """Whether a configuration may be used.

    Attributes:
        verdict: one of `VERDICTS`.
        detail: what was found, a figure where there is one.
        cases: inputs that it was tried on.
        check: digest of those inputs and their tolerances.
    """

    verdict: str
    detail: str
    cases: int
    check: str

    @property
    def passed(self) -> bool:
        """Whether it agreed with the recurrence and with itself."""
        return self.verdict == PASSED


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds a call takes: median and quantiles of ``runs`` runs."""

    p20: float
    median: float
    p80: float
    runs: int


@dataclass(frozen=True, slots=True)
class Resources:
    """What the kernels of a configuration need together: the most of any of them."""

    shared_bytes: int
    registers: int
    stack_bytes: int


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a record comes from.

    Attributes:
        device: name of the device, as its driver has it.
        target: its architecture, as in ``sm_90``; ``cpu`` for one.
        spec: digest of the generated package: recurrence, templates, version.
        code: digest of the text that was run.
        seed: of the inputs and of the search.
        time: seconds since 1970, UTC.
        host: the machine's name.
    """

    device: str
    target: str
    driver: str
    torch: str
    triton: str
    spec: str
    code: str
    seed: int
    time: float
    host: str


@dataclass(frozen=True, slots=True)
class Record:
    """One configuration of an op for a class of calls; ``times`` None: it was not timed."""

    op: str
    bucket: Bucket
    config: OpConfig
    gate: Gate
    times: Times | None
    resources: Resources
    provenance: Provenance

    @property
    def usable(self) -> bool:
        """Whether it may be chosen: the gate passed and there is a time."""
        return self.gate.passed and self.times is not None

    def to_json(self) -> dict[str, Any]:
        """JSON values that `from_json` reads."""
        return {
            "format": FORMAT,
            "op": self.op,
            "bucket": str(self.bucket),
            "config": self.config.to_json(),
            "gate": asdict(self.gate),
            "times": None if self.times is None else asdict(self.times),
            "resources": asdict(self.resources),
            "provenance": asdict(self.provenance),
        }

    @staticmethod
    def from_json(value: object) -> Record:
        """The record that `to_json` wrote.

        Raises:
            ValueError: it is none, or of another format.
        """
        if not isinstance(value, dict) or value.get("format") != FORMAT:
            raise ValueError(f"no record of format {FORMAT}")
        times, op = value.get("times"), value.get("op")
        gate = _of(Gate, value.get("gate"))
        if not isinstance(op, str) or gate.verdict not in VERDICTS:
            raise ValueError(f"op {op!r}, verdict {gate.verdict!r}")
        return Record(
            op,
            Bucket.from_text(str(value.get("bucket"))),
            OpConfig.from_json(value.get("config")),
            gate,
            None if times is None else _of(Times, times),
            _of(Resources, value.get("resources")),
            _of(Provenance, value.get("provenance")),
        )

    def to_text(self) -> str:
        """One line without its end."""
        return json.dumps(self.to_json(), separators=(",", ":"), allow_nan=False)


def _of(kind: type[_T], value: object) -> _T:
    """A flat dataclass of strings and finite numbers, each of its declared type."""
    wanted: Mapping[str, str] = {f.name: str(f.type) for f in fields(kind)}  # pyright: ignore[reportArgumentType]
    if not isinstance(value, dict) or value.keys() != wanted.keys():
        raise ValueError(f"no {kind.__name__}")
    return kind(**{name: _typed(value[name], type_) for name, type_ in wanted.items()})


def _typed(value: object, wanted: str) -> str | int | float:
    if wanted == "str" and isinstance(value, str):
        return value
    if wanted == "int" and type(value) is int:
        return value
    if wanted == "float" and type(value) in (int, float) and math.isfinite(value):  # pyright: ignore[reportArgumentType]
        return float(value)  # pyright: ignore[reportArgumentType]
    raise ValueError(f"{value!r} is no {wanted}")
