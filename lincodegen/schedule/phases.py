"""The cut of a scan: what comes before the loop over chunks, in it, and after it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lincodegen.program.ir import Tile


@dataclass(frozen=True, slots=True)
class Phases:
    """Tiles in order, by when they can be computed.

    ``before`` needs no carried value: all chunks at once. ``inside`` is what the update of
    the carry needs of it: chunk by chunk. ``after`` needs the carry but not the other way
    round: all chunks at once, from the carries kept.
    """

    before: tuple[Tile, ...]
    inside: tuple[Tile, ...]
    after: tuple[Tile, ...]


def phases(roots: Iterable[Tile], carry: Tile, update: Tile, known: Iterable[Tile] = ()) -> Phases:
    """Sorts the tiles below the roots and the update; ``known`` tiles are given."""
    given = {t.id for t in known}
    order = _below(roots, update, given)
    depends: set[int] = set()
    for tile in order:
        if tile is carry or (tile.id not in given and any(a.id in depends for a in tile.args)):
            depends.add(tile.id)
    needed = {t.id for t in _below([], update, given)}
    leaves = given | {carry.id}
    work = [t for t in order if t.id not in leaves]
    return Phases(
        tuple(t for t in work if t.id not in depends),
        tuple(t for t in work if t.id in depends and t.id in needed),
        tuple(t for t in work if t.id in depends and t.id not in needed),
    )


def _below(roots: Iterable[Tile], update: Tile, given: set[int]) -> list[Tile]:
    """Tiles below the roots and the update, not looking below given ones."""
    order: list[Tile] = []
    seen: set[int] = set()

    def visit(tile: Tile) -> None:
        if tile.id in seen:
            return
        seen.add(tile.id)
        if tile.id not in given:
            for arg in tile.args:
                visit(arg)
        order.append(tile)

    for root in (*roots, update):
        visit(root)
    return order
