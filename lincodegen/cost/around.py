"""What an op does in PyTorch around its kernels: at least the bytes of what it reads and writes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lincodegen.cost.sizes import WIDE_BYTES, CallSizes
from lincodegen.cost.traffic import PARTS, Access, computed_name
from lincodegen.emit.op_plan import GroupPlan, OpPlan, TokenFunction
from lincodegen.program.token import Kind
from lincodegen.spec.step import Shape


@dataclass(frozen=True, slots=True)
class TorchStep:
    """One step between launches of kernels."""

    label: str
    accesses: tuple[Access, ...]


@dataclass(frozen=True, slots=True)
class Around:
    """The steps of one op in PyTorch.

    Vectors are in the operands' dtype, what has one value a token in float32. Intermediate results
    of a step are left out: how often PyTorch writes those depends on its fusion.
    """

    call: CallSizes
    plan: OpPlan

    def least_bytes(self) -> tuple[int, int]:
        """(forward, backward) bytes of what either is given and returns; parameters are few.

        Forward: inputs, outputs, initial and final states. Backward: inputs, initial states,
        cotangents of outputs and final states, gradients of inputs and initial states.
        """
        recurrence, call = self.plan.recurrence, self.call
        inputs = sum(self._bytes(t.shape) for t in recurrence.inputs)
        outputs = sum(self._bytes(node.shape) for _, node in recurrence.outputs)
        states = sum(call.entries(s.shape) for s in recurrence.states)
        states *= call.batch * call.heads * WIDE_BYTES
        return inputs + outputs + 2 * states, 2 * inputs + outputs + 3 * states

    def before(self, group: GroupPlan) -> list[TorchStep]:
        """What a group's kernels need first, in either direction."""
        found = [self._spread(name) for name in self._parameters(group)]
        if group.computed is not None:
            found.append(self._function(group.computed, self._names(group)))
        return found

    def outputs(self) -> list[TorchStep]:
        """Outputs that are more than a read."""
        functions = [(o.name, o.function) for o in self.plan.outputs if o.function is not None]
        return [self._function(function, {}) for _, function in functions]

    def output_adjoints(self) -> list[TorchStep]:
        """The adjoints of ``outputs``."""
        functions = [o.function for o in self.plan.outputs if o.function is not None]
        return [step for f in functions if (step := self._adjoint(f, {})) is not None]

    def after(self, group: GroupPlan, parts: Iterable[tuple[Access, int]]) -> list[TorchStep]:
        """What gradients still need; ``parts``: tensors to sum, and how many parts each has."""
        found = [_sum(tensor, count) for tensor, count in parts]
        if group.computed is not None:
            step = self._adjoint(group.computed, self._names(group))
            found += [] if step is None else [step]
        return found

    def _parameters(self, group: GroupPlan) -> list[str]:
        known = {p.name for p in self.plan.recurrence.parameters}
        return [o.source for o in group.operands if o.source in known]

    def _names(self, group: GroupPlan) -> dict[str, str]:
        """What a group's function computes, as the kernels' tensors are called."""
        own = group.suffix
        computed = {o.name: computed_name(o.name, own) for o in group.operands if o.source is None}
        return computed | {f"d{name}": f"d{tensor}" for name, tensor in computed.items()}

    def _spread(self, name: str) -> TorchStep:
        shape = next(p.shape for p in self.plan.recurrence.parameters if p.name == name)
        return TorchStep(f"repeat {name}", (self._access(name, shape, written=True),))

    def _function(self, function: TokenFunction, names: Mapping[str, str]) -> TorchStep:
        program = function.program
        given = self._given(((a.name, a.shape) for a in program.inputs if a.kind is Kind.TOKEN), {})
        made = [
            self._access(names.get(o.name, o.name), o.value.shape, written=True)
            for o, whole in zip(program.outputs, function.whole, strict=True)
            if whole
        ]
        return TorchStep(f"tokens.{function.name}", (*given, *made))

    def _adjoint(self, function: TokenFunction, names: Mapping[str, str]) -> TorchStep | None:
        program = function.adjoint
        if program is None:
            return None
        parameters = {f"d{p.name}" for p in self.plan.recurrence.parameters}
        tokens = ((a.name, a.shape) for a in program.inputs if a.kind is Kind.TOKEN)
        made = [
            self._access(o.name, o.value.shape, written=True)
            for o in program.outputs
            if o.name not in parameters
        ]
        return TorchStep(f"tokens.{function.name}_adjoint", (*self._given(tokens, names), *made))

    def _given(
        self, tensors: Iterable[tuple[str, Shape]], names: Mapping[str, str]
    ) -> list[Access]:
        return [
            self._access(names.get(name, name), shape, written=False) for name, shape in tensors
        ]

    def _access(self, name: str, shape: Shape, *, written: bool) -> Access:
        size = self._bytes(shape)
        return Access(name, size, size, written)

    def _bytes(self, shape: Shape) -> int:
        """Bytes of a tensor [B, T, H, *shape]."""
        width = self.call.operand_bytes if shape else WIDE_BYTES
        return self.call.token_heads * self.call.entries(shape) * width


def _sum(parts: Access, count: int) -> TorchStep:
    name, size = parts.tensor.removesuffix(PARTS), parts.bytes // count
    read = Access(parts.tensor, parts.bytes, parts.bytes, False)
    return TorchStep(f"sum {name}", (read, Access(name, size, size, True)))
