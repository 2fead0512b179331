"""What the command line prints: reports, JSON, progress and errors, and its exit codes."""

from __future__ import annotations

import json
import math
import sys
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Protocol

import click

from lincodegen.errors import InternalError, LincodegenError, SpecError

CHECK_FAILED = 1
USAGE = 2

QUIET_SECONDS = 1.0

JSON_KEY = "lincodegen.json"

Progress = Callable[[str], None]


class Report(Protocol):
    """What a stage returns to be shown: readable as ``str``, and as JSON values."""

    def to_json(self) -> Mapping[str, object]:
        """The same facts as values that ``json.dumps`` takes."""
        ...


class CheckedReport(Report, Protocol):
    """A report that says whether all went well."""

    @property
    def ok(self) -> bool:
        """Whether the check it reports on passed."""
        ...


class Commands(click.Group):
    """A group of commands that reports every error plainly."""

    def invoke(self, ctx: click.Context) -> object:
        """Runs the command; an error is printed and becomes the exit code."""
        try:
            return super().invoke(ctx)
        except (click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except Exception as error:
            as_json = bool(ctx.meta.get(JSON_KEY))
            if ctx.params.get("debug") or (isinstance(error, click.ClickException) and not as_json):
                raise
            echo_error(error, as_json)
            ctx.exit(exit_code(error))


def exit_code(error: Exception) -> int:
    """2 for what the user wrote or the file system refused, 1 for a check that failed."""
    if isinstance(error, click.ClickException):
        return error.exit_code
    return USAGE if isinstance(error, SpecError | OSError) else CHECK_FAILED


def describe(error: Exception) -> str:
    """The text of an error; one that lincodegen did not raise on purpose says that it is a bug."""
    if isinstance(error, click.ClickException):
        return error.format_message()
    if isinstance(error, LincodegenError | OSError) and not isinstance(error, InternalError):
        return str(error)
    name = "" if isinstance(error, InternalError) else f"{type(error).__name__}: "
    return (
        f"internal error: {name}{error}\n"
        "This is a bug in lincodegen; `lincodegen --debug COMMAND` shows the traceback."
    )


def error_json(error: Exception) -> dict[str, object]:
    """An error as JSON values, each mistake of a spec by itself."""
    found: dict[str, object] = {
        "ok": False,
        "error": type(error).__name__,
        "message": describe(error),
    }
    if isinstance(error, SpecError):
        found["problems"] = list(error.problems)
    return found


def echo_error(error: Exception, as_json: bool) -> None:
    """Prints an error without traceback: text to stderr, JSON to stdout."""
    if as_json:
        echo_json(error_json(error))
    else:
        click.echo(describe(error), err=True)


def echo_json(value: Mapping[str, object]) -> None:
    """Prints one JSON object to stdout; NaN and infinities, which JSON lacks, as strings."""
    click.echo(json.dumps(_printable(value), indent=2, ensure_ascii=False))


def _printable(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _printable(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_printable(entry) for entry in value]
    return value


def echo_report(report: Report, as_json: bool) -> None:
    """Prints a report to stdout."""
    if as_json:
        echo_json(report.to_json())
    else:
        click.echo(str(report))


@contextmanager
def progress(what: str) -> Generator[Progress]:
    """Shows on stderr what is being done, for as long as it takes.

    A terminal gets one line that disappears at the end. Anything else gets a line per step,
    none before the first second is over: short commands stay silent in logs.
    """
    if sys.stderr.isatty():
        with _spinner(what) as step:
            yield step
    else:
        with _lines(what) as step:
            yield step


@contextmanager
def _spinner(what: str) -> Generator[Progress]:
    from rich.console import Console
    from rich.progress import Progress as Bar
    from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda message: bar.update(task, description=f"{what}: {message}")


@contextmanager
def _lines(what: str) -> Generator[Progress]:
    latest = what
    timer = threading.Timer(QUIET_SECONDS, lambda: click.echo(latest, err=True))
    timer.daemon = True
    timer.start()

    def step(message: str) -> None:
        nonlocal latest
        latest = f"{what}: {message}"
        if not timer.is_alive():
            click.echo(latest, err=True)

    try:
        yield step
    finally:
        timer.cancel()
