"""Calls of an op with tensors by name and states from a cache."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lincodegen.runtime.op import Op
from lincodegen.runtime.signature import Argument, Signature


def run(
    op: Op,
    tensors: Mapping[str, Tensor],
    constants: Mapping[str, float],
    memory: dict[str, Tensor] | None,
    cu_seqlens: Tensor | None,
) -> Any:
    """The outputs of an op at every token; the states of ``memory`` go in and come out.

    Raises:
        ValueError: a tensor that the op takes is not there.
    """
    signature = op.signature
    inputs = _present(signature, signature.inputs, tensors)
    given = inputs | _present(signature, signature.parameters, tensors)
    if memory is None:
        return _called(op, signature, given, **constants, cu_seqlens=cu_seqlens)[0]
    keys = [f"state {s.name}" for s in signature.states]
    held = tuple(memory.get(key) for key in keys)
    before = held[0] if len(keys) == 1 else held
    length = next(iter(inputs.values())).shape[1]
    if length == 1 and cu_seqlens is None and None not in held and not torch.is_grad_enabled():
        token = given | {name: x[:, 0] for name, x in inputs.items()}
        o, _ = _called(op.step, signature, token, **constants, state=before)
        return tuple(x[:, None] for x in o) if isinstance(o, tuple) else o[:, None]
    options = {"output_final_state": True, "cu_seqlens": cu_seqlens}
    o, after = _called(op, signature, given, **constants, initial_state=before, **options)
    after = (after,) if len(keys) == 1 else after
    memory.update({key: x.detach() for key, x in zip(keys, after, strict=True)})
    return o


def _called(
    function: Callable[..., Any],
    signature: Signature,
    tensors: Mapping[str, Tensor],
    **options: Any,
) -> Any:
    """A call of an op or of its step: what has no default by place, the rest by name."""
    required = [x.name for x in (*signature.inputs, *signature.parameters) if not x.optional]
    named = {name: x for name, x in tensors.items() if name not in required}
    return function(*(tensors[name] for name in required), **named, **options)


def _present(
    signature: Signature, arguments: Sequence[Argument], tensors: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The arguments that are there; those without default must be."""
    for x in arguments:
        if x.name not in tensors and not x.optional:
            raise ValueError(
                f"mixer of {signature.name}: no stream or learned tensor {x.name}; expected: one, "
                "or that the rule's `arguments` gives it"
            )
    return {x.name: tensors[x.name] for x in arguments if x.name in tensors}
