"""YAML text to mappings, sequences and scalars that know their places.

Reads the events of the YAML parser and builds nothing else: every scalar stays text, no tag
is resolved, no object is constructed. Anchors, aliases, tags, merge keys, repeated keys,
directives and a second document are mistakes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from lincodegen.spec.problems import Mistake, Problems, Source
from lincodegen.spec.step import Place

MAX_NODES = 4096
MAX_NESTING = 8


@dataclass(frozen=True, slots=True)
class Scalar:
    """Text, and where it stands.

    ``lines`` has the place of each line's first character, or nothing where the value does
    not stand in the file character by character (folded lines, escapes).
    """

    text: str
    place: Place
    lines: tuple[Place, ...]

    def at(self, line: int, column: int) -> Place:
        """The place of the character at a line and column of the text, both from 0."""
        if line >= len(self.lines):
            return self.lines[-1] if self.lines else self.place
        start = self.lines[line]
        return Place(start.line, start.column + column)


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list of values."""

    items: tuple[Value, ...]
    place: Place


@dataclass(frozen=True, slots=True)
class Mapping:
    """Keys, each once, with their values, in the order of the file."""

    entries: tuple[tuple[Scalar, Value], ...]
    place: Place

    def get(self, key: str) -> Value | None:
        """The value of a key."""
        return next((value for name, value in self.entries if name.text == key), None)


Value = Scalar | Sequence | Mapping


def read_document(source: Source, problems: Problems) -> Mapping:
    """The one mapping that a spec file holds; SpecError tells what is not plain YAML in it."""
    reader = _Reader(source, problems)
    try:
        with problems.collecting():
            root = reader.document()
            problems.check()
            return root
    except MarkedYAMLError as error:
        problems.add(_syntax_mistake(error))
    except (YAMLError, ValueError, OverflowError) as error:
        problems.add(Mistake(Place(1, 1), f"not YAML: {str(error).splitlines()[0]}"))
    problems.check()
    raise AssertionError("a document without a mistake has been returned")


def _syntax_mistake(error: MarkedYAMLError) -> Mistake:
    mark = error.problem_mark or error.context_mark
    place = Place(mark.line + 1, mark.column + 1) if mark is not None else Place(1, 1)
    problem = (error.problem or error.context or "syntax error").strip().splitlines()[0]
    return Mistake(place, f"not YAML: {problem}", "YAML 1.2")


class _Reader:
    """Pulls events and checks the limits while it builds the tree."""

    def __init__(self, source: Source, problems: Problems) -> None:
        self._source = source
        self._problems = problems
        self._events: Iterator[Event] = YAML(typ="safe", pure=True).parse(source.text)
        self._nodes = 0

    def document(self) -> Mapping:
        root: Mapping | None = None
        for event in self._events:
            if isinstance(event, DocumentStartEvent):
                self._check_start(event, root)
            elif isinstance(event, MappingStartEvent) and root is None:
                root = self._mapping(event, 1)
            elif root is None and isinstance(event, (ScalarEvent, SequenceStartEvent, AliasEvent)):
                raise Mistake(_place(event), "the file is not a mapping", "`name: ...` and so on")
        if root is None:
            raise Mistake(Place(1, 1), "the file is empty", "the keys name, inputs and step")
        return root

    def _check_start(self, event: DocumentStartEvent, root: Mapping | None) -> None:
        if root is not None:
            raise Mistake(_place(event), "a second document", "one spec a file")
        if event.tags or (event.version is not None and tuple(event.version) != (1, 2)):
            raise Mistake(Place(1, 1), "a YAML directive", "YAML 1.2 without directives")

    def _value(self, event: Event, depth: int) -> Value:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise Mistake(_place(event), f"more than {MAX_NODES} YAML nodes", "a smaller spec")
        if depth > MAX_NESTING:
            raise Mistake(_place(event), f"nested more than {MAX_NESTING} deep", "a flatter spec")
        self._check_plain(event)
        if isinstance(event, MappingStartEvent):
            return self._mapping(event, depth)
        if isinstance(event, SequenceStartEvent):
            return self._sequence(event, depth)
        if isinstance(event, ScalarEvent):
            return self._scalar(event)
        return Scalar("", _place(event), ())

    def _check_plain(self, event: Event) -> None:
        place = _place(event)
        if isinstance(event, AliasEvent):
            self._problems.add(Mistake(place, f"the alias `*{event.anchor}`", "the value itself"))
            return
        if anchor := getattr(event, "anchor", None):
            self._problems.add(Mistake(place, f"the anchor `&{anchor}`", "values without anchors"))
        if tag := getattr(event, "tag", None):
            self._problems.add(Mistake(place, f"the tag `{tag}`", "values without tags"))

    def _mapping(self, start: MappingStartEvent, depth: int) -> Mapping:
        if depth == 1:
            self._check_plain(start)
        entries: list[tuple[Scalar, Value]] = []
        seen: dict[str, Place] = {}
        while not isinstance(event := next(self._events), MappingEndEvent):
            key = self._value(event, depth + 1)
            value = self._value(next(self._events), depth + 1)
            if not isinstance(key, Scalar):
                self._problems.add(Mistake(key.place, "a key that is no text", "a name"))
            elif key.text == "<<":
                self._problems.add(Mistake(key.place, "the merge key `<<`", "the keys themselves"))
            elif key.text in seen:
                first = seen[key.text].line
                found = f"the key `{key.text}` is repeated; it stands on line {first} already"
                self._problems.add(Mistake(key.place, found, "each key once"))
            else:
                seen[key.text] = key.place
                entries.append((key, value))
        return Mapping(tuple(entries), _place(start))

    def _sequence(self, start: SequenceStartEvent, depth: int) -> Sequence:
        items: list[Value] = []
        while not isinstance(event := next(self._events), SequenceEndEvent):
            items.append(self._value(event, depth + 1))
        return Sequence(tuple(items), _place(start))

    def _scalar(self, event: ScalarEvent) -> Scalar:
        place = _place(event)
        style = getattr(event, "style", None)
        text = str(event.value)
        if style == "|":
            return Scalar(text, place, self._literal_lines(text, place))
        column = place.column + (1 if style in ("'", '"') else 0)
        line = self._source.lines[place.line - 1] if text else ""
        exact = bool(text) and line[column - 1 :].startswith(text)
        return Scalar(text, place, (Place(place.line, column),) if exact else ())

    def _literal_lines(self, text: str, place: Place) -> tuple[Place, ...]:
        """Where the lines of a ``|`` block start: below its mark, after its indentation."""
        starts: list[Place] = []
        for offset, line in enumerate(text.split("\n")):
            number = place.line + 1 + offset
            raw = self._source.lines[number - 1] if number <= len(self._source.lines) else ""
            starts.append(Place(number, max(0, len(raw) - len(line)) + 1))
        return tuple(starts)


def _place(event: Event) -> Place:
    mark = event.start_mark
    return Place(mark.line + 1, mark.column + 1)
