"""A recurrence's chunk forms as an op: operands by the oracle's functions, the rest as printed.

Nothing of the generated op takes part: what goes wrong here is the derivation, the tile program,
its adjoint or a printer.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

import lincodegen.runtime.chunks as chunk_functions
from lincodegen.derive.chunkform import derive_group
from lincodegen.derive.timeline import Timeline, read_timeline
from lincodegen.emit.chunk_torch import print_torch
from lincodegen.emit.templates import formatted
from lincodegen.emit.triton_module import module_header, print_triton
from lincodegen.program.lower import lower
from lincodegen.program.passes import PASSES
from lincodegen.program.program import Program
from lincodegen.schedule.kernels import schedule
from lincodegen.spec.loader import load
from lincodegen.spec.step import Node, Recurrence
from lincodegen.verify.functions import Arithmetic, apply, repeat_heads
from lincodegen.verify.layout import dimension_sizes, tensors_of

Leaves = Mapping[Any, Tensor]


def compiled(recurrence: Recurrence) -> tuple[Timeline, tuple[Program, ...]]:
    """The timeline and the tile program of each group, as they are emitted."""
    timeline = read_timeline(recurrence)
    programs = []
    for group in timeline.groups:
        program = lower(derive_group(group))
        for rewrite in PASSES:
            program = rewrite(program)
        programs.append(program)
    return timeline, tuple(programs)


def torch_module(program: Program) -> ModuleType:
    """The printed PyTorch form of a group."""
    text = print_torch(program)
    module = ModuleType("printed_torch")
    names = {"torch": torch, **{n: getattr(chunk_functions, n) for n in text.runtime}}
    vars(module).update(names)
    exec(compile(f"{text.forward}\n\n{text.backward}", "printed_torch", "exec"), vars(module))
    return module


def triton_text(program: Program, name: str = "probe") -> str:
    """The kernels module of a group."""
    text = print_triton(schedule(program), name)
    return formatted(module_header(text.tools) + text.text)


def module_of(text: str, path: Path) -> ModuleType:
    """A text as a module; Triton needs the source in a file."""
    path.write_text(text)
    found = importlib.util.spec_from_file_location(path.stem, path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class ChunkOp:
    """Called as ``lincodegen.verify.call`` describes; ``modules`` has the form of each group."""

    timeline: Timeline
    programs: Sequence[Program]
    modules: Sequence[ModuleType]
    chunk_size: int

    def __call__(
        self,
        *args: Tensor,
        initial_state: Any = None,
        output_final_state: bool = True,
        **keywords: Any,
    ) -> tuple[Any, Any]:
        recurrence = self.timeline.recurrence
        required = [x.name for x in tensors_of(recurrence) if x.default is None]
        tensors = dict(zip(required, args, strict=True))
        call = _Call(self, tensors, keywords)
        names = [s.name for s in recurrence.states]
        if len(names) == 1 or initial_state is None:
            initial_state = [initial_state] * len(names)
        outputs, finals = call.run(dict(zip(names, initial_state, strict=True)))
        return _packed(outputs), _packed(finals)

    def with_chunks(self, chunk_size: int) -> ChunkOp:
        """The same forms over chunks of another size."""
        return ChunkOp(self.timeline, self.programs, self.modules, chunk_size)


def torch_op(recurrence: Recurrence, chunk_size: int = 8) -> ChunkOp:
    """The op of the printed PyTorch forms."""
    timeline, programs = compiled(recurrence)
    return ChunkOp(timeline, programs, [torch_module(p) for p in programs], chunk_size)


def triton_op(recurrence: Recurrence, folder: Path, chunk_size: int = 16) -> ChunkOp:
    """The op of the printed Triton forms."""
    timeline, programs = compiled(recurrence)
    paths = [folder / f"probe_{recurrence.name}_{i}.py" for i in range(len(programs))]
    modules = [
        module_of(triton_text(p, f"probe{i}"), path)
        for i, (p, path) in enumerate(zip(programs, paths, strict=True))
    ]
    return ChunkOp(timeline, programs, modules, chunk_size)


def op_of(text: str, chunk_size: int = 8) -> tuple[Recurrence, ChunkOp]:
    """The recurrence of a spec text and its op."""
    recurrence = load(text)
    return recurrence, torch_op(recurrence, chunk_size)


def _packed(values: Sequence[Tensor]) -> Any:
    return values[0] if len(values) == 1 else tuple(values)


class _Group(torch.autograd.Function):
    """The forward and backward of one group's form."""

    @staticmethod
    def forward(ctx, module, scalars, chunk_size, state, *operands):
        *reads, final, saved = module.forward(*operands, state, *scalars, chunk_size)
        ctx.module, ctx.rest, ctx.saved = module, (scalars, chunk_size), saved
        ctx.save_for_backward(*operands)
        return (*reads, final)

    @staticmethod
    def backward(ctx, *cotangents):
        scalars, chunk_size = ctx.rest
        operands = ctx.saved_tensors
        found = ctx.module.backward(ctx.saved, *operands, *scalars, *cotangents, chunk_size)
        *gradients, d_state = found
        return None, None, None, d_state, *gradients


class SafeLog(torch.autograd.Function):
    """log w, -inf with derivative 0 at w = 0."""

    @staticmethod
    def forward(ctx, w):
        ctx.save_for_backward(w)
        return torch.where(w > 0, torch.log(w), -inf)

    @staticmethod
    def backward(ctx, d):
        (w,) = ctx.saved_tensors
        return torch.where(w > 0, d / w, 0.0)


class _Call:
    """One call: values of nodes over all tokens, ``[B * T, H, *shape]``."""

    def __init__(self, op: ChunkOp, tensors: Leaves, constants: Mapping[str, Any]) -> None:
        self.op, self.recurrence = op, op.timeline.recurrence
        self.sizes = dimension_sizes(self.recurrence, tensors)
        inputs = [x.name for x in self.recurrence.inputs if x.name in tensors]
        self.batch, self.length = tensors[inputs[0]].shape[:2]
        lead = {n: x.flatten(0, 1) if n in inputs else x[None] for n, x in tensors.items()}
        double = any(x.dtype == torch.float64 for x in tensors.values())
        self.zero = next(iter(tensors.values())).new_zeros(
            (), dtype=torch.float64 if double else torch.float32
        )
        self.heads = max(x.shape[1] for x in lead.values())
        self.leaves: dict[Any, Tensor] = {n: x.to(self.zero) for n, x in lead.items()}
        guarded = any(n.op == "where" for a in self.recurrence.step for n in a.value.walk())
        self.arithmetic = Arithmetic(self.zero, guarded)
        self.memo: dict[Node, Tensor] = {}
        for constant in self.recurrence.constants:
            value = constants.get(constant.name)
            found = self.value(constant.default) if value is None else self.number(value)
            self.leaves[constant.name] = found

    def number(self, value: float) -> Tensor:
        return self.zero.new_full((1, 1), value)

    def value(self, node: Node) -> Tensor:
        """``[B * T or 1, heads or 1, *shape]``."""
        if node not in self.memo:
            self.memo[node] = self._value(node)
        return self.memo[node]

    def _value(self, node: Node) -> Tensor:
        match node.op:
            case "input" | "parameter" | "constant":
                return self.leaves[node.attr[0]]
            case "number":
                return self.number(float(node.attr[0]))
            case "size":
                return self.number(node.attr[0].evaluate(self.sizes))
            case "ref":
                return self.value(self.recurrence.step[node.attr[0]].value)
            case "read":
                return self.leaves[node.attr]
            case "safe_log":
                return SafeLog.apply(self.value(node.args[0]))
        return apply(node, [self.value(a) for a in node.args], self.sizes, self.arithmetic)

    def rows(self, nodes: Sequence[Node], shape: Sequence[int]) -> Tensor:
        """``[B, T, H, (slots,) *shape]``."""
        values = []
        for node in nodes:
            x = repeat_heads(self.value(node), self.heads)
            x = x.reshape(*x.shape[:2], *(1,) * (len(shape) + 2 - x.dim()), *x.shape[2:])
            x = x.expand(self.batch * self.length, self.heads, *shape)
            values.append(x.unflatten(0, (self.batch, self.length)))
        return torch.stack(values, 3) if len(values) > 1 else values[0]

    def run(self, states: Mapping[str, Any]) -> tuple[list[Tensor], list[Tensor]]:
        finals: dict[str, Tensor] = {}
        for index, group in enumerate(self.op.timeline.groups):
            name = group.state.name
            finals[name] = self._group(index, states[name])
        outputs = [
            self.rows([n], [d.evaluate(self.sizes) for d in n.shape])
            for _, n in self.op.timeline.outputs
        ]
        return outputs, [finals[s.name] for s in self.recurrence.states]

    def _group(self, index: int, state: Tensor | None) -> Tensor:
        program, group = self.op.programs[index], self.op.timeline.groups[index]
        shape = [d.evaluate(self.sizes) for d in group.state.shape]
        if state is None:
            state = self.zero.new_zeros(self.batch, self.heads, *shape)
        state = state.mT if group.flipped else state
        sizes = dict(zip(program.carry.axes, state.shape[2:], strict=True))
        operands = [o for _, o in program.operands] + [o for _, o, _ in program.logs]
        rows = [self.rows(o.nodes, [sizes[a] for a in o.axes[1:]]) for o in operands]
        scalars = [float(self.value(s.node)) for s in program.scalars]
        module, size = self.op.modules[index], self.op.chunk_size
        *reads, final = _Group.apply(module, scalars, size, state, *rows)
        for j, read in enumerate(reads):
            self.leaves[(index, j)] = read.flatten(0, 1)
        return final.mT if group.flipped else final


Build = Callable[[Recurrence], ChunkOp]
