"""Random recurrences: each has a proved chunk form that agrees with the oracle, or a reason."""

from collections import Counter

import pytest
import torch

from lincodegen.errors import NotChunkable
from lincodegen.program import proof
from lincodegen.program.proof import prove
from lincodegen.spec.loader import load
from lincodegen.verify.adversaries import applicable
from lincodegen.verify.harness import verify
from lincodegen.verify.random_steps import random_recurrence
from tests.property.chunk_op import ChunkOp, compiled, torch_module
from tests.property.random_timelines import random_timeline

STEPS = range(200)
NIGHTLY = range(200, 1200)
TIMELINES = range(60)
SIZES = {"K": 5, "V": 3}
LENGTH = 19


@pytest.fixture(autouse=True)
def fewer_points(monkeypatch):
    """One random point a prime next to the polynomials: the mass is in the recurrences."""
    monkeypatch.setattr(proof, "POINTS", 1)


def check(text, cases=("typical",)):
    """Derives, proves and verifies; the reason of a refusal, or None."""
    recurrence = load(text)
    try:
        timeline, programs = compiled(recurrence)
    except NotChunkable as error:
        assert 0 < error.line <= len(text.split("\n"))
        assert error.reason
        return f"{error}\n    {text.splitlines()[error.line - 1].strip()}"
    found = prove(timeline, programs)
    assert found.ok, f"{found.failed}\n{text}"
    op = ChunkOp(timeline, programs, [torch_module(p) for p in programs], 8)
    options = {"sizes": SIZES, "lengths": (LENGTH,), "cases": cases}
    verdict = verify(recurrence, op, dtype=torch.float64, **options)
    assert verdict.passed, f"{verdict}\n{text}"
    return None


def shares(seeds):
    """Checks every seed; prints the share that is derivable."""
    refused = {seed: reason for seed in seeds if (reason := check(random_recurrence(seed)))}
    share = 1 - len(refused) / len(seeds)
    kinds = Counter(reason.split(": ", 1)[1].split("\n")[0] for reason in refused.values())
    print(f"\n{len(seeds)} random steps: {share:.1%} derivable")  # noqa: T201
    for reason, count in kinds.most_common():
        print(f"  {count:3d} refused: {reason}")  # noqa: T201
    return share, refused


def test_two_hundred_random_steps(capsys):
    with capsys.disabled():
        share, refused = shares(STEPS)
    assert share >= 0.6
    for seed, reason in refused.items():
        line = reason.split("\n")[1].strip()
        other_side = "S @ diag(" in line or "[None, :]" in line or "[:, None]" in line
        assert "tanh(S)" in line or "l2norm(S)" in line or other_side, f"{seed}: {reason}"


@pytest.mark.slow
def test_a_thousand_random_steps(capsys):
    with capsys.disabled():
        share, _ = shares(NIGHTLY)
    assert share >= 0.6


@pytest.mark.parametrize("seed", TIMELINES)
def test_random_timelines_have_a_form(seed):
    text = random_timeline(seed)
    assert check(text, applicable(load(text))) is None


@pytest.mark.slow
@pytest.mark.parametrize("hundred", range(10))
def test_many_random_timelines_have_a_form(hundred):
    for seed in range(100 * hundred, 100 * hundred + 100):
        text = random_timeline(seed)
        assert check(text, applicable(load(text))) is None


def test_timelines_are_repeatable_and_varied():
    texts = [random_timeline(seed) for seed in range(200)]
    assert texts == [random_timeline(seed) for seed in range(200)]
    assert len({text.split("\n", 1)[1] for text in texts}) > 190
    for feature in ("S1", "S @ v", "- S", "[V, K]", "[None, :]", "[:, None]", "where(", "-beta"):
        assert any(feature in text for text in texts), feature
