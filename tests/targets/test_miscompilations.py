"""The list of known wrong code, and which versions and settings an entry concerns."""

from __future__ import annotations

import pytest

from lincodegen.targets import known_miscompilations, list_targets
from lincodegen.targets.miscompilations import all_miscompilations, parse_version


def known(architecture: str, version: str) -> set[str]:
    return {m.id for m in known_miscompilations(architecture, version)}


@pytest.mark.parametrize("entry", all_miscompilations(), ids=lambda entry: entry.id)
def test_entries_are_complete(entry) -> None:
    assert set(entry.architectures) <= set(list_targets())
    assert entry.architectures
    assert entry.triton.startswith(">=")
    assert entry.pattern
    assert entry.advice
    assert all(link.startswith("https://github.com/") for link in entry.links)
    assert entry.links
    assert [m.id for m in all_miscompilations()].count(entry.id) == 1


@pytest.mark.parametrize(
    ("version", "concerned"),
    [("3.3.1", False), ("3.4.0", True), ("3.6.0+git12ab", True), ("3.7.0", True),
     ("3.7.1", False), ("3.10.0", False)],
)  # fmt: skip
def test_a_range_has_two_ends(version: str, concerned: bool) -> None:
    assert ("transposed-computed-operand" in known("sm_90", version)) == concerned


def test_an_open_range_holds_for_versions_to_come() -> None:
    assert "inverse-backward-four-warps" in known("sm_90", "3.10.2")


def test_architectures_are_told_apart() -> None:
    assert known("sm_80", "3.6.0") == known("gfx942", "3.6.0") == set()
    assert known("sm_103", "3.6.0") == {
        "two-dots-one-accumulator", "recurrence-race-sm-103", "pipelined-recurrence"
    }  # fmt: skip
    assert "recurrence-race-sm-103" not in known("sm_100", "3.6.0")


def test_settings_narrow_an_entry_down() -> None:
    entries = {m.id: m for m in all_miscompilations()}
    race = entries["recurrence-race-sm-100"]
    assert race.suspects(num_warps=4, num_stages=2)
    assert not race.suspects(num_warps=2, num_stages=2)
    assert not race.suspects(num_warps=4, num_stages=1)
    assert entries["transposed-computed-operand"].suspects(num_warps=8, num_stages=1)


@pytest.mark.parametrize(
    ("text", "version"),
    [("3.6.0", (3, 6, 0)), ("2.13.0+cpu", (2, 13, 0)), ("3.9", (3, 9)), ("4.0.0a1", (4, 0, 0)),
     ("unknown version", ())],
)  # fmt: skip
def test_parse_version(text: str, version: tuple[int, ...]) -> None:
    assert parse_version(text) == version
