"""The Jinja environment of the emitted text."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from functools import cache

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from ruff.__main__ import find_ruff_bin

from lincodegen.errors import EmitError
from lincodegen.resources import templates_dir


@cache
def environment() -> Environment:
    """Templates as text: no autoescape, undefined names are errors."""
    return Environment(
        loader=FileSystemLoader(templates_dir()),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )


def render(template: str, context: Mapping[str, object]) -> str:
    """A template filled from its context."""
    return environment().get_template(template).render(context)


def formatted(text: str) -> str:
    """Python text as ``ruff format`` leaves it at 100 columns.

    Raises:
        EmitError: the text is no Python.
    """
    command = [find_ruff_bin(), "format", "--isolated", "--line-length", "100", "-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise EmitError(f"the emitted text is no Python: {done.stderr.strip()}")
    return done.stdout
