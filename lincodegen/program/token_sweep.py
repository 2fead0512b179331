"""The reverse sweep over token-level values.

A branch that ``where`` did not take hands a cotangent of exactly 0 upwards. Below a branch a
contribution is therefore 0 wherever the cotangent is, whatever the other factor:
0 * inf and 0 * NaN do not get through.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from lincodegen.errors import InternalError
from lincodegen.program.token_collect import collect
from lincodegen.program.token_graph import Graph
from lincodegen.program.token_shapes import ONE
from lincodegen.spec.step import Shape


class Sweep:
    """State of one reverse sweep; ``guarded`` values lie below a branch of a ``where``."""

    def __init__(
        self, graph: Graph, seeds: dict[int, int], wrt: set[int], rules: Mapping[str, Rule]
    ) -> None:
        self.graph = graph
        self._rules = rules
        needed = graph.reachable(list(seeds))
        self.active: set[int] = set()
        for value in sorted(needed):
            if value in wrt or any(arg in self.active for arg in graph[value].args):
                self.active.add(value)
        branches = [a for v in needed if graph[v].op == "where" for a in graph[v].args[2:]]
        self.guarded = graph.reachable(branches)
        self.closed: dict[int, int] = {}
        self._open = {v: [seed] for v, seed in seeds.items() if v in self.active}

    def close(self, value: int) -> int | None:
        """The sum of what has arrived at a value, all of whose users are done."""
        arrived = self._open.pop(value, [])
        if not arrived:
            return None
        self.closed[value] = collect(self.graph, arrived)
        return self.closed[value]

    def propagate(self, value: int, cotangent: int) -> None:
        """Hand a value's cotangent to its operands."""
        definition = self.graph[value]
        rule = self._rules.get(definition.op)
        if rule is None:
            raise InternalError(f"no derivative of {definition.op!r}")
        for arg, part in zip(definition.args, rule(self, value, cotangent), strict=True):
            if part is not None and arg in self.active:
                self._open.setdefault(arg, []).append(self.sum_to(part, self.graph.shape(arg)))

    def sum_to(self, value: int, shape: Shape) -> int:
        """The adjoint of broadcasting ``shape`` to the value's shape."""
        graph = self.graph
        if shape == () and graph.shape(value):
            return graph.make("sum", value, attr=(None,))
        while len(graph.shape(value)) > len(shape):
            value = graph.make("sum", value, attr=(0,))
        for axis, size in enumerate(shape):
            if size == ONE and graph.shape(value)[axis] != ONE:
                summed = graph.make("sum", value, attr=(axis,))
                value = graph.make("expand", summed, attr=(axis,))
        return graph.make("broadcast", value, shape=shape)

    def times(self, value: int, cotangent: int, factor: int, op: str = "mul") -> int:
        """Cotangent times (or over) a factor; 0 where the cotangent is, below a branch."""
        graph = self.graph
        product = graph.make(op, cotangent, factor)
        if value not in self.guarded:
            return product
        zero = graph.number(0.0)
        return graph.make("where", cotangent, zero, product, zero, attr=("!=",))

    def partner(self, value: int, factor: int) -> int:
        """The factor of a contraction with the cotangent of a value."""
        return self.graph.make("finite", factor) if value in self.guarded else factor


Contributions: TypeAlias = tuple[int | None, ...]
Rule: TypeAlias = Callable[[Sweep, int, int], Contributions]
"""From a value and its cotangent to what each operand gets, None for nothing."""
