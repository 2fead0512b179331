"""The command that lists the shipped specs, from their text alone."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from lincodegen import resources
from lincodegen.cli.arguments import json_option, shipped_specs
from lincodegen.cli.console import echo_json

TITLE = re.compile(r"""^title:\s*(?P<quote>["']?)(?P<text>.*?)(?P=quote)\s*$""", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Entry:
    """A shipped spec; ``tier`` is None until its op has been built."""

    name: str
    title: str
    tier: int | None
    path: str


@click.command("list")
@json_option
def list_specs(as_json: bool) -> None:
    """List the shipped specs with title and tier."""
    entries = [read_entry(path) for path in shipped_specs()]
    if as_json:
        echo_json({"ok": True, "specs": [asdict(entry) for entry in entries]})
        return
    width = max((len(entry.name) for entry in entries), default=0)
    for entry in entries:
        tier = "-" if entry.tier is None else str(entry.tier)
        click.echo(f"{entry.name:<{width}}  {tier:>4}  {entry.title}".rstrip())


def read_entry(path: Path) -> Entry:
    """The name, title and tier of a spec file, without parsing it."""
    found = TITLE.search(path.read_text(encoding="utf-8"))
    title = found["text"] if found else ""
    return Entry(path.stem, title, _tier(path.stem), str(path))


def _tier(name: str) -> int | None:
    """The tier that the manifest of a built op states."""
    manifest = resources.generated_dir() / name / "manifest.json"
    if not manifest.is_file():
        return None
    tier = json.loads(manifest.read_text(encoding="utf-8")).get("tier")
    return tier if isinstance(tier, int) else None
