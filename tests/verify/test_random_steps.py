"""Random specs are valid, repeatable and as varied as the language."""

import pytest
import torch

from lincodegen.spec.loader import load
from lincodegen.verify.call import naive_op
from lincodegen.verify.harness import verify
from lincodegen.verify.random_steps import random_recurrence

SEEDS = range(200)


@pytest.fixture(scope="module")
def texts():
    return [random_recurrence(seed) for seed in SEEDS]


def test_all_are_valid_specs(texts):
    for seed, text in zip(SEEDS, texts, strict=True):
        assert load(text).name == f"random_{seed}"


def test_a_seed_gives_one_text(texts):
    assert [random_recurrence(seed) for seed in SEEDS] == texts
    assert len({text.split("\n", 1)[1] for text in texts}) > 180


@pytest.mark.parametrize(
    "feature",
    [
        "n: 2",
        "n: 3",
        "n: 4",
        "S0 = S",
        "outputs: [o, p]",
        "outputs: [o, r]",
        "[:, None] * S",
        "[None, :] * S",
        "diag(",
        "0.9 * S",
        "S @ k",
        "S.T @ e",
        "(a * k",
        "w * v",
        "tanh(S)",
        "z: {shape: [K]}",
        "softplus",
        "sigmoid",
        "parameters:",
        "dot(q, u)",
        'domain: "[0, 2]"',
    ],
)
def test_the_language_is_covered(texts, feature):
    assert any(feature in text for text in texts)


@pytest.mark.parametrize("seed", range(0, 24, 3))
def test_they_stay_within_reach(seed):
    recurrence = load(random_recurrence(seed))
    verdict = verify(
        recurrence,
        naive_op(recurrence),
        sizes={"K": 5, "V": 6},
        lengths=(0, 20),
        dtype=torch.float32,
    )
    assert verdict.passed, str(verdict)
    assert verdict.ill_conditioned == 0
