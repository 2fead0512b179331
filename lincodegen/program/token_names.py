"""Which token-level values get a name, and what it is.

Named are outputs, the step's own locals, and every value used more than once that is more than
a view of a leaf. A value without a name of its own is called after its operation and operand:
``norm_k``, ``exp_g``, ``dot_k_q``.
"""

from __future__ import annotations

import keyword
from collections import Counter
from collections.abc import Iterable, Mapping

from lincodegen.program.token_graph import Graph, node_of
from lincodegen.program.token_shapes import TOKEN_LEAVES
from lincodegen.spec.step import Node

VIEWS = frozenset(("expand", "squeeze", "transpose", "index", "broadcast", "neg"))
LONGEST = 20
"""Letters of a name that is put together from operands' names."""
LARGEST = 40
"""Operations of an expression without a name."""
_BINARY = {
    "add": "{0}_plus_{1}",
    "sub": "{0}_minus_{1}",
    "mul": "{0}_{1}",
    "div": "{0}_over_{1}",
    "matmul": "{0}_{1}",
    "dot": "dot_{0}_{1}",
    "outer": "outer_{0}_{1}",
    "maximum": "max_{0}_{1}",
    "minimum": "min_{0}_{1}",
}
_NOUNS = {
    "add": "sum",
    "sub": "difference",
    "mul": "product",
    "div": "ratio",
    "matmul": "product",
    "dot": "dot",
    "outer": "outer",
    "rsqrt": "inv_norm",
    "logsigmoid": "log_sigmoid",
    "pow": "power",
    "where": "selected",
    "rcumsum": "suffix_sum",
    "stack": "rows",
    "unindex": "row",
    "unslice": "part",
}
_DEEDS = {word for noun in (*_NOUNS, *_NOUNS.values()) for word in noun.split("_")} | {
    "centred",
    "exp",
    "max",
    "mean",
    "min",
    "minus",
    "over",
    "plus",
    "selected",
    "sigmoid",
    "square",
}


class Names:
    """Names taken in one program; asks for a free one near a wish."""

    def __init__(self, taken: Iterable[str]) -> None:
        self.taken = set(taken)

    def free(self, wish: str) -> str:
        """``wish`` itself, or with the first free number behind it."""
        name, count = wish, 1
        while name in self.taken or keyword.iskeyword(name):
            count += 1
            name = f"{wish}_{count}"
        self.taken.add(name)
        return name


def name_values(
    graph: Graph, outputs: Mapping[str, int], hints: Mapping[int, str], taken: Iterable[str]
) -> dict[int, str]:
    """A name for each value that becomes a statement, in order of evaluation.

    Args:
        graph: the values.
        outputs: the value of each output, by the output's name.
        hints: names wished for values.
        taken: names that no statement may have: inputs, dimensions, constants.
    """
    reached = graph.reachable(list(outputs.values()))
    uses = Counter(
        _viewed(graph, arg)
        for value in reached
        if graph[value].op not in VIEWS or value in outputs.values()
        for arg in graph[value].args
    )
    wishes = {**hints}
    for name, value in outputs.items():
        wishes.setdefault(value, name)
    results = set(outputs.values())
    names, chosen = Names(taken), {}
    for value in results:
        wish = wishes[value]
        if wish not in names.taken and _deserves_name(graph, value, True):
            chosen[value] = names.free(wish)
    leaves: dict[int, Node] = {}
    weight: dict[int, int] = {}
    for value in sorted(reached):
        weight[value] = 1 + sum(weight[arg] for arg in graph[value].args if arg not in chosen)
        large = weight[value] > LARGEST
        wanted = value in results or value in hints or uses[value] > 1 or large
        if not wanted or not _deserves_name(graph, value, value in results):
            continue
        if value not in chosen:
            wish = wishes.get(value, "")
            if not wish or wish in names.taken:
                wish = describe(node_of(graph, value, leaves))
            chosen[value] = names.free(wish)
        leaves[value] = Node("value", (), (chosen[value],), graph.shape(value))
    return {value: chosen[value] for value in sorted(chosen)}


def _deserves_name(graph: Graph, value: int, result: bool) -> bool:
    """Whether a statement of its own is worth it: views are printed where they are used."""
    definition = graph[value]
    if definition.op in TOKEN_LEAVES:
        return result and definition.op in {"number", "size"}
    return result or definition.op not in VIEWS


def _viewed(graph: Graph, value: int) -> int:
    while graph[value].op in VIEWS:
        value = graph[value].args[0]
    return value


def describe(node: Node) -> str:
    """A short name after an expression's operation and operands."""
    if node.op in TOKEN_LEAVES:
        return _leaf_name(node)
    if node.op in VIEWS:
        return describe(node.args[0])
    noun, parts = _NOUNS.get(node.op, node.op), [describe(arg) for arg in node.args]
    if special := _special_noun(node):
        name = f"{special}_{parts[0]}"
    elif node.op in _BINARY and all(parts):
        name = _BINARY[node.op].format(*parts)
    else:
        named = [part for part in parts if part]
        name = "".join(named) if node.op in _BINARY else "_".join([noun, *named[-1:]])
    if not name or len(name) > LONGEST:
        name = "_".join(part for part in (special or noun, _root(node)) if part)
    return name


def _special_noun(node: Node) -> str:
    """What an expression of several operations is called."""
    if node.op == "rsqrt" and node.args[0].op == "add":
        return "inv_norm"
    if node.op == "mul" and node.args[0] == node.args[1]:
        return "square"
    mean = node.args[1].args[0] if node.op == "sub" and node.args[1].op == "expand" else None
    return "centred" if mean and mean.op == "mean" and mean.args[0] == node.args[0] else ""


def _root(node: Node) -> str:
    """What the first tensor of an expression is called, without what was done to it."""
    named = (_leaf_name(part) for part in node.walk() if part.op in TOKEN_LEAVES)
    name = next((name for name in named if name), "")
    if len(name) <= LONGEST // 2:
        return name
    words = [word for word in name.split("_") if word not in _DEEDS]
    first = words[0] if words else name
    return "_".join([first, *(word for word in words[1:2] if word.isdigit())])


def _leaf_name(node: Node) -> str:
    """The name of a leaf; a literal and a size have none."""
    return "" if node.op in {"number", "size"} else str(node.attr[0])
