"""The workers of a check: what is compiled ahead, how long they live, what goes on after them."""

import json
import os

import pytest
from made_up_site import OPS, Site, options, said

from lincodegen.gpu_check import peer_runs, phases
from lincodegen.gpu_check.run import run
from lincodegen.tune.records import Gate


def test_candidates_of_all_ops_are_judged_in_turns_and_compiled_before_the_clock(tmp_path):
    def rejects(config):
        return Gate("wrong", "as planted", 1, "") if config.chunk_size == 128 else None

    site = Site(rejects=rejects)
    run(options(tmp_path, phases=("tune",), workers=1, trials=4), site, lambda _: None)
    judged = [(op, config) for op, _, config in site.judged]
    assert [op for op, _ in judged[:6]] == list(OPS[:2]) * 3
    assert len(set(judged)) == len(judged)
    # one run fills the compiler's cache; what was rejected never runs
    compiled = [(op, config) for op, config, _, repeats in site.timed if repeats == 1]
    assert compiled == [(op, config) for op, config in judged if not rejects(config)]
    assert 0 < len(compiled) < len(judged)
    assert site.opened == site.closed


def test_ops_are_compiled_before_they_are_timed_and_workers_go_on_working(tmp_path):
    site = Site()
    run(options(tmp_path, phases=("bench", "check")), site, lambda _: None)
    first = [(op, repeats) for op, _, _, repeats in site.timed]
    assert sorted(first[:3]) == [(op, 1) for op in sorted(OPS)]
    assert {repeats for _, repeats in first[3:]} == {phases.RUNS}
    # two at a time, whatever the number of ops, dtypes and phases
    assert site.opened <= 2
    assert site.closed == site.opened


def test_what_the_machine_lacks_is_noted(tmp_path):
    run(options(tmp_path, phases=()), Site(), lambda _: None)
    assert said(tmp_path)[0]["notes"] == ["C compiler: none; install gcc"]


PEERS_CHILD = """
import json, os, signal, sys
device, path, seconds, ops, last = sys.argv[1:]
works = ["a", "dies", "b", "breaks", "c"]
works = works[-int(last):] if last else works
def write(left):
    open(path, "w").write(json.dumps({"left": left}))
write(works)
for number, work in enumerate(works):
    print(work, flush=True)
    if work == "dies":
        os.kill(os.getpid(), signal.SIGSEGV)
    write(works[number + 1:])
    if work == "breaks":
        sys.exit(3)
    if work == os.environ.get("HANGS"):
        import time; time.sleep(600)
"""


@pytest.fixture
def peers_child(tmp_path, monkeypatch):
    """Stands in for the process that times ops: one work kills it, one breaks its device."""
    package = tmp_path / "path" / "lincodegen" / "gpu_check"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").write_text("")
    (package / "__init__.py").write_text("")
    (package / "peers.py").write_text(PEERS_CHILD)
    monkeypatch.setattr(peer_runs, "LEAST_S", 0.0)
    return {**os.environ, "PYTHONPATH": str(tmp_path / "path")}


def test_benchmarks_go_on_behind_the_work_that_killed_or_broke_them(
    tmp_path, peers_child, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    text = peer_runs.run_peers("cuda", tmp_path, ("kda",), 60.0, peers_child)
    assert (tmp_path / "bench.log").read_text().split() == ["a", "dies", "b", "breaks", "c"]
    left = [json.loads((tmp_path / f"bench{n}.json").read_text())["left"] for n in ("", "-2", "-3")]
    assert left == [["dies", "b", "breaks", "c"], ["c"], []]
    assert text == "bench.json ended with status -11 at dies; bench-2.json ended with status 3 at c"


def test_benchmarks_that_hang_are_cut_off_and_what_they_had_stays(
    tmp_path, peers_child, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    text = peer_runs.run_peers("cuda", tmp_path, ("kda",), 2.0, {**peers_child, "HANGS": "a"})
    assert text == "cut off when its time was over, at dies"
    assert json.loads((tmp_path / "bench.json").read_text())["left"][0] == "dies"
