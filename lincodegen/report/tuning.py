"""The history of tuning: what was tried on a device, how fast it was, and what mattered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from optuna.distributions import CategoricalDistribution
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.logging import WARNING, get_verbosity, set_verbosity
from optuna.study import Study, create_study
from optuna.trial import FrozenTrial, create_trial

from lincodegen.config import OpConfig
from lincodegen.report.charts import Bar, Words, bar_chart, dot_chart
from lincodegen.report.tables import Table, milliseconds, table
from lincodegen.tune.journal import read_records
from lincodegen.tune.records import Record

if TYPE_CHECKING:
    from markupsafe import Markup

BEST = 0.25
"""The part of the timed configurations that counts as fast."""
LEAST_TRIALS = 8
"""Timed configurations from which on the importance of a parameter says anything."""

Choices = Mapping[str, str | int]

_SHARED = ("precision", "inverse")
"""What all kernels of a configuration have in common."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A configuration that passed the gate, by parameter, and its median time of ``runs`` runs."""

    choices: Choices
    seconds: float
    runs: int


@dataclass(frozen=True, slots=True)
class Tuning:
    """The trials of one class of calls on one device; ``importance`` None: too few were timed."""

    device: str
    bucket: str
    tried: int
    refused: int
    best: str
    history: Markup
    importance: Markup | None
    choices: Table


def tuning_history(folder: Path | None, op: str) -> tuple[Tuning, ...]:
    """What a folder of records has of an op, by device and class of calls.

    Records of an earlier text of the op are left out, and classes of which nothing was timed.
    """
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in read_records(folder).records if folder else ():
        if record.op == op:
            key = record.provenance.device, str(record.bucket)
            groups.setdefault(key, []).append(record)
    latest = [_of_last_text(records) for _, records in sorted(groups.items())]
    timed = [records for records in latest if any(r.usable for r in records)]
    return tuple(_tuning(f"tune{i}", records) for i, records in enumerate(timed))


def _of_last_text(records: Sequence[Record]) -> list[Record]:
    code = records[-1].provenance.code
    return [record for record in records if record.provenance.code == code]


# -- one class of calls -----------------------------------------------------------------------


def _tuning(key: str, records: Sequence[Record]) -> Tuning:
    """Of several records of a configuration the last counts; the best are those of most runs."""
    last = {record.config: record for record in records}
    timed = [trial for record in last.values() for trial in _trial(record)]
    most = max(trial.runs for trial in timed)
    best = min((t for t in timed if t.runs == most), key=lambda t: t.seconds)
    return Tuning(
        records[0].provenance.device,
        str(records[0].bucket),
        len(last),
        sum(not record.gate.passed for record in last.values()),
        milliseconds(best.seconds),
        _history(key, [trial.seconds for trial in timed]),
        _importance(f"{key}-importance", timed),
        table(("parameter", "best"), [(k, str(v)) for k, v in best.choices.items()]),
    )


def _trial(record: Record) -> Iterator[Trial]:
    if record.gate.passed and record.times is not None:
        yield Trial(dict(_choices(record.config)), record.times.median, record.times.runs)


def _choices(config: OpConfig) -> Iterator[tuple[str, str | int]]:
    yield "chunk_size", config.chunk_size
    if config.scanning:
        yield "schedule", config.scanning
    if config.schedule == "split":
        yield "keep", config.keep
    for name in _SHARED:
        found = {value for _, c in config.kernels if (value := getattr(c, name)) is not None}
        if found:
            yield name, " ".join(sorted(found))
    for label, kernel in config.kernels:
        for name, value in kernel.to_json().items():
            if name not in _SHARED:
                yield f"{label} {name}", value


def _history(key: str, seconds: Sequence[float]) -> Markup:
    listed = f"{len(seconds)} timed configurations, the best {milliseconds(min(seconds))} ms."
    words = Words(key, "Measured time of every configuration in the order of trial", listed)
    return dot_chart(words, [s * 1e3 for s in seconds], "ms")


def _importance(key: str, timed: Sequence[Trial]) -> Markup | None:
    shares = importances(timed)
    if not shares:
        return None
    bars = [Bar(name, share, f"{share:.0%}", "ours") for name, share in shares.items()]
    listed = "; ".join(f"{bar.label} {bar.shown}" for bar in bars)
    return bar_chart(Words(key, "Importance of every parameter", f"{listed}."), bars)


def importances(timed: Sequence[Trial]) -> Mapping[str, float]:
    """How much each parameter that varied decides whether a time is among the fastest.

    Shares of 1, by PED-ANOVA over the timed configurations; empty where they are fewer than
    `LEAST_TRIALS`.
    """
    if len(timed) < LEAST_TRIALS:
        return {}
    every = dict.fromkeys(n for t in timed for n in t.choices)
    names = [n for n in every if len({t.choices.get(n) for t in timed}) > 1]
    if not names:
        return {}
    spaces = {n: _space(t.choices.get(n) for t in timed) for n in names}
    study = _quiet_study()
    study.add_trials([_frozen(t, spaces) for t in timed])
    evaluator = PedAnovaImportanceEvaluator(target_quantile=BEST)
    found = get_param_importances(study, evaluator=evaluator)
    return {n: share for n, share in found.items() if share > 0}


def _quiet_study() -> Study:
    """A study in memory, whose making is not announced."""
    level = get_verbosity()
    set_verbosity(WARNING)
    try:
        return create_study()
    finally:
        set_verbosity(level)


def _space(values: Iterable[str | int | None]) -> CategoricalDistribution:
    return CategoricalDistribution(sorted(dict.fromkeys(values), key=str))


def _frozen(trial: Trial, spaces: Mapping[str, CategoricalDistribution]) -> FrozenTrial:
    params = {name: trial.choices.get(name) for name in spaces}
    return create_trial(params=params, distributions=dict(spaces), value=trial.seconds)
