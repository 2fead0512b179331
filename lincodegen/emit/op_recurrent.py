"""The two functions of the text of an op that runs token by token."""

from __future__ import annotations

from lincodegen.emit.op_body import INDENT, TAKEN
from lincodegen.emit.token_python import wrapped
from lincodegen.program.token_names import Names
from lincodegen.spec.step import Recurrence


def recurrent_body(recurrence: Recurrence) -> tuple[str, str]:
    """``_forward`` and ``_backward`` around ``recurrent.forward`` and ``recurrent.backward``."""
    names = Names({*TAKEN, *recurrence.dims, "recurrent", "results", "found"})
    inputs = [names.free(t.name) for t in recurrence.inputs]
    parameters = [names.free(t.name) for t in recurrence.parameters]
    states = [names.free(s.name) for s in recurrence.states]
    constants = [names.free(c.name) for c in recurrence.constants]
    outputs = len(recurrence.outputs)
    tensors = [*inputs, *(f"{name}[0, 0]" for name in parameters)]
    typed = [f"{n}: Tensor" for n in (*inputs, *parameters)]
    floats = [f"{n}: float" for n in constants]

    head = ["call: Call", *typed, *(f"{n}: Tensor" for n in states), *floats]
    call = wrapped("results = recurrent.forward(", [*tensors, *states, *constants], ")", INDENT)
    last = outputs + len(states)
    result = f"results[:{outputs}], results[{outputs}:{last}], (results[{last}:],)"
    doc = "Outputs and final states, and what the backward needs."
    forward = _function("_forward", head, "Results", doc, [call, f"{INDENT}return {result}"])

    cotangents = [names.free(f"d{name}") for name, _ in recurrence.outputs]
    cotangents += [names.free(f"d{s.name}") for s in recurrence.states]
    head = ["call: Call", "kept: Kept", *typed, *floats, *(f"{n}: Tensor" for n in cotangents)]
    args = [*tensors, *constants, "*kept[0]", *cotangents]
    call = wrapped("found = recurrent.backward(", args, ")", INDENT)
    count = len(tensors)
    result = f"{INDENT}return found[:{count}], found[{count}:]"
    doc = "Gradients of the tensors and of the initial states."
    return forward, _function("_backward", head, "Gradients", doc, [call, result])


def _function(name: str, arguments: list[str], results: str, doc: str, lines: list[str]) -> str:
    head = wrapped(f"def {name}(", arguments, f") -> {results}:")
    return "\n".join([head, f'{INDENT}"""{doc}"""', *lines, ""])
