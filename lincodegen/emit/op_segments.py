"""The text that says how a segment of tokens maps the states of an op."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from lincodegen.derive.events import Timeline
from lincodegen.derive.segments import SegmentMap, segment_maps
from lincodegen.emit.op_plan import TokenFunction, token_function
from lincodegen.emit.token_python import words
from lincodegen.emit.token_torch import print_torch_function, size_arguments
from lincodegen.errors import NotAffine
from lincodegen.program.token import Kind, token_program
from lincodegen.spec.step import Node, Recurrence


@dataclass(frozen=True, slots=True)
class SegmentText:
    """``Segments(...)`` as an op's text has it, and the functions of ``tokens`` that it names."""

    value: str
    functions: tuple[TokenFunction, ...] = ()


def refused_segments(alias: Mapping[str, str], reason: str) -> SegmentText:
    """The text of an op whose states have no affine maps."""
    return SegmentText(f"{alias['Segments']}(refusal={_quoted(reason)})")


def segments_text(timeline: Timeline, alias: Mapping[str, str]) -> SegmentText:
    """The text of an op whose every group has a chunk form; ``alias`` gives modules' names."""
    try:
        maps = segment_maps(timeline)
    except NotAffine as error:
        return refused_segments(alias, str(error))
    entries, functions = [], []
    for state, segment in zip(timeline.recurrence.states, maps, strict=True):
        function = None
        if segment.log_decay is not None:
            suffix = f"_{state.name}" if len(maps) > 1 else ""
            function = _log_decay(timeline.recurrence, f"log_decay{suffix}", segment.log_decay)
            functions.append(function)
        entries.append(_entry(segment, function, alias))
    return SegmentText(f"{alias['Segments']}(({', '.join(entries)},))", tuple(functions))


def _log_decay(recurrence: Recurrence, name: str, node: Node) -> TokenFunction:
    """The function of a log decay; of constants alone it takes a tensor only if it needs one."""
    program = token_program(recurrence, [("log_decay", node)])
    function = token_function(recurrence, name, program)
    if function.wrt:
        return function
    _, _, body = print_torch_function(name, function.program, name).partition('"""')
    if function.program.inputs[0].name in words(body):
        return function
    return replace(function, program=program)


def _entry(segment: SegmentMap, function: TokenFunction | None, alias: Mapping[str, str]) -> str:
    """``SegmentMap(...)`` without what is as by default."""
    items = [f'"{segment.kind}"']
    if segment.axis:
        items.append(f"axis={segment.axis}")
    if function is not None:
        given, sizes = function.program.inputs, size_arguments(function.program)
        names = ", ".join([*(a.name for a in given), *sizes])
        # a module is read at its first use
        items.append(f"log_decay=lambda {names}: {alias['tokens']}.{function.name}({names})")
        items += _named("tensors", [a.name for a in given if a.kind is not Kind.CONSTANT])
        items += _named("constants", [a.name for a in given if a.kind is Kind.CONSTANT])
        items += _named("sizes", sizes)
    items += _named("zeroed", segment.zeroed)
    if segment.columns is not None:
        items.append(f'columns="{segment.columns}"')
    if segment.written:
        items.append("written=True")
    return f"{alias['SegmentMap']}({', '.join(items)})"


def _named(key: str, names: list[str] | tuple[str, ...]) -> list[str]:
    return [f"{key}=({', '.join(map(_quoted, names))},)"] if names else []


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
