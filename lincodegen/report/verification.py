"""A verdict as the page shows it: the worst comparison of every case."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lincodegen.errors import ReportError
from lincodegen.report.tables import Table, table
from lincodegen.verify.verdict import Row, Verdict

_HEAD = ("case", "comparisons", "worst tensor", "error", "bound", "share of the bound", "result")


@dataclass(frozen=True, slots=True)
class Verification:
    """How an op compares with its recurrence."""

    passed: bool
    dtype: str
    judged: int
    cases: int
    failed: int
    ill_conditioned: int
    skipped: int
    rows: Table


def verification_view(verdict: Verdict) -> Verification:
    """The table of a verdict."""
    cases: dict[str, list[Row]] = {}
    for row in verdict.rows:
        cases.setdefault(row.case, []).append(row)
    rows = [_row(case, found) for case, found in cases.items()]
    return Verification(
        verdict.passed,
        verdict.dtype,
        verdict.judged,
        len(cases),
        len(verdict.failures),
        verdict.ill_conditioned,
        verdict.skipped,
        table(_HEAD, rows, (0, 2, 6)),
    )


def read_verdict(path: Path, op: str) -> Verdict:
    """The verdict that ``lincodegen verify --json`` printed into a file.

    Raises:
        ReportError: the file holds none, or that of another op.
    """
    try:
        verdict = _verdict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError) as error:
        raise ReportError(
            f"{path} holds no verdict; expected what `lincodegen verify {op} --json` prints."
        ) from error
    if verdict.recurrence != op:
        raise ReportError(f"{path} is the verdict of {verdict.recurrence}; expected {op}.")
    return verdict


def _verdict(value: Mapping[str, Any]) -> Verdict:
    return Verdict(
        str(value["recurrence"]),
        str(value["dtype"]),
        tuple(_read_row(row) for row in value["rows"]),
        int(str(value["skipped"])),
    )


def _read_row(row: Mapping[str, Any]) -> Row:
    return Row(
        str(row["case"]),
        str(row["tensor"]),
        str(row["rule"]),
        # figures that are not finite are text
        float(str(row["error"])),
        float(str(row["bound"])),
        row["passed"] is True,
        row["ill_conditioned"] is True,
        str(row["note"]),
    )


def _row(case: str, rows: Sequence[Row]) -> tuple[str, ...]:
    worst = max(rows, key=lambda r: (not r.passed, not r.ill_conditioned, r.margin))
    result = "ill-conditioned" if worst.ill_conditioned else "ok" if worst.passed else "FAILED"
    note = f"{result}: {worst.note}" if worst.note else result
    figures = (f"{worst.error:.1e}", f"{worst.bound:.1e}", f"{worst.margin:.0%}")
    return (case, str(len(rows)), worst.tensor, *figures, note)
