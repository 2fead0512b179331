"""The choice among configurations, on devices whose times are made up."""

import random

import pytest

from lincodegen.config import OpConfig
from lincodegen.errors import TuningError
from lincodegen.tune.measure import Protocol, choose, pick, times_of
from lincodegen.tune.records import Resources, Times

SIZES = (16, 32, 64, 128, 256)
CONFIGS = {size: OpConfig(size) for size in SIZES}
NEEDS = {config: Resources(1000 * size, 64, 0) for size, config in CONFIGS.items()}


class Device:
    """Runs that take the seconds given, times noise, and what they do over time."""

    def __init__(self, seconds, seed=0, noise=0.0, drift=0.0):
        self.seconds, self.noise, self.drift = seconds, noise, drift
        self.random = random.Random(seed)
        self.runs = 0
        self.asked = []

    def __call__(self, config, repeats):
        self.asked.append(config.chunk_size)
        found = []
        for _ in range(repeats):
            self.runs += 1
            slow = 1.0 + self.drift * self.runs
            jitter = self.random.lognormvariate(0.0, self.noise) if self.noise else 1.0
            found.append(self.seconds[config.chunk_size] * slow * jitter)
        return found


def chosen(device, needs=NEEDS, **protocol):
    return choose(needs, device, Protocol(**protocol)).best.chunk_size


def test_quantiles():
    assert times_of([3.0, 1.0, 2.0, 5.0, 4.0, 6.0]) == Times(2.0, 3.5, 5.0, 6)
    assert times_of([2.0]) == Times(2.0, 2.0, 2.0, 1)


def test_the_fastest_wins():
    assert chosen(Device({16: 5.0, 32: 3.0, 64: 2.0, 128: 2.2, 256: 4.0})) == 64


@pytest.mark.parametrize(("ratio", "expected"), [(1.019, 16), (1.021, 128)])
def test_inside_the_band_the_one_that_needs_least_wins(ratio, expected):
    device = Device({16: ratio, 32: 2.0, 64: 2.0, 128: 1.001, 256: 1.0})
    assert chosen(device) == expected


def test_equal_needs_are_told_apart_by_their_values():
    needs = dict.fromkeys(NEEDS, Resources(0, 0, 0))
    device = Device(dict.fromkeys(SIZES, 1.0))
    assert chosen(device, needs) == 16
    assert chosen(device, dict(reversed(needs.items()))) == 16


def test_reruns_agree_on_a_noisy_device():
    """Five within one percent, 3 % noise a run: every one of 60 runs picks the same."""
    seconds = {16: 1.008, 32: 1.006, 64: 1.0, 128: 1.004, 256: 1.002}
    picks = [chosen(Device(seconds, seed, noise=0.03), rounds=10) for seed in range(60)]
    argmin = []
    for seed in range(60):
        device = Device(seconds, seed, noise=0.03)
        argmin.append(min(SIZES, key=lambda s, d=device: min(d(CONFIGS[s], 10))))
    assert max(map(picks.count, set(picks))) >= 54
    assert max(map(argmin.count, set(argmin))) < 54


def test_a_drift_concerns_all_finalists_alike():
    """The device slows down by half while the tuner works."""
    seconds = {16: 1.10, 32: 1.12, 64: 1.0, 128: 1.15, 256: 1.20}
    assert chosen(Device(seconds, drift=0.004)) == 64


def test_only_those_near_the_best_are_timed_again():
    device = Device({16: 5.0, 32: 1.1, 64: 1.0, 128: 1.2, 256: 1.3})
    assert chosen(device) == 64
    counts = {size: device.asked.count(size) for size in SIZES}
    assert counts == {16: 1, 32: 6, 64: 6, 128: 6, 256: 1}


def test_a_win_that_was_a_glitch_does_not_last():
    """The clock shows a tenth for the first 30 runs of one candidate."""
    seconds = {16: 1.0, 32: 1.05, 64: 1.2, 128: 1.2, 256: 1.2}
    device = Device(seconds)
    glitches = [0]

    def sample(config, repeats):
        found = device(config, repeats)
        if config.chunk_size == 32 and glitches[0] < 30:
            glitches[0] += repeats
            return [x / 10 for x in found]
        return found

    choice = choose(NEEDS, sample, Protocol(within=20.0))
    assert choice.best.chunk_size == 16
    assert CONFIGS[32] in choice.confirmed
    assert choice.times[CONFIGS[32]].median == pytest.approx(1.05)


def test_a_win_that_is_real_is_confirmed_once():
    device = Device({16: 1.0, 32: 1.2, 64: 1.2, 128: 1.2, 256: 1.2})
    choice = choose(NEEDS, device)
    assert (choice.best.chunk_size, choice.confirmed) == (16, (CONFIGS[16],))


@pytest.mark.parametrize("when", [0, 1, 3])
def test_a_candidate_that_fails_is_not_chosen(when):
    device = Device({16: 1.0, 32: 1.1, 64: 1.2, 128: 1.2, 256: 1.2})

    def sample(config, repeats):
        if config.chunk_size == 16 and device.asked.count(16) >= when:
            raise TuningError("an illegal memory access")
        return device(config, repeats)

    choice = choose(NEEDS, sample)
    assert choice.best.chunk_size == 32
    assert choice.failed == {CONFIGS[16]: "an illegal memory access"}
    assert CONFIGS[16] not in choice.times


def test_where_all_fail_the_reason_is_told():
    def sample(config, repeats):
        raise TuningError("no device")

    with pytest.raises(TuningError, match=r"none of 5 .*: no device"):
        choose(NEEDS, sample)


def test_the_band_is_about_the_best():
    times = {CONFIGS[s]: Times(m, m, m, 5) for s, m in ((16, 1.03), (32, 1.015), (64, 1.0))}
    assert pick(times, NEEDS, 1.02) == CONFIGS[32]
    assert pick(times, NEEDS, 1.05) == CONFIGS[16]
    assert pick(times, NEEDS, 1.0) == CONFIGS[64]
