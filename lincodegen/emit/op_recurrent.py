"""The two functions of the text of an op that runs token by token."""

from __future__ import annotations

from collections.abc import Mapping

from lincodegen.emit.op_body import INDENT, TAKEN
from lincodegen.emit.token_python import wrapped
from lincodegen.program.token_names import Names
from lincodegen.spec.step import Recurrence


def recurrent_body(
    recurrence: Recurrence, alias: Mapping[str, str], *, has_kernels: bool, prefix: str = ""
) -> tuple[str, str]:
    """``_forward`` and ``_backward`` around the two functions of the token loop.

    ``alias`` gives the modules' names; ``prefix`` goes before the functions' names, where an op
    has chunked ones too.
    """
    names = Names({*TAKEN, *recurrence.dims, *alias.values(), "results", "found"})
    loop, kernels = alias["recurrent"], alias["recurrent_kernels"]
    module = "form" if has_kernels else loop
    choice = [f'{INDENT}form = {kernels} if call.backend == "triton" else {loop}']
    choice = choice if has_kernels else []
    inputs = [names.free(t.name) for t in recurrence.inputs]
    parameters = [names.free(t.name) for t in recurrence.parameters]
    states = [names.free(s.name) for s in recurrence.states]
    constants = [names.free(c.name) for c in recurrence.constants]
    outputs = len(recurrence.outputs)
    tensors = [*inputs, *(f"{name}[0, 0]" for name in parameters)]
    typed = [f"{n}: Tensor" for n in (*inputs, *parameters)]
    floats = [f"{n}: float" for n in constants]

    head = ["call: Call", *typed, *(f"{n}: Tensor" for n in states), *floats]
    call = wrapped(
        f"results = {module}.forward(",
        [*tensors, *states, *constants, "*call.offsets"],
        ")",
        INDENT,
    )
    last = outputs + len(states)
    result = f"results[:{outputs}], results[{outputs}:{last}], (results[{last}:],)"
    doc = "Outputs and final states, and what the backward needs."
    lines = [*choice, call, f"{INDENT}return {result}"]
    forward = _function(f"_{prefix}forward", head, "Results", doc, lines)

    cotangents = [names.free(f"d{name}") for name, _ in recurrence.outputs]
    cotangents += [names.free(f"d{s.name}") for s in recurrence.states]
    head = ["call: Call", "kept: Kept", *typed, *floats, *(f"{n}: Tensor" for n in cotangents)]
    args = [*tensors, *constants, "*kept[0]", *cotangents, "*call.offsets"]
    call = wrapped(f"found = {module}.backward(", args, ")", INDENT)
    count = len(tensors)
    result = f"{INDENT}return found[:{count}], found[{count}:]"
    doc = "Gradients of the tensors and of the initial states."
    lines = [*choice, call, result]
    return forward, _function(f"_{prefix}backward", head, "Gradients", doc, lines)


def _function(name: str, arguments: list[str], results: str, doc: str, lines: list[str]) -> str:
    head = wrapped(f"def {name}(", arguments, f") -> {results}:")
    return "\n".join([head, f'{INDENT}"""{doc}"""', *lines, ""])
