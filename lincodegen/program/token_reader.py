"""From the nodes of a parsed step to values of a graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from lincodegen.program.token_rules import new_graph
from lincodegen.spec.step import Node, Recurrence


class StepReader:
    """Reads expressions of one recurrence; each statement is read once.

    ``hints`` gives the names of values after the step's own: a name that several lines assign
    is numbered, a state's new values behind the one it arrives with.
    """

    def __init__(self, recurrence: Recurrence, cut: Mapping[Node, str]) -> None:
        self.graph = new_graph()
        self.hints: dict[int, str] = {}
        self._recurrence = recurrence
        self._cut = cut
        self._statements: dict[int, int] = {}
        self._nodes: dict[int, int] = {}
        self._names = _statement_names(recurrence)

    def read(self, root: Node) -> int:
        """The value of an expression, after those of the statements it needs, in their order."""
        needed, todo = set[int](), [root]
        while todo:
            for node in self._order(todo.pop()):
                index = int(str(node.attr[0])) if node.op == "ref" else None
                if index is not None and index not in needed | self._statements.keys():
                    needed.add(index)
                    todo.append(self._recurrence.step[index].value)
        for index in sorted(needed):
            self._read_statement(index)
        return self._read_nodes(root)

    def _order(self, root: Node) -> list[Node]:
        """The nodes of an expression, operands first, without what lies below a cut."""
        if not self._cut:
            return list(root.walk())
        order: list[Node] = []
        stack = [(root, False)]
        while stack:
            node, done = stack.pop()
            if done or node in self._cut:
                order.append(node)
            else:
                stack.append((node, True))
                stack.extend((arg, False) for arg in reversed(node.args))
        return order

    def _read_nodes(self, root: Node) -> int:
        for node in self._order(root):
            if id(node) not in self._nodes:
                self._nodes[id(node)] = self._read_one(node)
        return self._nodes[id(root)]

    def _read_one(self, node: Node) -> int:
        if node in self._cut:
            return self.graph.leaf("input", (self._cut[node],), node.shape)
        if node.op == "ref":
            return self._statements[int(str(node.attr[0]))]
        if not node.args and node.op not in {"ones", "zeros", "eye"}:
            return self.graph.leaf(node.op, node.attr, node.shape)
        args = [self._nodes[id(arg)] for arg in node.args]
        attr = node.attr
        if node.op == "index":
            attr = (_from_the_front(node),)
        return self.graph.make(node.op, *args, attr=attr, shape=node.shape)

    def _read_statement(self, index: int) -> None:
        value = self._read_nodes(self._recurrence.step[index].value)
        self._statements[index] = value
        if self.graph[value].args:
            self.hints.setdefault(value, self._names[index])


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
