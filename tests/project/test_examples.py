"""The examples run; what they print at their full size stands in README.md."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"


def printed(script: str, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    # examples run as a reader without a GPU runs them
    environment.pop("TRITON_INTERPRET", None)
    result = subprocess.run(
        [sys.executable, str(EXAMPLES / script), *arguments],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_a_language_model_learns_the_same_on_op_and_recurrence():
    lines = printed("language_model.py", "--quick").splitlines()
    (difference,) = (x for x in lines if x.startswith("greatest difference"))
    assert float(difference.split()[-1]) < 1e-3


def test_states_are_tracked_by_every_op_of_the_table():
    lines = printed("state_tracking.py", "--quick").splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [
        ["parity", "delta_rule"],
        ["parity", "delta_rule_negative"],
        ["S3", "delta_product"],
        ["S3", "delta_product"],
    ]


def test_tasks_are_products_in_a_group(monkeypatch):
    import torch

    monkeypatch.syspath_prepend(str(EXAMPLES))
    tracking = importlib.import_module("state_tracking")
    table = tracking.symmetric_group(3).table
    a, b, c = torch.meshgrid(*[torch.arange(6)] * 3, indexing="ij")
    assert torch.equal(table[table[a, b], c], table[a, table[b, c]])
    assert torch.equal(table[0], torch.arange(6))
    assert not torch.equal(table, table.T)
    generator = torch.Generator().manual_seed(0)
    tokens, products = tracking.PARITY.sample(4, 20, generator)
    assert torch.equal(products, tokens.cumsum(1) % 2)


@pytest.mark.parametrize("has_easy", [False, True])
def test_lengths_grow_to_that_of_the_training(monkeypatch, has_easy):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    training = importlib.import_module("state_tracking").S5_TRAINING
    found = [training.at(step, has_easy) for step in range(training.steps)]
    first = [length for length, easy in found if easy == has_easy]
    assert first == sorted(first)
    assert (first[0], first[-1]) == (2, training.length)
    assert found[-1] == (training.length, False)
    assert len(first) == training.steps * (0.3 if has_easy else 1)


def test_easy_permutations_move_few_things(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    tracking = importlib.import_module("state_tracking")
    torch = importlib.import_module("torch")
    task = tracking.symmetric_group(4, easy=2)
    assert len(task.easy) == 1 + 6
    tokens, _ = task.sample(50, 20, torch.Generator().manual_seed(0), easy=True)
    assert set(tokens.unique().tolist()) == set(task.easy.tolist())
