"""The token loop of any step in Triton: one kernel a direction, a program a sequence and head."""

from __future__ import annotations

from dataclasses import asdict

from lincodegen.emit.templates import formatted, render
from lincodegen.emit.token_recurrent_backward import Backward
from lincodegen.emit.token_recurrent_forward import Forward
from lincodegen.emit.token_recurrent_tensors import Tensors
from lincodegen.emit.token_triton_functions import function_texts
from lincodegen.errors import ScheduleError
from lincodegen.spec.step import Recurrence


def recurrent_triton(recurrence: Recurrence) -> str:
    """The text of a module with ``forward`` and ``backward`` and their two kernels.

    Same arguments and results as :func:`recurrent_torch`'s, with ``cu_seqlens=None`` as a last
    argument of both. Inputs may have any floating dtype; states are float32, outputs have the
    first input's dtype, gradients are float32.

    Raises:
        ScheduleError: a value has more than two axes and is no input read row by row.
    """
    check_ranks(recurrence)
    tensors = Tensors.of(recurrence)
    forward, backward = Forward(tensors), Backward(tensors)
    contexts = {"forward": forward.context(), "backward": backward.context()}
    functions = forward.lines.expressions.functions | backward.lines.expressions.functions
    context = {
        "title": recurrence.name,
        "name": recurrence.name,
        "functions": function_texts(functions),
        **{name: asdict(value) for name, value in contexts.items()},
    }
    return formatted(render("recurrent_triton.py.jinja", context))


def check_ranks(recurrence: Recurrence) -> None:
    """Refuse values that no tile holds.

    Raises:
        ScheduleError: a value has more than two axes and is no input read row by row.
    """
    for assign in recurrence.step:
        for node in assign.value.walk():
            wide = [arg for arg in node.args if len(arg.shape) > 2]
            whole = bool(wide) and node.op not in {"index", "slice"}
            if whole or (len(node.shape) > 2 and node.args):
                place = node.place if node.place.line else assign.place
                raise ScheduleError(
                    f"{recurrence.file}:{place.line}:{place.column}: a value of "
                    f"{max(len(n.shape) for n in (node, *wide))} axes in `{assign.name} = ...`; "
                    "a kernel's tiles have two at most. Read it row by row: `x[j]`."
                )
