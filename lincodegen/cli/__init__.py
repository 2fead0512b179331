"""The command line: parses arguments, calls the pipeline, prints what it returns.

Neither torch nor triton nor sympy is imported before a command's body runs, so that help is
immediate. Exit codes: 0 all well, 1 a check failed, 2 a usage or spec error.
"""

from __future__ import annotations

import click

from lincodegen.cli.bench import bench
from lincodegen.cli.build import build
from lincodegen.cli.catalogue import list_specs
from lincodegen.cli.console import Commands
from lincodegen.cli.machine import doctor
from lincodegen.cli.report import report
from lincodegen.cli.scaffold import new
from lincodegen.cli.stages import check, show, verify
from lincodegen.cli.tune import gpu_check, tune
from lincodegen.version import VERSION


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="lincodegen")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def main(debug: bool) -> None:
    """Kernels from a written recurrence: derived, proved, emitted, verified.

    SPEC is a YAML file, or the name of a spec that `lincodegen list` shows.
    """


_COMMANDS = (
    new,
    list_specs,
    check,
    show,
    build,
    verify,
    bench,
    tune,
    gpu_check,
    report,
    doctor,
)
for command in _COMMANDS:
    main.add_command(command)
