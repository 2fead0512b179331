"""What smaller tiles say of larger ones, and that what they settle is not compiled."""

from dataclasses import replace
from pathlib import Path

import pytest

from lincodegen.compile import Bounds, CompileJob, Resources, compile_many
from lincodegen.compile.bounds import SPILLED
from lincodegen.targets import load_target

SM_90 = load_target("sm_90")
JOB = CompileJob(
    Path("kernels.py"),
    "scan",
    {"q": "*bf16"},
    {"BT": 64, "BK": 64, "PRECISION": "ieee"},
    SM_90,
)
USUAL = Resources(128, 0, 40_000, 0, 8, 0, 0, 0, 0, 0, 4, 0.1, None)
SPILLING = replace(USUAL, stack_bytes=SPILLED + 1)
EXCEEDING = replace(USUAL, shared_bytes=SM_90.shared_per_block + 1)
LATE = Resources.late(JOB, 20.0, 20.1)


def tiled(bt: int = 64, bk: int = 64, **others: object) -> CompileJob:
    return replace(JOB, constexprs={**JOB.constexprs, "BT": bt, "BK": bk}, **others)


def known(found: Resources, job: CompileJob = JOB) -> Bounds:
    bounds = Bounds()
    bounds.note(job, found)
    return bounds


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (SPILLING, "spills 1021 bytes a thread"),
        (EXCEEDING, f"needs {SM_90.shared_per_block + 1} of {SM_90.shared_per_block} bytes"),
        (LATE, "got no kernel after 20 s"),
    ],
)
def test_no_smaller_tile_is_no_better(found: Resources, why: str) -> None:
    bounds = known(found)
    for job in (tiled(128), tiled(64, 128), tiled(128, 128), JOB):
        reason = bounds.reason(job)
        assert reason is not None
        assert "BT = 64, BK = 64, 2 stages" in reason
        assert why in reason


@pytest.mark.parametrize("found", [SPILLING, EXCEEDING, LATE])
@pytest.mark.parametrize(
    "other",
    [
        tiled(32, 256),
        tiled(128, 32),
        tiled(128, num_warps=8),
        tiled(128, kernel_name="output"),
        tiled(128, target=load_target("sm_80")),
        tiled(128, arguments={"q": "*fp32"}),
        tiled(128, options={"maxnreg": 128}),
        replace(JOB, constexprs={**JOB.constexprs, "PRECISION": "tf32"}),
    ],
)
def test_another_kernel_or_a_smaller_tile_is_open(found: Resources, other: CompileJob) -> None:
    assert known(found).reason(other) is None


def test_stages_count_for_shared_memory_alone() -> None:
    fewer = tiled(128, num_stages=1)
    assert known(EXCEEDING).reason(fewer) is None
    assert known(EXCEEDING).reason(tiled(128, num_stages=3)) is not None
    assert known(SPILLING).reason(fewer) is not None
    assert known(LATE).reason(fewer) is not None


@pytest.mark.parametrize(
    "found",
    [
        USUAL,
        replace(USUAL, stack_bytes=SPILLED),
        replace(USUAL, shared_bytes=SM_90.shared_per_block),
        Resources.failure(JOB, "CompilationError: a dot of 8 rows", 0.1),
    ],
)
def test_what_fits_or_fails_otherwise_says_nothing_of_larger_tiles(found: Resources) -> None:
    assert known(found).reason(tiled(128, 128)) is None


def test_the_smallest_is_compiled_first_and_settles_the_others(tmp_path: Path) -> None:
    """A module that hangs costs its limit once, whatever the order of the jobs."""
    path = tmp_path / "hangs.py"
    path.write_text("import time\ntime.sleep(600)\n")
    sizes = [(128, 64), (64, 128), (64, 64), (128, 128)]
    jobs = [tiled(bt, bk, source_path=path) for bt, bk in sizes]
    jobs[1:1] = [tiled(16, 256, source_path=tmp_path / "missing.py")]
    found = compile_many(
        jobs, workers=1, timeout_s=2.0, cache_dir=tmp_path / "cache", bounds=Bounds()
    )
    assert [r.is_late for r in found] == [False, False, False, True, False]
    assert "FileNotFoundError" in str(found[1].error)
    for place in (0, 2, 4):
        assert found[place].seconds == 0.0
        reason = "no tile is smaller than in BT = 64, BK = 64, 2 stages, which got no kernel"
        assert reason in str(found[place].error)
