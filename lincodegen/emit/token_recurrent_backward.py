"""The backward kernel of a token loop and the function that launches it."""

from __future__ import annotations

from lincodegen.emit.token_device import DeviceProgram, device_program
from lincodegen.emit.token_kernel import Array, Home
from lincodegen.emit.token_python import size_text, words
from lincodegen.emit.token_recurrent_kernel import KernelContext, TokenKernel
from lincodegen.emit.token_recurrent_tensors import Tensors
from lincodegen.program.token import cotangent_names, step_program, token_adjoint, token_program


class Backward(TokenKernel):
    """The backward kernel and its host function."""

    thread_load = 32

    def __init__(self, tensors: Tensors) -> None:
        super().__init__(tensors)
        recurrence = tensors.recurrence
        step = step_program(recurrence)
        given = {a.name for a in step.inputs}
        self.read_states = [s for s in tensors.states if s in given]
        wrt = [*tensors.tensors, *self.read_states]
        self.adjoint = token_adjoint(step, wrt)
        self.cotangents = cotangent_names(step)
        gradient = dict(zip(wrt, (o.name for o in self.adjoint.outputs), strict=True))
        self.gradient_of = {output: name for name, output in gradient.items()}
        again = token_program(recurrence, tensors.next_states())
        self.again = device_program(again, self.numbers, ())
        self.token = self._adjoint_program()
        self.programs = [self.again, self.token]
        self.start_lines(split=True)
        free = self.names.free
        self.grad = {n: free(f"d{n}") for n in tensors.tensors}
        self.d_out = {n: free(f"d{n}") for n in tensors.outputs}
        self.kept = {s: free(f"{s}_saved") for s in tensors.states}
        self.scratch = {s: free(f"{s}_chunk") for s in tensors.states}
        self.d_final = {s: free(f"d{s}T") for s in tensors.states}
        self.d_initial = {s: free(f"d{s}0") for s in tensors.states}
        self.result_heads = {n: free(f"H_{n}") for n in sorted(tensors.partial_results)}
        self.known_shapes = frozenset(tensors.tensors)

    def context(self) -> KernelContext:
        """Everything that the template prints of the backward."""
        lines, arrays, states = self.lines, self.arrays(), self.tensors.states
        arrays |= {
            self.cotangents[n]: Array(
                p,
                self.tensors.result_shapes[n],
                Home.TOKEN,
                self.result_heads.get(n),
                n in self.result_heads,
            )
            for n, p in self.d_out.items()
        }
        scratch = {s: self.state_array(s, self.scratch[s], Home.SCRATCH) for s in states}
        again = self._keep(scratch)
        again += lines.loads(self.again, arrays, Home.TOKEN)
        again += lines.statements(self.again)
        again += self._advance()
        token: list[str] = []
        for state in states:
            token += lines.pointer_lines([scratch[state]])
            token.append(
                lines.load(self.state_leaf(state), scratch[state], self.tensors.shapes[state])
            )
        token += lines.loads(self.token, arrays, Home.TOKEN)
        token += lines.statements(self.token)
        token += self._gradients()
        prepare = self._prepare(arrays)
        restart = self._restart()
        finish = self._finish()
        axes = [line for axis in self.axes.axes.values() for line in axis.lines]
        return self._assembled([*axes, *prepare], restart, again, token, finish)

    def _adjoint_program(self) -> DeviceProgram:
        carried = [self.cotangents[f"{s}_next"] for s in self.tensors.states]
        stored = self._input_gradients()
        return device_program(self.adjoint, self.numbers, stored, carried)

    def _input_gradients(self) -> list[str]:
        """The adjoint's outputs that are arrays; sums and carried values stay whole."""
        return [output for output, name in self.gradient_of.items() if name in self.tensors.inputs]

    def _keep(self, scratch: dict[str, Array]) -> list[str]:
        lines = []
        for state, array in scratch.items():
            lines += self.lines.pointer_lines([array])
            shape = self.tensors.shapes[state]
            lines.append(self.lines.store(array, shape, self.state_leaf(state)))
        return lines

    def _advance(self) -> list[str]:
        nexts = {store.output: store.value for store in self.again.stores}
        pairs = [(s, nexts[f"{s}_next"]) for s in self.tensors.states]
        return self.lines.advance([(self.state_leaf(s), self.lines.carried(v)) for s, v in pairs])

    def _d_state(self, state: str) -> str:
        """The variable that carries a state's cotangent."""
        return self.lines.tile(self.cotangents[f"{state}_next"], self.tensors.shapes[state])

    def _d_parameter(self, name: str) -> str:
        return self.lines.tile(f"total_d{name}", self.tensors.shapes[name])

    def _gradients(self) -> list[str]:
        """Stores of the inputs' gradients, sums of the parameters', the states' carried on."""
        tensors, lines = self.tensors, self.lines
        full = {
            output: Array(self.grad[name], tensors.shapes[name], Home.TOKEN)
            for output, name in self.gradient_of.items()
            if output in self._input_gradients()
        }
        text = lines.stores(self.token.stores, full)
        carried = []
        for store in self.token.stores:
            name = self.gradient_of[store.output]
            if name in tensors.parameters:
                total = self._d_parameter(name)
                text.append(f"{total} = {total} + {lines.value(store.value)}")
            elif name in tensors.states:
                carried.append((self._d_state(name), lines.carried(store.value)))
        unread = [s for s in tensors.states if s not in self.read_states]
        carried += [(self._d_state(s), lines.zeros(tensors.shapes[s])) for s in unread]
        return [*text, *lines.advance(carried)]

    def _prepare(self, arrays: dict[str, Array]) -> list[str]:
        lines, tensors = self.lines, self.tensors
        seen: dict[str, None] = {}
        for program in self.programs:
            seen |= dict.fromkeys(lines.loads(program, arrays, Home.PARAMETER))
        text = [*seen]
        for name in tensors.parameters:
            text.append(f"{self._d_parameter(name)} = {lines.zeros(tensors.shapes[name])}")
        for state in tensors.states:
            last = self.state_array(state, self.d_final[state], Home.STATE, sparse=True)
            text += lines.pointer_lines([last])
            text.append(lines.load(self._d_state(state), last, tensors.shapes[state]))
        return text

    def _restart(self) -> list[str]:
        text = []
        for state in self.tensors.states:
            kept = self.state_array(state, self.kept[state], Home.KEPT)
            text += self.lines.pointer_lines([kept])
            text.append(self.lines.load(self.state_leaf(state), kept, self.tensors.shapes[state]))
        return text

    def _finish(self) -> list[str]:
        text, tensors = [], self.tensors
        for name in tensors.parameters:
            array = Array(self.grad[name], tensors.shapes[name], Home.PARTIAL)
            text += self.lines.pointer_lines([array])
            text.append(self.lines.store(array, array.shape, self._d_parameter(name)))
        for state in tensors.states:
            array = self.state_array(state, self.d_initial[state], Home.PARTIAL)
            text += self.lines.pointer_lines([array])
            text.append(self.lines.store(array, array.shape, self._d_state(state)))
        return text

    def _assembled(
        self,
        prepare: list[str],
        restart: list[str],
        again: list[str],
        token: list[str],
        finish: list[str],
    ) -> KernelContext:
        tensors, host = self.tensors, self.host_names
        body = [*prepare, *restart, *again, *token, *finish]
        used = words("\n".join(body))
        pointers = {self.pointer[n]: f"{n}.contiguous()" for n in tensors.tensors}
        pointers = {p: v for p, v in pointers.items() if p in used}
        saved = {s: host.free(f"{s}_saved") for s in tensors.states}
        d_out = {n: host.free(f"d{n}") for n in tensors.outputs}
        d_final = {s: host.free(f"d{s}") for s in tensors.states}
        grad = {n: host.free(f"d{n}") for n in tensors.tensors}
        scratch = {s: host.free(f"{s}_chunk") for s in tensors.states}
        d_initial = {s: host.free(f"d{s}_initial") for s in tensors.states}
        pointers |= {self.kept[s]: saved[s] for s in tensors.states}
        pointers |= {p: f"{d_out[n]}.contiguous()" for n, p in self.d_out.items() if p in used}
        pointers |= {self.d_final[s]: f"{d_final[s]}.contiguous()" for s in tensors.states}
        pointers |= {self.grad[n]: grad[n] for n in tensors.tensors if self.grad[n] in used}
        pointers |= {self.scratch[s]: scratch[s] for s in tensors.states}
        pointers |= {self.d_initial[s]: d_initial[s] for s in tensors.states}
        parameters, arguments = self.launch(pointers, body)
        extra = {
            h: tensors.heads_text(tensors.result_sources[n])
            for n, h in self.result_heads.items()
            if h in used
        }
        parameters += [f"{name}: tl.constexpr" for name in extra]
        arguments += [f"{name}={value}" for name, value in extra.items()]
        lines = self.host_numbers()
        lines += self._allocations(grad, scratch, d_initial)
        results = self._results(grad, d_initial)
        sizes = self.size_lines(words("\n".join([*lines, *arguments, *self.grid()])))
        signature = [f"{n}: Tensor" for n in tensors.tensors]
        signature += [f"{n}: float" for n in tensors.constants]
        rest = (*saved.values(), *d_out.values(), *d_final.values())
        signature += [*(f"{n}: Tensor" for n in rest), "cu_seqlens: Tensor | None = None"]
        return KernelContext(
            tuple(parameters),
            tuple(prepare),
            (),
            tuple(restart),
            tuple(again),
            tuple(token),
            tuple(finish),
            tuple(signature),
            (*self.opening(), *sizes, *lines),
            self.grid(),
            tuple(arguments),
            tuple(results),
        )

    def _allocations(
        self, grad: dict[str, str], scratch: dict[str, str], d_initial: dict[str, str]
    ) -> list[str]:
        tensors, first = self.tensors, self.tensors.inputs[0]
        lines = []
        for name in tensors.tensors:
            lead = f"*{name}.shape[:2]" if name in tensors.inputs else self.count
            sizes = ", ".join([lead, self.heads, *map(size_text, tensors.shapes[name])])
            lines.append(f"{grad[name]} = {first}.new_empty({sizes}, dtype=torch.float32)")
        for state in tensors.states:
            shape = ", ".join([self.heads, *map(size_text, tensors.shapes[state])])
            kept = f"{first}.new_empty({self.count}, {shape}, dtype=torch.float32)"
            lines.append(f"{d_initial[state]} = {kept}")
            lines.append(
                f"{scratch[state]} = {d_initial[state]}.new_empty({self.count} * {self.heads}, "
                f"{self.chunk}, *{d_initial[state]}.shape[2:])"
            )
        return lines

    def _results(self, grad: dict[str, str], d_initial: dict[str, str]) -> list[str]:
        tensors = self.tensors
        results = []
        for name in tensors.tensors:
            axis = 2 if name in tensors.inputs else 0
            given = grad[name] if axis else f"{grad[name]}.sum(0)"
            single = len(tensors.tensors) == 1
            results.append(
                given if single else f"sum_groups({given}, {name}.shape[{axis}], {axis})"
            )
        for state in tensors.states:
            heads = tensors.heads_text(tensors.sources[state]) if state in tensors.partial else ""
            own = f"sum_groups({d_initial[state]}, {heads}, 1)"
            results.append(own if heads else d_initial[state])
        return results
