"""Kernels compiled for GPUs that are not there, in child processes, from an interpreting parent."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lincodegen.compile import CompileJob, Resources, compile_kernel, compile_many
from lincodegen.targets import list_targets, load_target

FOLDER = Path(__file__).parent
INVERSE_TARGETS = ("sm_80", "sm_90", "sm_100", "sm_120", "gfx942")


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("triton")


def scan(target: str, **constexprs: int) -> CompileJob:
    pointers = dict.fromkeys(("q", "k", "v", "o"), "*bf16") | {"g": "*fp32", "ht": "*fp32"}
    return CompileJob(
        source_path=FOLDER / "gated_scan.py",
        kernel_name="scan_fwd_kernel",
        arguments={**pointers, "scale": 0.088, "T": 4096},
        constexprs={"H": 8, "K": 128, "V": 128, "BT": 64, "BV": 64, **constexprs},
        target=load_target(target),
    )


def prep(target: str, BT: int) -> CompileJob:
    return CompileJob(
        source_path=FOLDER / "inverse_candidates.py",
        kernel_name="prep_kernel",
        arguments={"k": "*bf16", "beta": "*fp32", "t": "*bf16", "T": 4096},
        constexprs={"H": 8, "K": 128, "BT": BT},
        target=load_target(target),
        num_stages=1,
    )


def product(stride: int) -> CompileJob:
    return CompileJob(
        source_path=FOLDER / "strided_product.py",
        kernel_name="product_kernel",
        arguments={"a": "*bf16", "b": "*bf16", "c": "*fp32", "stride": stride, "K": 1024},
        constexprs={"BM": 64, "BK": 64},
        target=load_target("sm_90"),
        num_stages=3,
    )


def faulty(kernel_name: str, x: str = "*i32") -> CompileJob:
    return CompileJob(FOLDER / "faulty_kernels.py", kernel_name, {"x": x}, {}, load_target("sm_90"))


JOBS = {
    **{f"scan {target}": scan(target) for target in list_targets()},
    **{f"prep {t} {bt}": prep(t, bt) for t in INVERSE_TARGETS for bt in (16, 32, 64)},
    "large": scan("sm_90", BT=128, BV=128, K=256),
    "no state": replace(scan("sm_90"), arguments={**scan("sm_90").arguments, "ht": None}),
    "few registers": replace(scan("sm_90"), options={"maxnreg": 96}),
    "aligned": product(1024),
    "odd": product(1023),
    "wrong shapes": faulty("wrong_shapes"),
    "unknown instruction": faulty("unknown_instruction"),
    "no kernel": faulty("no_kernel"),
    "unknown pointer": faulty("wrong_shapes", "*bf17"),
}


@pytest.fixture(scope="module")
def compiled(cache_dir: Path) -> dict[str, Resources]:
    seen: dict[int, Resources] = {}
    results = compile_many(
        tuple(JOBS.values()), workers=2, on_result=seen.__setitem__, cache_dir=cache_dir
    )
    assert [seen[index] for index in range(len(JOBS))] == list(results)
    return dict(zip(JOBS, results, strict=True))


@pytest.mark.parametrize("target", list_targets())
@pytest.mark.smoke
def test_every_target_compiles_and_fits(compiled: dict[str, Resources], target: str) -> None:
    got = compiled[f"scan {target}"]
    assert got.error is None
    assert got.shared_bytes <= load_target(target).shared_per_block
    assert 32 <= got.registers <= load_target(target).max_registers_per_thread
    assert got.num_warps == 4
    counts = {"wgmma": got.wgmma, "mma.sync": got.mma, "tcgen05": got.tcgen05, "mfma": got.mfma}
    assert [unit for unit, n in counts.items() if n] == [load_target(target).matrix_unit]
    assert (got.tensor_memory_columns > 0) == (load_target(target).matrix_unit == "tcgen05")


def test_spills_are_seen_where_they_are(compiled: dict[str, Resources]) -> None:
    held, spilled = compiled["scan sm_100"], compiled["few registers"]
    assert (held.stack_bytes, held.local_loads, held.local_stores) == (0, 0, 0)
    assert spilled.registers <= 96
    assert spilled.stack_bytes > 64
    assert spilled.local_loads > 0
    assert spilled.local_stores > 0
    assert "spills" in str(spilled.excess(load_target("sm_90")))


def test_too_much_shared_memory_is_seen(compiled: dict[str, Resources]) -> None:
    large = compiled["large"]
    assert large.error is None
    assert large.shared_bytes > load_target("gfx942").shared_per_block
    assert "shared memory" in str(large.excess(load_target("sm_86"), stack_bytes=10**6))


def test_an_absent_pointer_leaves_its_store_out(compiled: dict[str, Resources]) -> None:
    assert compiled["no state"].error is None
    assert compiled["no state"].registers <= compiled["scan sm_90"].registers
    assert compiled["no state"] != compiled["scan sm_90"]


def test_arguments_are_specialised_as_in_a_call(compiled: dict[str, Resources]) -> None:
    # only loads of aligned rows can be copied ahead into shared memory
    assert compiled["aligned"].error is compiled["odd"].error is None
    assert compiled["aligned"].shared_bytes > 1.5 * compiled["odd"].shared_bytes


@pytest.mark.parametrize("rows", [16, 32, 64])
@pytest.mark.parametrize("target", INVERSE_TARGETS)
def test_a_triangular_inverse_stays_in_registers(
    compiled: dict[str, Resources], target: str, rows: int
) -> None:
    got = compiled[f"prep {target} {rows}"]
    assert (got.error, got.stack_bytes) == (None, 0)
    assert got.shared_bytes <= 24 * 1024


@pytest.mark.parametrize(
    ("job", "message"),
    [
        ("wrong shapes", "CompilationError"),
        ("unknown instruction", r"PTXASError(.|\n)*known instruction"),
        ("no kernel", "defines no Triton kernel 'no_kernel'"),
        ("unknown pointer", r"argument x: '\*bf17' is no pointer type; expected \* and one of"),
    ],
)
def test_errors_are_results(compiled: dict[str, Resources], job: str, message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        raise RuntimeError(compiled[job].error)
    assert len(str(compiled[job].error)) <= 2000


def test_nothing_is_printed_and_the_cache_is_where_it_should_be(
    cache_dir: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setenv("TRITON_CACHE_DIR", os.devnull)
    folder = cache_dir / "own"
    first = compile_kernel(scan("sm_90"), cache_dir=folder)
    again = compile_kernel(scan("sm_90"), cache_dir=folder)
    failed = compile_kernel(faulty("unknown_instruction"), cache_dir=folder)
    assert replace(again, seconds=0.0) == replace(first, seconds=0.0)
    assert again.seconds < first.seconds / 2
    assert failed.error is not None
    assert list(folder.glob("*/*.cubin"))
    assert capfd.readouterr() == ("", "")


def module(folder: Path, name: str, text: str) -> CompileJob:
    path = folder / f"{name}.py"
    path.write_text(text)
    return replace(scan("sm_90"), source_path=path)


CRASH = "import os\nos.abort()\n"
EXIT = "import os\nos._exit(3)\n"
HANG = """
import subprocess, sys
child = subprocess.Popen(["sleep", "600"])
with open({pid!r}, "w") as file:
    file.write(str(child.pid))
child.wait()
"""


def test_a_worker_that_dies_or_hangs_costs_one_job(tmp_path: Path, cache_dir: Path) -> None:
    pid_file = tmp_path / "pid"
    jobs = (
        module(tmp_path, "crash", CRASH),
        module(tmp_path, "hang", HANG.format(pid=str(pid_file))),
        module(tmp_path, "leave", EXIT),
        scan("sm_90"),
    )
    results = compile_many(jobs, workers=1, timeout_s=10, cache_dir=cache_dir)
    errors = [result.error for result in results]
    assert "signal SIGABRT" in str(errors[0])
    assert errors[1] == "no kernel after 10 s"
    assert "status 3" in str(errors[2])
    assert errors[3] is None
    assert not is_running(int(pid_file.read_text()))


def is_running(pid: int) -> bool:
    """Whether a process runs; one that waits to be reaped does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_an_error_in_the_callback_ends_the_pool(tmp_path: Path, cache_dir: Path) -> None:
    def stop(index: int, result: Resources) -> None:
        raise KeyboardInterrupt

    pid_file = tmp_path / "pid"
    hang = module(tmp_path, "hang", HANG.format(pid=str(pid_file)))
    with pytest.raises(KeyboardInterrupt):
        compile_many((faulty("no_kernel"), hang), workers=1, on_result=stop, cache_dir=cache_dir)
    assert not pid_file.exists() or not is_running(int(pid_file.read_text()))


def test_neighbours_of_a_kernel_can_be_imported(tmp_path: Path, cache_dir: Path) -> None:
    text = (FOLDER / "gated_scan.py").read_text()
    (tmp_path / "__init__.py").write_text("raise RuntimeError('the package itself is not needed')")
    (tmp_path / "kernels.py").write_text(text)
    job = module(tmp_path, "op", "from .kernels import scan_fwd_kernel\n")
    assert compile_kernel(job, cache_dir=cache_dir).error is None


def test_no_jobs_start_no_process(monkeypatch: pytest.MonkeyPatch, cache_dir: Path) -> None:
    def refuse(*args: object, **kwargs: object) -> Callable[..., None]:
        raise AssertionError("started a process")

    monkeypatch.setattr("subprocess.Popen", refuse)
    assert compile_many((), cache_dir=cache_dir) == ()
