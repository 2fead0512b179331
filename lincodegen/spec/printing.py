"""A Recurrence as text: its signature, then one numbered line a statement."""

from __future__ import annotations

from collections.abc import Sequence

from lincodegen.spec.nodes import SYMBOLS
from lincodegen.spec.shapes import shown
from lincodegen.spec.step import Interval, Node, Recurrence, Tensor

_SUM, _PRODUCT, _SIGN, _POWER, _ATOM = range(5)
_PRECEDENCE = {"add": _SUM, "sub": _SUM} | dict.fromkeys(SYMBOLS.keys() - {"add", "sub"}, _PRODUCT)


def format_step(recurrence: Recurrence) -> str:
    """The statements in order; ``S#3`` is what statement 3 assigns, ``S`` the value before."""
    labels = [f"{statement.name}#{i}" for i, statement in enumerate(recurrence.step)]
    title = f"  {recurrence.title}" if recurrence.title else ""
    lines = [f"{recurrence.name}{title}", ""]
    lines += [_declaration("input", tensor) for tensor in recurrence.inputs]
    lines += [_declaration("parameter", tensor) for tensor in recurrence.parameters]
    for constant in recurrence.constants:
        lines.append(f"constant   {constant.name} = {format_node(constant.default, labels)}")
    lines += [f"state      {state.name} {shown(state.shape)}" for state in recurrence.states]
    lines.append("")
    texts = [
        f"{label} = {format_node(statement.value, labels)}"
        for label, statement in zip(labels, recurrence.step, strict=True)
    ]
    width = max((len(text) for text in texts), default=0)
    for text, statement in zip(texts, recurrence.step, strict=True):
        shape = shown(statement.value.shape)
        lines.append(f"{text:{width}}  {shape:10} line {statement.place.line}".rstrip())
    outputs = ", ".join(f"{name} = {format_node(n, labels)}" for name, n in recurrence.outputs)
    return "\n".join([*lines, "", f"returns    {outputs}", ""])


def _declaration(kind: str, tensor: Tensor) -> str:
    text = f"{kind:10} {tensor.name} {shown(tensor.shape)}"
    if tensor.domain.low > float("-inf") or tensor.domain.high < float("inf"):
        text += f" in {format_interval(tensor.domain)}"
    if tensor.norm is not None:
        text += f", norm in {format_interval(tensor.norm)}"
    if tensor.default is not None:
        text += f", default {format_node(tensor.default, ())}"
    return text


def format_interval(interval: Interval) -> str:
    """An interval as specs write it, ``(`` and ``)`` where an end is left out."""
    left = "[" if interval.includes_low else "("
    right = "]" if interval.includes_high else ")"
    return f"{left}{interval.low:g}, {interval.high:g}{right}"


def format_node(node: Node, labels: Sequence[str]) -> str:
    """An expression in the notation of specs; ``labels`` name the statements it refers to."""
    return _Printer(labels).text(node, _SUM)


class _Printer:
    """Prints with the brackets that precedence asks for."""

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = labels

    def text(self, node: Node, least: int) -> str:
        """The text of a node, in brackets if it binds less than ``least``."""
        text, precedence = self._operator(node)
        return f"({text})" if precedence < least else text

    def _operator(self, node: Node) -> tuple[str, int]:
        args = node.args
        match node.op:
            case "add" | "sub" | "mul" | "div" | "floordiv" | "mod" | "matmul":
                level = _PRECEDENCE.get(node.op, _PRODUCT)
                left, right = self.text(args[0], level), self.text(args[1], level + 1)
                return f"{left} {SYMBOLS.get(node.op, '@')} {right}", level
            case "neg":
                return f"-{self.text(args[0], _SIGN)}", _SIGN
            case "pow":
                return f"{self.text(args[0], _ATOM)}**{node.attr[0]}", _POWER
            case "exp_base":
                return f"{node.attr[0]}**{self.text(args[0], _SIGN)}", _POWER
            case "number":
                value = node.attr[0]
                negative = isinstance(value, (int, float)) and value < 0
                return repr(value), _SIGN if negative else _ATOM
            case _:
                return self._atom(node), _ATOM

    def _atom(self, node: Node) -> str:
        match node.op:
            case "input" | "parameter" | "constant" | "state":
                return str(node.attr[0])
            case "size":
                text = str(node.attr[0])
                return text if text.isidentifier() else f"({text})"
            case "ref":
                return self._labels[int(str(node.attr[0]))]
            case "transpose":
                return f"{self.text(node.args[0], _ATOM)}.T"
            case "index" | "slice" | "expand":
                return f"{self.text(node.args[0], _ATOM)}[{_items(node)}]"
            case "ones" | "zeros" | "eye":
                sizes = node.shape[:1] if node.op == "eye" else node.shape
                return f"{node.op}({', '.join(str(size) for size in sizes)})"
            case _:
                return self._call(node)

    def _call(self, node: Node) -> str:
        args = [self.text(arg, _SUM) for arg in node.args]
        if node.op == "where":
            args = [f"{args[0]} {node.attr[0]} {args[1]}", *args[2:]]
        if node.op in ("sum", "mean") and node.attr[0] is not None:
            args.append(f"axis={node.attr[0]}")
        return f"{node.op}({', '.join(args)})"


def _items(node: Node) -> str:
    if node.op == "index":
        return str(node.attr[0])
    if node.op == "slice":
        return f"{node.attr[0]}:{node.attr[1]}"
    full = [":"] * len(node.args[0].shape)
    axis = int(str(node.attr[0]))
    return ", ".join([*full[:axis], "None", *full[axis:]])
