"""Figures of a benchmark: turns, needs, exponents, comparisons, tables."""

import io
import itertools
import math
import time
from dataclasses import replace

import pytest
import torch
from planted import OPTIONS, planted, work
from rich.console import Console

from lincodegen import pipeline
from lincodegen.bench import session, shapes, table
from lincodegen.bench.compare import compare
from lincodegen.bench.growth import exponent, growth
from lincodegen.bench.limits import Limits, Needs, measure_limits, needs_of
from lincodegen.bench.measure import Effort, alternate
from lincodegen.bench.record import Record, Row
from lincodegen.bench.shapes import Shape, Work
from lincodegen.errors import BenchError
from lincodegen.resources import specs_dir

ORIGIN = {"cpu": "a", "threads": 1, "packages": {}, "load_before": 0.0, "date": "", "gpu": "x"}


def row(median, *, spread=0.01, who="lincodegen", tokens=64, status="ok"):
    seconds = {"median": median, "p20": median - spread, "p80": median + spread, "runs": 9}
    shape = {"batch": 1, "tokens": tokens, "heads": 2, "size": 8, "dims": {}, "key_heads": None}
    return Row("op", "forward", shape, "call", who, "", "", status, seconds=seconds)


def recorded(*rows):
    return Record(dict(ORIGIN), "fp32", "cpu", {"bandwidth": 1e9, "matmul": 1e9}, list(rows))


def test_contestants_take_turns():
    order = []

    def watch(name, seconds):
        def once():
            order.append(name)
            return seconds

        return once

    found = alternate({"a": watch("a", 1.0), "b": watch("b", 0.1)}, Effort(0.35, 2, 9))
    # a is past the time that is spent on each after its second run, b after its fourth
    assert "".join(order) == "ababbb"
    assert (found["a"].runs, found["b"].runs) == (2, 4)


def test_what_takes_very_long_is_run_three_times_and_what_is_short_up_to_the_most():
    found = alternate({"long": lambda: 100.0, "short": lambda: 1e-9}, Effort(0.5, 5, 7))
    assert (found["long"].runs, found["short"].runs) == (3, 7)


def test_a_failure_keeps_none_from_being_timed():
    calls = itertools.count()

    def failing():
        if next(calls) == 1:
            raise RuntimeError("lost")
        return 1.0

    found = alternate({"failing": failing, "other": lambda: 1.0}, Effort(0.0, 3, 3))
    assert str(found["failing"]) == "lost"
    assert found["other"].runs == 3


def test_a_deadline_leaves_one_turn():
    found = alternate({"a": lambda: 1.0}, Effort(), time.monotonic() - 1)
    assert found["a"].runs == 1


@pytest.mark.parametrize("power", [0.0, 1.0, 1.7])
def test_the_exponent_of_a_power_law_is_found(power):
    points = [(t, 3e-4 * t**power) for t in (256, 512, 2048, 16384)]
    assert exponent(points) == pytest.approx(power)


def test_growth_is_fitted_to_each_series_of_three_lengths():
    lengths = (256, 512, 1024, 2048)
    rows = [row(1e-3 * t, tokens=t) for t in lengths]
    rows += [row(0.1 + 1e-3 * t, tokens=t, who="peer") for t in lengths]
    rows += [row(1.0, tokens=t, who="short") for t in lengths[:2]]
    found = {fit["contestant"]: fit for fit in growth(rows)}
    assert set(found) == {"lincodegen", "peer"}
    assert found["lincodegen"]["exponent"] == pytest.approx(1)
    assert found["lincodegen"]["tail"] == pytest.approx(1)
    steepest = math.log2((0.1 + 2.048) / (0.1 + 1.024))
    assert found["peer"]["tail"] == pytest.approx(steepest)
    assert found["peer"]["exponent"] < steepest


def test_least_bytes_count_shared_keys_once():
    recurrence = pipeline.load(specs_dir() / "gated_delta_rule.yaml")
    b, t, h, size, keys = 1, 256, 8, 64, 2
    shape = Shape(b, t, h, size=size, key_heads=keys)
    found = needs_of(recurrence, Work("gated_delta_rule", shape, "forward"), "bf16", "sm_90")
    state = 4 * b * h * size * size
    read = 2 * 2 * keys * size + 2 * h * size + 2 * 4 * h
    assert found.bytes == b * t * (read + 2 * h * size) + 2 * state
    assert found.flops > 0
    both = needs_of(
        recurrence, Work("gated_delta_rule", shape, "forward_backward"), "bf16", "sm_90"
    )
    assert both.bytes == b * t * (3 * read + 2 * 2 * h * size) + 5 * state
    assert both.flops > 2 * found.flops


def test_one_token_has_bytes_and_no_products():
    recurrence = pipeline.load(specs_dir() / "gated_delta_rule.yaml")
    found = needs_of(
        recurrence, Work("gated_delta_rule", Shape(16, 1, 2), "decode"), "bf16", "sm_90"
    )
    assert found.bytes == 16 * 2 * (2 * 4 * 128 * 128 + 4 * 2 * 128 + 2 * 4)
    assert found.shares(1e-6, Limits(found.bytes * 2e6, 1.0)) == (pytest.approx(0.5), None)
    assert Needs(8, 6).shares(2.0, Limits(8.0, 6.0)) == (0.5, 0.5)


def test_rates_are_measured():
    found = measure_limits(torch.float32, torch.device("cpu"), 1 << 16, 32)
    assert found.bandwidth > 0
    assert found.matmul > 0


@pytest.mark.parametrize(
    ("old", "new", "verdict", "fails"),
    [
        (row(1.0), row(1.2), "slower", True),
        (row(1.0, spread=0.3), row(1.2, spread=0.3), "same", False),
        (row(1.0), row(1.04), "same", False),
        (row(1.0), row(0.8), "faster", False),
        (row(1.0), replace(row(1.0), status="refused", seconds=None), "broken", True),
        (row(1.0), row(1.0, status="wrong"), "broken", True),
        (row(1.0, who="peer"), row(2.0, who="peer"), "slower", False),
        (row(1.0, tokens=32), row(1.0), "new", False),
    ],
)
def test_a_change_fails_where_ours_got_worse_beyond_noise(old, new, verdict, fails):
    found = compare(recorded(old), recorded(new))
    change = found.changes[0]
    assert (change.verdict, change.fails, found.ok) == (verdict, fails, not fails)
    if verdict in ("slower", "faster"):
        assert change.ratio == pytest.approx(new.median / old.median)


def test_rows_that_are_gone_and_other_machines_are_named():
    absent = replace(row(1.0, who="absent"), status="not installed", seconds=None)
    base, now = recorded(row(1.0), row(1.0, who="peer"), absent), recorded(row(1.0), absent)
    now.provenance |= {"cpu": "b", "load_before": 3.5}
    found = compare(base, now)
    assert [c.verdict for c in found.changes] == ["same", "gone"]
    assert found.notes == ("cpu: a then, b now", "load: 0.0 then, 3.5 now")


def test_works_that_are_not_timed_now_are_counted():
    base = recorded(row(1.0), row(1.0, tokens=32), row(1.0, tokens=32, who="peer"))
    found = compare(base, recorded(row(1.0)))
    assert [c.verdict for c in found.changes] == ["same"]
    assert found.notes == ("works of the base that were not timed now: 1",)


def printed(show, *shown):
    console = Console(file=io.StringIO(), width=160)
    show(*shown, console)
    return console.file.getvalue()


def test_the_tables_show_every_contestant(library):
    peers = [planted("wrong"), planted("raising")]
    works = [work(tokens=t) for t in (8, 16, 24)]
    found = session.run(works, OPTIONS, peers=lambda _: peers)
    text = printed(table.show, found)
    assert "gated_delta_rule, forward, B1 T24 H2 8, call" in text
    assert "wrong: o is off by 0.01" in text
    assert "refused: RuntimeError: no kernel" in text
    assert "time as a power of T" in text
    assert "8-24" in text


def test_the_comparison_is_printed():
    text = printed(table.show_comparison, compare(recorded(row(1.0)), recorded(row(2.0))))
    assert "2.00" in text
    assert "slower" in text


def test_presets_time_ops_that_exist():
    for name in (*shapes.LISTS, *shapes.GRIDS):
        found = shapes.preset(name)
        assert len(set(found)) == len(found)
        assert {w.op for w in found} <= {path.stem for path in specs_dir().glob("*.yaml")}
    lengths = {w.shape.tokens for w in shapes.preset("cpu", ["kda"])}
    assert (min(lengths), max(lengths)) == (256, 16384)
    assert {w.mode for w in shapes.preset("cpu")} == {"forward", "forward_backward"}
    assert {w.op for w in shapes.preset("roof", ["gla"])} == {"gla"}
    assert {w.shape.tokens for w in shapes.preset("cpu", (), 600)} == {256, 512}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("published", ["gsa"]), "preset published has nothing of gsa"),
        (("cpu", [], 100), "preset cpu times sequences of 256 tokens or more"),
        (("cpu2",), "no preset 'cpu2'"),
    ],
)
def test_what_no_preset_has_is_an_error(arguments, said):
    with pytest.raises(BenchError, match=said):
        shapes.preset(*arguments)
