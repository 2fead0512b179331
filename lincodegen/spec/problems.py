"""The mistakes of one spec file: where each stands, what was expected, what to do."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches

from lincodegen.errors import SpecError
from lincodegen.spec.step import Place

_SHOWN_WIDTH = 160
_COMPARED = 256


@dataclass(frozen=True, slots=True)
class Source:
    """A spec file: its name as messages give it, and its text with newlines as line ends."""

    file: str
    text: str
    lines: tuple[str, ...]


class Mistake(Exception):
    """One mistake; ends the work on the expression, statement or entry that it stands in."""

    def __init__(self, place: Place, found: str, expected: str = "", hint: str = "") -> None:
        super().__init__(found)
        self.place = place
        self.found = found
        self.expected = expected
        self.hint = hint


class Consequence(Mistake):
    """Follows from a mistake already recorded, as when a mistaken name is read: not told."""

    def __init__(self, place: Place) -> None:
        super().__init__(place, "")


class Problems:
    """Collects the mistakes of a file, so that one run tells all of them."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._found: dict[tuple[int, int, str], Mistake] = {}

    def __len__(self) -> int:
        return len(self._found)

    def add(self, mistake: Mistake) -> None:
        """Record a mistake; the same one at the same place, as from two loop passes, once."""
        if not isinstance(mistake, Consequence):
            key = (mistake.place.line, mistake.place.column, mistake.found)
            self._found.setdefault(key, mistake)

    @contextmanager
    def collecting(self) -> Generator[None]:
        """Record a Mistake raised inside and go on after the block."""
        try:
            yield
        except Mistake as mistake:
            self.add(mistake)

    def check(self) -> None:
        """Raise SpecError with every recorded mistake, in the order of the file, if any."""
        if self._found:
            ordered = [self._found[key] for key in sorted(self._found)]
            raise SpecError([self._told(mistake) for mistake in ordered])

    def _told(self, mistake: Mistake) -> str:
        line, column = mistake.place.line, mistake.place.column
        text = [f"{self._source.file}:{line}:{column}: {mistake.found}"]
        if line <= len(self._source.lines):
            shown = self._source.lines[line - 1]
            start = max(0, column - 1 - _SHOWN_WIDTH // 2) if len(shown) > _SHOWN_WIDTH else 0
            text.append(f"  {shown[start : start + _SHOWN_WIDTH]}")
            text.append("  " + " " * (column - 1 - start) + "^")
        if mistake.expected:
            text.append(f"  expected: {mistake.expected}")
        if mistake.hint:
            text.append(f"  hint: {mistake.hint}")
        return "\n".join(text)


def nearest(name: str, names: Iterable[str]) -> str:
    """The hint ``did you mean `x`?`` with the known name nearest to a misspelt one, or nothing."""
    known = sorted(set(names))
    # comparing costs as much as all else where a step has thousands of names
    close = get_close_matches(name, known, n=1, cutoff=0.6) if len(known) <= _COMPARED else []
    same = [other for other in known if other.lower() == name.lower()]
    best = same or close
    return f"did you mean `{best[0]}`?" if best else ""


def shortened(text: str) -> str:
    """A user's text as a message quotes it: one line, 40 characters at most, in backquotes."""
    flat = " ".join(text.split())
    return f"`{flat[:37]}...`" if len(flat) > 40 else f"`{flat}`"
