"""The benchmarks run, on sizes that say nothing about speed, and write what they measured."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = ROOT / "benchmarks"


def measured(script: str, out: Path) -> dict:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    # the PyTorch form is what is measured
    environment.pop("TRITON_INTERPRET", None)
    result = subprocess.run(
        [sys.executable, str(BENCHMARKS / script), "--quick", "--out", str(out)],
        env=environment,
        cwd=out.parent,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return json.loads(out.read_text())


needs_transformers = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None,
    reason="transformers, which the op is compared with, is not installed",
)


@needs_transformers
def test_the_gated_delta_rule_is_compared_with_that_of_transformers(tmp_path):
    result = measured("cpu_forward_backward.py", tmp_path / "result.json")
    for kind in ("forward", "forward_backward"):
        row = result["times"][kind]
        samples = [row[name] for name in ("lincodegen", "transformers")]
        assert all(len(x["seconds"]) == len(x["processor_seconds"]) == 5 for x in samples)
        assert row["ratio"] == pytest.approx(samples[1]["median_s"] / samples[0]["median_s"])
    assert set(result["errors"]["lincodegen"]) == {"o", "dq", "dk", "dv", "dg", "dbeta"}
    assert max(result["errors"]["lincodegen"].values()) < 1e-5


@needs_transformers
def test_decoding_is_compared_with_that_of_transformers(tmp_path):
    result = measured("cpu_decode.py", tmp_path / "result.json")
    for kind, count in (("decode", 200), ("prefill", 5)):
        row = result["times"][kind]
        samples = [row[name] for name in ("lincodegen", "transformers")]
        assert all(len(x["seconds"]) == len(x["processor_seconds"]) == count for x in samples)
        assert row["ratio"] == pytest.approx(samples[1]["median_s"] / samples[0]["median_s"])
    names = {f"{kind} {x}" for kind in ("decode", "prefill") for x in ("o", "state")}
    assert set(result["errors"]["lincodegen"]) == names
    assert max(result["errors"]["lincodegen"].values()) < 1e-5


@pytest.mark.parametrize(
    "path", sorted((BENCHMARKS / "results").rglob("*.json")), ids=lambda path: path.stem
)
def test_results_say_where_they_come_from(path):
    found = json.loads(path.read_text())["provenance"]
    assert {"date", "cpu", "cores", "threads", "packages", "commit", "modified"} <= set(found)
    assert len(found["commit"]) == 40
    assert found["modified"] == []
