"""The forward kernel of a token loop and the function that launches it."""

from __future__ import annotations

from lincodegen.emit.token_device import device_program
from lincodegen.emit.token_kernel import Array, Home
from lincodegen.emit.token_python import size_text, words
from lincodegen.emit.token_recurrent_kernel import KernelContext, TokenKernel
from lincodegen.emit.token_recurrent_tensors import Tensors
from lincodegen.program.token import step_program
from lincodegen.spec.step import Node


class Forward(TokenKernel):
    """The forward kernel and its host function."""

    def __init__(self, tensors: Tensors) -> None:
        super().__init__(tensors)
        step = step_program(tensors.recurrence)
        self.program = device_program(step, self.numbers, tensors.outputs)
        self.programs = [self.program]
        self.start_lines(split=True)
        free = self.names.free
        self.initial = {s: free(f"{s}0") for s in tensors.states}
        self.result = {n: free(n) for n in tensors.outputs}
        self.final = {s: free(f"{s}T") for s in tensors.states}
        self.kept = {s: free(f"{s}_saved") for s in tensors.states}
        self.result_heads = {n: free(f"H_{n}") for n in sorted(tensors.partial_results)}
        self.known_shapes = frozenset((*tensors.tensors, *tensors.states))

    def context(self) -> KernelContext:
        """Everything that the template prints of the forward."""
        states, lines, arrays = self.tensors.states, self.lines, self.arrays()
        outputs = {
            n: Array(
                p,
                self.tensors.result_shapes[n],
                Home.TOKEN,
                self.result_heads.get(n),
                n in self.result_heads,
            )
            for n, p in self.result.items()
        }
        nexts = {store.output: store.value for store in self.program.stores}
        token = lines.loads(self.program, arrays, Home.TOKEN)
        token += lines.statements(self.program)
        token += lines.stores(self.program.stores, outputs)
        token += self._advance(nexts)
        start = lines.loads(self.program, arrays, Home.PARAMETER)
        keep, finish = [], []
        for state in states:
            shape, tile = self.tensors.shapes[state], self.state_leaf(state)
            first = self.state_array(state, self.initial[state], Home.STATE)
            kept = self.state_array(state, self.kept[state], Home.KEPT)
            last = self.state_array(state, self.final[state], Home.STATE, sparse=True)
            start += [*lines.pointer_lines([first]), lines.load(tile, first, shape)]
            keep += [*lines.pointer_lines([kept]), lines.store(kept, shape, tile)]
            finish += [*lines.pointer_lines([last]), lines.store(last, shape, tile)]
        body = [*start, *keep, *token, *finish]
        prepare = [line for axis in self.axes.axes.values() for line in axis.lines] + start
        return self._assembled(body, prepare, keep, token, finish)

    def _advance(self, nexts: dict[str, Node]) -> list[str]:
        return self.lines.advance(
            [
                (self.state_leaf(s), self.lines.carried(nexts[f"{s}_next"]))
                for s in self.tensors.states
            ]
        )

    def _assembled(
        self,
        body: list[str],
        prepare: list[str],
        keep: list[str],
        token: list[str],
        finish: list[str],
    ) -> KernelContext:
        tensors, host = self.tensors, self.host_names
        pointers = {self.pointer[n]: f"{n}.contiguous()" for n in tensors.tensors}
        used = words("\n".join(body))
        pointers = {p: v for p, v in pointers.items() if p in used}
        pointers |= {self.initial[s]: f"{s}.contiguous()" for s in tensors.states}
        local = {n: host.free(n) for n in tensors.outputs}
        final = {s: host.free(f"{s}_final") for s in tensors.states}
        saved = {s: host.free(f"{s}_saved") for s in tensors.states}
        pointers |= {self.result[n]: local[n] for n in tensors.outputs}
        pointers |= {self.final[s]: final[s] for s in tensors.states}
        pointers |= {self.kept[s]: saved[s] for s in tensors.states}
        parameters, arguments = self.launch(pointers, [*prepare, *body])
        extra = {
            name: tensors.heads_text(tensors.result_sources[n])
            for n, name in self.result_heads.items()
        }
        parameters += [f"{name}: tl.constexpr" for name in extra]
        arguments += [f"{name}={value}" for name, value in extra.items()]
        lines = self.host_numbers()
        lines += self._allocations(local, final, saved)
        sizes = self.size_lines(words("\n".join([*lines, *arguments, *self.grid()])))
        return KernelContext(
            tuple(parameters),
            tuple(prepare),
            tuple(keep),
            (),
            (),
            tuple(token),
            tuple(finish),
            self._signature(),
            (*self.opening(), *sizes, *lines),
            self.grid(),
            tuple(arguments),
            (*local.values(), *final.values(), *saved.values()),
        )

    def _allocations(
        self, local: dict[str, str], final: dict[str, str], saved: dict[str, str]
    ) -> list[str]:
        tensors, lines = self.tensors, []
        first = tensors.inputs[0]
        for name, target in local.items():
            heads = self.heads
            if name in tensors.partial_results:
                heads = tensors.heads_text(tensors.result_sources[name])
            sizes = [f"*{first}.shape[:2]", heads, *map(size_text, tensors.result_shapes[name])]
            lines.append(f"{target} = {first}.new_empty({', '.join(sizes)})")
        for state in tensors.states:
            lines.append(f"{final[state]} = torch.empty_like({state}, dtype=torch.float32)")
            chunks = f"{first}.shape[0] * {first}.shape[1] // {self.chunk} + {self.count}"
            sizes = ", ".join([chunks, self.heads, *map(size_text, tensors.shapes[state])])
            lines.append(f"{saved[state]} = {final[state]}.new_empty({sizes})")
        return lines

    def _signature(self) -> tuple[str, ...]:
        tensors = self.tensors
        arguments = [f"{n}: Tensor" for n in (*tensors.tensors, *tensors.states)]
        arguments += [f"{n}: float" for n in tensors.constants]
        return (*arguments, "cu_seqlens: Tensor | None = None")
