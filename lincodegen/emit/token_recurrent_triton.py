"""The token loop of any step in Triton: one kernel a direction, a program a sequence and head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from lincodegen.emit.templates import formatted, render
from lincodegen.emit.token_device import DeviceProgram, HostNumbers, device_program
from lincodegen.emit.token_kernel import Array, Home, KernelLines, dotted_dims, mixes
from lincodegen.emit.token_python import size_text, words
from lincodegen.emit.token_tiles import TileAxes
from lincodegen.emit.token_torch import size_reads
from lincodegen.emit.token_triton_functions import function_texts
from lincodegen.errors import EmitError, ScheduleError
from lincodegen.program.token import cotangent_names, step_program, token_adjoint, token_program
from lincodegen.program.token_heads import head_sources
from lincodegen.program.token_names import Names
from lincodegen.spec.dims import Dim
from lincodegen.spec.step import Node, Recurrence, Shape

_MODULE = (
    *("math", "torch", "triton", "tl", "Tensor", "max", "min", "range", "float"),
    *("forward", "backward", "packed_offsets", "sum_groups", "grid"),
)
_KERNEL = (
    *("i_nh", "i_n", "i_h", "i_t", "i_c", "i_b", "i_r", "i_e", "bos", "length", "row", "chunk"),
    *("num_chunks", "start", "count", "cu_seqlens", "H"),
)
SPLIT_TILE = 32
"""The tile of an axis that programs share between them."""


@dataclass(frozen=True, slots=True)
class KernelContext:
    """What the template prints of one direction."""

    parameters: tuple[str, ...]
    prepare: tuple[str, ...]
    keep: tuple[str, ...]
    restart: tuple[str, ...]
    again: tuple[str, ...]
    token: tuple[str, ...]
    finish: tuple[str, ...]
    signature: tuple[str, ...]
    host: tuple[str, ...]
    grid: tuple[str, ...]
    arguments: tuple[str, ...]
    results: tuple[str, ...]


def recurrent_triton(recurrence: Recurrence) -> str:
    """The text of a module with ``forward`` and ``backward`` and their two kernels.

    Same arguments and results as :func:`recurrent_torch`'s, with ``cu_seqlens=None`` as a last
    argument of both. Inputs may have any floating dtype; states are float32, outputs have the
    first input's dtype, gradients are float32.

    Raises:
        ScheduleError: a value has more than two axes and is no input read row by row.
    """
    _check_ranks(recurrence)
    tensors = _Tensors.of(recurrence)
    forward, backward = _Forward(tensors), _Backward(tensors)
    contexts = {"forward": forward.context(), "backward": backward.context()}
    functions = forward.lines.expressions.functions | backward.lines.expressions.functions
    context = {
        "title": recurrence.name,
        "name": recurrence.name,
        "functions": function_texts(functions),
        **{name: asdict(value) for name, value in contexts.items()},
    }
    return formatted(render("recurrent_triton.py.jinja", context))


def _check_ranks(recurrence: Recurrence) -> None:
    for assign in recurrence.step:
        for node in assign.value.walk():
            wide = [arg for arg in node.args if len(arg.shape) > 2]
            if wide and node.op not in {"index", "slice"} or len(node.shape) > 2 and node.args:
                place = node.place if node.place.line else assign.place
                raise ScheduleError(
                    f"{recurrence.file}:{place.line}:{place.column}: a value of "
                    f"{max(len(n.shape) for n in (node, *wide))} axes in `{assign.name} = ...`; "
                    "a kernel's tiles have two at most. Read it row by row: `x[j]`."
                )


@dataclass(frozen=True, slots=True)
class _Tensors:
    """The tensors of a recurrence, by name and in the order of arguments."""

    recurrence: Recurrence
    inputs: tuple[str, ...]
    parameters: tuple[str, ...]
    states: tuple[str, ...]
    constants: tuple[str, ...]
    outputs: tuple[str, ...]
    shapes: dict[str, Shape]
    result_shapes: dict[str, Shape]
    partial: frozenset[str]
    partial_results: frozenset[str]
    sources: dict[str, tuple[str, ...]]
    result_sources: dict[str, tuple[str, ...]]

    @staticmethod
    def of(recurrence: Recurrence) -> _Tensors:
        inputs = tuple(t.name for t in recurrence.inputs)
        parameters = tuple(t.name for t in recurrence.parameters)
        states, outputs = head_sources(recurrence)
        total = len(inputs) + len(parameters)
        every = (*recurrence.inputs, *recurrence.parameters, *recurrence.states)
        names = [*(t.name for t in every), *(c.name for c in recurrence.constants)]
        if clash := set(_MODULE).intersection(names):
            raise EmitError(f"`{min(clash)}` may not name a tensor of a generated Triton module")
        return _Tensors(
            recurrence,
            inputs,
            parameters,
            tuple(s.name for s in recurrence.states),
            tuple(c.name for c in recurrence.constants),
            tuple(name for name, _ in recurrence.outputs),
            {t.name: t.shape for t in every},
            {name: node.shape for name, node in recurrence.outputs},
            frozenset(n for n, s in states.items() if 0 < len(s) < total),
            frozenset(n for n, s in outputs.items() if 0 < len(s) < total),
            states,
            outputs,
        )

    @property
    def tensors(self) -> tuple[str, ...]:
        """Inputs, then parameters."""
        return (*self.inputs, *self.parameters)

    def heads_text(self, names: Sequence[str]) -> str:
        """The host's expression for the largest head count of some tensors."""
        counts = [f"{n}.shape[{2 if n in self.inputs else 0}]" for n in names]
        return counts[0] if len(counts) == 1 else f"max({', '.join(counts)})"

    def next_states(self) -> list[tuple[str, Node]]:
        """Each state's next value, as outputs of a token program."""
        return [(f"{s}_next", self.recurrence.final(s)) for s in self.states]


class _Kernel:
    """What both directions share: arguments, axes, host code."""

    def __init__(self, tensors: _Tensors) -> None:
        self.tensors = tensors
        self.names = Names({*_KERNEL, *_MODULE, *tensors.recurrence.dims})
        raw = (*tensors.tensors, *tensors.states, *tensors.constants)
        self.host_names = Names({*_MODULE, *raw, *tensors.recurrence.dims})
        self.pointer = {name: self.names.free(name) for name in tensors.tensors}
        self.head_count = {
            name: self.names.free(f"H_{name}")
            for name in (*tensors.tensors, *tensors.partial)
            if len(tensors.tensors) > 1
        }
        self.offsets = self.host_names.free("offsets")
        self.count = self.host_names.free("count")
        self.heads = self.host_names.free("heads")
        self.chunk = self.host_names.free("chunk")
        self.numbers = HostNumbers(self.host_names)
        self.programs: list[DeviceProgram] = []

    def start_lines(self, split: bool) -> None:
        """Fix the axes, once the programs are known."""
        nodes = [node for program in self.programs for node in program.nodes()]
        dotted = [dim for node in nodes for dim in dotted_dims(node)]
        chosen = self._split(nodes) if split else None
        self.axes = TileAxes(self.names, dotted, chosen)
        self.lines = KernelLines(self.names, self.axes, chosen)

    def _split(self, nodes: list[Node]) -> Dim | None:
        for state in self.tensors.states:
            for dim in reversed(self.tensors.shapes[state]):
                (names, count), *more = dim.terms or ((((), 0)),)
                others = {d for n in nodes for d in n.shape if d != dim}
                compound = any(set(names) & d.names for d in others)
                if len(names) == 1 and count == 1 and not more and not compound:
                    if not any(mixes(node, dim) for node in nodes):
                        return dim
        return None

    def arrays(self) -> dict[str, Array]:
        """Inputs and parameters by name."""
        shapes = self.tensors.shapes
        tokens = {n: self._array(n, Home.TOKEN) for n in self.tensors.inputs}
        parameters = {n: self._array(n, Home.PARAMETER) for n in self.tensors.parameters}
        assert all(a.shape == shapes[n] for n, a in tokens.items())
        return tokens | parameters

    def _array(self, name: str, home: Home) -> Array:
        shape = self.tensors.shapes[name]
        return Array(self.pointer[name], shape, home, self.head_count.get(name))

    def state_array(self, name: str, pointer: str, home: Home, sparse: bool = False) -> Array:
        """An array of a state's shape."""
        heads = self.head_count.get(name) if home is Home.STATE else None
        shape = self.tensors.shapes[name]
        return Array(pointer, shape, home, heads, sparse and heads is not None)

    def state_leaf(self, name: str) -> str:
        """The variable that carries a state."""
        return self.lines.tile(name, self.tensors.shapes[name])

    def constexprs(self, body: str) -> dict[str, str]:
        """Compile-time arguments that a kernel's text uses, with the host's values."""
        used = words(body)
        found = {"H": self.heads}
        for name, constexpr in self.head_count.items():
            if constexpr in used:
                sources = self.tensors.sources.get(name, (name,))
                found[constexpr] = self.tensors.heads_text(sources)
        found |= {dim: dim for dim in self.tensors.recurrence.dims if dim in used}
        for axis in self.axes.axes.values():
            if axis.tile in used and not axis.tile.isdigit():
                size = f"min({SPLIT_TILE}, {axis.tile_size})" if axis.is_split else axis.tile_size
                found[axis.tile] = size
        return found

    def size_lines(self, used: frozenset[str]) -> list[str]:
        """The host's definitions of dimensions."""
        everything = self.tensors.shapes.items()
        known = size_reads((n, s) for n, s in everything if n in self.known_shapes)
        return [f"{d} = {known[d]}" for d in self.tensors.recurrence.dims if d in used]

    known_shapes: frozenset[str] = frozenset()

    def grid(self) -> tuple[str, ...]:
        """The launch grid."""
        programs = f"{self.count} * {self.heads}"
        if self.lines.split is None:
            return (programs,)
        axis = self.axes.axis(self.lines.split)
        tile = f"min({SPLIT_TILE}, {axis.tile_size})"
        return (programs, f"triton.cdiv({axis.size}, {tile})")

    def host_numbers(self) -> list[str]:
        """The host's computation of numbers for the kernel."""
        return [f"{name} = {text}" for text, name in self.numbers.given.items()]

    def opening(self) -> list[str]:
        """The first lines of a host function."""
        first = self.tensors.inputs[0]
        return [
            f"{self.offsets} = packed_offsets(cu_seqlens, {first})",
            f"{self.count} = {self.offsets}.numel() - 1",
            f"{self.heads} = {self.tensors.heads_text(self.tensors.tensors)}",
            f"{self.chunk} = max(1, math.isqrt({first}.shape[1]))",
        ]

    def launch(self, pointers: dict[str, str], body: list[str]) -> tuple[list[str], list[str]]:
        """The kernel's parameters and the arguments of its launch, in one order."""
        constexprs = self.constexprs("\n".join(body))
        floats = {kernel: name for name, kernel in self.lines.constants.items()}
        given = pointers | {"cu_seqlens": self.offsets} | floats | {"chunk": self.chunk}
        parameters = [*given, *(f"{name}: tl.constexpr" for name in constexprs)]
        arguments = [*given.values(), *(f"{n}={v}" for n, v in constexprs.items())]
        return parameters, [*arguments, "num_warps=4"]


class _Forward(_Kernel):
    """The forward kernel and its host function."""

    def __init__(self, tensors: _Tensors) -> None:
        super().__init__(tensors)
        self.program = device_program(step_program(tensors.recurrence), self.numbers)
        self.programs = [self.program]
        self.start_lines(split=True)
        free = self.names.free
        self.initial = {s: free(f"{s}0") for s in tensors.states}
        self.result = {n: free(n) for n in tensors.outputs}
        self.final = {s: free(f"{s}T") for s in tensors.states}
        self.kept = {s: free(f"{s}_saved") for s in tensors.states}
        self.result_heads = {n: free(f"H_{n}") for n in tensors.partial_results}
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


class _Backward(_Kernel):
    """The backward kernel and its host function."""

    def __init__(self, tensors: _Tensors) -> None:
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
        self.again = device_program(again, self.numbers)
        self.token = device_program(self.adjoint, self.numbers)
        self.programs = [self.again, self.token]
        self.start_lines(split=True)
        free = self.names.free
        self.grad = {n: free(f"d{n}") for n in tensors.tensors}
        self.d_out = {n: free(f"d{n}") for n in tensors.outputs}
        self.kept = {s: free(f"{s}_saved") for s in tensors.states}
        self.scratch = {s: free(f"{s}_chunk") for s in tensors.states}
        self.d_final = {s: free(f"d{s}T") for s in tensors.states}
        self.d_initial = {s: free(f"d{s}0") for s in tensors.states}
        self.result_heads = {n: free(f"H_{n}") for n in tensors.partial_results}
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
            if name in tensors.inputs
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
