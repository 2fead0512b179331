"""Compiles candidates for GPUs that need not be there and records each op's default tiles.

python scripts/pick_defaults.py --target sm_90 specs/retention.yaml
python scripts/pick_defaults.py --refresh        the chosen tiles as they are, their resources anew
python scripts/pick_defaults.py --kernel scan_fwd specs/kda.yaml      these anew, the others kept
"""

from __future__ import annotations

import argparse
import importlib.metadata
import time
from dataclasses import dataclass, replace
from pathlib import Path

from lincodegen.cost.sizes import CallSizes
from lincodegen.emit.op_plan import OpPlan, plan_op
from lincodegen.errors import LincodegenError
from lincodegen.pipeline import compile_spec
from lincodegen.program.program import Program
from lincodegen.targets import load_target
from lincodegen.tune.candidates import Model
from lincodegen.tune.compiled import DTYPE, compile_defaults, config_of
from lincodegen.tune.compiled import SIZE as COMPILED_SIZE
from lincodegen.tune.defaults import Case, Effort, OpDefaults, choose_defaults, choose_kernels
from lincodegen.tune.kernels import OpKernels, op_kernels
from lincodegen.tune.preference import Candidate
from lincodegen.tune.table import kernel_entry, op_entry, read_table, write_table

ROOT = Path(__file__).resolve().parents[1]
TABLES = ROOT / "lincodegen" / "configs" / "defaults"
TARGETS = ("sm_90", "sm_80", "sm_100", "sm_120", "gfx942")
SIZE = 128


@dataclass(frozen=True, slots=True)
class Subject:
    """An op's kernels, and what predicts their times."""

    op: OpKernels
    plan: OpPlan
    programs: tuple[Program, ...]


def main() -> None:
    """Reads the command line and goes over targets and specs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("specs", nargs="*", type=Path, help="by default all of specs/")
    parser.add_argument("--target", action="append", help=f"by default {', '.join(TARGETS)}")
    parser.add_argument("--dtype", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument("--size", type=int, default=SIZE, help="K and V")
    parser.add_argument("--candidates", type=int, default=12, help="most a kernel")
    parser.add_argument("--refresh", action="store_true", help="compile what was chosen again")
    parser.add_argument("--kernel", default="", help="only kernels whose name ends so")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--scratch", type=Path, default=ROOT / ".defaults", help="modules")
    options = parser.parse_args()
    options.scratch.mkdir(parents=True, exist_ok=True)
    specs = options.specs or sorted((ROOT / "specs").glob("*.yaml"))
    subjects = [s for path in specs if (s := _subject(path)) is not None]
    ops = [s.op for s in subjects]
    seeds: dict[str, OpDefaults] = {}
    for name in options.target or TARGETS:
        first = not seeds
        most = options.candidates if first else min(options.candidates, 6)
        effort = Effort(most, options.workers)
        case = _case(subjects, name, options.size, options.dtype)
        if options.refresh:
            _refresh(ops, name, options.kernel)
            continue
        if options.kernel:
            for op in ops:
                _choose_kernel(_only(op, options.kernel), options.scratch, case, effort)
            continue
        for op in ops:
            found = _choose(op, options.scratch, case, effort, seeds.get(op.op))
            if found is not None and first:
                seeds[op.op] = found


def _case(subjects: list[Subject], target: str, size: int, dtype: str) -> Case:
    """What is compiled for, with the model of every op for calls of that kind."""
    there, calls = load_target(target), CallSizes(size=size, dtype=dtype)
    models = {s.op.op: Model.of(s.plan, s.programs, calls, there) for s in subjects}

    def seconds(op: str, label: str, candidate: Candidate) -> float:
        return models[op].seconds(label, candidate.config, candidate.resources)

    return Case(there, {"k": size, "v": size}, dtype, seconds)


def _refresh(ops: list[OpKernels], target: str, end: str) -> None:
    """Writes the resources that today's kernels take with the tiles of a target's table."""
    path = TABLES / f"{target}.json"
    _, classes = read_table(path)
    entries = classes.get(f"{DTYPE} {COMPILED_SIZE}", {})
    for op in ops:
        if op.op in entries:
            report = compile_defaults(_only(op, end), [target], lambda _: None)
            labels = {k.launch.label for k in op.kernels}
            kernels = {n: e for n, e in entries[op.op]["kernels"].items() if n in labels}
            known = {k.label: k for k in report.kernels if k.label in kernels}
            entries[op.op]["kernels"] = kernels | {
                label: kernel_entry(Candidate(config_of(entries[op.op], label), k.resources))
                for label, k in known.items()
            }
            write_table(path, importlib.metadata.version("triton"), classes)
            print(f"{target} {op.op}: {'fits' if report.ok else report}", flush=True)


def _only(op: OpKernels, end: str) -> OpKernels:
    """The op with the kernels alone whose name ends so."""
    return replace(op, kernels=tuple(k for k in op.kernels if k.launch.label.endswith(end)))


def _choose_kernel(op: OpKernels, scratch: Path, case: Case, effort: Effort) -> None:
    """Chooses anew for the kernels, at the chunk that the target's table has for their op."""
    start = time.perf_counter()
    path = TABLES / f"{case.target.name}.json"
    _, classes = read_table(path)
    entry = classes[f"{case.dtype} {case.sizes['k']}"][op.op]
    begin = entry["chunk_size"], None
    found = choose_kernels(op, scratch / f"{op.op}.py", case, effort, begin)
    if found is None:
        raise LincodegenError(f"{case.target.name} {op.op}: nothing fits at chunk {begin[0]}")
    entry["kernels"] |= {label: kernel_entry(c) for label, c in found.items()}
    write_table(path, importlib.metadata.version("triton"), classes)
    chosen = {n: (c.config.tile_v, c.config.num_warps, c.exceeds) for n, c in found.items()}
    print(f"{case.target.name} {op.op}: {chosen}, {time.perf_counter() - start:.0f} s", flush=True)


def _subject(path: Path) -> Subject | None:
    compiled = compile_spec(path)
    if compiled.timeline is None or not compiled.programs:
        return None
    op = op_kernels(compiled.recurrence.name, compiled.programs)
    return Subject(op, plan_op(compiled.timeline, compiled.programs), compiled.programs)


def _choose(
    op: OpKernels, scratch: Path, case: Case, effort: Effort, seed: OpDefaults | None
) -> OpDefaults | None:
    """Chooses, writes the file again, and says what came of it."""
    start = time.perf_counter()
    label = f"{case.target.name} {op.op}"
    try:
        found = choose_defaults(op, scratch / f"{op.op}.py", case, effort, seed)
    except LincodegenError as error:
        print(f"{label}: {error}", flush=True)
        return None
    path = TABLES / f"{case.target.name}.json"
    _, classes = read_table(path)
    classes.setdefault(f"{case.dtype} {case.sizes['k']}", {})[op.op] = op_entry(found)
    write_table(path, importlib.metadata.version("triton"), classes)
    over = {n: c.exceeds for n, c in found.chosen.items() if c.exceeds is not None}
    seconds = time.perf_counter() - start
    print(f"{label}: chunk {found.chunk_size}, exceeds {over or '-'}, {seconds:.0f} s", flush=True)
    return found


if __name__ == "__main__":
    main()
