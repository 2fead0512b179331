"""Single changes of emitted kernels do not pass the comparison with the oracle.

Thirty run in CI, the others are slow. What a change cannot show is listed with its reason.
"""

import re
from dataclasses import replace

import pytest
import torch

from lincodegen.resources import specs_dir
from lincodegen.runtime.pins import use_config
from lincodegen.runtime.schedules import use_schedule
from lincodegen.spec.loader import load
from lincodegen.testing import poisoned_empty
from lincodegen.verify.inputs import Geometry, draw
from lincodegen.verify.trials import Trial
from tests.property.chunk_op import ChunkOp, compiled, module_of, triton_text
from tests.property.kernel_mutants import mutants

SPEC = "gated_delta_rule.yaml"
CHANNEL = "kda.yaml"
GEOMETRIES = {
    SPEC: Geometry({"K": 20, "V": 24}, 21, batch=2, heads=2),
    CHANNEL: Geometry({"K": 20, "V": 4}, 21, batch=1, heads=2),
}
LONGER = 53
"""Tokens of two segments of two chunks."""
IN_CI = {SPEC: 28, CHANNEL: 2}
SLOW = {SPEC: 60, CHANNEL: 30}

EQUIVALENT = (
    (
        r"tl\.floor\(",
        "where a log decay is cut into a whole part and a rest is free: their sum is the same",
    ),
    (
        r"= tl\.where\(b_\w+ < -256",
        "the clamp of a log decay acts on hard gates, which this comparison has none of",
    ),
    (
        r"^(i|s)_\w+ = ",
        "an index that this geometry leaves at 0",
    ),
)


def equivalent(mutant):
    """Why a change shows in no result, or None."""
    if mutant.what == "mask dropped" and re.search(EQUIVALENT[1][0], mutant.line):
        return None
    return next((why for pattern, why in EQUIVALENT if re.search(pattern, mutant.line)), None)


class Bench:
    """A spec's reference results, and the verdict on a text of its kernels."""

    def __init__(self, name, folder):
        self.recurrence = load(specs_dir() / name)
        self.timeline, self.programs = compiled(self.recurrence)
        geometry = GEOMETRIES[name]
        # a state decays on its way through a segment that has a second chunk
        longer = replace(geometry, length=LONGER)
        self.trial, self.longer = (
            Trial.of(self.recurrence, draw(self.recurrence, g), torch.float32)
            for g in (geometry, longer)
        )
        self.folder, self.count = folder, 0
        self.text = triton_text(self.programs[0])

    def failures(self, text, kernel):
        """The rows that do not pass, under the schedule that launches the kernel."""
        self.count += 1
        module = module_of(text, self.folder / f"kernels_{self.count}.py")
        op = ChunkOp(self.timeline, self.programs, [module], 16)
        named = [("output", ("split",)), ("summary", ("segment", 2)), ("", ("scan",))]
        schedule = use_schedule(*next(how for part, how in named if part in kernel))
        with use_config("probe", tile_k=16, tile_v=16), schedule, poisoned_empty():
            rows, _ = (self.longer if "summary" in kernel else self.trial).judge(op)
        return [row for row in rows if not row.passed]


@pytest.fixture(scope="module", params=[SPEC, CHANNEL])
def bench(request, tmp_path_factory):
    made = Bench(request.param, tmp_path_factory.mktemp("kernels"))
    made.name = request.param
    return made


def spread(items, count):
    """``count`` of the items, evenly spread."""
    return [items[i * len(items) // count] for i in range(min(count, len(items)))]


def survivors(bench, chosen):
    return [str(m) for m in chosen if not bench.failures(m.text, m.kernel)]


@pytest.mark.parametrize("kernel", ["scan", "output", "summary"])
def test_the_unchanged_kernels_pass(bench, kernel):
    assert bench.failures(bench.text, kernel) == []


def test_some_changes_are_noticed(bench):
    killable = [m for m in mutants(bench.text) if equivalent(m) is None]
    assert len({m.kernel for m in killable}) >= 5
    assert len({m.what for m in killable}) >= 10
    chosen = spread(killable, IN_CI[bench.name])
    assert survivors(bench, chosen) == []


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_many_changes_are_noticed(bench):
    killable = [m for m in mutants(bench.text) if equivalent(m) is None]
    assert survivors(bench, spread(killable, SLOW[bench.name])) == []


@pytest.mark.slow
def test_changes_that_are_called_equivalent_change_nothing(bench):
    # a whole part 256 times too large leaves a rest as large, and their sum rounds
    coarse = {m for m in mutants(bench.text) if m.changed.endswith("256.0 + 0.5)")}
    chosen = [m for m in mutants(bench.text) if equivalent(m) is not None and m not in coarse]
    killed = [str(m) for m in spread(chosen, 6) if bench.failures(m.text, m.kernel)]
    assert killed == []
