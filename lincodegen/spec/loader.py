"""Stage ``spec``: a YAML file to a Recurrence, or all of its mistakes in one SpecError."""

from __future__ import annotations

import re
from collections.abc import Mapping as Numbers
from pathlib import Path

from lincodegen.errors import SpecError
from lincodegen.spec import keys
from lincodegen.spec.checks import check_whole
from lincodegen.spec.constants import read_constants
from lincodegen.spec.document import Mapping, Scalar, Value, read_document
from lincodegen.spec.names import Names
from lincodegen.spec.problems import Mistake, Problems, Source, nearest
from lincodegen.spec.statements import unroll
from lincodegen.spec.step import Constant, Place, Recurrence, State, Tensor
from lincodegen.spec.syntax import Program, parse_program
from lincodegen.spec.tensors import dimensions, read_states, read_tensors
from lincodegen.spec.vocabulary import check_spec_name

MAX_BYTES = 64 * 1024

_TEXT = "<text>"
_STRANGE = re.compile(
    "[^ -~\t\n\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)
_SECTIONS = {
    "inputs": "inputs: {q: {shape: [K]}}",
    "parameters": "parameters: {u: {shape: [K]}}",
    "constants": "constants: {scale: K**-0.5}",
    "state": "state: {S: {shape: [K, V]}}",
}


def load(path_or_text: str | Path, *, sets: Numbers[str, int] | None = None) -> Recurrence:
    """The recurrence that a spec file says.

    A text with a line break is the spec itself, anything else the path of a file. ``sets``
    gives integer constants, and dimensions, other values than the file (``--set n=4``).
    Nothing of the text is executed. Raises SpecError with every mistake found.
    """
    source = _source(path_or_text)
    problems = Problems(source)
    document = read_document(source, problems)
    return _recurrence(document, source, sets or {}, problems)


def _source(path_or_text: str | Path) -> Source:
    file, text = _TEXT, str(path_or_text)
    if isinstance(path_or_text, Path) or "\n" not in path_or_text:
        file = Path(path_or_text).as_posix()
        text = _file_text(file)
    text = text.replace("\r\n", "\n")
    _check_text(file, text)
    return Source(file, text, tuple(text.split("\n")))


def _file_text(file: str) -> str:
    try:
        with Path(file).open("rb") as handle:
            return handle.read(MAX_BYTES + 1).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SpecError(f"{file}:1:1: the file is not UTF-8 (byte {error.start})") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SpecError(f"{file}: the file cannot be read: {reason}") from None


def _check_text(file: str, text: str) -> None:
    """Refuse a text that is too long, or that holds control characters or odd line breaks."""
    if len(text.encode(errors="surrogatepass")) > MAX_BYTES:
        raise SpecError(f"{file}:1:1: more than {MAX_BYTES // 1024} KiB; expected: a smaller spec")
    if strange := _STRANGE.search(text):
        line = text.count("\n", 0, strange.start()) + 1
        column = strange.start() - text.rfind("\n", 0, strange.start())
        shown = ascii(strange.group())
        raise SpecError(f"{file}:{line}:{column}: the character {shown}; expected: printable text")


def _recurrence(
    document: Mapping, source: Source, sets: Numbers[str, int], problems: Problems
) -> Recurrence:
    values = keys.check_keys(document, keys.FILE, "file", problems)
    _check_required(values, document, problems)
    texts = {key: _text(key, values, problems) for key in ("title", "reference", "doc")}
    name = _name(values, problems)
    names = Names()
    constants, inputs, parameters, states = _declarations(
        values, document.place, sets, names, problems
    )
    shapes = {entry.name: entry.shape for entry in (*inputs, *parameters, *states)}
    program = _program(values, problems)
    step = unroll(program, names, shapes, problems)
    place = values["step"].place if "step" in values else document.place
    outputs = check_whole(step, values.get("outputs"), place, names, problems)
    problems.check()
    return Recurrence(
        name=name,
        **texts,
        dims=tuple(names.dims),
        inputs=inputs,
        parameters=parameters,
        constants=constants,
        states=states,
        step=step.assigned,
        outputs=outputs,
        source=source.text,
        file=source.file,
    )


def _declarations(
    values: dict[str, Value],
    place: Place,
    sets: Numbers[str, int],
    names: Names,
    problems: Problems,
) -> tuple[tuple[Constant, ...], tuple[Tensor, ...], tuple[Tensor, ...], tuple[State, ...]]:
    """Constants, inputs, parameters and states; their names go into ``names``."""
    sections = {key: _section(key, values, place, problems) for key in _SECTIONS}
    found = dimensions((sections["inputs"], sections["parameters"]), names, problems)
    constants = read_constants(sections["constants"], found, sets, names, problems)
    inputs = read_tensors(sections["inputs"], "input", names, problems)
    parameters = read_tensors(sections["parameters"], "parameter", names, problems)
    if isinstance(values.get("inputs"), Mapping | Scalar) and not sections["inputs"].entries:
        problems.add(Mistake(values["inputs"].place, "no inputs", "at least one"))
    return constants, inputs, parameters, read_states(sections["state"], names, problems)


def _check_required(values: dict[str, Value], document: Mapping, problems: Problems) -> None:
    for key in keys.REQUIRED:
        if key not in values:
            others = [name.text for name, _ in document.entries if name.text not in values]
            found = f"the key `{key}` is missing"
            close = nearest(key, others)
            problems.add(Mistake(document.place, found, f"`{key}: ...`", close))


def _text(key: str, values: dict[str, Value], problems: Problems) -> str:
    with problems.collecting():
        if key in values:
            return keys.as_scalar(values[key], f"`{key}`").text.strip()
    return ""


def _name(values: dict[str, Value], problems: Problems) -> str:
    with problems.collecting():
        if "name" in values:
            name = keys.as_scalar(values["name"], "`name`")
            check_spec_name(name.text, name.place)
            return name.text
    return ""


def _section(key: str, values: dict[str, Value], place: Place, problems: Problems) -> Mapping:
    with problems.collecting():
        if key in values:
            return keys.as_mapping(values[key], f"`{key}`", _SECTIONS[key])
    return Mapping((), place)


def _program(values: dict[str, Value], problems: Problems) -> Program:
    with problems.collecting():
        if "step" in values:
            step = keys.as_scalar(values["step"], "`step`")
            if not step.text.strip():
                raise Mistake(step.place, "an empty step", "`step: |` and lines below it")
            return parse_program(step, problems)
    return Program((), complete=False)
