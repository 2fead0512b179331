"""`lincodegen tune` and `gpu-check` from the command line: for real on the CPU, and offline."""

import json

import pytest
import torch
from click.testing import CliRunner

import lincodegen.ops
from lincodegen.cli import main
from lincodegen.compile import Resources
from lincodegen.resources import generated_dir
from lincodegen.runtime import tuned
from lincodegen.runtime.backend import backend
from lincodegen.runtime.function import planning
from lincodegen.runtime.tables import entries_for, read_table
from lincodegen.runtime.tuned import code_digest
from lincodegen.tune.torch_space import TorchSpace

OP = "retention"
TUNE = ["tune", OP, "--device", "cpu", "--call", "2x64", "--size", "8", "--budget", "60s", "--json"]


def lincodegen_(*arguments):
    return CliRunner().invoke(main, list(arguments))


@pytest.fixture
def config_dir(tmp_path, monkeypatch):
    monkeypatch.setenv("LINCODEGEN_CONFIG_DIR", str(tmp_path))
    tuned.forget()
    yield tmp_path
    tuned.forget()


def test_the_pytorch_form_is_tuned_for_real_and_looked_up(config_dir):
    done = lincodegen_(*TUNE)
    assert done.exit_code == 0, done.output
    (task,) = json.loads(done.stdout)["tasks"]
    points = len(TorchSpace(64, 2, 64 * 8, False, torch.get_num_threads()).space().points)
    assert task["tried"] == task["measured"] == points
    assert task["rejected"] == []
    assert list((config_dir / "records").iterdir())
    assert (config_dir / "cpu.json").is_file()
    again = json.loads(lincodegen_(*TUNE).stdout)["tasks"][0]
    assert (again["tried"], again["measured"]) == (points, 0)
    tuned.forget()
    op = getattr(lincodegen.ops, OP)
    x = [torch.zeros(1, 60, 2, *(8 for _ in t.shape)) for t in op.signature.inputs]
    with backend("torch"), planning():
        call = op(*x).call
    assert call.chunk_size == again["best"]["chunk_size"]
    assert call.layout.tuned.config.to_json() == again["best"]


def test_offline_the_model_chooses_and_no_look_up_takes_it(config_dir, monkeypatch):
    compiled = []

    def compile_many(jobs, **_):
        compiled.extend(jobs)
        return [
            Resources(128, 0, 40_000, 0, 8, 0, 0, 0, 0, 0, job.num_warps, 0.1, None) for job in jobs
        ]

    monkeypatch.setattr("lincodegen.tune.candidates.compile_many", compile_many)
    done = lincodegen_("tune", OP, "--offline", "--target", "sm_90", "--call", "64x4096", "--json")
    assert done.exit_code == 0, done.output
    (choice,) = json.loads(done.stdout)["choices"]
    assert choice["gate"] == "model"
    assert choice["bucket"] == "bf16 K=128 V=128 heads=64 tokens=4096"
    assert {job.target.name for job in compiled} == {"sm_90"}
    assert list(config_dir.glob("*.json")) == []
    table = read_table(config_dir / "offline" / "sm_90.json")
    found = entries_for(table, OP, frozenset({code_digest(generated_dir() / OP)}))
    assert (found.configs, found.ungated, found.damaged, found.stale) == ({}, 1, 0, 0)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["tune", OP, "--offline"], "--offline and --target go together"),
        (["tune", OP, "--target", "sm_90"], "--offline and --target go together"),
        (["tune", OP, "--budget", "soon"], "`soon` is no duration"),
        (["tune", OP, "--call", "64"], "`64` is not of the form HEADSxTOKENS"),
        (["tune"], "Missing argument"),
        (["gpu-check", "--out", "x", "--ops", "glaa"], "no op 'glaa'"),
        (["gpu-check", "--out", "x", "--first", "all"], "no phase 'all'"),
        (["gpu-check", "--out", "x", "--budget", "0s"], "`0s` is no duration"),
    ],
)
def test_what_is_wrong_is_told(arguments, told):
    done = lincodegen_(*arguments)
    assert done.exit_code == 2
    assert told in done.output


def test_a_dimension_that_is_none_is_refused(config_dir):
    done = lincodegen_("tune", OP, "--device", "cpu", "--dim", "Z=4")
    assert done.exit_code == 1
    assert "no dimension is called 'Z'; there are K, V" in done.output


@pytest.mark.parametrize(
    "arguments", [["tune", OP, "--device", "cuda"], ["gpu-check", "--out", "x"]]
)
def test_a_gpu_that_is_not_there_is_refused(config_dir, monkeypatch, arguments):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.chdir(config_dir)
    done = lincodegen_(*arguments)
    assert done.exit_code == 1
    assert "PyTorch can use no GPU here" in done.output
    assert not (config_dir / "x").exists()


def test_an_unlisted_target_is_refused(config_dir):
    done = lincodegen_("tune", OP, "--offline", "--target", "sm_1")
    assert done.exit_code == 1
    assert "No target is called 'sm_1'" in done.output
