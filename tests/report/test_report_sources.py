"""What a page reads beside the spec: verdicts, results of benchmarks, records of tuning."""

import json
import re

import pytest
from pages import read

from lincodegen.config import Bucket, Config, OpConfig
from lincodegen.errors import ReportError
from lincodegen.report.benchmarks import benchmark_results
from lincodegen.report.page import Measured, gather, render
from lincodegen.report.tuning import importances, tuning_history
from lincodegen.report.verification import read_verdict
from lincodegen.resources import results_dir, specs_dir
from lincodegen.tune.journal import encode
from lincodegen.tune.records import Gate, Provenance, Record, Resources, Times
from lincodegen.verify.verdict import Row, Verdict

OP = "delta_rule"


def section(measured, name):
    page = gather(specs_dir() / f"{OP}.yaml", "sm_90", {}, measured=measured)
    tree = read(render(page, "2026-01-02"))
    (found,) = [e for e in tree.all("section") if e.attributes["id"] == name]
    return found


# -- a verdict --------------------------------------------------------------------------------

ROWS = (
    Row("typical, T=65", "o", "relative", 1e-7, 2e-7, True),
    Row("typical, T=65", "grad q", "relative", 3e-7, 2e-7, False),
    Row("gate -inf", "call", "ran", float("nan"), 0.0, False, note="raised <ValueError>"),
)


def test_a_verdict_survives_its_file(tmp_path):
    verdict = Verdict(OP, "float32", ROWS[:2], 4)
    file = tmp_path / "verdict.json"
    file.write_text(json.dumps(verdict.to_json()))
    assert read_verdict(file, OP) == verdict


def test_a_failed_verdict_is_shown_as_such():
    found = section(Measured(Verdict(OP, "float32", ROWS, 4)), "verification")
    assert "FAILED. 3 comparisons in 2 cases, 2 failed" in found.text
    rows = {
        r.all("th")[0].text: [c.text for c in r.all("td")] for r in found.all("table")[-1].all("tr")
    }
    assert rows["typical, T=65"] == ["2", "grad q", "3.0e-07", "2.0e-07", "150%", "FAILED"]
    assert rows["gate -inf"][-1] == "FAILED: raised <ValueError>"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no JSON", "holds no verdict"),
        ("[1]", "holds no verdict"),
        (
            '{"recurrence": "kda", "dtype": "float32", "skipped": 0, "rows": [7]}',
            "holds no verdict",
        ),
        (json.dumps(Verdict("kda", "float32", ROWS[:1]).to_json()), "the verdict of kda"),
    ],
)
def test_a_file_without_the_op_s_verdict_is_refused(tmp_path, text, message):
    file = tmp_path / "verdict.json"
    file.write_text(text)
    with pytest.raises(ReportError, match=message):
        read_verdict(file, OP)


# -- benchmarks -------------------------------------------------------------------------------


def test_the_committed_results_are_read():
    (found,) = benchmark_results(results_dir(), "gated_delta_rule").results
    data = json.loads((results_dir() / found.file).read_text())
    seconds = data["times"]["forward"]["lincodegen"]["median_s"]
    assert f"forward, lincodegen {seconds * 1e3:,.3f} ms" in found.chart
    assert data["provenance"]["cpu"] in found.where
    assert [row[0] for row in found.errors.rows] == ["lincodegen", "transformers"]
    # its name begins like that of the op above
    assert benchmark_results(results_dir(), "gated_delta").results == ()


def test_a_result_may_name_its_op(tmp_path):
    (found,) = benchmark_results(results_dir(), "gated_delta_rule").results
    data = json.loads((results_dir() / found.file).read_text()) | {"op": OP}
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "decode.json").write_text(json.dumps(data))
    (tmp_path / "other.json").write_text("no JSON")
    read_in = benchmark_results(tmp_path, OP)
    assert [result.file for result in read_in.results] == ["sub/decode.json"]
    assert read_in.unread == ()


def test_results_of_another_form_are_named(tmp_path):
    (tmp_path / f"{OP}_vs_peer.json").write_text('{"times": 3}')
    found = section(Measured(results=tmp_path), "benchmarks")
    assert f"Not in a form that can be shown: {OP}_vs_peer.json" in found.text


SHAPE = {"batch": 2, "heads": 4, "size": 64, "dims": {"V": 96}, "key_heads": None}


def bench_row(who, tokens, milliseconds=None, status="ok", **changes):
    """A row as ``lincodegen bench`` writes it."""
    timed = milliseconds is not None
    seconds = {n: 1e-3 * f * (milliseconds or 0) for n, f in (("median", 1), ("p20", 0.9))}
    return {
        "op": OP,
        "mode": "forward_backward",
        "timing": "kernels",
        "contestant": who,
        "shape": {
            "batch": 2,
            "tokens": tokens,
            "heads": 4,
            "size": 64,
            "dims": {"V": 96},
            "key_heads": None,
        },
        "status": status,
        "reason": "" if timed else "it runs on <GPUs> only",
        "seconds": {**seconds, "p80": seconds["median"], "runs": 5} if timed else None,
        "error": {"worst": "inf" if status == "wrong" else 2e-7} if timed else None,
        "ratio": (milliseconds or 0) / 2.0 if timed else None,
        "of_bandwidth": 0.25 if timed else None,
        "of_matmul": None,
        **changes,
    }


ROWS_OF_BENCH = (
    bench_row("lincodegen", 256, 2.0),
    bench_row("peer", 256, 5.0),
    bench_row("lincodegen", 512, 2.0),
    bench_row("peer", 512, 1480.0, status="wrong"),
    bench_row("absent", 512, status="refused"),
    bench_row("lincodegen", 1024, 4.0),
    bench_row("another op's", 4096, 1.0, op="kda"),
)


def recorded(folder, rows=ROWS_OF_BENCH):
    fit = {"op": OP, "mode": "forward", "timing": "call", "contestant": "peer"}
    packages = {"torch": "2.13.0"}
    record = {
        "schema": 1,
        "rows": list(rows),
        "limits": {"bandwidth": 2e10, "matmul": 5e10},
        "growth": [{**fit, "tokens": [256, 512, 1024], "exponent": 1.02, "tail": 0.98}],
        "provenance": {
            "cpu": "Processor <1>",
            "threads": 1,
            "packages": packages,
            "date": "2026-01-02T00:00:00",
            "commit": "abcdef0123456789",
        },
        "dtype": "fp32",
        "left": [f"{OP}, forward, B1 T2048 H4 64", "kda, forward, B1 T2048 H4 64"],
    }
    (folder / "run.json").write_text(json.dumps(record))


def test_a_run_of_the_benchmark_shows_the_longest_shared_call_and_all_others(tmp_path):
    recorded(tmp_path)
    (found,) = benchmark_results(tmp_path, OP).contests
    ((title, chart),) = found.charts
    assert title.startswith("forward and backward, kernels alone: 2 × 512 tokens, 4 heads")
    assert "lincodegen 2 ms, 1 ×; peer 1,480 ms, 740 ×, wrong." in chart
    calls = {row[:2]: row[2:] for row in found.calls.rows}
    short, long = (f"forward + backward, kernels, B2 T{n} H4 64 V96" for n in (256, 512))
    assert calls[short, "peer"] == ("5", "4.5-5", "2.50", "2.0e-07", "25.0%", "–")
    assert calls[long, "peer"][3] == "inf wrong"
    assert [row[1] for row in found.calls.rows] == ["lincodegen", "peer"] * 2 + ["lincodegen"]
    width = float(re.search(r'viewBox="0 0 (\d+)', chart)[1])
    ends = re.findall(r'x="([\d.]+)" y="\d+" class="value">([^<]+)<', chart)
    assert all(float(x) + 7 * len(text) < width for x, text in ends)
    assert found.absent == ("absent: refused, it runs on <GPUs> only",)
    assert found.left == 1
    shown = section(Measured(results=tmp_path), "benchmarks")
    assert "Processor <1>, 1 thread, fp32" in shown.text
    assert "0.98" in shown.text
    assert "did not reach: 1." in shown.text


def test_a_run_without_the_op_or_of_another_form_shows_nothing_of_it(tmp_path):
    recorded(tmp_path)
    nothing = benchmark_results(tmp_path, "gsa")
    assert (nothing.contests, nothing.unread) == ((), ())
    recorded(tmp_path, [{"op": OP}])
    assert benchmark_results(tmp_path, OP).unread == ("run.json",)


# -- tuning -----------------------------------------------------------------------------------


def record(index, chunk_size, num_warps, seconds, *, verdict="passed", **changes):
    passed = verdict == "passed"
    where = {"device": "Device <1>", "code": "new", "time": float(index)} | changes
    unknown = dict.fromkeys(("target", "driver", "torch", "triton", "spec", "host"), "-")
    return Record(
        where.pop("op", OP),
        Bucket("bf16", (("K", 64), ("V", 64)), 8, 2048),
        OpConfig(chunk_size, (("scan_fwd", Config(chunk_size, 64, 64, num_warps, 1)),)),
        Gate(verdict, "", 3, ""),
        Times(seconds, seconds, seconds, where.pop("runs", 3)) if passed else None,
        Resources(0, 0, 0),
        Provenance(**unknown, seed=0, **where),
    )


def write(folder, records, tail=b""):
    (folder / "one.jsonl").write_bytes(b"".join(map(encode, records)) + tail)


def test_the_history_has_the_best_time_and_what_mattered(tmp_path):
    tried = [(size, warps) for size in (16, 32, 64, 128) for warps in (2, 4, 8)]
    found = [record(i, s, w, 1e-3 * (1 + s / 16 + w / 1000)) for i, (s, w) in enumerate(tried)]
    left_out = [
        record(-1, 16, 1, 1e-6, code="old"),
        record(50, 64, 1, 1.0, verdict="wrong"),
        record(51, 16, 4, 1e-6, op="kda"),
    ]
    write(tmp_path, [*found, *left_out], tail=encode(found[0])[:60])
    (tuning,) = tuning_history(tmp_path, OP)
    assert (tuning.device, tuning.tried, tuning.refused) == ("Device <1>", 13, 1)
    assert tuning.best == "2.002"
    assert ("chunk_size", "16") in tuning.choices.rows
    shown = section(Measured(records=tmp_path), "tuning")
    assert "Device <1>" in shown.text
    assert "13 configurations were tried, 1 of them refused" in shown.text
    assert len(shown.all("circle")) == 12
    labels = [t.text for t in shown.all("svg")[1].all("text")]
    assert labels[0] == "chunk_size"


def test_a_lucky_first_time_is_not_the_best(tmp_path):
    write(tmp_path, [record(0, 16, 4, 1e-4), record(1, 32, 4, 2e-3, runs=20)])
    (tuning,) = tuning_history(tmp_path, OP)
    assert tuning.best == "2.000"


def test_few_trials_name_no_importance(tmp_path):
    write(tmp_path, [record(0, 16, 4, 1e-3), record(1, 32, 4, 2e-3)])
    (tuning,) = tuning_history(tmp_path, OP)
    assert tuning.importance is None
    assert importances([]) == {}


def test_records_without_times_make_no_history(tmp_path):
    write(tmp_path, [record(0, 16, 4, 1.0, verdict="died")])
    assert tuning_history(tmp_path, OP) == ()
    assert "No record of tuning" in section(Measured(records=tmp_path), "tuning").text
