"""Arguments that several commands share: a spec, fixed constants, JSON output."""

from __future__ import annotations

import re
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import click

from lincodegen import resources
from lincodegen.cli.console import JSON_KEY

Command = TypeVar("Command", bound=Callable[..., Any])

SETTING = re.compile(r"([A-Za-z][A-Za-z0-9_]*)=(-?[0-9]{1,18})")


def shipped_specs() -> tuple[Path, ...]:
    """The spec files that come with lincodegen, by name."""
    return tuple(sorted(resources.specs_dir().glob("*.yaml")))


class SpecPath(click.ParamType[Path]):
    """The path of a spec file, or the name of a shipped one."""

    name = "spec"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Path:
        """The file's path; a usage error with the nearest name when there is none."""
        path = Path(str(value))
        if path.is_file():
            return path
        names = {shipped.stem: shipped for shipped in shipped_specs()}
        if str(value) in names:
            return names[str(value)]
        near = get_close_matches(path.stem, names, n=1)
        hint = f" Did you mean `{near[0]}`?" if near else " `lincodegen list` shows what there is."
        return self.fail(f"no spec file or shipped spec `{value}`.{hint}", param, ctx)


class Setting(click.ParamType[tuple[str, int]]):
    """``name=integer``: a build constant or a dimension, and its value."""

    name = "name=integer"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        """The name and the integer; a usage error for any other form."""
        if isinstance(value, tuple):
            return value
        match = SETTING.fullmatch(str(value))
        if match is None:
            return self.fail(f"`{value}` is not of the form name=integer, as in n=2.", param, ctx)
        return match[1], int(match[2])


def _as_mapping(
    ctx: click.Context, param: click.Parameter, value: tuple[tuple[str, int], ...]
) -> dict[str, int]:
    names = [name for name, _ in value]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise click.BadParameter(f"`{repeated[0]}` is set more than once.", ctx, param)
    return dict(value)


def _remember_json(ctx: click.Context, _param: click.Parameter, value: bool) -> bool:
    ctx.meta[JSON_KEY] = value
    return value


def spec_argument(command: Command) -> Command:
    """One SPEC, passed as ``spec``."""
    return click.argument("spec", type=SpecPath(), metavar="SPEC")(command)


def sets_option(command: Command) -> Command:
    """``--set name=integer``, repeatable, passed as the mapping ``sets``."""
    return click.option(
        "--set",
        "sets",
        type=Setting(),
        multiple=True,
        callback=_as_mapping,
        help="Fix an integer constant or a dimension of the spec, as in n=3. Repeatable.",
    )(command)


def json_option(command: Command) -> Command:
    """``--json``, passed as ``as_json``; read first, so that usage errors honour it too."""
    return click.option(
        "--json",
        "as_json",
        is_flag=True,
        is_eager=True,
        callback=_remember_json,
        help="Print one JSON object to stdout.",
    )(command)
