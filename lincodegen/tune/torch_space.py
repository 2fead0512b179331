"""The search space of the chunked PyTorch form on a CPU, for one class of calls.

A point names the tokens of a chunk, the rows of a triangular system that are solved by merging,
the elements of a block of heads, and the threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from lincodegen.config import OpConfig, TorchConfig
from lincodegen.runtime.blocks import MOST_ELEMENTS
from lincodegen.schedule.space import Parameter
from lincodegen.tune.search import Point, Space

CHUNKS = (16, 32, 64, 128, 256)
SOLVE_BLOCKS = (8, 16, 32, 64, 128)
WHOLE = 1024
"""A block of the solve that no system of a chunk exceeds."""
_USUAL_CHUNK = 64


@dataclass(frozen=True, slots=True)
class TorchSpace:
    """What the PyTorch form can be tuned in.

    Attributes:
        tokens: of a sequence.
        heads: of all sequences together.
        head_elements: of the largest input, each head.
        solves: whether the form solves a triangular system.
        threads: those of the process.
        chunks: tokens of a chunk that are tried, ascending.
        solve_blocks: rows that are solved by merging, ascending, where not all are.
    """

    tokens: int
    heads: int
    head_elements: int
    solves: bool
    threads: int
    chunks: tuple[int, ...] = CHUNKS
    solve_blocks: tuple[int, ...] = SOLVE_BLOCKS

    def space(self) -> Space:
        """The points; a block of the solve is smaller than the chunk, or whole."""
        chunks = [c for c in self.chunks if c <= max(self.chunks[0], self.tokens)]
        parameters = (
            Parameter("chunk_size", tuple(chunks)),
            Parameter("solve_block", (*(self.solve_blocks if self.solves else ()), WHOLE)),
            Parameter("block_elements", self._blocks()),
            Parameter("threads", _powers(self.threads)),
        )
        return Space.of(parameters, lambda p: p[1] < p[0] or p[1] == WHOLE)

    def config(self, point: Point) -> OpConfig:
        """The configuration of a point; all the threads of the process are no limit."""
        chunk, solve, elements, threads = point
        limit = None if threads >= self.threads else threads
        return OpConfig(chunk, torch=TorchConfig(solve, elements, limit))

    def starts(self) -> tuple[Point, ...]:
        """Next to what runs where no table has an entry: the solve whole, all threads."""
        usual = min(_USUAL_CHUNK, self.space().parameters[0].values[-1])
        elements = _closest(self._blocks(), MOST_ELEMENTS)
        return ((usual, WHOLE, elements, self.threads),)

    def nearest(self, config: OpConfig) -> Point | None:
        """The point next to a configuration of other calls."""
        own = config.torch
        if own is None:
            return None
        parameters = self.space().parameters
        asked = config.chunk_size, own.solve_block, own.block_elements, own.threads or self.threads
        values = [_closest(p.values, x) for p, x in zip(parameters, asked, strict=True)]
        if values[1] >= values[0]:
            values[1] = WHOLE
        return tuple(values)

    def _blocks(self) -> tuple[int, ...]:
        """Elements of a block with one head, two heads, and so on up to all of them."""
        return tuple(sorted({_above(n * self.head_elements) for n in _powers(self.heads)}))


def largest_input(shapes: Sequence[Sequence[int]], tokens: int) -> int:
    """Elements of one head of the largest input, from the shapes of a token's inputs."""
    return tokens * max(map(prod, shapes), default=1)


def _powers(count: int) -> tuple[int, ...]:
    """Powers of two below a count, and the count."""
    return (*(1 << i for i in range((count - 1).bit_length())), count)


def _above(count: int) -> int:
    return 1 << max(0, count - 1).bit_length()


def _closest(values: Sequence[int], wanted: int) -> int:
    """The value with the least ratio to the one wanted, the smaller one of two."""
    return min(values, key=lambda x: (max(x / wanted, wanted / x), x))
