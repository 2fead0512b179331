"""The search on landscapes that were timed for real, by `scripts/record_landscape.py`.

Every point is a configuration of the PyTorch form that ran on a CPU. A search starts at the best of
another shape and may try twenty points; random search is given beside it.
"""

import json
import random
import statistics
import sys
from pathlib import Path

import pytest

from lincodegen.config import Bucket
from lincodegen.schedule.space import Parameter
from lincodegen.tune.search import Effort, Space, search, transferred
from lincodegen.tune.torch_space import TorchSpace
from lincodegen.tune.transfer import TRANSFERRED

FOLDER = Path(__file__).parent / "landscapes"
SEEDS = 20
TRIALS = 20
OP = "gated_delta_rule"
JUDGED, OTHER = "16x512", "8x512"


def read(shape):
    """The space and the seconds of each point."""
    data = json.loads((FOLDER / f"{OP}_{shape}.json").read_text())
    count = len(data["parameters"])
    times = {tuple(row[:count]): 1e-6 * row[count] for row in data["points"]}
    parameters = [Parameter(n, tuple(values)) for n, values in data["parameters"].items()]
    return data, Space.of(parameters, times.__contains__), times


def form(data):
    """The space that the landscape was recorded in, as the tuner has it."""
    bucket, values = Bucket.from_text(data["bucket"]), data["parameters"]
    head = bucket.tokens * max(size for _, size in bucket.sizes)
    grid = tuple(values["chunk_size"]), tuple(values["solve_block"][:-1])
    return TorchSpace(bucket.tokens, bucket.heads, head, True, data["threads"], *grid)


def starts_of(data, other):
    """The best of the other shape, as a session takes them over."""
    here, (there, _, times) = form(data), read(other)
    moved = {here.nearest(form(there).config(p)): seconds for p, seconds in times.items()}
    return transferred([moved], TRANSFERRED)


@pytest.mark.parametrize(("shape", "least"), [(JUDGED, 150), (OTHER, 100)])
def test_a_landscape_says_what_was_timed_and_where(shape, least):
    data, space, times = read(shape)
    assert set(space.points) == set(times) == set(form(data).space().points)
    assert len(times) >= least
    assert Bucket.from_text(data["bucket"])
    assert all(data[name] for name in ("cpu", "cores", "system", "torch", "code", "rounds"))
    assert max(times.values()) > 2 * min(times.values()), "there is something to find"


def test_twenty_trials_come_within_a_tenth_of_the_best(capsys):
    data, space, times = read(JUDGED)
    best, starts = min(times.values()), starts_of(data, OTHER)
    assert len(starts) == TRANSFERRED
    assert set(starts) <= set(space.points)
    regrets = {"warm": [], "cold": [], "random": []}
    for seed in range(SEEDS):
        effort = Effort(TRIALS, seed)
        warm = search(space, times.__getitem__, effort, known={}, starts=starts)
        cold = search(space, times.__getitem__, effort, known={})
        drawn = random.Random(seed).sample(space.points, TRIALS)
        assert len(warm.tried) == len(cold.tried) == TRIALS
        regrets["warm"].append(times[warm.best] / best)
        regrets["cold"].append(times[cold.best] / best)
        regrets["random"].append(min(times[p] for p in drawn) / best)
    figures = {name: statistics.mean(found) for name, found in regrets.items()}
    with capsys.disabled():
        text = ", ".join(f"{name} {figure:.3f}" for name, figure in figures.items())
        sys.stdout.write(
            f"\n{OP} {JUDGED}, {len(times)} points, from {OTHER}, to the best: {text}\n"
        )
    assert figures["warm"] <= 1.10, figures
    assert figures["warm"] < figures["random"], figures
