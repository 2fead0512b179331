"""Known wrong code of the compiler: what not to trust on an architecture without a check."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources

Version = tuple[int, ...]

_BOUND = re.compile(r"(>=|<)\s*([\d.]+)")


@dataclass(frozen=True, slots=True)
class Miscompilation:
    """One pattern that some versions of Triton compile wrongly for some architectures.

    Attributes:
        triton: the versions, as in ``>=3.4, <3.7.1``.
        pattern: what the kernel does, and what goes wrong.
        advice: what to do instead.
        num_warps: the settings it was seen with; empty if it does not depend on them.
        num_stages: likewise.
    """

    id: str
    architectures: tuple[str, ...]
    triton: str
    pattern: str
    advice: str
    links: tuple[str, ...]
    num_warps: tuple[int, ...]
    num_stages: tuple[int, ...]

    def concerns(self, architecture: str, triton_version: str) -> bool:
        """Whether this version compiles the pattern wrongly for this architecture."""
        version = parse_version(triton_version)
        bounds = [(sign, parse_version(text)) for sign, text in _BOUND.findall(self.triton)]
        inside = all(version >= b if sign == ">=" else version < b for sign, b in bounds)
        return architecture in self.architectures and inside

    def suspects(self, num_warps: int, num_stages: int) -> bool:
        """Whether the pattern was seen to go wrong with these launch settings."""
        return (not self.num_warps or num_warps in self.num_warps) and (
            not self.num_stages or num_stages in self.num_stages
        )


def parse_version(text: str) -> Version:
    """(3, 6, 0) of ``3.6.0+git1234``; what follows the numbers is left out."""
    match = re.match(r"\d+(?:\.\d+)*", text)
    return tuple(int(part) for part in match.group().split(".")) if match else ()


@cache
def all_miscompilations() -> tuple[Miscompilation, ...]:
    """Every entry of the data file, in its order."""
    file = resources.files("lincodegen.targets").joinpath("miscompilations.toml")
    entries = tomllib.loads(file.read_text(encoding="utf-8"))["miscompilation"]
    lists = ("architectures", "links", "num_warps", "num_stages")
    return tuple(
        Miscompilation(**(entry | {name: tuple(entry.get(name, ())) for name in lists}))
        for entry in entries
    )


def known_miscompilations(architecture: str, triton_version: str) -> tuple[Miscompilation, ...]:
    """The entries that concern an architecture (``sm_90``) under a version of Triton."""
    return tuple(m for m in all_miscompilations() if m.concerns(architecture, triton_version))
