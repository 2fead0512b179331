"""The command that starts a spec: a commented recurrence that builds as it stands."""

from __future__ import annotations

import builtins
import keyword
import re
from pathlib import Path

import click

from lincodegen.cli.arguments import json_option
from lincodegen.cli.console import echo_json

NAME = re.compile(r"[a-z][a-z0-9_]{0,47}")

SCAFFOLD = """\
# The recurrence of one token, in NumPy notation.
name: {name}
title: What the rule is, in one line
# reference: "arXiv:0000.00000"

# One value a token and head. A shape lists integers and dimensions (capitalised names, whose
# sizes are read off the call). `domain` promises where every entry lies, `norm` where the
# Euclidean norm of the last axis lies: the numerics rest on both, test inputs are drawn from them.
inputs:
  q: {{shape: [K], doc: read with}}
  k: {{shape: [K], norm: "[0, 1]", doc: written at}}
  v: {{shape: [V], doc: what is written}}
  g: {{shape: [], domain: "[-inf, 0]", doc: log decay of the whole state}}

# One value a head, learnt; the fields are those of inputs.
# parameters:
#   u: {{shape: [K]}}

# An integer is fixed when the op is built and may stand in shapes, ranges and indices
# (`--set n=3` overrides it); anything else is a keyword argument of the op.
constants:
  scale: K**-0.5

# Carried from token to token; zero before the first unless the caller gives an initial state.
state:
  S: {{shape: [K, V]}}

# Order is meaning: above its update S is the state before this token, below it the one after.
step: |
  S = exp(g) * S
  S = S + outer(k, v)
  o = scale * S.T @ q

# What the op returns; several names make a tuple.
outputs: [o]
"""


def _valid_name(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    if NAME.fullmatch(value) is None:
        raise click.BadParameter(
            f"`{value}` is no name for an op: a lower-case letter, then letters, digits and "
            "underscores, 48 characters at most."
        )
    if keyword.iskeyword(value) or value in dir(builtins):
        raise click.BadParameter(f"`{value}` is a word of Python; the op needs another name.")
    return value


@click.command()
@click.argument("name", callback=_valid_name)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    metavar="DIR",
    help="Where to write NAME.yaml; by default the current folder.",
)
@json_option
def new(name: str, out: Path, as_json: bool) -> None:
    """Write NAME.yaml, a commented spec to start from."""
    path = out / f"{name}.yaml"
    out.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(SCAFFOLD.format(name=name))
    except FileExistsError as error:
        raise click.UsageError(f"{path} exists; nothing was written.") from error
    if as_json:
        echo_json({"ok": True, "path": str(path)})
    else:
        click.echo(f"{path}\nNext: lincodegen check {path}")
