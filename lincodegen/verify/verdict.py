"""The artefact of verify: one row per case and tensor, readable as a table and as JSON."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """How far one tensor of one case is off.

    ``tensor`` is an output's name, ``final S``, ``grad x``, ``grad initial S``, or ``call``
    where the op raised, with the message in ``note``.
    """

    case: str
    tensor: str
    rule: str
    error: float
    bound: float
    passed: bool
    ill_conditioned: bool = False
    note: str = ""

    @property
    def margin(self) -> float:
        """Error over bound; at most 1 for a row that passes."""
        if math.isnan(self.error) or math.isinf(self.error):
            return math.inf
        return self.error / self.bound if self.bound else (math.inf if self.error else 0.0)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an op agrees with its recurrence, and by how much.

    ``skipped`` counts the entries left out: gradients of a decay factor where it is 0, and values
    beyond the range of a 16-bit type.
    """

    recurrence: str
    dtype: str
    rows: tuple[Row, ...]
    skipped: int = 0

    @property
    def passed(self) -> bool:
        """No row fails, and at least one can be judged."""
        return all(row.passed for row in self.rows) and self.judged > 0

    @property
    def judged(self) -> int:
        """Rows with a figure that counts."""
        return sum(not row.ill_conditioned for row in self.rows)

    @property
    def ill_conditioned(self) -> int:
        """Rows where the recurrence in float32 is itself off by a tenth: listed, not judged."""
        return len(self.rows) - self.judged

    @property
    def failures(self) -> tuple[Row, ...]:
        """The rows that fail, the worst first."""
        failed = (row for row in self.rows if not row.passed)
        return tuple(sorted(failed, key=lambda row: -row.margin))

    def __str__(self) -> str:
        cases = list(dict.fromkeys(row.case for row in self.rows))
        head = (
            f"{self.recurrence}, {self.dtype}: {'passed' if self.passed else 'FAILED'}, "
            f"{self.judged} comparisons in {len(cases)} cases, {len(self.failures)} failed, "
            f"{self.ill_conditioned} ill-conditioned, {self.skipped} entries left out"
        )
        table = [("case", "worst", "rule", "error", "bound", "")]
        table += [_cells(self._worst(case)) for case in cases]
        table += [_cells(row) for row in self.failures]
        return "\n".join([head, "", *_aligned(table)])

    def _worst(self, case: str) -> Row:
        rows = [row for row in self.rows if row.case == case]
        return max(rows, key=lambda row: (not row.passed, not row.ill_conditioned, row.margin))

    def to_json(self) -> dict[str, object]:
        """The same facts as JSON values; figures that are not finite are text."""
        return {
            "recurrence": self.recurrence,
            "dtype": self.dtype,
            "passed": self.passed,
            "judged": self.judged,
            "ill_conditioned": self.ill_conditioned,
            "skipped": self.skipped,
            "rows": [{k: _plain(v) for k, v in asdict(row).items()} for row in self.rows],
        }


def _plain(value: object) -> object:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _cells(row: Row) -> tuple[str, ...]:
    status = "ill-conditioned" if row.ill_conditioned else "ok" if row.passed else "FAILED"
    note = f"{status}: {row.note}" if row.note else status
    return (row.case, row.tensor, row.rule, f"{row.error:.1e}", f"{row.bound:.1e}", note)


def _aligned(table: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in table
    ]
