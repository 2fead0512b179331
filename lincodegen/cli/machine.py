"""The command that says what this machine can do."""

from __future__ import annotations

import click

from lincodegen.cli.arguments import json_option
from lincodegen.cli.console import CHECK_FAILED, echo_report, progress


@click.command()
@json_option
def doctor(as_json: bool) -> None:
    """Say what this machine can do, and what is wrong with it."""
    from lincodegen.doctor import diagnose

    with progress("looking at this machine"):
        report = diagnose()
    echo_report(report, as_json)
    click.get_current_context().exit(0 if report.ok else CHECK_FAILED)
