"""The history of tuning: what was tried on a device, how fast it was, and what mattered.

Records are lines of JSON in files ``*.jsonl``; of each the page uses

    {"record": {"op": ..., "bucket": ..., "config": {"chunk_size": ..., "kernels": {...}},
                "gate": {"verdict": ...}, "times": null or {"median": seconds},
                "provenance": {"device": ..., "time": seconds since 1970}}}
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna.distributions import CategoricalDistribution
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.logging import WARNING, get_verbosity, set_verbosity
from optuna.study import Study, create_study
from optuna.trial import FrozenTrial, create_trial

from lincodegen.report.charts import Bar, Words, bar_chart, dot_chart
from lincodegen.report.tables import Table, milliseconds, table

if TYPE_CHECKING:
    from markupsafe import Markup

PASSED = "passed"
BEST = 0.25
"""The part of the timed configurations that counts as fast."""
LEAST_TRIALS = 8
"""Timed configurations from which on the importance of a parameter says anything."""

Choices = Mapping[str, str | int]


@dataclass(frozen=True, slots=True)
class Trial:
    """One configuration that was tried; ``seconds`` None: it was not timed."""

    device: str
    bucket: str
    time: float
    verdict: str
    seconds: float | None
    choices: Choices


@dataclass(frozen=True, slots=True)
class Tuning:
    """The trials of one class of calls on one device; ``importance`` None: too few were timed."""

    device: str
    bucket: str
    trials: int
    refused: int
    best: str
    history: Markup
    importance: Markup | None
    choices: Table


def tuning_history(folder: Path | None, op: str) -> tuple[Tuning, ...]:
    """What a folder has of an op, by device and class of calls; none without a folder."""
    groups: dict[tuple[str, str], list[Trial]] = {}
    for trial in _trials(folder, op) if folder else ():
        groups.setdefault((trial.device, trial.bucket), []).append(trial)
    timed = [g for _, g in sorted(groups.items()) if any(t.seconds is not None for t in g)]
    return tuple(_tuning(f"tune{i}", trials) for i, trials in enumerate(timed))


def _trials(folder: Path, op: str) -> Iterator[Trial]:
    for path in sorted(folder.rglob("*.jsonl")):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                record = json.loads(line)["record"]
                trial = _trial(record)
            except (ValueError, KeyError, TypeError, AttributeError):
                # a writer that was killed leaves half a line
                continue
            if record["op"] == op:
                yield trial


def _trial(record: Mapping[str, Any]) -> Trial:
    times, place = record["times"], record["provenance"]
    choices = dict(_choices(record["config"]))
    verdict = str(record["gate"]["verdict"])
    seconds = float(times["median"]) if times is not None and verdict == PASSED else None
    device, bucket = str(place["device"]), str(record["bucket"])
    return Trial(device, bucket, float(place["time"]), verdict, seconds, choices)


def _choices(config: Mapping[str, Any]) -> Iterator[tuple[str, str | int]]:
    yield "chunk_size", config["chunk_size"]
    if config.get("schedule") is not None:
        yield "schedule", config["schedule"]
    for label, kernel in config["kernels"].items():
        for name, value in kernel.items():
            yield f"{label} {name}", value


# -- one class of calls -----------------------------------------------------------------------


def _tuning(key: str, trials: list[Trial]) -> Tuning:
    trials = sorted(trials, key=lambda t: t.time)
    timed = [(t, t.seconds) for t in trials if t.seconds is not None]
    best, seconds = min(timed, key=lambda pair: pair[1])
    return Tuning(
        best.device,
        best.bucket,
        len(trials),
        sum(t.verdict != PASSED for t in trials),
        milliseconds(seconds),
        _history(key, [s for _, s in timed]),
        _importance(f"{key}-importance", timed),
        table(("parameter", "best"), [(k, str(v)) for k, v in best.choices.items()], (0,)),
    )


def _history(key: str, seconds: Sequence[float]) -> Markup:
    listed = f"{len(seconds)} timed configurations, the best {milliseconds(min(seconds))} ms."
    words = Words(key, "Measured time of every configuration in the order of trial", listed)
    return dot_chart(words, [s * 1e3 for s in seconds], "ms")


def _importance(key: str, timed: Sequence[tuple[Trial, float]]) -> Markup | None:
    shares = importances(timed)
    if not shares:
        return None
    bars = [Bar(name, share, f"{share:.0%}", "ours") for name, share in shares.items()]
    listed = "; ".join(f"{bar.label} {bar.shown}" for bar in bars)
    return bar_chart(Words(key, "Importance of every parameter", f"{listed}."), bars)


def importances(timed: Sequence[tuple[Trial, float]]) -> Mapping[str, float]:
    """How much each parameter that varied decides whether a time is among the fastest.

    Shares of 1, by PED-ANOVA over the timed configurations; empty where they are fewer than
    `LEAST_TRIALS`.
    """
    if len(timed) < LEAST_TRIALS:
        return {}
    names = [n for n in timed[0][0].choices if len({t.choices.get(n) for t, _ in timed}) > 1]
    if not names:
        return {}
    spaces = {n: _space(t.choices.get(n) for t, _ in timed) for n in names}
    evaluator = PedAnovaImportanceEvaluator(target_quantile=BEST)
    study = _quiet_study()
    study.add_trials([_frozen(t, seconds, spaces) for t, seconds in timed])
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


def _frozen(
    trial: Trial, seconds: float, spaces: Mapping[str, CategoricalDistribution]
) -> FrozenTrial:
    params = {name: trial.choices.get(name) for name in spaces}
    return create_trial(params=params, distributions=dict(spaces), value=seconds)
