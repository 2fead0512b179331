"""The commands that tune: one or several specs, and a whole machine in ten minutes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

import click

from lincodegen.cli.arguments import Setting, SpecPath, as_mapping, json_option
from lincodegen.cli.console import CHECK_FAILED, echo_json, echo_report, progress
from lincodegen.errors import TuningError

if TYPE_CHECKING:
    from lincodegen.tuning import Request

_COUNT = click.IntRange(min=1)
_CALLS = {"cpu": ((8, 512), (8, 4096)), "cuda": ((64, 4096), (8, 32768))}


class Duration(click.ParamType[float]):
    """Seconds, written as in ``90s``, ``10m`` or ``1h``."""

    name = "duration"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The seconds; a usage error for anything else."""
        from lincodegen.durations import seconds

        try:
            return value if isinstance(value, float) else seconds(str(value))
        except ValueError as error:
            return self.fail(str(error), param, ctx)


class CallShape(click.ParamType[tuple[int, int]]):
    """``HEADSxTOKENS``, as in ``64x4096``."""

    name = "headsxtokens"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """The two counts; a usage error for anything else."""
        if isinstance(value, tuple):
            return value
        heads, _, tokens = str(value).partition("x")
        if not (heads.isdecimal() and tokens.isdecimal() and int(heads) and int(tokens)):
            return self.fail(f"`{value}` is not of the form HEADSxTOKENS, as 64x4096.", param, ctx)
        return int(heads), int(tokens)


class Given(TypedDict):
    """Options of `tune` that say for which calls and for how long."""

    calls: tuple[tuple[int, int], ...]
    size: int | None
    dims: Mapping[str, int]
    dtype: str | None
    budget: float
    trials: int
    seed: int


@click.command()
@click.argument("specs", type=SpecPath(), nargs=-1, required=True, metavar="SPEC...")
@click.option("--target", metavar="NAME", help="With --offline: a GPU that need not be there.")
@click.option("--offline", is_flag=True, help="Write what the model chooses; time nothing.")
@click.option("--device", type=click.Choice(("cpu", "cuda")), help="By default a GPU if any.")
@click.option(
    "--call",
    "calls",
    type=CallShape(),
    multiple=True,
    metavar="HEADSxTOKENS",
    help="Heads and tokens of one sequence to tune for. Repeatable.",
)
@click.option("--size", type=_COUNT, help="K, V and the like; by default 128, on a CPU 64.")
@click.option(
    "--dim",
    "dims",
    type=Setting(),
    multiple=True,
    callback=as_mapping,
    help="The size of one dimension, as in V=256. Repeatable.",
)
@click.option(
    "--dtype",
    type=click.Choice(("bfloat16", "float16", "float32")),
    help="By default bfloat16, on a CPU float32.",
)
@click.option("--budget", type=Duration(), default="10m", show_default=True, help="In all.")
@click.option("--trials", type=_COUNT, default=60, show_default=True, help="Most for a call.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of inputs and search.")
@click.option(
    "--study",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write what is on record for optuna-dashboard; time nothing.",
)
@json_option
@click.pass_context
def tune(
    ctx: click.Context,
    specs: tuple[Path, ...],
    target: str | None,
    offline: bool,
    device: str | None,
    study: Path | None,
    as_json: bool,
    **given: Unpack[Given],
) -> None:
    """Find the fastest configuration of ops on this machine, each one checked first.

    What was found is kept: an interrupted run goes on where it ended. With --offline --target
    the model's choice for a GPU is written aside; it is never used without a check.
    """
    if study is not None and offline:
        raise click.UsageError("--study and --offline exclude each other.")
    if offline != (target is not None):
        raise click.UsageError("--offline and --target go together.")
    import torch

    from lincodegen import tuning

    where = device or ("cuda" if torch.cuda.is_available() else "cpu")
    request = _request("cuda" if offline else where, given)
    with progress("tuning") as step:
        if study is not None:
            from lincodegen.tune.study import write_studies

            report = write_studies(tuning.records_of(specs), study)
        elif target is not None:
            report = tuning.tune_offline(specs, request, target, step)
        else:
            report = tuning.tune(specs, request, where, step)
    echo_report(report, as_json)
    ctx.exit(0 if report.ok else CHECK_FAILED)


def _request(kind: str, given: Given) -> Request:
    from lincodegen.tune.search import Effort
    from lincodegen.tuning import Request

    cpu = kind == "cpu"
    return Request(
        given["calls"] or _CALLS[kind],
        given["dtype"] or ("float32" if cpu else "bfloat16"),
        given["size"] or (64 if cpu else 128),
        given["dims"],
        Effort(given["trials"], given["seed"], time.monotonic() + given["budget"]),
    )


@click.command("gpu-check")
@click.option("--budget", type=Duration(), default="8m", show_default=True, help="In all.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    metavar="DIR",
    help="Folder of all that is found; an earlier run in it is gone on with.",
)
@click.option("--ops", default="", metavar="NAME,...", help="By default all, important ones first.")
@click.option("--first", default="check,tune,bench", show_default=True, help="Order of phases.")
@click.option("--device", default="cuda", show_default=True, help="cpu: in the interpreter.")
@json_option
@click.pass_context
def gpu_check(
    ctx: click.Context, budget: float, out: Path, ops: str, first: str, device: str, as_json: bool
) -> None:
    """Check, tune and time the shipped ops on a GPU within a budget; all is kept as it comes."""
    from lincodegen.gpu_check.command import check, outcome
    from lincodegen.gpu_check.options import Options, by_importance, names, phase_order

    try:
        options = Options(out, budget, by_importance(names(ops)), phase_order(names(first)))
    except TuningError as error:
        raise click.UsageError(str(error)) from error
    with progress("checking") as step:
        found = check(options, device, "triton", step)
    if as_json:
        echo_json({"ok": found["ok"], **found})
    else:
        click.echo(outcome(found, out))
    ctx.exit(0 if found["ok"] else CHECK_FAILED)
