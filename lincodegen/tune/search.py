"""The search for the fastest point of a space within a number of trials.

Points are tuples of values, one for each ordinal parameter. Where the trials cover the space
every point is tried; else Optuna's tree-structured Parzen estimator proposes, and where Optuna is
missing a random order. What is on record
is answered from there: a search that was interrupted runs again with its seed, proposes the same
points and goes on where it ended.
"""

from __future__ import annotations

import importlib.util
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from lincodegen.errors import TuningError
from lincodegen.schedule.space import Parameter

if TYPE_CHECKING:
    import optuna

Point = tuple[int, ...]
Measure = Callable[[Point], float | None]
"""Seconds that a point takes; None where it may not be used."""

STARTUP = 8
"""Trials before the estimator takes over."""
_REPEATS = 10
"""Proposals in a row that are known; then the nearest unknown point is taken."""
_PENALTY = 10.0


@dataclass(frozen=True, slots=True)
class Space:
    """The admissible points of ordinal parameters."""

    parameters: tuple[Parameter, ...]
    points: tuple[Point, ...]

    @staticmethod
    def of(parameters: Sequence[Parameter], admits: Callable[[Point], bool]) -> Space:
        """All points that are admitted, the last parameter fastest."""
        every = product(*(p.values for p in parameters))
        return Space(tuple(parameters), tuple(point for point in every if admits(point)))

    def ranks(self, point: Point) -> tuple[int, ...]:
        """The places of a point's values among those of their parameters."""
        return tuple(p.values.index(x) for p, x in zip(self.parameters, point, strict=True))

    def nearest(self, point: Point, left: Sequence[Point]) -> Point:
        """Of the points that are left, one with the fewest steps to a point."""
        here = self.ranks(point)

        def steps(other: Point) -> tuple[int, Point]:
            there = self.ranks(other)
            return sum(abs(a - b) for a, b in zip(here, there, strict=True)), there

        return min(left, key=steps)


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to search.

    Attributes:
        trials: most points that are tried, those on record included.
        seed: of the proposals.
        until: when no further point is measured, as ``time.monotonic`` has it; what is on record
            is still looked at.
    """

    trials: int = 60
    seed: int = 0
    until: float = math.inf


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found.

    Attributes:
        best: the fastest usable point; None where there is none.
        tried: the points in the order in which they were tried, with their seconds.
        measured: how many of them were not on record.
        how: by which the points were proposed: ``exhaustive``, ``estimator`` or ``random``.
        cut_off: whether the time was over before the trials were used up.
    """

    best: Point | None
    tried: Mapping[Point, float | None]
    measured: int
    how: str
    cut_off: bool


def search(
    space: Space,
    measure: Measure,
    effort: Effort,
    *,
    known: Mapping[Point, float | None],
    starts: Sequence[Point] = (),
) -> Found:
    """The fastest point that was tried.

    Args:
        space: the points to choose from.
        measure: times one of them.
        effort: trials and seed.
        known: points on record; they cost nothing.
        starts: tried first, as the best of another device or size.

    Raises:
        TuningError: the space is empty.
    """
    if not space.points:
        raise TuningError("no configuration is left to search")
    run = _Run(space, measure, dict(known), effort.until)
    admissible = set(space.points)
    how, cut_off = "exhaustive", False
    try:
        for point in [p for p in starts if p in admissible][: effort.trials]:
            run.value(point)
        if effort.trials >= len(space.points):
            for point in space.points:
                run.value(point)
        elif importlib.util.find_spec("optuna") is None:
            how = "random"
            _draw(run, effort)
        else:
            how = "estimator"
            _propose(run, effort)
    except TimeIsUp:
        cut_off = True
    usable = {p: t for p, t in run.tried.items() if t is not None}
    best = min(usable, key=lambda p: (usable[p], space.ranks(p)), default=None)
    return Found(best, run.tried, run.measured, how, cut_off)


def transferred(
    landscapes: Sequence[Mapping[Point, float | None]], count: int
) -> tuple[Point, ...]:
    """Starts from other devices or sizes: the best of each, then the second best, and so on."""
    ranked = [
        sorted((p for p, t in known.items() if t is not None), key=lambda p, k=known: (k[p], p))
        for known in landscapes
    ]
    longest = max(map(len, ranked), default=0)
    turns = [points[i] for i in range(longest) for points in ranked if i < len(points)]
    return tuple(dict.fromkeys(turns))[:count]


class TimeIsUp(Exception):
    """The time is over before a point is measured; the search ends with what it has."""


class _Run:
    """Points that were tried, each measured once."""

    def __init__(
        self, space: Space, measure: Measure, known: dict[Point, float | None], until: float
    ) -> None:
        self.space, self._measure, self._known, self._until = space, measure, known, until
        self.tried: dict[Point, float | None] = {}
        self.measured = 0

    def value(self, point: Point) -> float | None:
        """Its seconds, from the record if they are there."""
        if point not in self._known:
            if time.monotonic() >= self._until:
                raise TimeIsUp
            self._known[point] = self._measure(point)
            self.measured += 1
        self.tried[point] = self._known[point]
        return self.tried[point]


def _draw(run: _Run, effort: Effort) -> None:
    """Tries points in a random order: where Optuna is missing, as on a machine without network."""
    left = [point for point in run.space.points if point not in run.tried]
    random.Random(effort.seed).shuffle(left)
    for point in left[: max(0, effort.trials - len(run.tried))]:
        run.value(point)


def _propose(run: _Run, effort: Effort) -> None:
    """Tries what the estimator proposes until the trials are used up."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=effort.seed, n_startup_trials=STARTUP)
    study = optuna.create_study(sampler=sampler)
    space = run.space
    distributions: dict[str, Any] = {
        p.name: optuna.distributions.IntDistribution(0, len(p.values) - 1) for p in space.parameters
    }
    for point, value in run.tried.items():
        study.add_trial(_told(space, distributions, point, value))
    admissible = set(space.points)
    repeats = 0
    while len(run.tried) < effort.trials:
        trial = study.ask(distributions)
        point = tuple(p.values[trial.params[p.name]] for p in space.parameters)
        repeats = repeats + 1 if point in run.tried else 0
        if point in run.tried and repeats <= _REPEATS:
            _tell(trial, study, run.tried[point])
            continue
        if point in admissible and point not in run.tried:
            _tell(trial, study, run.value(point))
            continue
        # what breaks a limit says nothing about times: the nearest point stands in for it
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        near = space.nearest(point, [p for p in space.points if p not in run.tried])
        study.add_trial(_told(space, distributions, near, run.value(near)))


def _objective(value: float | None) -> float:
    """Relative differences count; a point that may not be used is worse than any."""
    return math.log(_PENALTY if value is None else max(value, 1e-12))


def _tell(trial: optuna.Trial, study: optuna.Study, value: float | None) -> None:
    trial.set_constraint("usable", 1.0 if value is None else -1.0)
    study.tell(trial, _objective(value))


def _told(
    space: Space,
    distributions: Mapping[str, Any],
    point: Point,
    value: float | None,
) -> optuna.trial.FrozenTrial:
    from optuna.trial import create_trial

    names = (p.name for p in space.parameters)
    return create_trial(
        params=dict(zip(names, space.ranks(point), strict=True)),
        distributions=dict(distributions),
        value=_objective(value),
        constraints={"usable": 1.0 if value is None else -1.0},
    )
