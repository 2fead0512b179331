"""The artefact of the stage ``program``: one group's tiles, forward and adjoint."""

from __future__ import annotations

from dataclasses import dataclass

from lincodegen.derive.chunkform import ChunkForm
from lincodegen.derive.events import Decay
from lincodegen.program.ir import Axes, Graph, Tile, below
from lincodegen.spec.step import Node


@dataclass(frozen=True, slots=True)
class Operand:
    """What a load reads: one expression a slot of its row axis; per token for a log decay.

    ``nodes`` holds, per slot in token-major order, an expression of shape [], [K] or [V].
    """

    name: str
    axes: Axes
    nodes: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Scalar:
    """A scalar factor that no token changes, evaluated once a call."""

    name: str
    node: Node


@dataclass(frozen=True, slots=True)
class OneSided:
    """The adjoint with every gradient of a load on one side, that of S or that of dS.

    The chunk depends on the clock at a point through the row that is there alone: the gradient
    of that clock is the row times its own gradient. ``rows`` are these, one an operand over keys,
    ``end`` = <S_end, dS_end> is that of the clock at the end of the chunk, ``start`` =
    <S_0, dS_0>, their sum. ``logs`` are the gradients of the log decays, running sums of them;
    without one, ``rows`` is empty.
    """

    loads: tuple[tuple[Tile, Tile], ...]
    logs: tuple[tuple[Tile, Tile], ...]
    rows: tuple[Tile, ...]
    end: Tile
    start: Tile


@dataclass(frozen=True, slots=True)
class Program:
    """The chunk of one group as tiles.

    ``outputs`` are the rows of each read, ``next_state`` the state after the chunk. The
    adjoint: ``d_outputs`` and ``d_state`` are the cotangents, ``gradients`` those of the
    loads and log decays, ``d_carry`` that of the state before the chunk. ``one_sided`` are the
    same gradients in another form, where there is one.
    """

    form: ChunkForm
    graph: Graph
    blocks: dict[str, Tile | None]
    operands: tuple[tuple[Tile, Operand], ...]
    logs: tuple[tuple[Tile, Operand, Decay], ...]
    scalars: tuple[Scalar, ...]
    carry: Tile
    outputs: tuple[Tile, ...]
    next_state: Tile
    d_outputs: tuple[Tile, ...]
    d_state: Tile
    gradients: tuple[tuple[Tile, Tile], ...]
    d_carry: Tile
    one_sided: OneSided | None = None

    @property
    def value_axis(self) -> bool:
        """Whether the state has a second axis."""
        return "v" in self.carry.axes

    def operand(self, tile: Tile) -> Operand:
        """The operand of a load or log decay."""
        for leaf, operand in self.operands:
            if leaf is tile:
                return operand
        return next(operand for leaf, operand, _ in self.logs if leaf is tile)

    def __str__(self) -> str:
        lines = [f"state {self.form.group.state.name}: one chunk"]
        roots = [*self.outputs, self.next_state]
        lines += _listing(self.graph, roots, set())
        seen = {t.id for t in below(roots)}
        lines += ["adjoint"]
        lines += _listing(self.graph, [*(g for _, g in self.gradients), self.d_carry], seen)
        return "\n".join(lines)


def _listing(graph: Graph, roots: list[Tile], skip: set[int]) -> list[str]:
    lines = []
    for tile in below(roots):
        if tile.id in skip:
            continue
        label = graph.names.get(tile.id, f"%{tile.id}")
        args = ", ".join(graph.names.get(a.id, f"%{a.id}") for a in tile.args)
        attr = "; " + ", ".join(map(str, tile.attr)) if tile.attr else ""
        lines.append(f"  {label}[{', '.join(tile.axes)}] = {tile.op}({args}{attr})")
    return lines
