"""The command that times ops against other libraries and against what the device allows."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

import click

from lincodegen.cli.arguments import json_option
from lincodegen.cli.console import CHECK_FAILED, echo_json, progress

if TYPE_CHECKING:
    from lincodegen.bench.compare import Comparison
    from lincodegen.bench.record import Record
    from lincodegen.bench.session import Options

WIDTH = 120
PRESETS = ("cpu", "decode", "published", "roof", "targets")


class Rest(TypedDict):
    """Options that are passed on as they are."""

    threads: int | None
    most_tokens: int | None
    seconds: float
    budget: float | None
    out: Path | None
    base: Path | None
    as_json: bool


@click.command()
@click.argument("ops", nargs=-1, metavar="[OP]...")
@click.option("--preset", type=click.Choice(PRESETS), help="By default cpu, or roof on a GPU.")
@click.option("--dtype", type=click.Choice(("bf16", "fp16", "fp32")), help="By default as usual.")
@click.option("--device", type=click.Choice(("cpu", "cuda")), help="By default a GPU if any.")
@click.option("--threads", type=click.IntRange(min=1), help="Of PyTorch on a CPU.")
@click.option(
    "--most-tokens", type=click.IntRange(min=1), help="Leave out works of longer sequences."
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.0),
    default=0.5,
    show_default=True,
    help="Spent on each contestant; at least five runs.",
)
@click.option("--budget", type=click.FloatRange(min=0.0), help="Seconds in all; stop after them.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write results to FILE as they come.",
)
@click.option(
    "--base",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Compare with an earlier FILE; exit code 1 if an op is slower beyond noise.",
)
@json_option
@click.pass_context
def bench(
    ctx: click.Context,
    ops: tuple[str, ...],
    preset: str | None,
    dtype: str | None,
    device: str | None,
    **rest: Unpack[Rest],
) -> None:
    """Time ops against other libraries, their token loop and the device's own rates.

    Every time stands beside its error against the recurrence in float64. Exit code 1 if an op
    of ours is wrong or cannot be timed, or is slower than in the base.
    """
    from lincodegen.bench import compare, record, session, shapes
    from lincodegen.bench.contestants import OURS

    options = _options(device, dtype, rest)
    gpu = options.device.type == "cuda"
    works = shapes.preset(preset or ("roof" if gpu else "cpu"), ops, rest["most_tokens"])
    base = None if rest["base"] is None else record.read(rest["base"])
    with progress("timing") as step:
        found = session.run(works, options, rest["out"], step)
    comparison = None if base is None else compare.compare(base, found)
    _print(found, comparison, rest["as_json"])
    bad = any(row.contestant == OURS and row.status != "ok" for row in found.rows)
    worse = comparison is not None and not comparison.ok
    ctx.exit(CHECK_FAILED if bad or worse else 0)


def _options(device: str | None, dtype: str | None, rest: Rest) -> Options:
    """What the command line asks for, on a GPU if there is one."""
    import torch

    from lincodegen.bench.measure import Effort
    from lincodegen.bench.session import Options

    if device == "cuda" and not torch.cuda.is_available():
        raise click.UsageError("--device cuda: PyTorch finds no GPU.")
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if rest["threads"] is not None:
        torch.set_num_threads(rest["threads"])
    return Options(
        dtype=dtype or ("bf16" if place.type == "cuda" else "fp32"),
        device=place,
        effort=Effort(seconds=rest["seconds"]),
        budget=rest["budget"],
    )


def _print(record: Record, comparison: Comparison | None, as_json: bool) -> None:
    """Tables, or one JSON object with what they say."""
    if as_json:
        changes = {} if comparison is None else {"comparison": comparison.to_json()}
        echo_json({**record.to_json(), **changes})
        return
    from rich.console import Console

    from lincodegen.bench.table import show, show_comparison

    # a file or a pipe has no width of its own
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    show(record, console)
    if comparison is not None:
        show_comparison(comparison, console)
