"""The token loop of any step in PyTorch: forward, backward by recomputation, one token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from lincodegen.emit.templates import formatted, render
from lincodegen.emit.token_python import assignment_text, result_text, size_text, words, wrapped
from lincodegen.emit.token_torch import (
    print_torch_function,
    size_arguments,
    size_reads,
    torch_imports,
)
from lincodegen.emit.token_torch_ops import torch_expressions
from lincodegen.program.token import cotangent_names, step_program, token_adjoint
from lincodegen.program.token_heads import head_sources
from lincodegen.program.token_names import Names
from lincodegen.spec.step import Recurrence

_TAKEN = (
    *("F", "Tensor", "math", "torch", "max", "min", "range", "reversed", "float", "int", "t"),
    *("step", "step_adjoint", "forward", "backward"),
    *("repeat_heads", "sum_groups", "take_heads", "spread_heads"),
)
_DOC = "The outputs and the next states of one token; tensors are ``[B, H, *shape]``."
_ADJOINT_DOC = "The gradients of a token's arguments from those of its outputs and next states."


@dataclass(frozen=True, slots=True)
class RecurrentTorch:
    """What ``recurrent_torch.py.jinja`` prints; names of locals are free of the spec's."""

    title: str
    imports: str
    step: str
    step_adjoint: str
    forward_signature: str
    backward_signature: str
    shape: str
    shape_backward: str
    length: str
    chunk: str
    start: str
    tokens: str
    before: str
    prepare: tuple[str, ...]
    sizes: tuple[str, ...]
    allocate: tuple[str, ...]
    keep: tuple[str, ...]
    call_step: str
    forward_result: str
    prepare_backward: tuple[str, ...]
    allocate_gradients: tuple[str, ...]
    kept_states: str
    states_in: str
    call_again: str
    after: str
    call_adjoint: str
    accumulate: tuple[str, ...]
    backward_result: str
    fewer_heads: bool


def recurrent_torch(recurrence: Recurrence) -> str:
    """The text of a module with ``forward``, ``backward``, ``step`` and ``step_adjoint``.

    forward(*inputs, *parameters, *initial_states, *constants)
        -> (*outputs, *final_states, *kept_states)
    backward(*inputs, *parameters, *constants, *kept_states, *d_outputs, *d_final_states)
        -> (*d_inputs, *d_parameters, *d_initial_states)

    All in the spec's order; constants are floats. Tensors are in the compute dtype, inputs
    ``[B, T, Hx, *shape]``, parameters ``[Hx, *shape]``, states ``[B, H_state, *shape]``.
    """
    context = asdict(_Builder(recurrence).context())
    return formatted(render("recurrent_torch.py.jinja", context))


class _Builder:
    """Finds the names and the lines of one recurrence's module."""

    def __init__(self, recurrence: Recurrence) -> None:
        self.recurrence = recurrence
        self.forward = step_program(recurrence)
        given = {a.name for a in self.forward.inputs}
        self.inputs = [t.name for t in recurrence.inputs]
        self.parameters = [t.name for t in recurrence.parameters]
        self.tensors = [*self.inputs, *self.parameters]
        self.states = [s.name for s in recurrence.states]
        self.constants = [c.name for c in recurrence.constants]
        self.outputs = [name for name, _ in recurrence.outputs]
        self.wrt = [*self.tensors, *(s for s in self.states if s in given)]
        self.adjoint = token_adjoint(self.forward, self.wrt)
        self.state_sources, self.output_sources = head_sources(recurrence)
        self._name_everything()

    def _name_everything(self) -> None:
        self.names = Names({*_TAKEN, *self.recurrence.dims})
        free = self.names.free
        self.local = {n: free(n) for n in (*self.tensors, *self.states, *self.constants)}
        self.out = {n: free(n) for n in self.outputs}
        self.d_out = {n: free(f"d{n}") for n in self.outputs}
        self.d_state = {n: free(f"d{n}") for n in self.states}
        self.grad = {n: free(f"d{n}") for n in self.tensors}
        single = len(self.tensors) == 1
        self.all = {n: self.local[n] if single else free(f"{n}_all") for n in self.tensors}
        self.saved = {n: free(f"{n}_saved") for n in self.states}
        self.heads, self.batch, self.length = free("heads"), free("batch"), free("length")
        self.chunk, self.after = free("chunk"), free("after")

    def context(self) -> RecurrentTorch:
        """Everything the template prints."""
        step = print_torch_function("step", self.forward, _DOC)
        step_adjoint = print_torch_function("step_adjoint", self.adjoint, _ADJOINT_DOC)
        sizes, allocate = self._allocation()
        states_in = ", ".join(self.local[s] for s in self.states)
        kept = ", ".join(f"{self.saved[s]}[{{start}} // {self.chunk}]" for s in self.states)
        comma = "," if len(self.states) == 1 else ""
        start, first = self.names.free("start"), self.local[self.inputs[0]]
        calls = self._calls()
        text = step + step_adjoint + "math."
        return RecurrentTorch(
            title=self.recurrence.name,
            imports=torch_imports(f"{text} torch.").rstrip(),
            step=step,
            step_adjoint=step_adjoint,
            forward_signature=self._forward_signature(),
            backward_signature=self._backward_signature(),
            shape=f"{self.batch}, {self.length} = {first}.shape[:2]",
            shape_backward=f"{self.batch}, {self.length} = {first}.shape[:2]"
            if self.parameters
            else f"{self.length} = {first}.shape[1]",
            length=self.length,
            chunk=self.chunk,
            start=start,
            tokens=self.names.free("tokens"),
            before=self.names.free("before"),
            prepare=(*self._repeats(), *self._state_repeats()),
            sizes=sizes,
            allocate=allocate,
            keep=tuple(
                f"{self.saved[s]}[t // {self.chunk}] = {self.local[s]}" for s in self.states
            ),
            call_step=calls[0],
            forward_result=self._forward_result(),
            prepare_backward=(*self._repeats(), *self._cotangent_spreads()),
            allocate_gradients=self._gradient_allocation(),
            kept_states=f"({kept.format(start=start)}{comma})",
            states_in=f"({states_in},)" if comma else states_in,
            call_again=calls[1],
            after=f"{self.after}[{len(self.outputs)}:]",
            call_adjoint=calls[2],
            accumulate=self._accumulation(),
            backward_result=self._backward_result(),
            fewer_heads=self._has_fewer_heads(),
        )

    def _heads_of(self, names: Sequence[str]) -> str:
        axes = {n: 2 if n in self.inputs else 0 for n in names}
        counts = [f"{self.local[n]}.shape[{axis}]" for n, axis in axes.items()]
        return counts[0] if len(counts) == 1 else f"max({', '.join(counts)})"

    def _repeats(self) -> tuple[str, ...]:
        counts = [f"{self.local[n]}.shape[{2 if n in self.inputs else 0}]" for n in self.tensors]
        if len(counts) == 1:
            return (f"{self.heads} = {counts[0]}",)
        lines = [wrapped(f"{self.heads} = max(", counts, ")", "    ").strip()]
        for name in self.tensors:
            axis = 2 if name in self.inputs else 0
            call = f"repeat_heads({self.local[name]}, {self.heads}, {axis})"
            lines.append(f"{self.all[name]} = {call}")
        return tuple(lines)

    def _partial(self, sources: Sequence[str]) -> bool:
        """Whether some tensor with perhaps more heads has no part in a state or an output."""
        return 0 < len(sources) < len(self.tensors)

    def _has_fewer_heads(self) -> bool:
        every = (*self.state_sources.values(), *self.output_sources.values())
        return any(self._partial(sources) for sources in every)

    def _state_repeats(self) -> tuple[str, ...]:
        return tuple(
            f"{self.local[s]} = repeat_heads({self.local[s]}, {self.heads}, 1)"
            for s in self.states
            if self._partial(self.state_sources[s])
        )

    def _cotangent_spreads(self) -> tuple[str, ...]:
        pairs = [(self.d_out[n], 2) for n in self.outputs if self._partial(self.output_sources[n])]
        pairs += [(self.d_state[n], 1) for n in self.states if self._partial(self.state_sources[n])]
        return tuple(f"{d} = spread_heads({d}, {self.heads}, {axis})" for d, axis in pairs)

    def _allocation(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        first, lines = self.local[self.inputs[0]], []
        for name, node in self.recurrence.outputs:
            sizes = [self.batch, self.length, self.heads, *(size_text(d) for d in node.shape)]
            lines.append(f"{self.out[name]} = {first}.new_empty({', '.join(sizes)})")
        for state in self.states:
            count, local = f"-(-{self.length} // {self.chunk})", self.local[state]
            lines.append(f"{self.saved[state]} = {local}.new_empty({count}, *{local}.shape)")
        tensors = (*self.recurrence.inputs, *self.recurrence.parameters, *self.recurrence.states)
        known = size_reads((self.local[t.name], t.shape) for t in tensors)
        used = words("\n".join(lines))
        return tuple(f"{n} = {known[n]}" for n in self.recurrence.dims if n in used), tuple(lines)

    def _calls(self) -> tuple[str, str, str]:
        given = {n: f"{self.all[n]}[:, t]" for n in self.inputs}
        given |= {n: self.all[n] for n in self.parameters}
        given |= {n: self.local[n] for n in (*self.states, *self.constants)}
        sizes = [*size_arguments(self.forward)]
        arguments = [*(given[a.name] for a in self.forward.inputs), *sizes]
        results = [f"{self.out[n]}[:, t]" for n in self.outputs]
        results += [self.local[s] for s in self.states]
        step = assignment_text(results, "step", arguments, " " * 8)
        again = assignment_text([self.after], "step", arguments, " " * 12)
        cotangents = cotangent_names(self.forward)
        given |= {cotangents[n]: f"{self.d_out[n]}[:, t]" for n in self.outputs}
        given |= {cotangents[f"{s}_next"]: self.d_state[s] for s in self.states}
        arguments = [*(given[a.name] for a in self.adjoint.inputs), *size_arguments(self.adjoint)]
        targets = {n: f"{self.grad[n]}[:, t]" for n in self.inputs}
        targets |= {n: f"{self.grad[n]}_token" for n in self.parameters}
        targets |= self.d_state
        results = [targets[n] for n in self.wrt]
        return step, again, assignment_text(results, "step_adjoint", arguments, " " * 12)

    def _forward_result(self) -> str:
        partial = [(n, self.output_sources[n], 2) for n in self.outputs]
        results = []
        for name, sources, axis in partial:
            own = f"take_heads({self.out[name]}, {self._heads_of(sources)}, {axis})"
            results.append(own if self._partial(sources) else self.out[name])
        for state in self.states:
            sources, local = self.state_sources[state], self._full(state)
            own = f"take_heads({local}, {self._heads_of(sources)}, 1)" if sources else local
            results.append(own if self._partial(sources) else local)
        return result_text([*results, *self.saved.values()])

    def _full(self, state: str) -> str:
        """A final state with all leading axes, also where it depends on parameters alone."""
        result = {o.name: o.value for o in self.forward.outputs}[f"{state}_next"]
        if torch_expressions(self.forward).has_leading_axes(result):
            return self.local[state]
        return f"{self.local[state]}.expand({self.saved[state]}.shape[1:])"

    def _gradient_allocation(self) -> tuple[str, ...]:
        lines = [f"{self.grad[n]} = torch.zeros_like({self.all[n]})" for n in self.inputs]
        for name in self.parameters:
            given = self.all[name]
            lines.append(f"{self.grad[name]} = {given}.new_zeros({self.batch}, *{given}.shape)")
        return tuple(lines)

    def _accumulation(self) -> tuple[str, ...]:
        lines = [f"{self.grad[n]} = {self.grad[n]} + {self.grad[n]}_token" for n in self.parameters]
        unread = [s for s in self.states if s not in self.wrt]
        lines += [f"{self.d_state[s]} = torch.zeros_like({self.d_state[s]})" for s in unread]
        return tuple(lines)

    def _backward_result(self) -> str:
        results = []
        for name in self.tensors:
            grad, axis = self.grad[name], 2 if name in self.inputs else 0
            grad = grad if name in self.inputs else f"{grad}.sum(0)"
            single = len(self.tensors) == 1
            summed = f"sum_groups({grad}, {self.local[name]}.shape[{axis}], {axis})"
            results.append(grad if single else summed)
        for state in self.states:
            sources, grad = self.state_sources[state], self.d_state[state]
            own = f"sum_groups({grad}, {self._heads_of(sources)}, 1)" if sources else grad
            results.append(own if self._partial(sources) else grad)
        return result_text(results)

    def _forward_signature(self) -> str:
        arguments = [f"{self.local[n]}: Tensor" for n in (*self.tensors, *self.states)]
        arguments += [f"{self.local[n]}: float" for n in self.constants]
        return wrapped("def forward(", arguments, ") -> tuple[Tensor, ...]:")

    def _backward_signature(self) -> str:
        arguments = [f"{self.local[n]}: Tensor" for n in self.tensors]
        arguments += [f"{self.local[n]}: float" for n in self.constants]
        rest = [*self.saved.values(), *self.d_out.values(), *self.d_state.values()]
        arguments += [f"{name}: Tensor" for name in rest]
        return wrapped("def backward(", arguments, ") -> tuple[Tensor, ...]:")
