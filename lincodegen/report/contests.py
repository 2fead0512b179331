"""Results of ``lincodegen bench`` as bars and tables: an op beside its peers on one machine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lincodegen.report.charts import Bar, Words, bar_chart
from lincodegen.report.tables import MISSING, Table, figure, scaled, table

if TYPE_CHECKING:
    from markupsafe import Markup

OURS = "lincodegen"
KEYS = frozenset({"schema", "rows", "limits", "provenance", "growth"})
"""What tells a result of ``lincodegen bench`` from other files."""
TIMINGS = {"call": "whole call", "kernels": "kernels alone"}

_CALLS = ("call", "who", "ms", "20-80 %", "ratio", "error", "of copying", "of products")
_GROWTH = ("mode", "who", "tokens", "exponent", "of the longer half")

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Contest:
    """An op and its peers in one run.

    Attributes:
        charts: the longest call of each mode that a peer was timed with, and its bars.
        absent: who has no time, and why.
        left: how many calls the time did not reach.
    """

    file: str
    machine: str
    software: str
    rates: str
    charts: tuple[tuple[str, Markup], ...]
    calls: Table
    growth: Table | None
    absent: tuple[str, ...]
    left: int


def contest(file: str, key: str, data: Mapping[str, Any], op: str) -> Contest | None:
    """What a result says of an op; None if it says nothing.

    Raises:
        KeyError, TypeError, ValueError: it has another form.
    """
    rows = [row for row in data["rows"] if row["op"] == op]
    timed = [row for row in rows if row["seconds"] is not None]
    if not timed:
        return None
    copying, products = (data["limits"][n] for n in ("bandwidth", "matmul"))
    rates = f"copies {scaled(copying, 'B/s')}, products {scaled(products, 'FLOP/s')}"
    fits = [fit for fit in data["growth"] if fit["op"] == op]
    return Contest(
        file,
        _machine(data["provenance"], str(data["dtype"])),
        _software(data["provenance"]),
        rates,
        tuple(_charts(key, timed)),
        table(_CALLS, map(_call_row, timed), (0, 1)),
        table(_GROWTH, map(_growth_row, fits), (0, 1)) if fits else None,
        tuple(dict.fromkeys(_absence(row) for row in rows if row["seconds"] is None)),
        sum(text.startswith(f"{op},") for text in data["left"]),
    )


def _machine(provenance: Mapping[str, Any], dtype: str) -> str:
    threads = provenance["threads"]
    cpu = f"{provenance['cpu']}, {threads} thread{'s' if threads != 1 else ''}"
    return f"{provenance.get('gpu') or cpu}, {dtype}"


def _software(provenance: Mapping[str, Any]) -> str:
    packages = ", ".join(f"{k} {v}" for k, v in provenance["packages"].items())
    day, commit = str(provenance["date"])[:10], str(provenance["commit"])[:12]
    return f"{packages}; commit {commit}, {day}"


def _what(row: Row) -> str:
    return f"{row['mode'].replace('_', ' and ')}, {TIMINGS.get(row['timing'], row['timing'])}"


def _sizes(row: Row) -> str:
    shape = row["shape"]
    keys = f" ({shape['key_heads']} of keys)" if shape["key_heads"] else ""
    dims = "".join(f", {name} = {size}" for name, size in shape["dims"].items())
    return (
        f"{shape['batch']} × {shape['tokens']:,} tokens, {shape['heads']} heads{keys}, "
        f"{shape['size']} channels{dims}"
    )


def _letters(row: Row) -> str:
    """The sizes in short."""
    shape = row["shape"]
    heads = f"{shape['key_heads']}/{shape['heads']}" if shape["key_heads"] else shape["heads"]
    dims = "".join(f" {name}{size}" for name, size in shape["dims"].items())
    return f"B{shape['batch']} T{shape['tokens']} H{heads} {shape['size']}{dims}"


def _charts(key: str, rows: Sequence[Row]) -> Iterable[tuple[str, Markup]]:
    """Of every mode and timing the longest call that somebody else was timed with, too."""
    groups: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        groups.setdefault(_what(row), {}).setdefault(_sizes(row), []).append(row)
    for number, (what, calls) in enumerate(groups.items()):
        shared = [found for found in calls.values() if len(found) > 1] or list(calls.values())
        longest = max(shared, key=lambda found: _tokens(found[0]))
        bars = [_bar(row) for row in longest]
        listed = "; ".join(f"{bar.label} {bar.shown}" for bar in bars)
        title = f"{what}: {_sizes(longest[0])}"
        words = Words(f"{key}-{number}", f"Measured times of {title}", f"{listed}.")
        yield title, bar_chart(words, bars)


def _tokens(row: Row) -> int:
    return row["shape"]["batch"] * row["shape"]["tokens"]


def _bar(row: Row) -> Bar:
    seconds = float(row["seconds"]["median"])
    ratio = "" if row["ratio"] is None else f", {figure(row['ratio'])} ×"
    wrong = ", wrong" if row["status"] == "wrong" else ""
    kind = "ours" if row["contestant"] == OURS else "peer"
    return Bar(row["contestant"], seconds, f"{_ms(seconds)} ms{ratio}{wrong}", kind)


def _ms(seconds: float) -> str:
    return figure(1e3 * seconds)


def _call_row(row: Row) -> tuple[str, ...]:
    seconds, error = row["seconds"], row["error"]
    spread = f"{_ms(seconds['p20'])}-{_ms(seconds['p80'])}"
    ratio = MISSING if row["ratio"] is None else f"{row['ratio']:.2f}"
    shares = (row["of_bandwidth"], row["of_matmul"])
    return (
        f"{row['mode'].replace('_', ' + ')}, {row['timing']}, {_letters(row)}",
        row["contestant"],
        _ms(seconds["median"]),
        spread,
        ratio,
        # infinite errors are text
        f"{float(error['worst']):.1e}" + (" wrong" if row["status"] == "wrong" else ""),
        *(MISSING if share is None else f"{share:.1%}" for share in shares),
    )


def _growth_row(fit: Mapping[str, Any]) -> tuple[str, ...]:
    lengths = f"{fit['tokens'][0]:,} to {fit['tokens'][-1]:,}"
    figures = (f"{fit['exponent']:.2f}", f"{fit['tail']:.2f}")
    return (_what(fit), fit["contestant"], lengths, *figures)


def _absence(row: Row) -> str:
    return f"{row['contestant']}: {row['status']}, {row['reason']}"
