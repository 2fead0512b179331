"""The two functions of an op's text: what calls the chunk forms, and its adjoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lincodegen.emit.op_plan import GroupPlan, OpPlan, OutputPlan, TokenFunction
from lincodegen.emit.scalar_python import scalar_text
from lincodegen.emit.token_python import WIDTH, assignment_text, words, wrapped
from lincodegen.emit.token_torch import needs_equal_shapes, size_arguments
from lincodegen.program.token import TokenProgram, cotangent_names
from lincodegen.program.token_names import Names

INDENT = "    "
TAKEN = (*("call", "kept", "form", "math", "Tensor", "Call", "Kept", "Results", "Gradients"),)


@dataclass(slots=True)
class OpBody:
    """Prints ``_forward`` and ``_backward`` of a plan.

    ``alias`` gives the modules' names; locals differ from these and from the spec's names.
    """

    plan: OpPlan
    alias: Mapping[str, str]
    has_kernels: bool = False
    names: Names = field(init=False)
    local: dict[str, str] = field(init=False)
    parts: dict[str, list[str]] = field(init=False)
    lines: list[str] = field(init=False)
    d_states: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self._start()

    @property
    def tensors(self) -> list[str]:
        """Inputs, then parameters."""
        recurrence = self.plan.recurrence
        return [t.name for t in (*recurrence.inputs, *recurrence.parameters)]

    @property
    def states(self) -> list[str]:
        """States in the spec's order."""
        return [s.name for s in self.plan.recurrence.states]

    @property
    def constants(self) -> list[str]:
        """Float constants."""
        return [c.name for c in self.plan.recurrence.constants]

    def _start(self) -> None:
        """Fresh names for a function's locals."""
        self.names = Names({*TAKEN, *self.alias.values(), *self.plan.recurrence.dims})
        self.lines, self.parts = [], {}
        given = [*self.tensors, *self.states, *self.constants]
        self.local = {name: self.names.free(name) for name in given}
        for group in self.plan.groups:
            self.local |= {name: self.names.free(name) for name in group.reads}
        for output in self.plan.outputs:
            if output.name not in self.local:
                self.local[output.name] = self.names.free(output.name)

    # -- forward ---------------------------------------------------------------------------

    def forward(self) -> str:
        """The text of ``_forward``."""
        self._start()
        given = [self.local[n] for n in (*self.tensors, *self.states, *self.constants)]
        self._form()
        saved = []
        for group in self.plan.groups:
            saved.append(self._group_forward(group))
        for output in self.plan.outputs:
            if output.function is not None:
                self._token_call([self.local[output.name]], output.function)
        kept = [*saved, *([_tuple(self._kept_reads())] if self._kept_reads() else [])]
        outputs = _tuple([self.local[o.source or o.name] for o in self.plan.outputs])
        finals = _tuple([self._canonical(state) for state in self.states])
        self._return([outputs, finals, _tuple(kept)])
        doc = "Outputs and final states, and what the backward needs."
        arguments = ["call: Call", *_typed(given, self._floats())]
        return self._function("_forward", arguments, "Results", doc)

    def _group_forward(self, group: GroupPlan) -> str:
        """Prints a group's operands and its chunk form; returns the name of what it saves."""
        operands = self._operands(group)
        saved = self.names.free(f"saved{group.suffix}")
        reads = [self.local[name] for name in group.reads]
        args = [*operands, self._canonical(group.state), *self._scalars(group), "*call.chunking"]
        targets = [*reads, self.local[group.state], saved]
        self._assign(targets, f"{self._module}.forward{group.suffix}", args)
        return saved

    def _operands(self, group: GroupPlan) -> list[str]:
        """Prints what computes operands; their texts as the chunk form takes them."""
        if group.computed is not None:
            targets = [self._computed(group, o.name) for o in group.operands if o.source is None]
            self._token_call(targets, group.computed)
        whole: dict[str, bool] = {}
        if group.computed is not None:
            results = (o.name for o in group.computed.program.outputs)
            whole = dict(zip(results, group.computed.whole, strict=True))
        parameters = {t.name for t in self.plan.recurrence.parameters}
        texts = []
        for operand in group.operands:
            if operand.source is None:
                text = self._computed(group, operand.name)
                text = f"call.narrow({text})" if operand.factor else text
                constant = not whole[operand.name]
            else:
                text = self.local[operand.source]
                constant = operand.source in parameters
            rank = f", {operand.rank}" if operand.rank else ""
            texts.append(f"call.spread({text}{rank})" if constant else text)
        return texts

    def _computed(self, group: GroupPlan, name: str) -> str:
        """The local of a computed operand."""
        key = f"{group.state} {name}"
        if key not in self.local:
            self.local[key] = self.names.free(f"{name}_{group.state}")
        return self.local[key]

    # -- backward --------------------------------------------------------------------------

    def backward(self) -> str:
        """The text of ``_backward``."""
        self._start()
        given = [self.local[n] for n in (*self.tensors, *self.constants)]
        d_outputs = [self.names.free(f"d{o.name}") for o in self.plan.outputs]
        d_states = self.d_states = {s: self.names.free(f"d{s}") for s in self.states}
        self._form()
        saved = [self.names.free(f"saved{group.suffix}") for group in self.plan.groups]
        reads = self._kept_reads()
        self._line(f"{_targets([*saved, *([_tuple(reads)] if reads else [])])} = kept")
        operands = [self._operands(group) for group in self.plan.groups]
        for output, cotangent in zip(self.plan.outputs, d_outputs, strict=True):
            self._output_adjoint(output, cotangent)
        for index in reversed(range(len(self.plan.groups))):
            group = self.plan.groups[index]
            self._group_adjoint(group, saved[index], operands[index], d_states[group.state])
        results = [self._gradient(name) for name in self.tensors]
        self._return(
            [_tuple(results), _tuple([self._flipped(s, d_states[s]) for s in self.states])]
        )
        arguments = [
            *("call: Call", "kept: Kept"),
            *_typed(given, self._floats()),
            *_typed([*d_outputs, *d_states.values()], set()),
        ]
        doc = "Gradients of the tensors and of the initial states."
        return self._function("_backward", arguments, "Gradients", doc)

    def _output_adjoint(self, output: OutputPlan, cotangent: str) -> None:
        if output.function is None:
            self.parts.setdefault(output.source or "", []).append(cotangent)
        else:
            self._adjoint_call(output.function, {output.name: cotangent})

    def _group_adjoint(
        self, group: GroupPlan, saved: str, operands: Sequence[str], d_state: str
    ) -> None:
        """Prints the adjoint of a group and notes the gradients of what its operands are."""
        targets, cotangents = [], {}
        for operand in group.operands:
            own = None if operand.source else self._computed(group, operand.name)
            base = own or self.local[operand.source or ""]
            adjoint = group.computed.adjoint if group.computed else None
            if not operand.differentiable or (operand.source is None and adjoint is None):
                targets.append("_")
                cotangents[operand.name] = self._zeros(base)
                continue
            target = self.names.free(f"d{base}")
            targets.append(target)
            if operand.source is None:
                cotangents[operand.name] = self._reduced(target, base)
            else:
                self._note(operand.source, target)
        d_reads = [self._gradient(name) for name in group.reads]
        final = self._flipped(group.state, d_state)
        args = [saved, *operands, *self._scalars(group), *d_reads, final, "*call.chunking"]
        self._assign([*targets, d_state], f"{self._module}.backward{group.suffix}", args)
        if group.computed is not None:
            self._adjoint_call(group.computed, cotangents)

    def _adjoint_call(self, function: TokenFunction, cotangents: dict[str, str]) -> None:
        """Prints the call of an adjoint and notes the gradients that it gives."""
        if function.adjoint is None:
            return
        named = {
            argument: cotangents[output]
            for output, argument in cotangent_names(function.program).items()
            if output in cotangents
        }
        targets = []
        for name in function.wrt:
            target = self.names.free(f"d{self.local[name]}")
            targets.append(target)
            self._note(name, target)
        self._per_token(targets, f"{function.name}_adjoint", function.adjoint, named)

    def _gradient(self, name: str) -> str:
        """The sum of what reaches a tensor or a read."""
        parts = self.parts.get(name, [])
        return " + ".join(parts) if parts else self._zeros(self.local[name])

    def _note(self, name: str, gradient: str) -> None:
        """Notes a gradient of a tensor, or of a read, which has the heads of its state."""
        text = self._reduced(gradient, self.local[name])
        for group in self.plan.groups:
            if name in group.reads:
                state = self.d_states[group.state]
                text = f"{self.alias['sum_heads']}({gradient}, {state}.shape[1])"
        self.parts.setdefault(name, []).append(text)

    def _zeros(self, base: str) -> str:
        return f"{self.alias['torch']}.zeros_like({base})"

    def _reduced(self, gradient: str, base: str) -> str:
        return f"{self.alias['reduced']}({gradient}, {base})"

    # -- calls -----------------------------------------------------------------------------

    def _token_call(self, targets: list[str], function: TokenFunction) -> None:
        self._per_token(targets, function.name, function.program, {})

    def _per_token(
        self, targets: list[str], name: str, program: TokenProgram, cotangents: dict[str, str]
    ) -> None:
        """Prints the call of a printed function for all tokens: its inputs, then sizes."""
        given = [cotangents.get(a.name) or self.local[a.name] for a in program.inputs]
        sizes = [f'call.sizes["{size}"]' for size in size_arguments(program)]
        alike = ["alike=True"] if needs_equal_shapes(program) else []
        args = [f"{self.alias['tokens']}.{name}", *given, *sizes, *alike]
        self._assign(targets, "call.per_token", args)

    def _scalars(self, group: GroupPlan) -> list[str]:
        """The factors that no token changes; dimensions are read off the call."""
        texts = []
        for scalar in group.scalars:
            text = scalar_text(scalar.node, self.local)
            for name in sorted(words(text) & set(self.plan.recurrence.dims)):
                size = f'{name} = call.sizes["{name}"]'
                if f"{INDENT}{size}" not in self.lines:
                    self._line(size)
            texts.append(text)
        return texts

    # -- small pieces ----------------------------------------------------------------------

    @property
    def _module(self) -> str:
        return "form" if self.has_kernels else self.alias["chunk"]

    def _form(self) -> None:
        if self.has_kernels:
            kernels, chunk = self.alias["kernels"], self.alias["chunk"]
            self._line(f'form = {kernels} if call.backend == "triton" else {chunk}')

    def _kept_reads(self) -> list[str]:
        """The reads that the backward looks at."""
        needed: set[str] = set()
        for group in self.plan.groups:
            needed |= {o.source for o in group.operands if o.source is not None}
            needed |= set(group.computed.wrt) if group.computed else set()
        for output in self.plan.outputs:
            if output.function is not None and output.function.adjoint is not None:
                needed |= {a.name for a in output.function.adjoint.inputs}
        return [self.local[n] for g in self.plan.groups for n in g.reads if n in needed]

    def _canonical(self, state: str) -> str:
        return self._flipped(state, self.local[state])

    def _flipped(self, state: str, text: str) -> str:
        group = next(g for g in self.plan.groups if g.state == state)
        return f"{text}.mT" if group.group.flipped else text

    def _floats(self) -> set[str]:
        return {self.local[name] for name in self.constants}

    def _line(self, text: str) -> None:
        self.lines.append(INDENT + text)

    def _assign(self, targets: Sequence[str], function: str, args: Sequence[str]) -> None:
        self.lines.append(assignment_text(targets, function, args, INDENT))

    def _return(self, values: Sequence[str]) -> None:
        line = f"{INDENT}return {', '.join(values)}"
        if len(line) > WIDTH:
            rows = "".join(_broken(value, INDENT * 2) for value in values)
            line = f"{INDENT}return (\n{rows}{INDENT})"
        self.lines.append(line)

    def _function(self, name: str, arguments: list[str], results: str, doc: str) -> str:
        head = wrapped(f"def {name}(", arguments, f") -> {results}:")
        return "\n".join([head, f'{INDENT}"""{doc}"""', *self.lines, ""])


def _tuple(values: Sequence[str]) -> str:
    return f"({', '.join(values)}{',' if len(values) == 1 else ''})"


def _targets(values: Sequence[str]) -> str:
    return f"({values[0]},)" if len(values) == 1 else ", ".join(values)


def _typed(names: Sequence[str], floats: set[str]) -> list[str]:
    return [f"{name}: {'float' if name in floats else 'Tensor'}" for name in names]


def _broken(value: str, indent: str) -> str:
    """A tuple as an entry of a longer one, broken where it does not fit on its line."""
    if len(f"{indent}{value},") <= WIDTH:
        return f"{indent}{value},\n"
    items = [item.strip() for item in _split(value[1:-1])]
    return f"{indent}(\n" + "".join(f"{indent}    {item},\n" for item in items) + f"{indent}),\n"


def _split(text: str) -> list[str]:
    """The entries of a tuple's text, split at its own commas."""
    items, depth, start = [], 0, 0
    for i, sign in enumerate(text):
        depth += sign in "(["
        depth -= sign in ")]"
        if sign == "," and depth == 0:
            items.append(text[start:i])
            start = i + 1
    return [item for item in (*items, text[start:]) if item.strip()]
