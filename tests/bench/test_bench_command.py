"""The command: what it asks for, prints and exits with."""

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

from lincodegen.bench import session, shapes
from lincodegen.bench.record import Journal, Record, Row
from lincodegen.cli import main
from lincodegen.cli.bench import bench

SHAPE = {"batch": 1, "tokens": 256, "heads": 2, "size": 128, "dims": {}, "key_heads": None}
SECONDS = {"median": 1.0, "p20": 0.99, "p80": 1.01, "runs": 5}
ROW = Row("kda", "forward", SHAPE, "call", "lincodegen", "", "", "ok", seconds=SECONDS)
SLOWER = replace(ROW, seconds={"median": 2.0, "p20": 1.9, "p80": 2.1, "runs": 5})


def recorded(*rows):
    origin = {"cpu": "a", "threads": 1, "packages": {}, "load_before": 0.0}
    return Record(origin, "fp32", "cpu", {"bandwidth": 1e9, "matmul": 1e9}, list(rows))


@pytest.fixture
def measured(monkeypatch):
    """Takes the place of a run: keeps what it is asked for, gives ``rows``."""

    class Fake:
        rows = (ROW,)

        def __call__(self, works, options, out, on_progress):
            self.works, self.options, self.out = works, options, out
            return recorded(*self.rows)

    fake = Fake()
    monkeypatch.setattr(session, "run", fake)
    return fake


def run(*arguments):
    return CliRunner().invoke(main, ["bench", *map(str, arguments)])


def test_options_reach_the_run(measured, tmp_path):
    out = tmp_path / "result.json"
    given = ("--dtype", "bf16", "--device", "cpu", "--seconds", 0.1, "--budget", 60, "--out", out)
    result = run("kda", "--preset", "cpu", "--most-tokens", 300, *given)
    assert result.exit_code == 0, result.output
    assert [(w.op, w.mode, w.shape.tokens) for w in measured.works] == [
        ("kda", "forward", 256),
        ("kda", "forward_backward", 256),
    ]
    options = measured.options
    assert (options.dtype, options.device.type, options.budget) == ("bf16", "cpu", 60.0)
    assert options.effort.seconds == 0.1
    assert measured.out == out
    assert "kda, forward, B1 T256 H2 128, call" in result.stdout


def test_json_is_one_object(measured):
    found = json.loads(run("--device", "cpu", "--json").stdout)
    assert found["rows"][0]["op"] == "kda"
    assert found["schema"] == 1


def test_slower_than_the_base_is_1(measured, tmp_path):
    base = tmp_path / "base.json"
    Journal(recorded(ROW), base).write()
    assert run("--device", "cpu", "--base", base).exit_code == 0
    measured.rows = (SLOWER,)
    result = run("--device", "cpu", "--base", base)
    assert result.exit_code == 1
    assert "slower" in result.stdout
    found = json.loads(run("--device", "cpu", "--base", base, "--json").stdout)
    assert found["comparison"]["ok"] is False
    assert found["comparison"]["changes"][0]["ratio"] == 2.0


@pytest.mark.parametrize("status", ["wrong", "refused"])
def test_an_op_of_ours_that_fails_is_1_and_a_peer_that_fails_is_not(measured, status):
    measured.rows = (ROW, replace(ROW, contestant="peer", status=status, reason="r"))
    assert run("--device", "cpu").exit_code == 0
    measured.rows = (replace(ROW, status=status, reason="r"),)
    assert run("--device", "cpu").exit_code == 1


def test_what_is_not_there_is_named(measured, tmp_path):
    result = run("gsa", "--preset", "published")
    assert result.exit_code == 1
    assert "preset published has nothing of gsa" in result.stderr
    path = tmp_path / "other.json"
    path.write_text("{}")
    assert "no record of `lincodegen bench`" in run("--base", path).stderr


def test_the_command_offers_the_presets_there_are():
    offered = next(p.type.choices for p in bench.params if p.name == "preset")
    assert set(offered) == {*shapes.GRIDS, *shapes.LISTS}
