"""How long it takes to compile candidates ahead of time for a GPU that is not there.

python -m pytest tests/tune/test_offline_pruning.py -m slow -s
"""

import random
import resource
import sys
import time

import pytest

from lincodegen import pipeline
from lincodegen.compile import Bounds, Resources, compile_many
from lincodegen.cost.sizes import CallSizes
from lincodegen.emit.op_plan import plan_op
from lincodegen.resources import specs_dir
from lincodegen.targets import load_target
from lincodegen.tune.candidates import Model, Pool, shortlist
from lincodegen.tune.kernels import op_kernels

OPS = ("gated_delta_rule", "kda", "gla")
PAIRS = 150
CORES = 2
TIMEOUT_S = 20.0
LIMIT_S = 300.0


def jobs_of(op, folder):
    """What the tuner compiles for an op before it times anything."""
    pytest.importorskip("triton", reason="kernels are compiled")
    found = []

    def noted(jobs, _):
        found.extend(jobs)
        return [
            Resources(128, 0, 40_000, 0, 8, 0, 0, 0, 0, 0, j.num_warps, 0.1, None) for j in jobs
        ]

    compiled = pipeline.compile_spec(specs_dir() / f"{op}.yaml")
    sizes = CallSizes(1, 4096, 64, 128, {}, "bf16")
    plan = plan_op(compiled.timeline, compiled.programs)
    model = Model.of(plan, compiled.programs, sizes, load_target("sm_90"))
    shortlist(op_kernels(op, compiled.programs), model, Pool(folder / f"{op}.py", compiler=noted))
    return found


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_150_candidates_are_compiled_cold_within_five_minutes_of_two_cores(tmp_path):
    """Each is compiled, ran out of its own time, or is larger than one that needed too much.

    On an otherwise idle machine: the limits are of the clock's seconds.
    """
    found = [jobs_of(op, tmp_path) for op in OPS]
    jobs = random.Random(0).sample([job for own in found for job in own], PAIRS)
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    results = compile_many(
        jobs,
        workers=CORES,
        timeout_s=TIMEOUT_S,
        cache_dir=tmp_path / "cold cache",
        bounds=Bounds(),
    )
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - start
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    pairs = list(zip(jobs, results, strict=True))
    made = [(job, r) for job, r in pairs if r.error is None]
    late = [(job, r) for job, r in pairs if r.is_late]
    dropped = [(job, r) for job, r in pairs if str(r.error).startswith("not compiled: ")]
    sys.stdout.write(
        f"\n{PAIRS} candidates: {spent:.0f} s of processors, {wall:.0f} s in all, the longest "
        f"{max(r.seconds for r in results):.1f} s; {len(made)} compiled, {len(late)} out of time, "
        f"{len(dropped)} not compiled\n"
    )
    assert len(made) + len(late) + len(dropped) == PAIRS, [r.error for r in results]
    hopeless = [*late, *((job, r) for job, r in made if wants_too_much(job, r))]
    for job, r in dropped:
        assert any(no_tile_is_smaller(job, other) for other, _ in hopeless), (job, r.error)
    assert len(made) > PAIRS // 2
    assert wall <= LIMIT_S


def wants_too_much(job, found):
    """Half of a thread's values spilled, or more shared memory than there is."""
    return found.stack_bytes > 1020 or found.shared_bytes > job.target.shared_per_block


def no_tile_is_smaller(job, other):
    names = [n for n in ("BT", "BK", "BV") if n in job.constexprs]
    return (job.kernel_name, job.num_warps) == (other.kernel_name, other.num_warps) and all(
        job.constexprs[n] >= other.constexprs[n] for n in names
    )
