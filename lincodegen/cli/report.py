"""The command that writes an op's page."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from lincodegen.cli.arguments import cost_options, json_option, sets_option, spec_argument
from lincodegen.cli.console import echo_json, progress
from lincodegen.errors import ReportError

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@spec_argument
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Else NAME.html.")
@click.option("--verify", is_flag=True, help="Verify the op on few cases, and show the verdict.")
@click.option("--verdict", type=_FILE, help="Show what `lincodegen verify --json` printed.")
@click.option("--results", type=_FOLDER, help="Results of benchmarks; else the checkout's.")
@click.option("--records", type=_FOLDER, help="A folder of records of tuning.")
@sets_option
@cost_options
@json_option
def report(
    spec: Path,
    out: Path | None,
    verify: bool,
    sets: Mapping[str, int],
    target: str,
    as_json: bool,
    **given: Any,
) -> None:
    """Write one HTML page on an op, to read without a network.

    The spec, its derivation, the kernels with their predicted costs, the compiler's figures for
    every target, measured times and the verdict, where these exist.
    """
    from lincodegen import pipeline
    from lincodegen.report.verification import read_verdict

    try:
        from lincodegen.report.page import Measured, gather, render
    except ModuleNotFoundError as error:
        raise ReportError(
            f"The page needs {error.name}, which is not installed: pip install 'lincodegen[report]'"
        ) from error
    verdict, results, records = (given.pop(name) for name in ("verdict", "results", "records"))
    if verify and verdict:
        raise click.UsageError("--verify runs what --verdict reads: name one of them.")
    name = pipeline.load(spec, sets).name
    with progress(f"reporting on {name}") as step:
        found = None if verdict is None else read_verdict(verdict, name)
        if verify:
            found = pipeline.verify(spec, sets=sets, quick=True, on_progress=step)
        measured = Measured(found, results, records)
        page = gather(spec, target, given, sets=sets, measured=measured)
        path = out or Path(f"{name}.html")
        path.write_text(render(page, f"{datetime.now(UTC):%Y-%m-%d}"), encoding="utf-8")
    if as_json:
        echo_json({"ok": True, "spec": str(spec), "path": str(path)})
    else:
        click.echo(f"written to {path}")
