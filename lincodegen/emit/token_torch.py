"""Token programs as readable PyTorch functions.

Tensors arrive as ``[..., *shape]``, the leading axes ``[B, T, H]`` or ``[B, H]`` alike for all;
parameters as ``[H, *shape]``. Values of different rank broadcast from the right within their
token shape, so the printer puts the axes in: ``beta[..., None] * k``.
"""

from __future__ import annotations

from dataclasses import replace

from lincodegen.emit.token_python import WIDTH, wrapped
from lincodegen.emit.token_torch_expression import TorchExpressions
from lincodegen.errors import EmitError
from lincodegen.program.token import Argument, Kind, Statement, TokenProgram, opened_norms
from lincodegen.program.token_split import split_statements
from lincodegen.spec.dims import Dim
from lincodegen.spec.step import Node

_TAKEN = frozenset({"F", "Tensor", "math", "torch", "float", "max", "min", "abs"})


def print_torch_function(name: str, program: TokenProgram, doc: str) -> str:
    """A function of ``program.inputs`` in order, then of :func:`size_arguments`.

    It returns the outputs in order, a tuple where there are several. The text is a fixed point
    of ``ruff format`` at 100 columns and needs ``math``, ``torch``, ``torch.Tensor`` and
    ``torch.nn.functional`` as ``F`` where it uses them.

    Args:
        name: the function's name.
        program: what it computes.
        doc: its docstring, one line or several without indent.
    """
    program = _renamed(opened_norms(program))
    text = TorchExpressions(program)
    program = split_statements(program, lambda s: len(_line(text, s)) <= WIDTH)
    body = [_line(text, statement) for statement in program.statements]
    results = [text.print(output.value) for output in program.outputs]
    sizes = _size_lines(program)
    return "\n".join(
        [
            _signature(name, program),
            *_docstring(doc),
            *(f"    {size} = {definition}" for size, definition in sizes.items()),
            *body,
            _result_line(results),
            "",
        ]
    )


def size_arguments(program: TokenProgram) -> tuple[str, ...]:
    """Dimensions that the program's text needs and that no argument's shape shows."""
    known = _derived_sizes(program)
    return tuple(name for name in program.sizes if name in used_sizes(program) - set(known))


def used_sizes(program: TokenProgram) -> set[str]:
    """Dimensions whose number the program's text needs."""
    used: set[str] = set()
    for root in (*(s.value for s in program.statements), *(o.value for o in program.outputs)):
        for node in root.walk():
            for dim in _printed_dims(node, program):
                used |= dim.names
    return used


def torch_imports(text: str) -> str:
    """The import block that printed functions need."""
    lines = ["import math", ""] if "math." in text else []
    lines += ["import torch"] if "torch." in text else []
    lines += ["import torch.nn.functional as F"] if "F." in text else []
    lines += ["from torch import Tensor"] if "Tensor" in text else []
    return "\n".join(lines) + "\n"


def _printed_dims(node: Node, program: TokenProgram) -> tuple[Dim, ...]:
    match node.op:
        case "size":
            return tuple(d for d in node.attr if isinstance(d, Dim))
        case "slice":
            return tuple(d for d in node.attr if isinstance(d, Dim) and d != node.args[0].shape[0])
        case "unslice" | "unindex":
            return node.shape[:1] + tuple(d for d in node.attr if isinstance(d, Dim))
        case "broadcast" if any(a.shape == node.shape for a in program.inputs if _full(a)):
            return ()
        case "ones" | "zeros" | "eye" | "unravel" | "broadcast":
            return node.shape
        case _:
            return ()


def _full(argument: Argument) -> bool:
    return argument.kind in {Kind.TOKEN, Kind.STATE}


def _derived_sizes(program: TokenProgram) -> dict[str, str]:
    """How to read dimensions off the arguments' shapes."""
    found: dict[str, str] = {}
    for argument in program.inputs:
        for axis, dim in enumerate(argument.shape):
            if len(dim.terms) != 1 or len(dim.terms[0][0]) != 1:
                continue
            (name,), count = dim.terms[0]
            text = f"{argument.name}.shape[{axis - len(argument.shape)}]"
            found.setdefault(name, text if count == 1 else f"{text} // {count}")
    return found


def _size_lines(program: TokenProgram) -> dict[str, str]:
    used = used_sizes(program)
    known = _derived_sizes(program)
    return {name: known[name] for name in program.sizes if name in used and name in known}


def _line(text: TorchExpressions, statement: Statement) -> str:
    return f"    {statement.name} = {text.print(statement.value)}"


def _signature(name: str, program: TokenProgram) -> str:
    kinds = {Kind.CONSTANT: "float"}
    arguments = [f"{a.name}: {kinds.get(a.kind, 'Tensor')}" for a in program.inputs]
    arguments += [f"{size}: int" for size in size_arguments(program)]
    count = len(program.outputs)
    results = ["Tensor"] * count if count <= 4 else ["Tensor", "..."]
    result = "Tensor" if count == 1 else f"tuple[{', '.join(results)}]"
    return wrapped(f"def {name}(", arguments, f") -> {result}:")


def _docstring(doc: str) -> list[str]:
    lines = doc.splitlines()
    if len(lines) == 1 and len(doc) <= WIDTH - 10:
        return [f'    """{doc}"""']
    inner = [f"    {line}".rstrip() for line in lines[1:]]
    return [f'    """{lines[0]}', *inner, '    """']


def _result_line(results: list[str]) -> str:
    line = f"    return {', '.join(results)}"
    if len(line) <= WIDTH or len(results) == 1:
        return line
    return "\n".join(["    return (", *(f"        {r}," for r in results), "    )"])


def _renamed(program: TokenProgram) -> TokenProgram:
    """The program with no value named like a module or a builtin that the text uses."""
    if clash := _TAKEN.intersection(program.sizes):
        raise EmitError(f"a dimension may not be called {min(clash)} in generated PyTorch text")
    taken = {a.name for a in program.inputs} | {s.name for s in program.statements}
    if not taken & _TAKEN:
        return program
    safe = {name: f"{name}_" for name in taken & _TAKEN}

    def rename(node: Node) -> Node:
        if not node.args:
            attr = tuple(safe.get(a, a) if isinstance(a, str) else a for a in node.attr)
            return replace(node, attr=attr)
        return replace(node, args=tuple(rename(arg) for arg in node.args))

    return replace(
        program,
        inputs=tuple(replace(a, name=safe.get(a.name, a.name)) for a in program.inputs),
        statements=tuple(
            Statement(safe.get(s.name, s.name), rename(s.value)) for s in program.statements
        ),
        outputs=tuple(replace(o, value=rename(o.value)) for o in program.outputs),
    )

