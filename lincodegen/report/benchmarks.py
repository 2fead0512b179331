"""Measured times as bars, from the files that the benchmarks wrote.

Results of ``lincodegen bench`` say of each row which op it is of. Another file is of an op if it
names it as its ``op``, or its name begins ``OP_vs_``: read are its ``times``, by phase and
implementation, its ``errors`` and where it was measured.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lincodegen.report.charts import Bar, Words, bar_chart
from lincodegen.report.contests import KEYS, OURS, Contest, contest
from lincodegen.report.tables import Table, milliseconds, table

if TYPE_CHECKING:
    from markupsafe import Markup

RATIO = "ratio"
ORACLE_TOKENS = "oracle_tokens"


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One result: bars of seconds, errors, and where it comes from."""

    file: str
    call: str
    error_tokens: int
    where: str
    chart: Markup
    errors: Table


@dataclass(frozen=True, slots=True)
class Benchmarks:
    """The results that concern an op, and the files of it that could not be read."""

    contests: tuple[Contest, ...]
    results: tuple[Benchmark, ...]
    unread: tuple[str, ...]


def benchmark_results(folder: Path | None, op: str) -> Benchmarks:
    """Every result of an op below a folder, by path; none without one."""
    if folder is None:
        return Benchmarks((), (), ())
    contests: list[Contest] = []
    results: list[Benchmark] = []
    unread: list[str] = []
    for path in sorted(folder.rglob("*.json")):
        name = path.relative_to(folder).as_posix()
        try:
            data: Any = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            data = None
        own = isinstance(data, dict) and data.keys() >= KEYS
        named = data.get("op") if isinstance(data, dict) else None
        if not own and named != op and not path.name.startswith(f"{op}_vs_"):
            continue
        try:
            if own:
                found = contest(name, f"contest{len(contests)}", data, op)
                contests += [] if found is None else [found]
            else:
                results.append(_benchmark(name, f"bench{len(results)}", data))
        except (ValueError, KeyError, TypeError, AttributeError):
            unread.append(name)
    return Benchmarks(tuple(contests), tuple(results), tuple(unread))


def _benchmark(name: str, key: str, data: Mapping[str, Any]) -> Benchmark:
    bars = list(_bars(data["times"]))
    listed = "; ".join(f"{bar.label} {bar.shown}" for bar in bars)
    words = Words(key, f"Measured times of {name}", f"{listed}.")
    shape: Mapping[str, int] = {k: v for k, v in data["shape"].items() if k != ORACLE_TOKENS}
    sizes = ", ".join(f"{k.replace('_', ' ')} {v:,}" for k, v in shape.items())
    errors: Mapping[str, Mapping[str, float]] = data["errors"]
    tensors = list(dict.fromkeys(t for found in errors.values() for t in found))
    rows = [(who, *(f"{found[t]:.1e}" for t in tensors)) for who, found in errors.items()]
    return Benchmark(
        name,
        f"{data['dtype']}; {sizes}",
        data["shape"].get(ORACLE_TOKENS, shape["tokens"]),
        _where(data["provenance"]),
        bar_chart(words, bars),
        table(("implementation", *tensors), rows),
    )


def _bars(times: Mapping[str, Mapping[str, Any]]) -> Iterator[Bar]:
    for phase, found in times.items():
        for who, timed in found.items():
            # beside the implementations stands the ratio of their times
            if who == RATIO:
                continue
            seconds = float(timed["median_s"])
            label = f"{phase.replace('_', ' + ')}, {who}"
            shown = f"{milliseconds(seconds)} ms"
            yield Bar(label, seconds, shown, "ours" if who == OURS else "peer")


def _where(provenance: Mapping[str, Any]) -> str:
    packages = ", ".join(f"{k} {v}" for k, v in provenance["packages"].items())
    date = str(provenance["date"])[:10]
    return (
        f"{provenance['cpu']}, {provenance['threads']} threads, {packages}, "
        f"commit {str(provenance['commit'])[:12]}, {date}"
    )
