"""From the nodes of a parsed step to values of a graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from lincodegen.program.token_graph import Graph
from lincodegen.spec.step import Node, Recurrence


class StepReader:
    """Reads expressions of one recurrence; each statement is read once.

    ``hints`` gives the names of values after the step's own: a name that several lines assign
    is numbered, a state's new values behind the one it arrives with.
    """

    def __init__(self, recurrence: Recurrence, cut: Mapping[Node, str]) -> None:
        self.graph = Graph()
        self.hints: dict[int, str] = {}
        self._recurrence = recurrence
        self._cut = cut
        self._statements: dict[int, int] = {}
        self._nodes: dict[int, int] = {}
        self._names = _statement_names(recurrence)

    def read(self, root: Node) -> int:
        """The value of an expression."""
        for node in root.walk():
            if id(node) not in self._nodes:
                self._nodes[id(node)] = self._read_one(node)
        return self._nodes[id(root)]

    def _read_one(self, node: Node) -> int:
        if node in self._cut:
            return self.graph.leaf("input", (self._cut[node],), node.shape)
        if node.op == "ref":
            return self._statement(int(str(node.attr[0])))
        if not node.args and node.op not in {"ones", "zeros", "eye"}:
            return self.graph.leaf(node.op, node.attr, node.shape)
        args = [self._nodes[id(arg)] for arg in node.args]
        attr = node.attr
        if node.op == "index":
            attr = (_from_the_front(node),)
        return self.graph.make(node.op, *args, attr=attr, shape=node.shape)

    def _statement(self, index: int) -> int:
        if index not in self._statements:
            value = self.read(self._recurrence.step[index].value)
            self._statements[index] = value
            if self.graph[value].args:
                self.hints.setdefault(value, self._names[index])
        return self._statements[index]


def _from_the_front(node: Node) -> int:
    """The position that an index means, counted from 0 where the size is known."""
    position, size = int(str(node.attr[0])), node.args[0].shape[0].constant
    return position + size if position < 0 and size is not None else position


def _statement_names(recurrence: Recurrence) -> list[str]:
    total = Counter(assign.name for assign in recurrence.step)
    seen: Counter[str] = Counter()
    names = []
    for assign in recurrence.step:
        seen[assign.name] += 1
        numbered = assign.state or total[assign.name] > 1
        names.append(f"{assign.name}_{seen[assign.name]}" if numbered else assign.name)
    return names
