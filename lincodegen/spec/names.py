"""The one namespace of a spec: what each name means, where it is declared, whether it is read."""

from __future__ import annotations

from dataclasses import dataclass, field

from lincodegen.spec.dims import Dim
from lincodegen.spec.problems import Consequence, Mistake, nearest
from lincodegen.spec.step import Node, Place
from lincodegen.spec.vocabulary import FUNCTIONS, LATER_FUNCTIONS


@dataclass(slots=True)
class Names:
    """Filled while a file is read from its constants to its step.

    ``integers`` are the constants fixed at build (also fixed dimensions), ``dims`` the free
    dimensions, ``floats`` the constants that become arguments, with their defaults.
    """

    kinds: dict[str, str] = field(default_factory=dict)
    places: dict[str, Place] = field(default_factory=dict)
    integers: dict[str, int] = field(default_factory=dict)
    dims: list[str] = field(default_factory=list)
    floats: dict[str, Node] = field(default_factory=dict)
    read: set[str] = field(default_factory=set)
    broken: set[str] = field(default_factory=set)

    def declare(self, name: str, kind: str, place: Place) -> None:
        """Give a name its meaning; a second meaning is a mistake."""
        if name in self.kinds:
            line = self.places[name].line
            found = f"{self.described(name)} already, on line {line}"
            raise Mistake(place, found, "another name: one name has one meaning")
        self.kinds[name] = kind
        self.places[name] = place

    def described(self, name: str) -> str:
        """What a declared name is: ```q` is an input``."""
        kind = self.kinds[name]
        return f"`{name}` is {'an' if kind[0] in 'aeio' else 'a'} {kind}"

    def size(self, name: str, place: Place) -> Dim:
        """What a name means in a shape, a range, an index or the bound of a slice."""
        self.check(name, place)
        if name in self.integers:
            return Dim.of(self.integers[name])
        if name in self.dims:
            return Dim.of(name)
        if name in self.floats:
            hint = "an integer has no dot: `n: 2`"
            raise Mistake(place, f"`{name}` is no integer", "an integer constant", hint)
        if name in self.kinds:
            expected = "an integer constant or a dimension"
            raise Mistake(place, f"{self.described(name)}, no size", expected)
        raise self.unknown(name, place, [*self.integers, *self.dims])

    def check(self, name: str, place: Place) -> None:
        """Note that a name is read; a name declared by mistake raises Consequence."""
        self.read.add(name)
        if name in self.broken:
            raise Consequence(place)

    def unknown(self, name: str, place: Place, known: list[str]) -> Mistake:
        """The mistake of reading a name that means nothing."""
        if name in FUNCTIONS:
            return Mistake(place, f"the function `{name}` without operands", f"`{name}(...)`")
        if name == "t" or name in LATER_FUNCTIONS:
            return Mistake(place, f"`{name}` is not yet supported")
        hint = nearest(name, known)
        listed = ", ".join(known)
        expected = f"one of {listed}" if 0 < len(known) <= 24 else ""
        return Mistake(place, f"`{name}` is not defined here", expected, hint)
