"""The text of an op's ``__init__.py``: signature, defaults, the public function and one token."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from lincodegen.emit.op_defaults import fill_function, ordered_arguments
from lincodegen.emit.op_docs import INDENT, interval_text, op_doc, step_doc, summary
from lincodegen.emit.token_python import WIDTH, words, wrapped
from lincodegen.emit.token_torch import size_arguments
from lincodegen.errors import EmitError
from lincodegen.program.token import whole_step
from lincodegen.program.token_heads import head_sources
from lincodegen.program.token_names import Names
from lincodegen.spec.dims import Dim
from lincodegen.spec.step import REALS, Recurrence, Shape, Tensor

_IMPORTED = (
    *("Argument", "Body", "Call", "Decoder", "Gradients", "Kept", "Output", "Results"),
    *("Signature", "State", "Tensor", "lazy", "op", "reduced", "run", "sum_heads", "torch"),
    *("SegmentMap", "Segments"),
    *("call", "token", "math"),
    *("chunk", "kernels", "recurrent", "recurrent_kernels", "step_kernels", "tokens"),
)
_FROM = {
    "Call": "lincodegen.runtime.call",
    "Body": "lincodegen.runtime.function",
    "Gradients": "lincodegen.runtime.function",
    "Kept": "lincodegen.runtime.function",
    "Results": "lincodegen.runtime.function",
    "run": "lincodegen.runtime.function",
    "reduced": "lincodegen.runtime.heads",
    "sum_heads": "lincodegen.runtime.heads",
    "lazy": "lincodegen.runtime.lazy",
    "op": "lincodegen.runtime.op",
    "SegmentMap": "lincodegen.runtime.segments",
    "Segments": "lincodegen.runtime.segments",
    "Decoder": "lincodegen.runtime.decode",
    "Argument": "lincodegen.runtime.signature",
    "Output": "lincodegen.runtime.signature",
    "Signature": "lincodegen.runtime.signature",
    "State": "lincodegen.runtime.signature",
}


@dataclass(frozen=True, slots=True)
class OpText:
    """What ``op.py.jinja`` prints."""

    header: str
    summary: str
    imports: str
    signature: str
    segments: str
    forward: str
    backward: str
    body: str
    loop: str
    recurrent: str
    fill: str
    step_signature: str
    step_doc: str
    decoder: str
    step_call: str
    op: str
    op_signature: str
    doc: str
    call: str
    check: str
    run: str
    read_token: str
    read_call: str
    constants: str


@dataclass(frozen=True, slots=True)
class OpParts:
    """What the stages before settled of an op's text.

    ``alias`` are the text's own names, apart from the spec's; ``solved`` per state the tensors
    that its group depends on; ``modules`` the sibling modules that the text calls.
    """

    header: str
    forward: str
    backward: str
    alias: Mapping[str, str]
    solved: Mapping[str, Sequence[str]]
    modules: tuple[str, ...]
    chunk_size: int
    segments: str
    """How a segment of tokens maps the states."""
    loop: tuple[str, str] | None = None
    """The functions of the token loop, where ``forward`` and ``backward`` are chunked."""


def own_names(recurrence: Recurrence) -> dict[str, str]:
    """What the text calls modules, imported names and ``call``: names that the spec leaves free.

    Raises:
        EmitError: the spec calls something ``math``.
    """
    given = {t.name for t in ordered_arguments(recurrence)} | {recurrence.name}
    given |= {c.name for c in recurrence.constants}
    if "math" in given:
        raise EmitError("`math` cannot be the name of an input, parameter, constant or op")
    names = Names(given)
    # types stand in annotations alone, which nothing evaluates
    return {name: names.free(name) if name.islower() else name for name in _IMPORTED}


class OpPrinter:
    """Finds the names and the lines of one op."""

    def __init__(self, recurrence: Recurrence, parts: OpParts) -> None:
        self.recurrence, self.parts = recurrence, parts
        self.arguments = ordered_arguments(recurrence)
        self.constants = [c.name for c in recurrence.constants]
        self.alias = parts.alias

    def text(self) -> OpText:
        """Everything the template prints."""
        recurrence, alias, call = self.recurrence, self.alias, self.alias["call"]
        fill = fill_function(recurrence, alias)
        filled = f"_fill({', '.join([call, *self.constants])})" if fill else "()"
        return OpText(
            header=self.parts.header,
            summary=summary(recurrence),
            imports="",
            signature=self._signature_value(),
            segments=self.parts.segments,
            forward=self.parts.forward.rstrip(),
            backward=self.parts.backward.rstrip(),
            body=alias["Body"],
            loop="\n\n\n".join(text.rstrip() for text in self.parts.loop or ()),
            recurrent=f", {alias['Body']}(_loop_forward, _loop_backward)"
            if self.parts.loop
            else "",
            fill=fill,
            step_signature=self._step_signature(),
            step_doc=step_doc(recurrence, self.arguments),
            decoder=self._decoder(),
            step_call=self._step_call(filled),
            op=alias["op"],
            op_signature=self._op_signature(),
            doc=op_doc(recurrence, self.arguments),
            call=call,
            check=self._check(),
            run=alias["run"],
            read_token=self._read_call(
                f"{alias['token']} = _DECODER.read(",
                ["state", "state_indices", "state_v_first"],
            ),
            read_call=self._read_call(
                f"{call} = _SIGNATURE.call(", ["initial_state", "cu_seqlens", "cu_seqlens_cpu"]
            ),
            constants=filled,
        )

    # -- imports ---------------------------------------------------------------------------

    def imports(self, text: str) -> str:
        """The import block for the names that a text uses."""
        used = words(text) | {self.alias["lazy"]}
        lines = ["import math", ""] if "math" in used else []
        lines += ["import torch"] if "torch" in used else []
        lines += ["from torch import Tensor", ""]
        sources: dict[str, list[str]] = {}
        for name, module in _FROM.items():
            if self.alias[name] in used:
                sources.setdefault(module, []).append(name)
        for module in sorted(sources):
            lines += self._imported(module, sources[module])
        return "\n".join([*lines, "", self._modules(used)])

    def _modules(self, used: Collection[str]) -> str:
        """The sibling modules that a text uses, each read when it is first needed."""
        names = sorted(m for m in self.parts.modules if self.alias[m] in used)
        targets = ", ".join(self.alias[m] for m in names)
        head = f"{targets if len(names) > 1 else f'({targets},)'} = {self.alias['lazy']}("
        return wrapped(head, ["__name__", *(f'"{m}"' for m in names)], ")", "")

    def _imported(self, module: str, names: Sequence[str]) -> list[str]:
        """The imports of a module, sorted; each renamed one is a statement, as in isort."""
        plain = sorted(n for n in names if self.alias[n] == n)
        statements = [plain] if plain else []
        statements += [[f"{n} as {self.alias[n]}"] for n in names if self.alias[n] != n]
        return [wrapped_import(f"from {module} import ", s) for s in sorted(statements)]

    # -- signature -------------------------------------------------------------------------

    def _signature_value(self) -> str:
        recurrence, alias = self.recurrence, self.alias
        states, outputs = head_sources(recurrence)
        order = [t.name for t in (*recurrence.inputs, *recurrence.parameters)]

        def argument(tensor: Tensor) -> str:
            shape = f", {shape_text(tensor.shape)}" if tensor.shape else ""
            rest = ", optional=True" if tensor.default is not None else ""
            rest += f', domain="{interval_text(tensor.domain)}"' if tensor.domain != REALS else ""
            rest += f', norm="{interval_text(tensor.norm)}"' if tensor.norm is not None else ""
            return f'{alias["Argument"]}("{tensor.name}"{shape}{rest})'

        rows = []
        for key, tensors in (("inputs", recurrence.inputs), ("parameters", recurrence.parameters)):
            rows += _entries(key, [argument(t) for t in tensors])
        entries = []
        for state in recurrence.states:
            solved = {*self.parts.solved[state.name], *states[state.name]}
            args = [f'"{state.name}"', shape_text(state.shape), _strings(states[state.name])]
            args.append(_strings([n for n in order if n in solved]))
            entries.append(wrapped(f"{alias['State']}(", args, ")", INDENT * 2).strip())
        rows += _entries("states", entries)
        entries = []
        for name, node in recurrence.outputs:
            args = [f'"{name}"', shape_text(node.shape), _strings(outputs[name])]
            entries.append(wrapped(f"{alias['Output']}(", args, ")", INDENT * 2).strip())
        rows += _entries("outputs", entries)
        rows.append(f"{INDENT}chunk_size={self.parts.chunk_size},")
        if {"kernels", "recurrent_kernels"} & {*self.parts.modules}:
            rows.append(f"{INDENT}has_kernels=True,")
        head = f'{alias["Signature"]}(\n{INDENT}"{recurrence.name}",\n'
        return head + "\n".join(rows) + "\n)"

    def _read_call(self, head: str, rest: Sequence[str]) -> str:
        """``head`` and the rest of ``call = function((q, k), ...)``, as a formatter breaks it."""
        names = [t.name for t in (*self.recurrence.inputs, *self.recurrence.parameters)]
        given = f"({', '.join(names)}{',' * (len(names) == 1)})"
        text = wrapped(head, [given, *rest], ")", INDENT)
        if all(len(line) <= WIDTH for line in text.splitlines()):
            return text
        rows = "".join(f"{INDENT * 3}{name},\n" for name in names)
        entries = [f"(\n{rows}{INDENT * 2})", *rest]
        return f"{INDENT}{head}\n" + "".join(f"{INDENT * 2}{e},\n" for e in entries) + f"{INDENT})"

    def _check(self) -> str:
        given = [self.alias["call"], *(f"{name}={name}" for name in self.constants)]
        return f"_SIGNATURE.check({', '.join(given)})"

    # -- the public function ---------------------------------------------------------------

    def _op_signature(self) -> str:
        arguments = [*self._tensor_arguments(), *self._constant_arguments()]
        states = len(self.recurrence.states)
        state = "Tensor" if states == 1 else "tuple[Tensor | None, ...]"
        arguments.append(f"initial_state: {state} | None = None")
        arguments.append("output_final_state: bool = False")
        arguments.append("cu_seqlens: Tensor | None = None")
        arguments.append("cu_seqlens_cpu: Tensor | None = None")
        arguments.append("check_inputs: bool = False")
        output = "Tensor" if len(self.recurrence.outputs) == 1 else "tuple[Tensor, ...]"
        final = "Tensor" if states == 1 else "tuple[Tensor, ...]"
        tail = f") -> tuple[{output}, {final} | None]:"
        return wrapped(f"def {self.recurrence.name}(", arguments, tail)

    def _tensor_arguments(self) -> list[str]:
        return [
            f"{t.name}: Tensor" if t.default is None else f"{t.name}: Tensor | None = None"
            for t in self.arguments
        ]

    def _constant_arguments(self) -> list[str]:
        return [f"{name}: float | None = None" for name in self.constants]

    # -- one token -------------------------------------------------------------------------

    def _step_signature(self) -> str:
        state = "Tensor" if len(self.recurrence.states) == 1 else "tuple[Tensor | None, ...]"
        arguments = [*self._tensor_arguments(), *self._constant_arguments()]
        arguments.append(f"state: {state} | None = None")
        arguments.append("state_indices: Tensor | None = None")
        arguments.append("state_v_first: bool = False")
        output = "Tensor" if len(self.recurrence.outputs) == 1 else "tuple[Tensor, ...]"
        final = "Tensor" if len(self.recurrence.states) == 1 else "tuple[Tensor, ...]"
        return wrapped("def _step(", arguments, f") -> tuple[{output}, {final}]:")

    def _decoder(self) -> str:
        """What computes one token, as a call."""
        args = ["_SIGNATURE", self.alias["tokens"]]
        if "step_kernels" in self.parts.modules:
            args.append(self.alias["step_kernels"])
        if sizes := size_arguments(whole_step(self.recurrence)):
            args.append(f"sizes={_strings(sizes)}")
        return wrapped(f"{self.alias['Decoder']}(", args, ")")

    def _step_call(self, filled: str) -> str:
        """The line that computes one token."""
        token = self.alias["token"]
        fill = filled.replace(f"({self.alias['call']}", f"({token}.call")
        return wrapped("return _DECODER.run(", [token, fill], ")", INDENT)


def shape_text(shape: Shape) -> str:
    """A shape as a tuple of integers and texts."""
    items = [_size(dim) for dim in shape]
    return f"({', '.join(items)}{',' * (len(items) == 1)})"


def _size(dim: Dim) -> str:
    return f'"{dim}"' if dim.constant is None else str(dim.constant)


def _strings(names: Sequence[str]) -> str:
    items = [f'"{name}"' for name in names]
    return f"({', '.join(items)}{',' * (len(items) == 1)})"


def _entries(key: str, entries: Sequence[str]) -> list[str]:
    """``key=(entries),`` on one line or one entry a line."""
    line = f"{INDENT}{key}=({', '.join(entries)}{',' * (len(entries) == 1)}),"
    if len(line) <= WIDTH and "\n" not in line and len(entries) <= 1:
        return [line]
    return [f"{INDENT}{key}=(", *(f"{INDENT * 2}{entry}," for entry in entries), f"{INDENT}),"]


def wrapped_import(head: str, names: Sequence[str]) -> str:
    """An import on one line, or one name a line."""
    line = f"{head}{', '.join(names)}"
    if len(line) <= WIDTH:
        return line
    return f"{head}(\n" + "".join(f"{INDENT}{name},\n" for name in names) + ")"
