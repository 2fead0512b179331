"""The sum of the contributions to one cotangent.

before   unindex(0)(a) + unindex(1)(b)      unslice(0, R)(a) + unslice(R, 2 * R)(b)
after    stack(a, b)                        concat(a, b)
"""

from __future__ import annotations

from lincodegen.program.token_graph import Graph
from lincodegen.spec.dims import Dim


def collect(graph: Graph, parts: list[int]) -> int:
    """The sum of ``parts`` in order, rows and slices that fill an axis put together first."""
    parts = _joined_rows(graph, _joined_slices(graph, parts))
    total = parts[0]
    for part in parts[1:]:
        total = graph.make("add", total, part)
    return total


def _grouped(graph: Graph, parts: list[int], op: str) -> dict[tuple[object, ...], list[int]]:
    """The operands of the parts that are ``op``, by its attributes."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for part in parts:
        if graph[part].op == op:
            groups.setdefault(graph[part].attr, []).append(graph[part].args[0])
    return groups


def _joined_rows(graph: Graph, parts: list[int]) -> list[int]:
    rows = _grouped(graph, parts, "unindex")
    count = graph.shape(parts[0])[0].constant if graph.shape(parts[0]) else None
    if not rows or count is None or {(i,) for i in range(count)} != set(rows):
        return parts
    whole = graph.make("stack", *(collect(graph, rows[(i,)]) for i in range(count)))
    return [whole, *(part for part in parts if graph[part].op != "unindex")]


def _joined_slices(graph: Graph, parts: list[int]) -> list[int]:
    slices = _grouped(graph, parts, "unslice")
    order: list[int] = []
    position: object = Dim.of(0)
    following = {bounds[0]: bounds for bounds in slices}
    while position in following and len(order) < len(following):
        bounds = following[position]
        order.append(collect(graph, slices[bounds]))
        position = bounds[1]
    if not slices or len(order) < len(slices) or position != graph.shape(parts[0])[0]:
        return parts
    whole = order[0]
    if len(order) > 1:
        whole = graph.make("concat", *order, shape=graph.shape(parts[0]))
    return [whole, *(part for part in parts if graph[part].op != "unslice")]
