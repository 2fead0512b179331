"""Ops of torch.library for one token: what the PyTorch compiler sees of ``op.step``.

``lincodegen::NAME_step`` takes the arguments of the step one by one, each state as an argument of
its own that is written, and gives the outputs. ``lincodegen::NAME_first_step`` takes neither states
nor slots and gives new states behind the outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lincodegen.runtime.arguments import Parameters
from lincodegen.runtime.backend import backend
from lincodegen.runtime.library import NAMESPACE, Registered, free_name, fresh
from lincodegen.runtime.sizes import evaluate

if TYPE_CHECKING:
    from lincodegen.runtime.call import Layout
    from lincodegen.runtime.signature import Signature


class TracedStep(Registered):
    """The ops of torch.library that stand for the step of one generated op.

    Args:
        signature: that of the op.
        step: computes one token.
    """

    def __init__(self, signature: Signature, step: Callable[..., Any]) -> None:
        self._signature = signature
        self._step = step
        self._parameters = Parameters(step)
        names = self._parameters.names
        self._own = names[: names.index("state")]
        self._count = len(signature.inputs) + len(signature.parameters)
        super().__init__()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The step with the arguments of its Python function; written to be traced.

        Raises:
            ValueError: some states are given and some are not, or there are slots but no states.
        """
        name, count = self._signature.name, len(self._signature.states)
        given = self._parameters.bound(name, args, kwargs)
        own = [given[n] for n in self._own]
        state, slots, v_first = (given[n] for n in ("state", "state_indices", "state_v_first"))
        states = list(state) if isinstance(state, (list, tuple)) else [state]
        if state is None or all(x is None for x in states):
            if slots is not None:
                raise ValueError(
                    f"{name}: the state has no tensor; expected: a pool for state_indices"
                )
            results = self.overload(begins=True)(*own, v_first)
            outputs, states = results[:-count], results[-count:]
            return _one(outputs), _one(states)
        if len(states) != count or any(x is None for x in states):
            raise ValueError(
                f"{name}: the state has {len([x for x in states if x is not None])} tensors; "
                f"expected, where the step is traced: {count} or None"
            )
        outputs = self.overload(begins=False)(*own, *states, slots, v_first)
        return _one(outputs), state if isinstance(state, Tensor) else tuple(states)

    def overload(self, begins: bool) -> Any:
        """``lincodegen::NAME_first_step`` if a state begins, else ``lincodegen::NAME_step``."""
        return self.overloads[begins]

    def _registered(self, library: torch.library.Library) -> tuple[Any, Any]:
        return self._define(library, begins=False), self._define(library, begins=True)

    def _define(self, library: torch.library.Library, begins: bool) -> Any:
        name = free_name(f"{self._signature.name}_{'first_step' if begins else 'step'}")
        library.define(name + self._schema(begins), tags=(torch.Tag.pt2_compliant_tag,))
        real, fake = (self._begin, self._begun) if begins else (self._run, self._shapes)
        library.impl(name, real, "CompositeExplicitAutograd")
        torch.library.register_fake(f"{NAMESPACE}::{name}", fake, lib=library)
        return getattr(getattr(torch.ops, NAMESPACE), name).default

    def _schema(self, begins: bool) -> str:
        states = self._signature.states
        arguments = [f"Tensor? {n}" for n in self._own[: self._count]]
        arguments += [f"float? {n}" for n in self._own[self._count :]]
        if not begins:
            arguments += [f"Tensor(a{i}!) state_{s.name}" for i, s in enumerate(states)]
            arguments.append("Tensor? state_indices")
        arguments.append("bool state_v_first")
        count = len(self._signature.outputs) + (len(states) if begins else 0)
        results = ", ".join(["Tensor"] * count)
        return f"({', '.join(arguments)}) -> {f'({results})' if count > 1 else results}"

    # -- kernels ------------------------------------------------------------------------------

    def _run(self, *arguments: Any) -> Any:
        *rest, slots, v_first = arguments
        own, states = rest[: len(self._own)], rest[len(self._own) :]
        outputs, _ = self._step(
            *own,
            state=states[0] if len(states) == 1 else tuple(states),
            state_indices=slots,
            state_v_first=v_first,
        )
        return _one(fresh(_several(outputs), (*own[: self._count], *states)))

    def _begin(self, *arguments: Any) -> Any:
        *own, v_first = arguments
        outputs, states = self._step(*own, state_v_first=v_first)
        return tuple(fresh((*_several(outputs), *_several(states)), own[: self._count]))

    # -- fake kernels -------------------------------------------------------------------------

    def _layout(self, own: Sequence[Any]) -> Layout:
        """What a token's shapes say; they do not depend on the form."""
        count = len(self._signature.inputs)
        inputs = [None if x is None else x.unsqueeze(1) for x in own[:count]]
        with backend("torch"):
            return self._signature.layout([*inputs, *own[count : self._count]])

    def _shapes(self, *arguments: Any) -> Any:
        call = self._layout(arguments)
        found: list[Tensor] = []
        for output in self._signature.outputs:
            shape = [evaluate(s, call.sizes) for s in output.shape]
            heads = call.heads[f"output {output.name}"]
            found.append(
                torch.empty(
                    (call.batch, heads, *shape), dtype=call.output_dtype, device=call.device
                )
            )
        return _one(found)

    def _begun(self, *arguments: Any) -> Any:
        *own, v_first = arguments
        call = self._layout(own)
        found = list(_several(self._shapes(*own)))
        for state in self._signature.states:
            shape = [evaluate(s, call.sizes) for s in state.shape]
            shape = shape[::-1] if v_first and len(shape) == 2 else shape
            heads = call.heads[f"state {state.name}"]
            found.append(
                torch.empty((call.batch, heads, *shape), dtype=call.dtype, device=call.device)
            )
        return tuple(found)


def _one(values: Sequence[Tensor] | Tensor) -> Any:
    """The only one of some tensors, or all of them."""
    if isinstance(values, Tensor):
        return values
    return values[0] if len(values) == 1 else tuple(values)


def _several(values: Any) -> tuple[Tensor, ...]:
    return (values,) if isinstance(values, Tensor) else tuple(values)
