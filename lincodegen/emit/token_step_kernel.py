"""The kernel of one token, for decoding, and the function that launches it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from lincodegen.emit.templates import formatted, render
from lincodegen.emit.token_device import Store, device_program
from lincodegen.emit.token_kernel import Array, Home
from lincodegen.emit.token_python import size_text, words
from lincodegen.emit.token_recurrent_kernel import TokenKernel, is_separable
from lincodegen.emit.token_recurrent_tensors import Tensors
from lincodegen.emit.token_recurrent_triton import check_ranks
from lincodegen.emit.token_tiles import along
from lincodegen.emit.token_triton_functions import function_texts
from lincodegen.program.token import step_program
from lincodegen.program.token_shapes import ONE
from lincodegen.spec.dims import Dim
from lincodegen.spec.step import Node, Recurrence


def step_triton(recurrence: Recurrence) -> str:
    """The text of a module with ``step`` and its kernel.

    step(*inputs, *parameters, *states, *constants, state_indices=None) -> outputs

    Inputs [B, Hx, *shape] may have any floating dtype, states [P, Hx, *shape] any floating dtype
    and strides; outputs [B, H, *shape] have the first input's dtype.

    Raises:
        ScheduleError: a value has more than two axes and is no input read row by row.
    """
    check_ranks(recurrence)
    step = StepKernel(Tensors.of(recurrence))
    context = step.context()
    names = {
        "title": recurrence.name,
        "name": recurrence.name,
        "functions": function_texts(step.lines.expressions.functions),
        "step": asdict(context),
    }
    return formatted(render("step_triton.py.jinja", names))


@dataclass(frozen=True, slots=True)
class StepContext:
    """What the template prints of the kernel and its launch."""

    parameters: tuple[str, ...]
    prepare: tuple[str, ...]
    token: tuple[str, ...]
    finish: tuple[str, ...]
    skipped: tuple[str, ...]
    signature: tuple[str, ...]
    host: tuple[str, ...]
    grid: tuple[str, ...]
    arguments: tuple[str, ...]
    results: str
    slots: str


@dataclass(frozen=True, slots=True)
class SlotStrides:
    """Names of a state's strides: from slot to slot, from head to head, along its own axes."""

    slot: str
    head: str
    axes: tuple[str, ...]


class StepKernel(TokenKernel):
    """The kernel of one token and its host function."""

    reserved = ("i_nb", "i_n", "i_b", "i_g", "i_h", "slot", "H", "GROUP")

    def __init__(self, tensors: Tensors) -> None:
        super().__init__(tensors)
        step = step_program(tensors.recurrence)
        self.program = device_program(step, self.numbers, tensors.outputs)
        self.programs = [self.program]
        self.start_lines(split=True)
        free = self.names.free
        self.slots = free("state_indices")
        self.group = self.host_names.free("group")
        self.result = {n: free(n) for n in tensors.outputs}
        self.result_heads = {n: free(f"H_{n}") for n in sorted(tensors.partial_results)}
        self.state_pointer = {s: free(s) for s in tensors.states}
        self.state_place = {s: free(f"p_{s}") for s in tensors.states}
        self.head_count |= {s: free(f"H_{s}") for s in tensors.states if s not in self.head_count}
        self.strides = {s: self._strides(s) for s in tensors.states}
        self.known_shapes = frozenset(tensors.tensors)

    def context(self) -> StepContext:
        """Everything that the template prints."""
        lines, program = self.lines, self.program
        stored = {f"{s}_next": s for s in self.tensors.states}
        outputs = [store for store in program.stores if store.output not in stored]
        states = [store for store in program.stores if store.output in stored]
        results = {n: self._result(n) for n in self.tensors.outputs}
        token = lines.loads(program, self.arrays(), Home.STATE)
        token += lines.loads(program, self.arrays(), Home.PARAMETER)
        for state in self.tensors.states:
            token.append(f"{self.state_place[state]} = {self._start(state)}")
            if state in program.states:
                token.append(self._load(state))
        token += lines.statements(program)
        token += lines.stores(outputs, results)
        finish = [self._store(stored[x.output], x.value) for x in states]
        skipped = self._skipped(outputs, results)
        prepare = [line for axis in self.axes.axes.values() for line in axis.lines]
        return self._assembled(prepare, token, finish, skipped)

    def _result(self, name: str) -> Array:
        shape, heads = self.tensors.result_shapes[name], self.result_heads.get(name)
        return Array(self.result[name], shape, Home.STATE, heads, heads is not None)

    def _skipped(self, stores: Sequence[Store], results: dict[str, Array]) -> list[str]:
        """Zeros as outputs."""
        found: list[str] = []
        for name, array in results.items():
            found += self.lines.pointer_lines([array])
            for store in (x for x in stores if x.output == name):
                shape = store.value.shape
                zeros = self.lines.zeros(shape)
                found.append(self.lines.store(array, shape, zeros, store.start))
        return found

    def arrays(self) -> dict[str, Array]:
        """Inputs, a token for every entry of the batch, and parameters."""
        tensors = self.tensors
        tokens = {n: self._array(n, Home.STATE) for n in tensors.inputs}
        return tokens | {n: self._array(n, Home.PARAMETER) for n in tensors.parameters}

    # -- states ----------------------------------------------------------------------------

    def _split(self, nodes: list[Node]) -> Dim | None:
        """An axis that every state has and no operation mixes: one program writes an entry."""
        shapes = [self.tensors.shapes[s] for s in self.tensors.states]
        common = (d for d in reversed(shapes[0]) if all(d in shape for shape in shapes))
        return next((d for d in common if is_separable(d, nodes)), None)

    def _strides(self, state: str) -> SlotStrides:
        free, label = self.names.free, f"stride_{state}"
        axes = [
            "" if d == ONE else free(f"{label}_{self.axes.axis(d).offsets.removeprefix('o_')}")
            for d in self.tensors.shapes[state]
        ]
        return SlotStrides(free(f"{label}_n"), free(f"{label}_head"), tuple(axes))

    def _start(self, state: str) -> str:
        strides, heads = self.strides[state], self.head_count[state]
        head = f"i_h // (H // {heads}) * {strides.head}"
        return f"{self.state_pointer[state]} + slot * {strides.slot} + {head}"

    def _place(self, state: str) -> str:
        shape, offsets = self.tensors.shapes[state], []
        for position, (dim, stride) in enumerate(zip(shape, self.strides[state].axes, strict=True)):
            if dim != ONE:
                axis = along(self.axes.axis(dim).offsets, position, len(shape))
                offsets.append(f"{axis} * {stride}")
        return " + ".join([self.state_place[state], *offsets])

    def _load(self, state: str) -> str:
        mask = self.axes.mask_text(self.tensors.shapes[state])
        options = f", mask={mask}, other=0.0" if mask else ""
        return f"{self.state_leaf(state)} = tl.load({self._place(state)}{options}).to(tl.float32)"

    def _store(self, state: str, value: Node) -> str:
        """The next state, by the last of the heads that share it: the others still read it."""
        heads = self.head_count[state]
        mask = self.axes.mask_text(self.tensors.shapes[state])
        last = f"(i_h + 1) % (H // {heads}) == 0"
        mask = f"{mask} & ({last})" if mask else last
        return f"tl.store({self._place(state)}, {self.lines.value(value)}, mask={mask})"

    # -- the launch ------------------------------------------------------------------------

    def _assembled(
        self, prepare: list[str], token: list[str], finish: list[str], skipped: list[str]
    ) -> StepContext:
        tensors, host = self.tensors, self.host_names
        text = "\n".join([*prepare, *token, *finish, *skipped])
        used = words(text)
        local = {n: host.free(n) for n in tensors.outputs}
        pointers = {self.pointer[n]: f"{n}.contiguous()" for n in tensors.tensors}
        pointers = {p: v for p, v in pointers.items() if p in used}
        pointers |= {self.state_pointer[s]: s for s in tensors.states}
        pointers |= {self.result[n]: local[n] for n in tensors.outputs}
        floats = {kernel: name for name, kernel in self.lines.constants.items()}
        given = pointers | {self.slots: self.slots} | floats | self._run_time_strides()
        constexprs = self.constexprs(text)
        arguments = [*given.values(), *(f"{n}={v}" for n, v in constexprs.items())]
        arguments.append(f"num_warps=warps_for({self._entries()}, {self.thread_load})")
        body = self.host_numbers() + self._allocations(local)
        grid = self.grid()
        sizes = self.size_lines(words("\n".join([*body, *arguments, *grid])))
        results = ", ".join(local.values()) + "," * (len(local) == 1)
        return StepContext(
            parameters=(*given, *(f"{name}: tl.constexpr" for name in constexprs)),
            prepare=tuple(prepare),
            token=tuple(token),
            finish=tuple(finish),
            skipped=tuple(skipped),
            signature=self._signature(),
            host=(*self.opening(), *sizes, *body),
            grid=grid,
            arguments=tuple(arguments),
            results=f"({results})" if len(local) == 1 else results,
            slots=self.slots,
        )

    def constexprs(self, body: str) -> dict[str, str]:
        """Compile-time arguments: the others', the heads of a program, inner strides."""
        found = super().constexprs(body)
        found = {"H": found.pop("H"), "GROUP": self.group} | found
        for name, heads in self.result_heads.items():
            found[heads] = self.heads_text(self.tensors.result_sources[name])
        for state, strides in self.strides.items():
            axes = enumerate(strides.axes, start=2)
            found |= {stride: f"{state}.stride({i})" for i, stride in axes if stride}
        return found

    def _run_time_strides(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for state, strides in self.strides.items():
            found[strides.slot] = f"{state}.stride(0)"
            found[strides.head] = f"{state}.stride(1)"
        return found

    def grid(self) -> tuple[str, ...]:
        """Tokens times groups of heads, and tiles of the axis that programs share."""
        _, *tiles = super().grid()
        batch = f"{self.tensors.inputs[0]}.shape[0]"
        return (f"{batch} * {self.heads} // {self.group}", *tiles)

    def opening(self) -> list[str]:
        """Heads, and those that a program takes: whole groups that share a head of a state."""
        counts = ", ".join(f"{s}.shape[1]" for s in self.tensors.states)
        return [
            f"{self.heads} = {self.heads_text(self.tensors.tensors)}",
            f"{self.group} = {self.heads} // math.gcd({self.heads}, {counts})",
        ]

    def heads_text(self, names: Sequence[str]) -> str:
        """The host's expression for the largest head count of some tensors or states."""
        parameters = self.tensors.parameters
        counts = [f"{n}.shape[{0 if n in parameters else 1}]" for n in names]
        return counts[0] if len(counts) == 1 else f"max({', '.join(counts)})"

    def heads_of(self, name: str) -> str:
        """The host's expression for the heads of a tensor or a state."""
        return self.heads_text((name,))

    def _allocations(self, local: dict[str, str]) -> list[str]:
        tensors, lines = self.tensors, []
        first = tensors.inputs[0]
        for name, target in local.items():
            partial = name in tensors.partial_results
            heads = self.heads_text(tensors.result_sources[name]) if partial else self.heads
            sizes = [f"{first}.shape[0]", heads, *map(size_text, tensors.result_shapes[name])]
            lines.append(f"{target} = {first}.new_empty({', '.join(sizes)})")
        return lines

    def _signature(self) -> tuple[str, ...]:
        tensors = self.tensors
        arguments = [f"{n}: Tensor" for n in (*tensors.tensors, *tensors.states)]
        arguments += [f"{n}: float" for n in tensors.constants]
        return (*arguments, f"{self.slots}: Tensor | None = None")
