"""Who takes part: the generated op, its token loop, and the peers that can be had here."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from lincodegen.bench.adapters import Arguments
from lincodegen.bench.inputs import Inputs, Tensors
from lincodegen.bench.memory import free_bytes
from lincodegen.bench.peers import Peer
from lincodegen.verify.call import naive_op
from lincodegen.verify.layout import tensors_of
from lincodegen.version import VERSION

OURS = "lincodegen"
NAIVE = "naive"
NAIVE_TOKENS = 2048
"""The token loop is timed up to here: a longer one takes minutes and memory, and says no more."""
MEMORY_SHARE = 0.8

Status = Literal["ok", "wrong", "refused", "left out", "not importable", "not installed"]


@dataclass(frozen=True, slots=True)
class Absence:
    """Who does not take part, and why."""

    name: str
    library: str
    status: Status
    reason: str


@dataclass(frozen=True, slots=True)
class Contestant:
    """A function bound to the layout of its arguments.

    Attributes:
        prepare: the keywords of a call, from the inputs; not timed.
        call: the function.
        restore: the outputs [B, T, H, *shape] of what it returns.
    """

    name: str
    library: str
    version: str
    prepare: Callable[[Inputs], Arguments]
    call: Callable[..., Any]
    restore: Callable[[Any, Inputs], tuple[Tensor, ...]]

    def outputs(self, inputs: Inputs, arguments: Arguments) -> tuple[Tensor, ...]:
        """The outputs of one call."""
        return self.restore(self.call(**arguments), inputs)


def evaluate(
    contestant: Contestant, inputs: Inputs, cotangents: Sequence[Tensor]
) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    """Outputs, and the gradients of the inputs by name where the mode has them."""
    if inputs.work.mode != "forward_backward":
        with torch.no_grad():
            return contestant.outputs(inputs, contestant.prepare(inputs)), {}
    leaves = {name: x.detach().requires_grad_() for name, x in inputs.tensors.items()}
    traced = Inputs(inputs.recurrence, inputs.work, leaves, inputs.states, inputs.cotangents)
    outputs = contestant.outputs(traced, contestant.prepare(traced))
    wanted = list(leaves.values())
    found: list[Tensor | None] = [
        *torch.autograd.grad(outputs, wanted, cotangents, allow_unused=True)
    ]
    gradients = {n: dx for n, dx in zip(leaves, found, strict=True) if dx is not None}
    return tuple(x.detach() for x in outputs), gradients


def timed(contestant: Contestant, inputs: Inputs) -> Callable[[], object]:
    """What is timed: one call on arguments made before, with its backward if the mode has one."""
    with torch.no_grad():
        arguments = contestant.prepare(inputs)
    if inputs.work.mode != "forward_backward":

        def forward() -> object:
            with torch.no_grad():
                return contestant.call(**arguments)

        return forward
    leaves = {
        name: x.detach().requires_grad_()
        for name, x in arguments.items()
        if isinstance(x, Tensor) and x.is_floating_point()
    }
    given = arguments | leaves

    def both() -> object:
        outputs = contestant.outputs(inputs, given)
        wanted = list(leaves.values())
        return torch.autograd.grad(outputs, wanted, inputs.cotangents, allow_unused=True)

    return both


def ours(op: Any, inputs: Inputs) -> Contestant:
    """The generated op, or its step."""
    if inputs.work.mode == "decode":
        return Contestant(OURS, OURS, VERSION, _token_arguments, op.step, _token_outputs)
    return Contestant(OURS, OURS, VERSION, lambda x: dict(x.tensors), op, _outputs)


def naive(inputs: Inputs) -> Contestant | Absence:
    """The recurrence itself, token by token in float32."""
    if inputs.work.shape.tokens > NAIVE_TOKENS:
        reason = f"the token loop is timed up to {NAIVE_TOKENS} tokens"
        return Absence(NAIVE, OURS, "left out", reason)
    op = naive_op(inputs.recurrence)
    required = [x.name for x in tensors_of(inputs.recurrence) if x.default is None]

    def call(state: object, **tensors: Tensor) -> object:
        given = [tensors.pop(name) for name in required]
        return op(*given, **tensors, initial_state=state, output_final_state=state is not None)

    def prepare(x: Inputs) -> Arguments:
        return {**x.tensors, "state": x.state}

    return Contestant(NAIVE, OURS, VERSION, prepare, call, _outputs)


def peer(entry: Peer, inputs: Inputs) -> Contestant | Absence:
    """A function of another library, or why it cannot take part."""
    work, device = inputs.work, next(iter(inputs.tensors.values())).device
    module, _, function = entry.path.partition(":")

    def absent(status: Status, reason: str) -> Absence:
        return Absence(entry.name, entry.library, status, reason)

    if importlib.util.find_spec(module.partition(".")[0]) is None:
        return absent("not installed", f"{entry.library} is not installed")
    if device.type == "cpu" and not entry.on_cpu:
        return absent("refused", "it runs on GPUs only")
    if work.mode == "forward_backward" and not entry.backward:
        return absent("refused", "it has no backward")
    if entry.most_tokens is not None and work.shape.tokens > entry.most_tokens:
        return absent("left out", f"it is timed up to {entry.most_tokens} tokens")
    if entry.scratch is not None:
        needed, free = entry.scratch(work), free_bytes(device)
        if needed > MEMORY_SHARE * free:
            return absent("left out", f"needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free")
    try:
        # a wrapper may fetch other kernels; what it wraps is the function that was named
        call = inspect.unwrap(getattr(importlib.import_module(module), function))
    except Exception as error:
        return absent("not importable", first_line(error))
    return Contestant(
        entry.name,
        entry.library,
        version_of(module.partition(".")[0]),
        entry.given,
        call,
        lambda returned, x: (entry.output(returned, x),),
    )


def version_of(package: str) -> str:
    """The version of what an import package was installed from, or that nobody knows."""
    names = _distributions().get(package, ())
    return ", ".join(importlib.metadata.version(name) for name in dict.fromkeys(names)) or "unknown"


@functools.cache
def _distributions() -> Mapping[str, Sequence[str]]:
    """Distributions by the packages that they install."""
    return importlib.metadata.packages_distributions()


def first_line(error: BaseException) -> str:
    """An exception as one line."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def _outputs(returned: Any, _inputs: Inputs) -> tuple[Tensor, ...]:
    outputs: Tensor | tuple[Tensor, ...] = returned[0]
    return outputs if isinstance(outputs, tuple) else (outputs,)


def _token_arguments(inputs: Inputs) -> Arguments:
    """One token [B, H, *shape], and states of its own: the step writes them."""
    tokenwise = {x.name for x in inputs.recurrence.inputs}
    tensors: Tensors = inputs.tensors
    given: Arguments = {n: x[:, 0] if n in tokenwise else x for n, x in tensors.items()}
    own = tuple(x.clone() for x in inputs.states.values())
    return given | {"state": own[0] if len(own) == 1 else own}


def _token_outputs(returned: Any, inputs: Inputs) -> tuple[Tensor, ...]:
    return tuple(x.unsqueeze(1) for x in _outputs(returned, inputs))
