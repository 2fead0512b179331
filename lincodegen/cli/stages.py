"""The commands that run the pipeline: check, show, verify.

Each imports the pipeline in its body: with it come sympy, torch and triton.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from lincodegen.cli.arguments import (
    cost_options,
    cost_options_given,
    json_option,
    sets_option,
    spec_argument,
)
from lincodegen.cli.console import CHECK_FAILED, echo_json, echo_report, progress

STAGES = ("spec", "derive", "program", "schedule", "emit")
DTYPES = ("float32", "float16", "bfloat16", "float64")


@click.command()
@spec_argument
@sets_option
@json_option
@click.pass_context
def check(ctx: click.Context, spec: Path, sets: Mapping[str, int], as_json: bool) -> None:
    """Parse a spec, derive its chunked form and prove it; write nothing."""
    from lincodegen import pipeline

    with progress(f"checking {spec.stem}"):
        report = pipeline.check(spec, sets)
    echo_report(report, as_json)
    ctx.exit(0 if report.ok else CHECK_FAILED)


@click.command()
@spec_argument
@click.option("--after", type=click.Choice(STAGES), default="spec", show_default=True)
@sets_option
@cost_options
@json_option
@click.pass_context
def show(
    ctx: click.Context,
    spec: Path,
    after: str,
    sets: Mapping[str, int],
    target: str,
    as_json: bool,
    **sizes: int | str | Mapping[str, int],
) -> None:
    """Print what a stage of the compiler makes of a spec; after schedule, what it costs."""
    from lincodegen import pipeline

    given = cost_options_given(ctx)
    if given and after != "schedule":
        raise click.UsageError(f"{given[0]} goes with --after schedule, not with {after}.")
    with progress(f"{spec.stem}: up to {after}"):
        text = pipeline.show(spec, after, sets)
        cost = pipeline.cost(spec, target, sizes, sets) if after == "schedule" else None
    if as_json:
        found = {"cost": cost.to_json()} if cost is not None else {}
        echo_json({"ok": True, "spec": str(spec), "after": after, "text": text, **found})
    else:
        click.echo(text if cost is None else f"{text}\n\n{cost}")


@click.command()
@spec_argument
@click.option("--dtype", type=click.Choice(DTYPES), default="float32", show_default=True)
@click.option("--quick", is_flag=True, help="Few cases: seconds instead of minutes.")
@sets_option
@json_option
@click.pass_context
def verify(
    ctx: click.Context,
    spec: Path,
    dtype: str,
    quick: bool,
    sets: Mapping[str, int],
    as_json: bool,
) -> None:
    """Compare an op and its gradients with its float64 recurrence."""
    from lincodegen import pipeline

    with progress(f"verifying {spec.stem}") as step:
        verdict = pipeline.verify(spec, sets=sets, dtype=dtype, quick=quick, on_progress=step)
    echo_report(verdict, as_json)
    ctx.exit(0 if verdict.passed else CHECK_FAILED)
