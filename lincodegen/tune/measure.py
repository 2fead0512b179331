"""Which of several configurations is the fastest, from times that are noisy.

All are screened by a few runs; those near the best are timed again in turns, so that a drift of
the clock concerns all of them alike; a win by more than is plausible is timed once more. Within a
narrow band of the best the one that needs least wins, so that two runs of the tuner agree.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from lincodegen.config import INVERSES, KEEPS, PRECISIONS, SCALES, Config, OpConfig
from lincodegen.errors import TuningError
from lincodegen.tune.records import Resources, Times

Sampler = Callable[[OpConfig, int], Sequence[float]]
"""Seconds of each of several runs of a configuration; `TuningError` where it fails."""


@dataclass(frozen=True, slots=True)
class Protocol:
    """How configurations are compared.

    Attributes:
        screen: runs of each at first.
        finalists: most that are timed again.
        within: how far from the best, as a factor, one may be screened to be a finalist.
        rounds: turns of the finalists.
        runs: runs of each in a turn.
        suspicious: a lead over the next, as a factor, that is timed again.
        band: how far from the best, as a factor, a configuration counts as equally fast.
    """

    screen: int = 5
    finalists: int = 6
    within: float = 1.25
    rounds: int = 5
    runs: int = 5
    suspicious: float = 1.15
    band: float = 1.02


USUAL = Protocol()


@dataclass(frozen=True, slots=True)
class Choice:
    """The winner and what was measured.

    Attributes:
        best: the configuration to use.
        times: of every configuration that could be timed.
        failed: why the others could not.
        confirmed: those whose lead was timed again.
    """

    best: OpConfig
    times: Mapping[OpConfig, Times]
    failed: Mapping[OpConfig, str]
    confirmed: tuple[OpConfig, ...]


def times_of(samples: Sequence[float]) -> Times:
    """Median and quantiles of samples, at least one."""
    if len(samples) == 1:
        return Times(samples[0], samples[0], samples[0], 1)
    p20, _, _, p80 = statistics.quantiles(samples, n=5, method="inclusive")
    return Times(p20, statistics.median(samples), p80, len(samples))


def choose(
    needs: Mapping[OpConfig, Resources], sample: Sampler, protocol: Protocol = USUAL
) -> Choice:
    """The fastest of the configurations that ``needs`` has the resources of.

    Only such as passed the gate belong here.

    Raises:
        TuningError: none of them can be timed.
    """
    failed: dict[OpConfig, str] = {}
    samples: dict[OpConfig, list[float]] = {}
    for config in sorted(needs, key=frugality(needs)):
        _add(samples, config, sample, protocol.screen, failed)
    if not samples:
        raise TuningError(f"none of {len(needs)} configurations can be timed: {_first(failed)}")
    finalists = _finalists(samples, protocol)
    kept = {config: list[float]() for config in finalists}
    for turn in range(protocol.rounds):
        for config in _turned(finalists, turn):
            if config not in failed:
                _add(kept, config, sample, protocol.runs, failed)
    times = {c: times_of(s) for c, s in (samples | kept).items() if c not in failed and s}
    left = {c: times[c] for c in finalists if c in times}
    confirmed = _confirm(left, sample, protocol, failed)
    times = {c: left.get(c, t) for c, t in times.items() if c not in failed}
    if not left:
        raise TuningError(f"no finalist can be timed: {_first(failed)}")
    best = pick(left, needs, protocol.band)
    return Choice(best, times, failed, confirmed)


def pick(
    times: Mapping[OpConfig, Times], needs: Mapping[OpConfig, Resources], band: float
) -> OpConfig:
    """Of those within the band of the least median, the one that needs least."""
    least = min(t.median for t in times.values())
    equal = [config for config, t in times.items() if t.median <= band * least]
    return min(equal, key=frugality(needs))


def frugality(needs: Mapping[OpConfig, Resources]) -> Callable[[OpConfig], tuple[object, ...]]:
    """A key: more exact products, less that is kept, less of a processor, then the values.

    Of the PyTorch form what leaves the threads of the process alone comes first.
    """

    def key(config: OpConfig) -> tuple[object, ...]:
        need = needs[config]
        values = [
            (label, c.num_warps, c.num_stages, c.tile_k, c.tile_v, c.descriptors, str(c))
            for label, c in config.kernels
        ]
        exact = max((_rounding(c) for _, c in config.kernels), default=())
        resources = need.shared_bytes, need.registers, need.stack_bytes
        own = config.torch
        form = () if own is None else (own.threads or 0, own.solve_block, own.block_elements)
        return (
            exact,
            KEEPS.index(config.keep),
            *resources,
            form,
            config.chunk_size,
            config.scanning,
            values,
        )

    return key


def _rounding(config: Config) -> tuple[int, int, int]:
    products = PRECISIONS.index(config.precision or PRECISIONS[0])
    inverse = INVERSES.index(config.inverse or INVERSES[0])
    return products, inverse, SCALES.index(config.scales or SCALES[0])


def _finalists(
    samples: Mapping[OpConfig, Sequence[float]], protocol: Protocol
) -> tuple[OpConfig, ...]:
    """The best by median, in the order of the screening; equal ones in that order too."""
    medians = {config: statistics.median(s) for config, s in samples.items()}
    least = min(medians.values())
    near = [config for config, median in medians.items() if median <= protocol.within * least]
    return tuple(sorted(near, key=medians.__getitem__)[: protocol.finalists])


def _turned(finalists: Sequence[OpConfig], turn: int) -> Iterable[OpConfig]:
    """Another one begins in each turn: none always follows the same neighbour's heat."""
    start = turn % len(finalists)
    return (*finalists[start:], *finalists[:start])


def _confirm(
    times: dict[OpConfig, Times], sample: Sampler, protocol: Protocol, failed: dict[OpConfig, str]
) -> tuple[OpConfig, ...]:
    """Times leaders again whose lead is suspicious; the slower figure counts."""
    confirmed: list[OpConfig] = []
    while len(times) > 1:
        first, second = sorted(times, key=lambda c: times[c].median)[:2]
        lead = times[second].median / max(times[first].median, 1e-12)
        if lead <= protocol.suspicious or first in confirmed:
            break
        confirmed.append(first)
        again: dict[OpConfig, list[float]] = {}
        _add(again, first, sample, protocol.rounds * protocol.runs, failed)
        if first in failed:
            del times[first]
        else:
            times[first] = max(times[first], times_of(again[first]), key=lambda t: t.median)
    return tuple(confirmed)


def _add(
    samples: dict[OpConfig, list[float]],
    config: OpConfig,
    sample: Sampler,
    runs: int,
    failed: dict[OpConfig, str],
) -> None:
    try:
        samples.setdefault(config, []).extend(sample(config, runs))
    except TuningError as error:
        samples.pop(config, None)
        failed[config] = str(error)


def _first(failed: Mapping[OpConfig, str]) -> str:
    return next(iter(failed.values()), "there is none")
