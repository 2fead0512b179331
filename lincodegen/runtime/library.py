"""Ops of torch.library: what the PyTorch compiler and other tracers see of a generated op.

``lincodegen::NAME`` takes the arguments of the op one by one, several initial states each as an
argument of its own, and gives outputs and final states, all contiguous. ``NAME_backward`` takes
the same and the gradients of what the forward gave, and gives those that are needed.

The backward computes the forward again: what a forward keeps differs in number and shape between
the forms of an op, and no fake kernel knows the shapes for a symbolic T. Eager calls, which take
an autograd.Function, keep it.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lincodegen.runtime.arguments import Parameters
from lincodegen.runtime.backend import backend
from lincodegen.runtime.function import Plan, planning, run_backward, run_forward, shaped
from lincodegen.runtime.sizes import evaluate

if TYPE_CHECKING:
    from lincodegen.runtime.signature import Signature

NAMESPACE = "lincodegen"
OFFSETS = ("cu_seqlens", "cu_seqlens_cpu")

# registrations end with the Library that made them
_libraries: list[torch.library.Library] = []


class Registered:
    """Two overloads of torch.library."""

    def __init__(self) -> None:
        library = torch.library.Library(NAMESPACE, "FRAGMENT")
        _libraries.append(library)
        _name_modules({__name__, type(self).__module__})
        self.overloads = self._registered(library)

    def _registered(self, library: torch.library.Library) -> tuple[Any, Any]:
        raise NotImplementedError


class TracedOp(Registered):
    """The two ops of torch.library that stand for one generated op."""

    def __init__(self, signature: Signature, function: Callable[..., Any]) -> None:
        self._signature = signature
        self._function = function
        self._tensors = [x.name for x in (*signature.inputs, *signature.parameters)]
        self._states = [x.name for x in signature.states]
        self._parameters = Parameters(function)
        names = self._parameters.names
        self._constants = names[len(self._tensors) : names.index("initial_state")]
        super().__init__()

    @property
    def forward(self) -> Any:
        """The overload ``lincodegen::NAME``."""
        return self.overloads[0]

    @property
    def backward(self) -> Any:
        """The overload ``lincodegen::NAME_backward``."""
        return self.overloads[1]

    def _registered(self, library: torch.library.Library) -> tuple[Any, Any]:
        name = free_name(self._signature.name)
        forward = self._define(library, name, self._schema(), self._run, self._shapes)
        torch.library.register_autograd(
            f"{NAMESPACE}::{name}", self._differentiate, setup_context=self._save, lib=library
        )
        back = f"{name}_backward"
        backward = self._define(
            library, back, self._backward_schema(), self._run_backward, self._backward_shapes
        )
        torch.library.register_autograd(f"{NAMESPACE}::{back}", self._refuse, lib=library)
        return forward, backward

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The op with the arguments of its Python function; written to be traced."""
        given = self._parameters.bound(self._signature.name, args, kwargs)
        if given["check_inputs"]:
            raise ValueError(
                f"{self._signature.name}: check_inputs is True where the op is traced, which has "
                "no values; expected: False, and a check outside"
            )
        states = given["initial_state"]
        if len(self._states) == 1 and not isinstance(states, (list, tuple)):
            states = (states,)
        elif states is None:
            states = [None] * len(self._states)
        if len(states) != len(self._states):
            raise ValueError(
                f"{self._signature.name}: the initial state has {len(states)} entries; expected: "
                f"a tuple of {len(self._states)} for {', '.join(self._states)}"
            )
        own = [given[n] for n in (*self._tensors, *self._constants)]
        results = self.forward(*own, *states, *(given[n] for n in OFFSETS))
        return shaped(results, len(self._signature.outputs), given["output_final_state"])

    # -- schemas ------------------------------------------------------------------------------

    def _arguments(self) -> str:
        states = [f"initial_{s.name}" for s in self._signature.states]
        named = [f"Tensor? {n}" for n in self._tensors]
        named += [f"float? {n}" for n in self._constants]
        return ", ".join([*named, *(f"Tensor? {n}" for n in (*states, *OFFSETS))])

    def _schema(self) -> str:
        count = len(self._signature.outputs) + len(self._signature.states)
        results = ", ".join(["Tensor"] * count)
        return f"({self._arguments()}) -> ({results})"

    def _backward_schema(self) -> str:
        return f"({self._arguments()}, Tensor[] grads, bool[] needed) -> Tensor[]"

    def _define(
        self,
        library: torch.library.Library,
        name: str,
        schema: str,
        real: Callable[..., Any],
        fake: Callable[..., Any],
    ) -> Any:
        library.define(name + schema, tags=(torch.Tag.pt2_compliant_tag,))
        library.impl(name, real, "CompositeExplicitAutograd")
        torch.library.register_fake(f"{NAMESPACE}::{name}", fake, lib=library)
        return getattr(getattr(torch.ops, NAMESPACE), name).default

    # -- kernels ------------------------------------------------------------------------------

    def _plan(self, arguments: Sequence[Any]) -> Plan:
        """The plan of a call with the flat arguments of the schema."""
        own, states, offsets = self._split(arguments)
        initial = states[0] if len(states) == 1 else tuple(states)
        names = (*self._tensors, *self._constants)
        with planning():
            return self._function(
                **dict(zip(names, own, strict=True)),
                initial_state=initial,
                **dict(zip(OFFSETS, offsets, strict=True)),
            )

    def _split(
        self, arguments: Sequence[Any]
    ) -> tuple[Sequence[Any], Sequence[Any], Sequence[Any]]:
        """Tensors and constants, initial states, offsets."""
        count = len(self._tensors) + len(self._constants)
        end = count + len(self._signature.states)
        return arguments[:count], arguments[count:end], arguments[end : end + len(OFFSETS)]

    def _run(self, *arguments: Any) -> tuple[Tensor, ...]:
        plan = self._plan(arguments)
        arrays = _arrays(plan)
        results, _ = run_forward(plan, arrays)
        return tuple(fresh(results, arrays))

    def _run_backward(self, *arguments: Any) -> list[Tensor]:
        *given, grads, needed = arguments
        plan = self._plan(given)
        arrays = _arrays(plan)
        _, remains = run_forward(plan, arrays)
        gradients = run_backward(plan, remains, arrays, grads)
        wanted = self._differentiable(given)
        found: list[Tensor] = []
        for dx, x, is_needed in zip(gradients, wanted, needed, strict=True):
            if x is not None and is_needed:
                own = torch.zeros_like(x) if dx is None else dx.to(x.dtype).reshape(x.shape)
                found.append(own)
        return fresh(found, (*arrays, *grads))

    def _differentiable(self, arguments: Sequence[Any]) -> list[Tensor | None]:
        """Tensors and initial states."""
        _, states, _ = self._split(arguments)
        return [*arguments[: len(self._tensors)], *states]

    # -- fake kernels -------------------------------------------------------------------------

    def _shapes(self, *arguments: Any) -> tuple[Tensor, ...]:
        _, _, (offsets, on_host) = self._split(arguments)
        given = offsets if offsets is not None else on_host
        # shapes do not depend on the form, and tables of kernels know no symbolic sizes
        with backend("torch"):
            call = self._signature.layout(arguments[: len(self._tensors)])
        first = next(x for x in arguments[: len(self._tensors)] if x is not None)
        outputs = [
            first.new_empty(
                call.batch,
                call.length,
                call.heads[f"output {o.name}"],
                *(evaluate(s, call.sizes) for s in o.shape),
                dtype=call.output_dtype,
            )
            for o in self._signature.outputs
        ]
        sequences = call.batch if given is None else given.shape[0] - 1
        finals = [
            first.new_empty(
                sequences,
                call.heads[f"state {s.name}"],
                *(evaluate(size, call.sizes) for size in s.shape),
                dtype=call.dtype,
            )
            for s in self._signature.states
        ]
        return *outputs, *finals

    def _backward_shapes(self, *arguments: Any) -> list[Tensor]:
        *given, _, needed = arguments
        pairs = zip(self._differentiable(given), needed, strict=True)
        return [x.new_empty(x.shape) for x, is_needed in pairs if x is not None and is_needed]

    # -- autograd -----------------------------------------------------------------------------

    def _save(self, ctx: Any, inputs: Sequence[Any], output: object) -> None:
        own, states, offsets = self._split(inputs)
        count = len(self._tensors)
        ctx.constants = tuple(own[count:])
        ctx.save_for_backward(*own[:count], *states, *offsets)

    def _differentiate(self, ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        count, states = len(self._tensors), len(self._signature.states)
        saved = ctx.saved_tensors
        arguments = (*saved[:count], *ctx.constants, *saved[count:])
        wants = ctx.needs_input_grad
        end = count + len(self._constants)
        needed = [*wants[:count], *wants[end : end + states]]
        found = iter(self.backward(*arguments, list(grads), needed))
        spread = [next(found) if is_needed else None for is_needed in needed]
        constants = [None] * len(self._constants)
        return *spread[:count], *constants, *spread[count:], None, None

    def _refuse(self, ctx: object, *grads: object) -> None:
        raise RuntimeError(f"{self._signature.name}: its gradient has no gradient of its own")


def _arrays(plan: Plan) -> tuple[Tensor | None, ...]:
    return *plan.call.tensors.values(), *plan.call.states


def fresh(results: Iterable[Tensor], given: Iterable[Tensor | None]) -> list[Tensor]:
    """The results, contiguous, each in memory of its own as the dispatcher demands."""
    taken = {x.untyped_storage().data_ptr() for x in given if x is not None}
    found: list[Tensor] = []
    for result in results:
        x = result.contiguous()
        if x.untyped_storage().data_ptr() in taken:
            x = x.clone()
        taken.add(x.untyped_storage().data_ptr())
        found.append(x)
    return found


def _name_modules(names: Iterable[str]) -> None:
    """Tells ``inspect`` which modules their files are.

    Registrations ask; without an answer in its cache they look at the path of every module there
    is, which takes longer than all else here.
    """
    known: dict[str, str] = vars(inspect).get("modulesbyfile", {})
    for name in names:
        known.setdefault(str(Path(str(sys.modules[name].__file__)).absolute()), name)


def free_name(name: str) -> str:
    """The name, numbered if a package loaded before has it."""
    space = getattr(torch.ops, NAMESPACE)
    number, free = 1, name
    while hasattr(space, free):
        number += 1
        free = f"{name}_{number}"
    return free
