"""Token programs as readable PyTorch functions.

Tensors arrive as ``[..., *shape]``, the leading axes ``[B, T, H]`` or ``[B, H]`` alike for all;
parameters as ``[H, *shape]``. Values of different rank broadcast from the right within their
token shape, so the printer puts the axes in: ``beta[..., None] * k``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from lincodegen.emit.token_python import WIDTH, result_text, words, wrapped
from lincodegen.emit.token_torch_expression import TorchExpressions
from lincodegen.emit.token_torch_ops import torch_expressions
from lincodegen.errors import EmitError
from lincodegen.program.token import Kind, Statement, TokenProgram, opened_norms
from lincodegen.program.token_split import split_statements
from lincodegen.spec.step import Node, Shape

_JOINING = frozenset({"concat", "stack", "broadcast"})
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
    printed = _printed(program)
    return function_text(name, printed.program, printed.body, doc)


def function_text(name: str, program: TokenProgram, body: Sequence[str], doc: str) -> str:
    """A function of ``program.inputs`` in order, then of dimensions that no shape shows."""
    used = words("\n".join(body))
    known = _derived_sizes(program)
    sizes = [n for n in program.sizes if n in used]
    lines = [f"    {n} = {known[n]}" for n in sizes if n in known]
    head = _signature(name, program, tuple(n for n in sizes if n not in known))
    return "\n".join([head, *_docstring(doc), *lines, *body, ""])


def size_arguments(program: TokenProgram) -> tuple[str, ...]:
    """Dimensions that the program's text needs and that no argument's shape shows."""
    used = _printed(program).sizes - set(_derived_sizes(program))
    return tuple(name for name in program.sizes if name in used)


def needs_equal_shapes(program: TokenProgram) -> bool:
    """Whether the text joins tensors, or takes leading axes from one: both do not broadcast."""
    tensors = [a for a in program.inputs if a.kind is not Kind.CONSTANT]
    roots = [*(s.value for s in program.statements), *(o.value for o in program.outputs)]
    joining = any(n.op in _JOINING for root in roots for n in root.walk())
    return joining and len(tensors) > 1


@dataclass(frozen=True, slots=True)
class _Printed:
    """A program as it is printed, its lines, and the dimensions that occur in them."""

    program: TokenProgram
    body: tuple[str, ...]
    sizes: frozenset[str]


def _printed(program: TokenProgram) -> _Printed:
    program = prepared(program)
    text = torch_expressions(program)
    program = split_statements(program, lambda s: len(_line(text, s, program)) <= WIDTH)
    body = [_line(text, statement, program) for statement in program.statements]
    if not (program.statements and _is_result(program.statements[-1], program)):
        body.append(result_text([text.print(output.value) for output in program.outputs]))
    return _Printed(program, tuple(body), words("\n".join(body)) & set(program.sizes))


def prepared(program: TokenProgram) -> TokenProgram:
    """The program as it is printed: norms opened, no name that the text needs."""
    return _renamed(opened_norms(program))


def _is_result(statement: Statement, program: TokenProgram) -> bool:
    """Whether a statement is the only output and the last to be computed."""
    last = program.statements[-1].name == statement.name
    return last and [o.value.attr for o in program.outputs] == [(statement.name,)]


def torch_imports(text: str) -> str:
    """The import block that printed functions need."""
    lines = ["import math", ""] if "math." in text else []
    lines += ["import torch"] if "torch." in text else []
    lines += ["import torch.nn.functional as F"] if "F." in text else []
    lines += ["from torch import Tensor"] if "Tensor" in text else []
    return "\n".join(lines) + "\n"


def size_reads(tensors: Iterable[tuple[str, Shape]]) -> dict[str, str]:
    """How to read dimensions off the shapes of tensors: ``K`` as ``k.shape[-1]``."""
    found: dict[str, str] = {}
    for tensor, shape in tensors:
        for axis, dim in enumerate(shape):
            if len(dim.terms) != 1 or len(dim.terms[0][0]) != 1:
                continue
            (name,), count = dim.terms[0]
            text = f"{tensor}.shape[{axis - len(shape)}]"
            found.setdefault(name, text if count == 1 else f"{text} // {count}")
    return found


def _derived_sizes(program: TokenProgram) -> dict[str, str]:
    return size_reads((a.name, a.shape) for a in program.inputs)


def _line(text: TorchExpressions, statement: Statement, program: TokenProgram) -> str:
    text.define(statement)
    verb = "return" if _is_result(statement, program) else f"{statement.name} ="
    return f"    {verb} {text.print(statement.value)}"


def _signature(name: str, program: TokenProgram, sizes: tuple[str, ...]) -> str:
    kinds = {Kind.CONSTANT: "float"}
    arguments = [f"{a.name}: {kinds.get(a.kind, 'Tensor')}" for a in program.inputs]
    arguments += [f"{size}: int" for size in sizes]
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
