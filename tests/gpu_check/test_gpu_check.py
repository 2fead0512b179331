"""gpu-check on a made-up device, and for real on the CPU: faults, cut-offs, a bare machine."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hanging_ops import VERDICTS
from made_up_site import OPS, Site, options, said

from lincodegen.errors import LincodegenError, TuningError
from lincodegen.gpu_check.log import Log
from lincodegen.gpu_check.options import Call, by_importance, phase_order
from lincodegen.gpu_check.phases import QUICK
from lincodegen.gpu_check.run import run
from lincodegen.gpu_check.site import Machine
from lincodegen.loading import shipped_names
from lincodegen.resources import important_ops_file
from lincodegen.runtime.tables import read_table
from lincodegen.tune.journal import read_records
from lincodegen.tune.records import Gate

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def test_everything_is_judged_tuned_and_timed_and_what_is_wrong_is_named(tmp_path):
    site = Site({("gla", "float32"): "wrong", ("mamba2", "bfloat16"): "raised"})
    found = run(options(tmp_path), site, lambda _: None)
    data, page = said(tmp_path)
    assert data == json.loads(json.dumps(found))
    by_rule = [c for c in data["checks"] if not c["schedule"]]
    verdicts = {(c["op"], c["dtype"]): c["verdict"] for c in by_rule}
    assert verdicts == {(op, d): "passed" for op in OPS for d in ("bfloat16", "float32")} | {
        ("gla", "float32"): "wrong",
        ("mamba2", "bfloat16"): "raised",
    }
    assert {c["depth"] for c in by_rule} == {"thorough"}
    named = {(c["op"], c["dtype"], c["schedule"]) for c in data["checks"] if c["schedule"]}
    assert named == {(op, "bfloat16", s) for op in OPS for s in ("segment", "split")}
    assert not data["ok"]
    assert data["finished"]
    assert [p["state"] for p in data["phases"].values()] == ["done"] * 3
    assert {t["op"] for t in data["tuned"]} == set(OPS[:2])
    assert {t["configuration"] for t in data["times"]} == {"as shipped", "tuned"}
    kept = next(c for c in data["checks"] if c["verdict"] == "raised")["traceback"]
    assert (tmp_path / kept).read_text() == "Traceback: as planted"
    assert "| gla | float32 | thorough | by the rule | wrong | as planted" in page
    assert "Gate: 8 of 12 passed" in page


def test_important_ops_come_first_and_all_are_judged_quickly_before_any_thoroughly(tmp_path):
    site = Site()
    run(options(tmp_path, workers=1, phases=("check",)), site, lambda _: None)
    once = [(op, dtype) for dtype in ("bfloat16", "float32") for op in OPS]
    few = [(op, "bfloat16") for _ in ("segment", "split") for op in OPS]
    assert [(op, dtype) for op, dtype, _ in site.judged] == [*once, *few, *once]
    assert site.schedules == [*[""] * 6, *["segment"] * 3, *["split"] * 3, *[""] * 6]
    listed = tuple(important_ops_file().read_text(encoding="utf-8").split())
    assert by_importance(())[: len(listed)] == listed
    assert set(by_importance(())) == set(shipped_names())


def test_tuning_writes_records_and_a_table_and_never_chooses_what_was_rejected(tmp_path):
    def rejects(config):
        wrong = any(c.tile_v == 64 for label, c in config.kernels if label == "scan_fwd")
        return Gate("wrong", "as planted", 1, "") if wrong else None

    given = options(tmp_path, phases=("tune",), tuned=1, trials=16)
    run(given, Site(rejects=rejects), lambda _: None)
    (path,) = (tmp_path / "configs").glob("*.json")
    assert path.name == "device_1.json"
    (row,) = read_table(path).rows
    assert row["gate"] == "passed"
    assert row["config"]["kernels"]["scan_fwd"]["tile_v"] != 64
    records = read_records(tmp_path / "configs" / "records").records
    assert {r.gate.verdict for r in records} == {"passed", "wrong"}
    data, page = said(tmp_path)
    assert data["tuned"][0]["tried"] == 16
    assert {r["verdict"] for r in data["tuned"][0]["rejected"]} == {"wrong"}
    assert ": wrong |" in page


def test_tuning_is_the_same_every_time_and_goes_on_where_it_ended(tmp_path):
    tables = []
    for name in ("a", "b"):
        run(options(tmp_path / name, phases=("tune",)), Site(), lambda _: None)
        data, _ = said(tmp_path / name)
        tables.append([(t["op"], t["best"], t["tried"]) for t in data["tuned"]])
    assert tables[0] == tables[1]
    run(options(tmp_path / "a", phases=("tune",)), Site(), lambda _: None)
    data, _ = said(tmp_path / "a")
    assert [t["measured"] for t in data["tuned"]] == [0, 0]


def test_a_phase_that_raises_does_not_stop_the_next(tmp_path):
    class Broken(Site):
        def target(self):
            raise ValueError("no such architecture")

    site = Broken(peers=OSError("no fork"), untimed=("gla",))
    run(options(tmp_path, phases=("tune", "bench", "check")), site, lambda _: None)
    data, page = said(tmp_path)
    assert data["phases"]["tune"]["state"] == "raised"
    assert "no such architecture" in data["phases"]["tune"]["error"]
    assert "ValueError" in (tmp_path / data["phases"]["tune"]["traceback"]).read_text()
    assert data["phases"]["bench"]["state"] == "raised"
    assert {t["op"] for t in data["times"]} == {"gated_delta_rule", "mamba2"}
    assert any("an illegal memory access" in note for note in data["notes"])
    assert data["phases"]["check"]["state"] == "done"
    assert "no such architecture" in page


def test_what_the_time_does_not_reach_is_listed(tmp_path):
    run(options(tmp_path, budget_s=1e-3), Site(), lambda _: None)
    data, _ = said(tmp_path)
    assert data["checks"] == []
    assert not data["ok"]
    assert any("not checked" in n and "mamba2 float32 quick" in n for n in data["notes"])
    assert any("not tuned" in n for n in data["notes"])
    assert any("not timed" in n and "mamba2" in n for n in data["notes"])


def test_a_second_run_judges_what_the_first_did_not(tmp_path):
    site = Site({("gla", "float32"): "timeout"})
    run(options(tmp_path, phases=("check",)), site, lambda _: None)
    again = Site()
    run(options(tmp_path, phases=("check",)), again, lambda _: None)
    assert {(op, d) for op, d, _ in again.judged} == {("gla", "float32")}
    data, _ = said(tmp_path)
    assert data["ok"]
    assert data["runs"] == 2


def test_a_line_that_was_torn_off_is_dropped(tmp_path):
    log = Log(tmp_path)
    log.add("note", text="one")
    log.close()
    path = tmp_path / "events.jsonl"
    whole = path.read_bytes()
    for length in range(1, 20):
        path.write_bytes(whole + b'{"event":"note","text":"two"}'[:length])
        again = Log(tmp_path)
        again.add("note", text="three")
        again.close()
        assert [e["text"] for e in again.events] == ["one", "three"]
        assert len(path.read_bytes().splitlines()) == 2


def test_a_run_that_is_killed_leaves_what_it_had(tmp_path):
    """SIGKILL while the second op hangs."""
    code = (
        "import sys; from made_up_site import Site; from lincodegen.gpu_check.run import run;"
        "from made_up_site import options; from pathlib import Path;"
        "run(options(Path(sys.argv[1]), workers=1), Site(hanging='gla'),"
        " lambda text: print(text, flush=True))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(ROOT)])}
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.startswith("gla"):
                break
        process.kill()
        assert process.wait() == -signal.SIGKILL
    data, page = said(tmp_path)
    assert [(c["op"], c["verdict"]) for c in data["checks"]] == [("gated_delta_rule", "passed")]
    assert data["under_way"] == ["gla bfloat16 quick"]
    assert not data["finished"]
    assert "not finished, or cut off" in page
    assert "Under way at the end: gla bfloat16 quick." in page
    run(options(tmp_path, phases=("check",)), Site(), lambda _: None)
    assert said(tmp_path)[0]["ok"]


def quick_only(monkeypatch):
    few = {"quick": replace(QUICK, lengths=(1, 5), cases=("typical",))}
    monkeypatch.setattr("lincodegen.gpu_check.phases.DEPTHS", few)


def test_an_op_that_hangs_dies_or_raises_costs_its_own_verdict_alone(tmp_path, monkeypatch):
    """For real: the PyTorch form in a worker, one fault after the other."""
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    quick_only(monkeypatch)
    site = Machine("cpu", "torch", "hanging_ops:planted")
    given = options(tmp_path, ops=("retention",), phases=("check",), workers=1, size=8)
    given = replace(given, dtypes=tuple(VERDICTS), timeout_s=6.0)
    run(given, site, lambda _: None)
    data, _ = said(tmp_path)
    assert {c["dtype"]: c["verdict"] for c in data["checks"]} == VERDICTS
    kept = {
        c["verdict"]: (tmp_path / c["traceback"]).read_text()
        for c in data["checks"]
        if c["verdict"] != "passed"
    }
    assert "no verdict after 6 s" in kept["timeout"]
    assert "SIGSEGV" in kept["died"]
    assert "Traceback (most recent call last)" in kept["raised"]
    assert "out of resources: shared memory" in kept["raised"]


def test_kernels_are_rehearsed_in_the_interpreter(tmp_path, monkeypatch):
    pytest.importorskip("triton", reason="kernels are judged")
    quick_only(monkeypatch)
    given = options(tmp_path, ops=("retention",), phases=("check",), workers=1, size=16)
    run(replace(given, dtypes=("float32",)), Machine("cpu", "triton"), lambda _: None)
    data, _ = said(tmp_path)
    found = [(c["schedule"], c["verdict"]) for c in data["checks"]]
    assert found == [("", "passed"), ("segment", "passed"), ("split", "passed")]
    assert data["machine"]["device"] == "interpreter"


@pytest.mark.gpu
def test_kernels_are_judged_tuned_and_timed_on_a_device(tmp_path):
    call = (Call(16, 1024, 128, "bfloat16"),)
    given = options(tmp_path, ops=("retention",), budget_s=240.0, calls=call, tuned=1, trials=3)
    run(replace(given, dtypes=("bfloat16",)), Machine(), lambda _: None)
    data, _ = said(tmp_path)
    assert {c["verdict"] for c in data["checks"]} == {"passed"}
    assert data["tuned"][0]["best"] is not None
    assert {t["configuration"] for t in data["times"]} == {"as shipped", "tuned"}


OWN = "optuna,rich,click,ruamel,numpy"
"""Packages that PyTorch does without."""


def bare(code, *arguments, absent):
    """Runs a program where some packages are missing, in the processes that it starts as well."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(HERE / "absent"), str(ROOT)]),
        "ABSENT_PACKAGES": absent,
    }
    probe = "import sys, importlib.util as u; assert not any(map(u.find_spec, sys.absent_packages))"
    return subprocess.run(
        [sys.executable, "-c", f"{probe}\n{code}", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def test_a_bare_machine_needs_pytorch_alone(tmp_path):
    """For real: two verdicts, configurations of one call, and times, in the PyTorch form."""
    code = """
from dataclasses import replace
from pathlib import Path
from lincodegen.gpu_check import phases
from lincodegen.gpu_check.options import Call, Options
from lincodegen.gpu_check.phases import QUICK
from lincodegen.gpu_check.run import run
from lincodegen.gpu_check.site import Machine
phases.DEPTHS = {"quick": replace(phases.QUICK, lengths=(1, 5), cases=("typical",))}
phases.RUNS = 2
given = Options(Path(sys.argv[1]), 30.0, ("retention",), workers=1, size=8, tuned=1, trials=1,
    dtypes=("float32", "bfloat16"), calls=(Call(1, 32, 8, "float32"),))
run(given, Machine("cpu", "torch"), print)
"""
    done = bare(code, str(tmp_path), absent=OWN)
    assert done.returncode == 0, done.stderr
    data, _ = said(tmp_path)
    assert {(c["dtype"], c["verdict"]) for c in data["checks"]} == {
        ("float32", "passed"),
        ("bfloat16", "passed"),
    }
    (tuned,) = data["tuned"]
    assert tuned["best"]["chunk_size"] in (16, 32)
    assert tuned["search"] == "random"
    assert any("Optuna is missing" in note for note in data["notes"])
    assert {t["configuration"] for t in data["times"]} == {"as shipped", "tuned"}
    record = json.loads((tmp_path / "bench.json").read_text())
    # however far the time went: the token loop is left out of the longest works
    first = [r for r in record["rows"] if r["shape"]["tokens"] == 256 and r["mode"] == "forward"]
    own = {r["contestant"]: r["status"] for r in first if r["library"] == "lincodegen"}
    assert own == {"lincodegen": "ok", "naive": "ok"}
    assert all(r["of_bandwidth"] > 0 for r in record["rows"] if r["status"] == "ok")


def test_nothing_of_the_compiler_is_imported():
    """PyTorch has sympy and jinja2 for itself; lincodegen takes neither here."""
    code = """
import lincodegen.gpu_check.__main__, lincodegen.gpu_check.run, lincodegen.gpu_check.site
import lincodegen.tune.worker
from lincodegen.loading import load_shipped
load_shipped("gated_delta_rule")
"""
    done = bare(code, absent=f"{OWN},sympy,jinja2")
    assert done.returncode == 0, done.stderr


def test_its_command_line_says_what_is_wrong(tmp_path):
    code = "from lincodegen.gpu_check.__main__ import main\nsys.exit(main(sys.argv[1:]))"
    done = bare(code, "--out", str(tmp_path), "--ops", "glaa", absent=f"{OWN},sympy,jinja2,torch")
    assert (done.returncode, done.stderr.split(";")[0]) == (2, "no op 'glaa'")


def test_names_that_are_none_are_refused():
    with pytest.raises(TuningError, match="no op 'glaa'"):
        by_importance(["glaa"])
    with pytest.raises(LincodegenError, match="no phase 'tuning'"):
        phase_order(["tuning"])
    assert phase_order(["bench"]) == ("bench", "check", "tune")
