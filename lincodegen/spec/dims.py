"""Integer polynomials in the dimensions of a call: the sizes of axes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod


@dataclass(frozen=True, slots=True)
class Dim:
    """An integer polynomial such as ``1 + K + K * K``.

    ``terms`` maps a sorted tuple of dimension names (with repetition) to its non-zero
    integer coefficient, sorted by degree and then by name, so that equal polynomials
    compare and hash equal: K and V differ even where their sizes agree.
    """

    terms: tuple[tuple[tuple[str, ...], int], ...]

    @staticmethod
    def of(value: int | str | Dim) -> Dim:
        """The polynomial of an integer, of a dimension's name, or of a polynomial itself."""
        if isinstance(value, Dim):
            return value
        return _canonical({(value,): 1} if isinstance(value, str) else {(): value})

    @property
    def constant(self) -> int | None:
        """The value of a polynomial without dimensions, else None."""
        if not self.terms:
            return 0
        if len(self.terms) == 1 and self.terms[0][0] == ():
            return self.terms[0][1]
        return None

    @property
    def names(self) -> frozenset[str]:
        """The dimensions that occur."""
        return frozenset(name for monomial, _ in self.terms for name in monomial)

    def evaluate(self, sizes: Mapping[str, int]) -> int:
        """The size for given sizes of the dimensions."""
        return sum(c * prod(sizes[name] for name in monomial) for monomial, c in self.terms)

    def __add__(self, other: int | str | Dim) -> Dim:
        total = dict(self.terms)
        for monomial, c in Dim.of(other).terms:
            total[monomial] = total.get(monomial, 0) + c
        return _canonical(total)

    def __mul__(self, other: int | str | Dim) -> Dim:
        total: dict[tuple[str, ...], int] = {}
        for m1, c1 in self.terms:
            for m2, c2 in Dim.of(other).terms:
                monomial = tuple(sorted(m1 + m2))
                total[monomial] = total.get(monomial, 0) + c1 * c2
        return _canonical(total)

    def __sub__(self, other: int | str | Dim) -> Dim:
        return self + Dim.of(other) * -1

    def __str__(self) -> str:
        if not self.terms:
            return "0"
        parts = [
            "*".join([*([] if c == 1 and monomial else [str(c)]), *monomial])
            for monomial, c in self.terms
        ]
        return " + ".join(parts)


def _canonical(terms: Mapping[tuple[str, ...], int]) -> Dim:
    kept = [(monomial, c) for monomial, c in terms.items() if c]
    return Dim(tuple(sorted(kept, key=lambda item: (len(item[0]), item[0]))))
