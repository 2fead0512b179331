"""The documents say what is there: commands, files, links, and their agreed lengths."""

import os
import re
import shlex
from pathlib import Path

import pytest

from lincodegen.cli import main

ROOT = Path(__file__).resolve().parents[2]

DOCUMENTS = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")

COMMAND_LINE = re.compile(r"^(?:\$ )?((?:python -m )?lincodegen .*|sh scripts/.*)$", re.MULTILINE)
LINK = re.compile(r"\]\((?!https?:)([^)#]+)")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def shell_commands(name: str) -> list[list[str]]:
    blocks = [body for language, body in FENCE.findall(text(name)) if language in ("sh", "console")]
    return [shlex.split(line, comments=True) for b in blocks for line in COMMAND_LINE.findall(b)]


@pytest.mark.parametrize(("name", "limit"), [("ARCHITECTURE.md", 120), ("CONTRIBUTING.md", 100)])
def test_documents_are_short(name, limit):
    assert len(text(name).splitlines()) <= limit


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name):
    assert [link for link in LINK.findall(text(name)) if not (ROOT / link).exists()] == []


def test_two_commands_of_the_readme_do_everything():
    scripts = [command[1] for command in shell_commands("README.md") if command[0] == "sh"]
    assert scripts[:2] == ["scripts/demo.sh", "scripts/test.sh"]
    assert all((ROOT / script).is_file() for script in scripts)


def test_ci_runs_the_readme_s_test_command():
    ci = ROOT / ".ci" / "run"
    assert os.access(ci, os.X_OK)
    assert "\nsh scripts/test.sh\n" in ci.read_text()


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_commands_shown_exist(name):
    for command in shell_commands(name):
        if command[0] == "sh":
            continue
        words = command[command.index("lincodegen") + 1 :]
        shown = main.commands.get(words[0])
        assert shown is not None, command
        known = {option for parameter in shown.params for option in parameter.opts}
        given = {word.partition("=")[0] for word in words if word.startswith("-")}
        assert given <= known | {"--help"}, command
        specs = [word for word in words if word.startswith("specs/")]
        assert all((ROOT / spec).is_file() for spec in specs), command


def test_the_changelog_begins_with_what_is_unreleased():
    headings = re.findall(r"^## \[([^\]]+)\]", text("CHANGELOG.md"), re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert all(re.fullmatch(r"[0-9]+\.[0-9]+\.[0-9]+", heading) for heading in headings[1:])
