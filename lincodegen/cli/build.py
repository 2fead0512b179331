"""The command that writes ops: one or several specs, for any machine and for named targets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import click

from lincodegen.cli.arguments import SpecPath, json_option, sets_option, shipped_specs
from lincodegen.cli.console import (
    CHECK_FAILED,
    CheckedReport,
    Progress,
    describe,
    echo_json,
    error_json,
    exit_code,
    progress,
)
from lincodegen.errors import LincodegenError


@dataclass(frozen=True, slots=True)
class Request:
    """What to do with every spec of one call."""

    sets: Mapping[str, int]
    out: Path | None
    compare: bool
    targets: tuple[str, ...]
    as_json: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one spec: an exit code, and the facts as JSON values."""

    code: int
    facts: Mapping[str, object]


@click.command()
@click.argument("specs", type=SpecPath(), nargs=-1, metavar="SPEC...")
@click.option("--all", "every", is_flag=True, help="Build every shipped spec.")
@click.option("--check", "compare", is_flag=True, help="Write nothing; fail if text would change.")
@sets_option
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write the package DIR/NAME/; by default generated/NAME/.",
)
@click.option(
    "--target",
    "targets",
    multiple=True,
    metavar="NAME",
    help="Compile ahead of time for a GPU, as in sm_90. Repeatable.",
)
@json_option
def build(
    specs: tuple[Path, ...],
    every: bool,
    compare: bool,
    sets: Mapping[str, int],
    out: Path | None,
    targets: tuple[str, ...],
    as_json: bool,
) -> None:
    """Derive, prove, emit and verify the ops of specs.

    One spec's error does not keep the others from being built.
    """
    if every == bool(specs):
        raise click.UsageError("give one or more SPECs, or --all.")
    request = Request(sets, out, compare, targets, as_json)
    outcomes = [_outcome(spec, request) for spec in (shipped_specs() if every else specs)]
    code = max((outcome.code for outcome in outcomes), default=0)
    if as_json:
        echo_json({"ok": code == 0, "specs": [outcome.facts for outcome in outcomes]})
    click.get_current_context().exit(code)


def _outcome(spec: Path, request: Request) -> Outcome:
    facts: dict[str, object] = {"spec": str(spec)}
    try:
        with progress(f"building {spec.stem}") as step:
            reports = _reports(spec, request, step)
    except LincodegenError as error:
        if not request.as_json:
            click.echo(describe(error), err=True)
        return Outcome(exit_code(error), facts | error_json(error))
    if not request.as_json:
        for report in reports.values():
            click.echo(str(report))
    ok = all(report.ok for report in reports.values())
    facts |= {"ok": ok} | {name: report.to_json() for name, report in reports.items()}
    return Outcome(0 if ok else CHECK_FAILED, facts)


def _reports(spec: Path, request: Request, step: Progress) -> dict[str, CheckedReport]:
    """The report of the build or comparison and, if that went well, of the targets."""
    from lincodegen import pipeline

    run = pipeline.check_generated if request.compare else pipeline.build
    first = run(spec, sets=request.sets, out=request.out, on_progress=step)
    reports: dict[str, CheckedReport] = {"compared" if request.compare else "built": first}
    if first.ok and request.targets:
        reports["compiled"] = pipeline.compile_targets(
            spec, request.targets, sets=request.sets, on_progress=step
        )
    return reports
