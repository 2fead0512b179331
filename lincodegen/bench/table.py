"""A record as tables: one a work and timing, then how time grows, then what changed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.markup import escape
from rich.table import Table

from lincodegen.bench.compare import Comparison
from lincodegen.bench.record import Record, Row

if TYPE_CHECKING:
    from rich.console import Console

COLUMNS = ("", "ms", "20-80 %", "ratio", "error", "of copy", "of matmul", "")


def show(record: Record, console: Console) -> None:
    """Prints a record."""
    console.print(_head(record), markup=False, highlight=False)
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in record.rows:
        groups.setdefault(row.key[:-1], []).append(row)
    for rows in groups.values():
        console.print(_work_table(rows))
    if record.growth:
        console.print(_growth_table(record))
    if record.left:
        console.print(f"not measured: {len(record.left)} works, the first {record.left[0]}")


def show_comparison(comparison: Comparison, console: Console) -> None:
    """Prints what changed, and what makes it doubtful."""
    table = Table(title="against the base: new time over old", title_justify="left", box=box.SIMPLE)
    for column in ("op", "mode", "sizes", "timing", "who", "ratio", "verdict"):
        table.add_column(column)
    for change in comparison.changes:
        row = change.row
        ratio = "" if change.ratio is None else f"{change.ratio:.2f}"
        cells = (row.op, row.mode, _sizes(row), row.timing, row.contestant, ratio, change.verdict)
        table.add_row(*map(escape, cells), style="red" if change.fails else None)
    console.print(table)
    for note in comparison.notes:
        console.print(f"note: {note}", markup=False)


def _head(record: Record) -> str:
    origin, limits = record.provenance, record.limits
    versions = ", ".join(f"{name} {version}" for name, version in origin["packages"].items())
    return (
        f"{origin.get('gpu') or origin['cpu']}, {record.dtype}, {origin['threads']} threads; "
        f"{versions}; load {origin['load_before']} before, {origin.get('load_after', '?')} after\n"
        f"measured here: copy {limits['bandwidth'] / 1e9:.1f} GB/s, "
        f"matrix products {limits['matmul'] / 1e12:.3g} TFLOP/s; ratio: time over ours\n"
        f"error: norm over that of the float64 recurrence, worst tensor{_compared(record)}"
    )


def _compared(record: Record) -> str:
    """Over how many tokens."""
    tokens = {row.error["tokens"] for row in record.rows if row.error is not None}
    return f", first {max(tokens)} tokens at most" if tokens else ""


def _work_table(rows: Sequence[Row]) -> Table:
    first = rows[0]
    what = f"{first.op}, {first.mode.replace('_', ' and ')}, {_sizes(first)}, {first.timing}"
    table = Table(title=escape(what), title_justify="left", box=box.SIMPLE)
    for index, column in enumerate(COLUMNS):
        last = index == len(COLUMNS) - 1
        justify = "left" if last or not index else "right"
        table.add_column(column, justify=justify, no_wrap=not last)
    for row in rows:
        if row.status != "not installed":
            table.add_row(*map(escape, _cells(row)), style="red" if row.status == "wrong" else None)
    missing = [row.contestant for row in rows if row.status == "not installed"]
    if missing:
        table.caption = escape(f"not installed: {', '.join(missing)}")
    return table


def _cells(row: Row) -> tuple[str, ...]:
    error = "" if row.error is None else f"{float(row.error['worst']):.1e}"
    status = "" if row.status == "ok" else f"{row.status}: {row.reason}"
    if row.seconds is None:
        return row.contestant, "", "", "", error, "", "", status
    p20, p80 = 1e3 * row.seconds["p20"], 1e3 * row.seconds["p80"]
    return (
        row.contestant,
        _figure(1e3 * row.seconds["median"]),
        f"{_figure(p20)}-{_figure(p80)}",
        "" if row.ratio is None else f"{row.ratio:.2f}",
        error,
        _percent(row.of_bandwidth),
        _percent(row.of_matmul),
        status,
    )


def _growth_table(record: Record) -> Table:
    table = Table(title="time as a power of T", title_justify="left", box=box.SIMPLE)
    for column in ("op", "mode", "timing", "who", "T", "exponent", "of the longer half"):
        table.add_column(column)
    for fit in record.growth:
        lengths = f"{fit['tokens'][0]}-{fit['tokens'][-1]}"
        cells = (fit["op"], fit["mode"], fit["timing"], fit["contestant"], lengths)
        table.add_row(*map(escape, cells), f"{fit['exponent']:.2f}", f"{fit['tail']:.2f}")
    return table


def _sizes(row: Row) -> str:
    shape = row.shape
    keys = f"{shape['key_heads']}/" if shape["key_heads"] else ""
    dims: Iterable[str] = (f" {name}{size}" for name, size in shape["dims"].items())
    head = f"B{shape['batch']} T{shape['tokens']} H{keys}{shape['heads']} {shape['size']}"
    return head + "".join(dims)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"


def _figure(value: float) -> str:
    """Three digits, without an exponent where the number is large."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
