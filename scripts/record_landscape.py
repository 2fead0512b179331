"""Times every point of the PyTorch form's space on this CPU and writes them down.

    OMP_NUM_THREADS=1 PYTHONPATH=. python scripts/record_landscape.py

The grid is finer than the one that is tuned in. A search is judged on such landscapes
(`tests/tune/test_landscape.py`): real times, the same every time. Points are timed in turns, in
another order each; of a point the least counts, since what else runs on a machine only ever adds.
"""

from __future__ import annotations

import json
import os
import platform
import random
import statistics
from dataclasses import replace
from pathlib import Path

import click
import torch

from lincodegen.config import Bucket
from lincodegen.resources import generated_dir
from lincodegen.tune import machine
from lincodegen.tune.clock import Bench
from lincodegen.tune.gate import Subject, Work
from lincodegen.tune.judge import recurrence_in
from lincodegen.tune.search import Point
from lincodegen.tune.session import bucket_of, torch_form
from lincodegen.tune.torch_space import TorchSpace

FOLDER = Path(__file__).parents[1] / "tests" / "tune" / "landscapes"
RUNS = 3
CHUNKS = tuple(8 << i for i in range(7))
SOLVE_BLOCKS = tuple(4 << i for i in range(7))


def timed(bench: Bench, form: TorchSpace, rounds: int) -> dict[Point, list[float]]:
    """Seconds of each point: the least of each round."""
    points = list(form.space().points)
    found: dict[Point, list[float]] = {p: [] for p in points}
    for number in range(rounds):
        random.Random(number).shuffle(points)
        for point in points:
            found[point].append(min(bench.times(form.config(point), RUNS)))
        click.echo(f"round {number + 1} of {rounds}")
    return found


def landscape(op: str, bucket: Bucket, form: TorchSpace, times: dict[Point, list[float]]) -> str:
    """The text of a data file, a point a line: values, least and median microseconds."""
    where = machine.provenance(generated_dir() / op, torch.device("cpu"), 0)
    head = {
        "op": op,
        "bucket": str(bucket),
        "cpu": _model(),
        "cores": os.cpu_count(),
        "threads": form.threads,
        "load": round(os.getloadavg()[0], 1),
        "system": platform.platform(),
        "torch": where.torch,
        "code": where.code,
        "rounds": len(next(iter(times.values()))),
        "runs": RUNS,
        "parameters": {p.name: list(p.values) for p in form.space().parameters},
    }
    rows = [
        [*point, round(1e6 * min(t), 1), round(1e6 * statistics.median(t), 1)]
        for point, t in times.items()
    ]
    facts = ",\n".join(f" {json.dumps(name)}: {json.dumps(fact)}" for name, fact in head.items())
    lines = ",\n".join(json.dumps(row) for row in sorted(rows))
    return f'{{\n{facts},\n "points": [\n{lines}\n]}}\n'


def _model() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), "unknown")


@click.command(help=__doc__)
@click.option("--op", default="gated_delta_rule", show_default=True)
@click.option("--size", default=32, show_default=True, help="Of K, V and the like.")
@click.option("--heads", default=16, show_default=True)
@click.option("--tokens", multiple=True, type=int, default=(512, 1024), show_default=True)
@click.option("--rounds", default=4, show_default=True)
def main(op: str, size: int, heads: int, tokens: tuple[int, ...], rounds: int) -> None:
    """Records one landscape for every number of tokens."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    folder = generated_dir() / op
    sizes = dict.fromkeys(recurrence_in(folder).dims, size)
    subject = Subject(folder, "torch", "cpu", "float32", sizes)
    for count in tokens:
        work = Work(heads, count)
        form = replace(torch_form(subject, work), chunks=CHUNKS, solve_blocks=SOLVE_BLOCKS)
        bench, bucket = Bench.of(subject, work), bucket_of(subject, work)
        text = landscape(op, bucket, form, timed(bench, form, rounds))
        path = FOLDER / f"{op}_{heads}x{count}.json"
        path.write_text(text, encoding="utf-8")
        click.echo(f"{path}: {len(form.space().points)} points")


if __name__ == "__main__":
    main()
