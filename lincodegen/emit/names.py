"""Names of tiles in emitted text: from the derivation where they have one, else their kind."""

from __future__ import annotations

from dataclasses import dataclass, field

from lincodegen.program.ir import Graph, Tile, is_dot, strip

_KINDS = {
    "decay": "decay",
    "add": "sum",
    "reduce": "total",
    "diagonal": "diagonal",
    "broadcast": "spread",
    "running": "later",
    "inverse": "inverse",
    "scale": "scaled",
    "factor": "scaled",
}


@dataclass(slots=True)
class Names:
    """Hands out one identifier a tile; ``taken`` are identifiers of other things."""

    graph: Graph
    taken: set[str] = field(default_factory=set)
    given: dict[int, str] = field(default_factory=dict)
    short: bool = False

    def of(self, tile: Tile) -> str:
        """The identifier of a tile."""
        if tile.id not in self.given:
            self.given[tile.id] = self.fresh(self._wish(tile))
        return self.given[tile.id]

    def _wish(self, tile: Tile) -> str:
        """The name in the derivation, a product's operands, or the tile's kind."""
        name = self.graph.names.get(tile.id)
        if name is not None:
            return _brief(name) if self.short else name
        if tile.op == "ein" and is_dot(tile):
            parts = [self.graph.names.get(strip(a).id) for a in tile.args]
            if all(parts):
                return "_".join(_brief(str(part)) for part in parts)
        return _kind(tile)

    def fresh(self, base: str) -> str:
        """An identifier that nothing else has."""
        name, count = base, 1
        while name in self.taken:
            count += 1
            name = f"{base}_{count}"
        self.taken.add(name)
        return name


def _brief(name: str) -> str:
    """N for N_mm, h for the state and dh for its cotangent."""
    known = {"S_0": "h", "dS_end": "dh", "S_end": "h_end", "dS_0": "dh_next"}
    return known.get(name, name.split("_")[0] + ("T" if name.endswith("T") else ""))


def _kind(tile: Tile) -> str:
    kind = _KINDS.get(tile.op, "product")
    if tile.op == "contract":
        kind = "gram" if "k" not in tile.axes else "rows"
    elif is_dot(tile):
        kind = "dot"
    axes = "".join(a.replace("'", "") if len(a) < 4 else a for a in tile.axes)
    return f"{kind}_{axes}" if axes else kind
