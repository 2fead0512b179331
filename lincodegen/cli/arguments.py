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

_COUNT = click.IntRange(min=1)

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


def as_mapping(
    ctx: click.Context, param: click.Parameter, value: tuple[tuple[str, int], ...]
) -> dict[str, int]:
    """The mapping of repeated settings; a usage error where a name is set twice."""
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
        callback=as_mapping,
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


_COST_OPTIONS = (
    click.option("--target", default="sm_90", show_default=True, help="Architecture of the GPU."),
    click.option("--batch", type=_COUNT, default=4, show_default=True, help="Sequences."),
    click.option("--tokens", type=_COUNT, default=8192, show_default=True, help="Of a sequence."),
    click.option("--heads", type=_COUNT, default=32, show_default=True, help="Of every tensor."),
    click.option("--size", type=_COUNT, default=128, show_default=True, help="K, V and the like."),
    click.option(
        "--dim",
        "dims",
        type=Setting(),
        multiple=True,
        callback=as_mapping,
        help="The size of one dimension, as in V=256. Repeatable.",
    ),
    click.option(
        "--dtype",
        type=click.Choice(("bf16", "fp16", "fp32")),
        default="bf16",
        show_default=True,
        help="That of the operands.",
    ),
)
_COST_NAMES = ("target", "batch", "tokens", "heads", "size", "dims", "dtype")


def cost_options(command: Command) -> Command:
    """The sizes of the call whose cost is printed, passed by name, and its ``target``."""
    for option in reversed(_COST_OPTIONS):
        command = option(command)
    return command


def cost_options_given(ctx: click.Context) -> list[str]:
    """The options of a cost that the command line names."""
    named = click.core.ParameterSource.COMMANDLINE
    flags = {"dims": "--dim"}
    return [flags.get(n, f"--{n}") for n in _COST_NAMES if ctx.get_parameter_source(n) is named]
