"""A run of the benchmark: who is right, wrong, refused or missing, and what is on file."""

import json
from dataclasses import replace

import pytest
from planted import OPTIONS, planted, work

from lincodegen.bench import record, session
from lincodegen.bench.peers import Peer
from lincodegen.bench.shapes import Shape, Work
from lincodegen.errors import BenchError

MISSING = Peer("missing", "no-such-library", "no_such_library:f", "gated_delta_rule", on_cpu=True)


def run(works, peers, out=None, **changed):
    return session.run(works, replace(OPTIONS, **changed), out, None, lambda _: peers)


def by_name(found, mode="forward"):
    return {row.contestant: row for row in found.rows if row.mode == mode}


@pytest.fixture(scope="module")
def forward(library):
    names = ("right", "wrong", "wrong_late", "raising", "misshapen", "absent")
    broken = planted("right", name="broken", path="broken_peers:f")
    peers = [*map(planted, names), broken, MISSING]
    peers.append(planted("right", name="on a GPU", on_cpu=False))
    return by_name(run([work()], peers))


def test_each_right_one_has_time_error_ratio_and_rates(forward):
    ours = forward["lincodegen"]
    for name in ("lincodegen", "right", "naive"):
        row = forward[name]
        assert (row.status, row.reason) == ("ok", "")
        assert row.seconds["runs"] == 3
        assert row.seconds["p20"] <= row.seconds["median"] <= row.seconds["p80"]
        assert 0 < row.error["worst"] < 1e-6
        assert row.error["tokens"] == 24
        assert row.ratio == pytest.approx(row.median / ours.median)
        assert row.of_bandwidth > 0
        assert row.of_matmul > 0
    assert (ours.bytes, ours.flops) == (forward["naive"].bytes, forward["naive"].flops)


def test_a_wrong_one_is_shown_as_wrong_with_its_error_and_time(forward):
    row = forward["wrong"]
    assert row.status == "wrong"
    assert row.error["worst"] == pytest.approx(0.01, rel=1e-3)
    assert "o is off by 0.01, more than 0.0001" in row.reason
    assert row.median > 0


def test_an_error_in_the_last_token_of_the_last_head_is_found(forward):
    assert forward["wrong_late"].status == "wrong"


@pytest.mark.parametrize(
    ("name", "status", "reason"),
    [
        ("raising", "refused", "RuntimeError: no kernel for these sizes"),
        ("misshapen", "refused", "ValueError: o has the shape"),
        ("absent", "not importable", "AttributeError"),
        ("broken", "not importable", "ImportError: libcuda.so.1: cannot open"),
        ("missing", "not installed", "no-such-library is not installed"),
        ("on a GPU", "refused", "it runs on GPUs only"),
    ],
)
def test_one_that_cannot_be_timed_says_why(forward, name, status, reason):
    row = forward[name]
    assert (row.status, row.seconds, row.ratio) == (status, None, None)
    assert row.reason.startswith(reason)
    assert "\n" not in row.reason


def test_gradients_are_judged_too(library):
    peers = [
        planted("right"),
        planted("wrong_gradient"),
        planted("wrong_gradient_late"),
        planted("right", backward=False, name="f"),
    ]
    found = by_name(run([work("forward_backward")], peers), "forward_backward")
    assert found["right"].status == "ok"
    assert set(found["right"].error["tensors"]) == {
        *("o", "grad q", "grad k", "grad v", "grad g", "grad beta")
    }
    assert found["right"].error["tokens"] == 24
    assert found["right"].error["window"] == (8, 24)
    wrong = found["wrong_gradient"]
    assert (wrong.status, wrong.error["tensor"]) == ("wrong", "grad v")
    assert wrong.error["tensors"]["o"] < 1e-6
    assert wrong.error["tensors"]["grad v"] == 1.0
    late = found["wrong_gradient_late"]
    assert (late.status, late.error["tensor"]) == ("wrong", "grad v")
    assert found["f"].reason == "it has no backward"


def test_sequences_beyond_a_limit_are_left_out_with_the_reason(library):
    peers = [
        planted("right", most_tokens=8),
        planted("right", name="large", scratch=lambda _: 1 << 80),
    ]
    found = by_name(run([work()], peers))
    assert (found["right"].status, found["large"].status) == ("left out", "left out")
    assert found["right"].reason == "it is timed up to 8 tokens"
    assert "GB" in found["large"].reason


def test_a_token_is_decoded_from_a_state():
    found = session.run([Work("kda", Shape(3, 1, 2, size=8), "decode")], OPTIONS)
    rows = by_name(found, "decode")
    for name in ("lincodegen", "naive"):
        assert rows[name].status == "ok"
        assert rows[name].error["worst"] < 1e-6
    assert rows["lincodegen"].flops is None
    assert rows["fla fused_recurrent_kda"].status == "not installed"


def test_an_unknown_op_does_not_stop_the_others():
    found = session.run([work(op="no_such_op"), work()], OPTIONS, peers=lambda _: ())
    assert [(r.op, r.contestant, r.status) for r in found.rows] == [
        ("no_such_op", "lincodegen", "refused"),
        ("gated_delta_rule", "lincodegen", "ok"),
        ("gated_delta_rule", "naive", "ok"),
    ]


def test_the_file_holds_what_the_run_gives(tmp_path):
    path = tmp_path / "new" / "result.json"
    found = run([work(tokens=t) for t in (8, 16, 24)], [MISSING], path)
    data = json.loads(path.read_text())
    assert set(data) == record.KEYS
    assert (data["complete"], data["left"]) == (True, [])
    assert {"date", "cpu", "cores", "threads", "packages", "commit", "modified"} <= set(
        data["provenance"]
    )
    assert {"target", "load_before", "load_after"} <= set(data["provenance"])
    assert set(data["limits"]) == {"bandwidth", "matmul"}
    assert len(data["rows"]) == 9
    assert [fit["contestant"] for fit in data["growth"]] == ["lincodegen", "naive"]
    assert data["growth"][0]["tokens"] == [8, 16, 24]
    again = record.read(path)
    assert [row.key for row in again.rows] == [row.key for row in found.rows]
    assert again.to_json() == data
    assert list(path.parent.iterdir()) == [path]


def test_a_cut_off_loses_nothing_that_was_measured(tmp_path):
    path = tmp_path / "result.json"

    def peers(which):
        if which.shape.tokens == 16:
            raise KeyboardInterrupt
        return ()

    works = [work(tokens=t) for t in (8, 16, 24)]
    with pytest.raises(KeyboardInterrupt):
        session.run(works, OPTIONS, path, None, peers)
    found = record.read(path)
    assert [(r.shape["tokens"], r.contestant) for r in found.rows] == [
        (8, "lincodegen"),
        (8, "naive"),
    ]
    assert not found.complete
    assert found.left == [w.text for w in works[1:]]


def test_the_budget_stops_the_run_and_the_rest_is_listed(tmp_path):
    path = tmp_path / "result.json"
    works = [work(), work(tokens=8)]
    found = run(works, [], path, budget=0.0)
    assert (found.rows, found.complete) == ([], False)
    assert record.read(path).left == [w.text for w in works]


@pytest.mark.parametrize("text", ["no json", "[]", "{}", '{"schema": 1}'])
def test_another_file_is_no_record(tmp_path, text):
    path = tmp_path / "result.json"
    path.write_text(text)
    with pytest.raises(BenchError, match=r"result\.json: no "):
        record.read(path)


def test_what_cannot_be_captured_is_refused_for_kernels_and_timed_as_a_call(library, monkeypatch):
    def watch(run, timing, device):
        if timing == "kernels" and run() is not None and len(watched) == 1:
            raise RuntimeError("operation not permitted when stream is capturing")
        watched.append(timing)
        return lambda: 1.0

    watched = []
    monkeypatch.setattr(session, "timings", lambda _: ("kernels", "call"))
    monkeypatch.setattr(session, "watch", watch)
    found = run([work()], [planted("right")])
    shown = [(r.timing, r.contestant, r.status, r.median) for r in found.rows]
    assert shown == [
        ("kernels", "lincodegen", "ok", 1.0),
        ("kernels", "right", "refused", None),
        ("kernels", "naive", "refused", None),
        ("call", "lincodegen", "ok", 1.0),
        ("call", "right", "ok", 1.0),
        ("call", "naive", "ok", 1.0),
    ]
    assert "stream is capturing" in found.rows[1].reason
    assert found.rows[1].error["worst"] < 1e-6


@pytest.mark.gpu
def test_kernels_and_calls_are_timed_on_a_gpu():
    import torch

    options = replace(OPTIONS, device=torch.device("cuda"), dtype="bf16", probe=None)
    shape = Shape(1, 256, 2, size=64)
    works = [Work("gated_delta_rule", shape, "forward_backward")]
    rows = {r.timing: r for r in session.run(works, options).rows if r.contestant == "lincodegen"}
    assert set(rows) == {"kernels", "call"}
    assert {r.status for r in rows.values()} == {"ok"}
