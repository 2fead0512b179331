"""Verdicts ahead of the clock, and searches whose time is over."""

import importlib.util
import time
from contextlib import contextmanager

import pytest

from lincodegen.config import OpConfig
from lincodegen.errors import TuningError
from lincodegen.schedule.space import Parameter
from lincodegen.tune.ahead import Judged, judge_ahead
from lincodegen.tune.records import Gate
from lincodegen.tune.search import Effort, Space, TimeIsUp, search

PASSED = Gate("passed", "", 1, "ab")
LATE = Gate("timeout", "", 0, "")
CONFIGS = [OpConfig(16 << i) for i in range(5)]
SPACE = Space.of([Parameter("x", tuple(range(40)))], lambda _: True)


class Examiner:
    def __init__(self, gates=(), seconds=0.0, broken=False):
        self.gates, self.seconds, self.broken = dict(gates), seconds, broken
        self.judged = []

    def judge(self, config):
        self.judged.append(config)
        time.sleep(self.seconds)
        if self.broken:
            raise TuningError("no references")
        return self.gates.get(config, PASSED)

    def times(self, config, repeats):
        return [1.0] * repeats


def opened(examiners):
    left = list(examiners)

    @contextmanager
    def open_():
        yield left.pop()

    return open_


def later(seconds):
    return time.monotonic() + seconds


def test_several_examiners_share_the_candidates():
    crew = [Examiner({CONFIGS[2]: Gate("wrong", "", 1, "")}, 0.01) for _ in range(3)]
    found = judge_ahead([*CONFIGS, CONFIGS[0]], opened(crew), 3, later(60))
    assert {c: g.verdict for c, g in found.items() if not g.passed} == {CONFIGS[2]: "wrong"}
    assert found.keys() == set(CONFIGS)
    assert sum(len(e.judged) for e in crew) == len(CONFIGS)


def test_an_examiner_that_breaks_leaves_the_rest_to_the_others():
    crew = [Examiner(broken=True), Examiner(seconds=0.01)]
    found = judge_ahead(CONFIGS, opened(crew), 2, later(60))
    assert len(found) == len(CONFIGS) - 1


def test_what_was_cut_off_has_no_verdict():
    slow = Examiner(dict.fromkeys(CONFIGS, LATE), 0.05)
    assert judge_ahead(CONFIGS, opened([slow]), 1, later(0.02)) == {}
    assert len(slow.judged) == 1
    with pytest.raises(TimeIsUp):
        Judged(slow, {}, later(0.02)).judge(CONFIGS[0])
    assert Judged(slow, {}, later(60)).judge(CONFIGS[0]) == LATE
    assert Judged(slow, {CONFIGS[0]: PASSED}, later(-1)).judge(CONFIGS[0]) == PASSED


def test_a_search_ends_with_its_time_and_says_so():
    end = later(0.1)

    def measure(point):
        time.sleep(0.03)
        return 1.0 + point[0]

    found = search(SPACE, measure, Effort(40, 0, end), known={})
    assert found.cut_off
    assert 1 <= found.measured < 40
    assert found.best == (0,)


def test_what_is_on_record_needs_no_time():
    known = {p: 1.0 + p[0] for p in SPACE.points}
    found = search(SPACE, lambda _: pytest.fail("measured"), Effort(40, 0, later(-1)), known=known)
    assert not found.cut_off
    assert (found.best, found.measured, found.how) == ((0,), 0, "exhaustive")


def test_without_optuna_the_order_is_random_and_the_same_under_a_seed(monkeypatch):
    there = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "optuna" else there(name)
    )
    orders = [
        list(search(SPACE, lambda p: 1.0 + p[0], Effort(10, seed), known={}).tried)
        for seed in (0, 0, 1)
    ]
    assert orders[0] == orders[1] != orders[2]
    assert all(len(set(order)) == 10 for order in orders)
    found = search(SPACE, lambda p: 1.0, Effort(10), known={}, starts=((7,),))
    assert next(iter(found.tried)) == (7,)
    assert found.how == "random"
