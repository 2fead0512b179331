"""Docstrings of an op, and the user's text as it may stand in them."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from lincodegen.emit.token_python import WIDTH
from lincodegen.spec.printing import format_node
from lincodegen.spec.step import REALS, Interval, Recurrence, Shape, Tensor

INDENT = "    "


def op_doc(recurrence: Recurrence, arguments: Sequence[Tensor]) -> str:
    """The docstring of the public function, without its quotes."""
    lines = [summary(recurrence), ""]
    if recurrence.doc:
        lines += [*_paragraph(recurrence.doc, INDENT), ""]
    lines += [f"{INDENT * 2}{line}" for line in step_lines(recurrence)]
    lines += ["", f"{INDENT}Args:", *_argument_docs(recurrence, arguments)]
    lines += ["", f"{INDENT}Returns:", *_result_docs(recurrence)]
    return "\n".join(lines) + f"\n{INDENT}"


def step_doc(recurrence: Recurrence, arguments: Sequence[Tensor]) -> str:
    """The docstring of the op's one token, without its quotes."""
    plural = "s" if len(recurrence.states) > 1 else ""
    lines = [f"One token; the state{plural} written in place, in a pool if one is given.", ""]
    lines += [f"{INDENT}Args:"]
    for tensor in arguments:
        lead = "B, H" if tensor in recurrence.inputs else "H"
        lines += _item(f"{tensor.name}: {axes_text(lead, tensor.shape)}.")
    for constant in recurrence.constants:
        lines += _item(f"{constant.name}: {format_node(constant.default, ())} if None.")
    shapes = " and ".join(axes_text("B, H", s.shape) for s in recurrence.states)
    lines += _item(
        f"state: {shapes} in any floating dtype and with any strides, computed with in float32 "
        "and rounded to its dtype; begun with zeros in float32 if None. With ``state_indices`` "
        "P slots [P, H, ...] in place of B entries."
    )
    lines += _item(
        "state_indices: [B] in int32 or int64, the slot that each token reads and writes, no slot "
        "twice and all below P, which is not checked on a GPU. A negative one skips its token: no "
        "slot is touched and its output is zeros."
    )
    swapped = [axes_text("B, H", s.shape[::-1]) for s in recurrence.states if len(s.shape) == 2]
    layout = f"is {' and '.join(swapped)}" if swapped else "is as without, having no two axes"
    lines += _item(f"state_v_first: Whether ``state`` {layout}.")
    outputs = [f"{n} {axes_text('B, H', v.shape)}" for n, v in recurrence.outputs]
    text = (
        f"{' and '.join(outputs)} in the dtype of {recurrence.inputs[0].name}; ``state``, or the "
        f"state{plural} begun. No value is read on the host, so that the call may be captured in "
        "a CUDA graph; there are no gradients."
    )
    lines += ["", f"{INDENT}Returns:"]
    lines += textwrap.wrap(text, WIDTH, initial_indent=INDENT * 2, subsequent_indent=INDENT * 2)
    return "\n".join(lines) + f"\n{INDENT}"


def _argument_docs(recurrence: Recurrence, arguments: Sequence[Tensor]) -> list[str]:
    lines: list[str] = []
    for tensor in arguments:
        lead = "B, T, H" if tensor in recurrence.inputs else "H"
        text = f"{tensor.name}: {axes_text(lead, tensor.shape)}"
        text += f", {plain(tensor.doc)}" if tensor.doc else ""
        text += f", in {interval_text(tensor.domain)}" if tensor.domain != REALS else ""
        text += f", norm in {interval_text(tensor.norm)}" if tensor.norm is not None else ""
        if tensor.default is not None:
            text += f"; by default {format_node(tensor.default, ())}"
        lines += _item(f"{text}.")
    for constant in recurrence.constants:
        default = format_node(constant.default, ())
        lines += _item(f"{constant.name}: {default} if None.")
    shapes = [axes_text("B, H", s.shape) for s in recurrence.states]
    if len(shapes) == 1:
        lines += _item(f"initial_state: {shapes[0]}, zeros if None.")
    else:
        lines += _item(f"initial_state: {' and '.join(shapes)}, zeros where None.")
    lines += _item("output_final_state: Whether the final state is returned.")
    lines += _item(
        "cu_seqlens: [N + 1] in int32 or int64, rows at which N packed sequences start, 0 first "
        "and T last; B is 1 then and states are [N, H, ...]."
    )
    lines += _item("cu_seqlens_cpu: The same on the CPU, if it is there: it is checked then.")
    lines += _item(
        "check_inputs: Whether every value is compared with its domain, which waits for the "
        "device; shapes, dtypes and devices are compared always."
    )
    return lines


def _result_docs(recurrence: Recurrence) -> list[str]:
    outputs = [f"{n} {axes_text('B, T, H', v.shape)}" for n, v in recurrence.outputs]
    plural = "s" if len(recurrence.states) > 1 else ""
    states = [f"{s.name} {axes_text('B, H', s.shape)}" for s in recurrence.states]
    first = recurrence.inputs[0].name
    text = (
        f"{' and '.join(outputs)} in the dtype of {first}; the final state{plural} "
        f"{' and '.join(states)} in float32, or in float64 if any input is, else None."
    )
    return textwrap.wrap(text, WIDTH, initial_indent=INDENT * 2, subsequent_indent=INDENT * 2)


def summary(recurrence: Recurrence) -> str:
    """The first line of docstrings."""
    title = plain(recurrence.title) or recurrence.name
    reference = f" ({plain(recurrence.reference)})" if recurrence.reference else ""
    line = f"{title}{reference}."
    return line if len(line) <= WIDTH - 10 else f"{title}."[: WIDTH - 10]


def step_lines(recurrence: Recurrence) -> list[str]:
    """The statements of a token, loops unrolled."""
    labels = [s.name for s in recurrence.step]
    lines = [f"{s.name} = {format_node(s.value, labels)}" for s in recurrence.step]
    return [
        line for text in lines for line in textwrap.wrap(text, WIDTH - 10, subsequent_indent=INDENT)
    ]


def plain(text: str) -> str:
    """A user's text as it may stand in a docstring or a comment: one line, no quotes or escapes."""
    text = " ".join(text.split()).replace("\\", "/").replace('"', "'")
    return text.rstrip(".").strip()


def axes_text(lead: str, shape: Shape) -> str:
    """``[B, T, H, K]``."""
    return f"[{', '.join([lead, *map(str, shape)])}]"


def interval_text(interval: Interval) -> str:
    """An interval as it is written, ``[-inf, 0]``, its ends to the last digit."""
    left, right = "[" if interval.includes_low else "(", "]" if interval.includes_high else ")"
    ends = (interval.low, interval.high)
    low, high = (f"{end:g}" if float(f"{end:g}") == end else repr(end) for end in ends)
    return f"{left}{low}, {high}{right}"


def _item(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=INDENT * 2, subsequent_indent=INDENT * 3)


def _paragraph(text: str, indent: str) -> list[str]:
    return textwrap.wrap(f"{plain(text)}.", WIDTH, initial_indent=indent, subsequent_indent=indent)
