"""Defaults of an op's constants and tensors: expressions that a call evaluates once."""

from __future__ import annotations

from collections.abc import Mapping

from lincodegen.emit.op_docs import INDENT
from lincodegen.emit.scalar_python import scalar_text
from lincodegen.emit.token_python import number_text, words, wrapped
from lincodegen.emit.token_torch import print_torch_function, size_arguments
from lincodegen.errors import EmitError
from lincodegen.program.token import TokenProgram, token_program
from lincodegen.spec.printing import format_node
from lincodegen.spec.step import Node, Recurrence, Tensor


def fill_function(recurrence: Recurrence, alias: Mapping[str, str]) -> str:
    """The text of ``_fill``: constants by their expressions, defaults of absent tensors.

    Empty where there is neither; ``alias`` gives the text's own names apart from the spec's.
    """
    call, constants = alias["call"], [c.name for c in recurrence.constants]
    optional = [t for t in ordered_arguments(recurrence) if t.default is not None]
    if not constants and not optional:
        return ""
    lines: list[str] = []
    for constant in recurrence.constants:
        text = scalar_text(constant.default)
        lines.append(f"{constant.name} = {text} if {constant.name} is None else {constant.name}")
    for tensor in optional:
        default = _default_call(recurrence, tensor, alias["tokens"])
        lines.append(f'{call}.fill("{tensor.name}", lambda h, H: {default})')
    sizes = [n for n in recurrence.dims if n in words("\n".join(lines))]
    lines = [f'{n} = {call}.sizes["{n}"]' for n in sizes] + lines
    result = f"({', '.join(constants)}{',' * (len(constants) == 1)})"
    returned = result[1:-1] if len(constants) > 1 else result
    count = len(constants)
    kind = f"tuple[{', '.join(['float'] * count) or '()'}]"
    arguments = [f"{call}: Call", *(f"{n}: float | None" for n in constants)]
    head = wrapped("def _fill(", arguments, f") -> {kind}:")
    what = {
        (True, True): "The constants; absent tensors get their defaults.",
        (True, False): "The constants that are not given.",
        (False, True): "Gives absent tensors their defaults.",
    }
    doc = what[bool(constants), bool(optional)]
    body = [f'"""{doc}"""', *lines, f"return {returned}"]
    return "\n".join([head, *(INDENT + line for line in body)])


def _default_call(recurrence: Recurrence, tensor: Tensor, module: str) -> str:
    program = default_program(recurrence, tensor)
    value = program.outputs[0].value
    if value.op == "number":
        return number_text(float(str(value.attr[0])))
    arguments = [a.name for a in program.inputs]
    arguments += size_arguments(program)
    return f"{module}.default_{tensor.name}({', '.join(arguments)})"


def default_program(recurrence: Recurrence, tensor: Tensor) -> TokenProgram:
    """A tensor's default over head index ``h`` and head count ``H``, in the tensor's shape."""
    node = tensor.default
    if node is None:
        raise EmitError(f"{tensor.name} has no default")
    if node.shape != tensor.shape and node.op != "number":
        node = Node("broadcast", (node,), (), tensor.shape)
    heads = (Tensor("h", ()), Tensor("H", ()))
    only = Recurrence(
        name=recurrence.name,
        title="",
        reference="",
        doc="",
        dims=recurrence.dims,
        inputs=heads,
        parameters=(),
        constants=recurrence.constants,
        states=(),
        step=(),
        outputs=(),
        source="",
        file="",
    )
    return token_program(only, [(tensor.name, node)])


def default_functions(recurrence: Recurrence) -> list[str]:
    """The printed functions of all defaults that are no numbers."""
    texts = []
    for tensor in ordered_arguments(recurrence):
        if tensor.default is None:
            continue
        program = default_program(recurrence, tensor)
        if program.outputs[0].value.op != "number":
            doc = f"The default of {tensor.name}: {format_node(tensor.default, ())}."
            texts.append(print_torch_function(f"default_{tensor.name}", program, doc))
    return texts


def ordered_arguments(recurrence: Recurrence) -> list[Tensor]:
    """Tensors as the op takes them: without default before with, inputs before parameters."""
    tensors = [*recurrence.inputs, *recurrence.parameters]
    return sorted(tensors, key=lambda t: t.default is not None)
