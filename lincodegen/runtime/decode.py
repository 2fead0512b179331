"""One token of an op: its states in place, in a pool of slots, in either layout of two axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import torch
from torch import Tensor

from lincodegen.runtime.backend import chosen_backend
from lincodegen.runtime.call import Call, cast_to
from lincodegen.runtime.function import surroundings
from lincodegen.runtime.heads import STATE_AXIS, repeat_heads, take_heads
from lincodegen.runtime.sizes import evaluate, shown

if TYPE_CHECKING:
    from lincodegen.runtime.call import States
    from lincodegen.runtime.signature import Signature, State

    class Form(Protocol):
        """A module that computes one token."""

        step: Step


FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

Step = Callable[..., Sequence[Tensor]]


class Store:
    """Where the states of a token are: what ``op.step`` is given of them."""

    __slots__ = ("slots", "state", "v_first")

    def __init__(self, state: States, slots: Tensor | None, v_first: bool) -> None:
        self.state, self.slots, self.v_first = state, slots, v_first


class Token:
    """The arguments of one token.

    ``call`` says what shapes say and holds the defaults of the ``tensors`` that are absent.
    ``states`` are [P, H, *shape] in the spec's order of axes, whatever the layout of ``given``,
    in whose memory they lie; P is B where there are no ``slots``. ``slots`` [B] are the entries
    of the states, negative ones are skipped.
    """

    __slots__ = ("call", "given", "slots", "states", "tensors")

    def __init__(
        self,
        call: Call,
        tensors: tuple[Tensor | None, ...],
        given: tuple[Tensor, ...],
        states: tuple[Tensor, ...],
        slots: Tensor | None,
    ) -> None:
        self.call, self.tensors, self.given = call, tensors, given
        self.states, self.slots = states, slots

    def present(self) -> list[Tensor]:
        """Inputs [B, Hx, *shape] and parameters [Hx, *shape], absent ones as they are filled."""
        call, count = self.call, len(self.call.signature.inputs)
        found: list[Tensor] = []
        for i, x in enumerate(self.tensors):
            if x is None:
                default = [*call.tensors.values()][i]
                assert default is not None, "defaults are filled before"
                x = default[0] if i < count else default[0, 0]
                x = x.expand(call.batch, *x.shape[1:]) if i < count else x
            found.append(x)
        return found


class Decoder:
    """One token of an op: its arguments read, its states gathered, computed with and written.

    Args:
        signature: that of the op.
        tokens: the PyTorch form, whose step takes tensors, states, constants and sizes.
        kernels: the Triton form, of tensors, states, constants and slots; None if there is none.
        sizes: dimensions that no shape shows to the PyTorch form.
    """

    def __init__(
        self,
        signature: Signature,
        tokens: Form,
        kernels: Form | None = None,
        sizes: Sequence[str] = (),
    ) -> None:
        self._signature = signature
        self._tokens = tokens
        self._kernels = kernels
        self._sizes = tuple(sizes)
        self._names = [x.name for x in (*signature.inputs, *signature.parameters)]

    def read(
        self,
        tensors: tuple[Tensor | None, ...],
        state: States,
        state_indices: Tensor | None,
        state_v_first: bool,
    ) -> Token:
        """Reads the arguments of one token, inputs [B, H, *shape].

        Raises:
            TypeError: an argument is no tensor.
            ValueError: a shape, dtype, device or number of heads does not fit.
        """
        call = self._call(tensors)
        if state_indices is not None:
            _check_slots(call, state_indices)
        given = _states(call, Store(state, state_indices, state_v_first))
        states = tuple(x.mT if x.dim() == 4 else x for x in given) if state_v_first else given
        return Token(call, tensors, given, states, state_indices)

    def _call(self, tensors: tuple[Tensor | None, ...]) -> Call:
        """The call of some tensors."""
        layout = self._signature.token_layout(tensors)
        return Call(layout, dict(zip(self._names, tensors, strict=True)), ())

    def run(self, token: Token, constants: Sequence[float]) -> tuple[Any, Any]:
        """Outputs and states after a token whose absent tensors are filled."""
        call = token.call
        with surroundings(call):
            kernels = self._kernels_of(call)
            if kernels is not None:
                outputs = kernels.step(*token.present(), *token.states, *constants, token.slots)
            else:
                sizes = (call.sizes[n] for n in self._sizes)
                outputs = _in_torch(token, self._tokens.step, (*constants, *sizes))
            outputs = tuple(
                cast_to(
                    take_heads(x, call.heads[f"output {o.name}"], STATE_AXIS), call.output_dtype
                )
                for o, x in zip(call.signature.outputs, outputs, strict=True)
            )
        state = token.given[0] if len(token.given) == 1 else token.given
        return outputs[0] if len(outputs) == 1 else outputs, state

    def _kernels_of(self, call: Call) -> Form | None:
        """The Triton form, where a call takes it."""
        has_kernels = self._kernels is not None and call.batch > 0
        backend = chosen_backend(call.device, call.dtype, has_kernels)
        return self._kernels if backend == "triton" else None


def _repeated(x: Tensor, heads: int, axis: int) -> Tensor:
    """``repeat_heads`` of what is only read, in less time for a few numbers."""
    own = x.shape[axis]
    if own == heads:
        return x
    lead, rest = x.shape[: axis + 1], x.shape[axis + 1 :]
    return x.unsqueeze(axis + 1).expand(*lead, heads // own, *rest).flatten(axis, axis + 1)


def _in_torch(token: Token, step: Step, numbers: Sequence[float]) -> Sequence[Tensor]:
    """Outputs of all heads; the states are written."""
    call, slots = token.call, token.slots
    most = max(*call.heads.values(), 1)
    inputs = len(call.signature.inputs)
    tensors = [
        _repeated(cast_to(x, call.dtype), most, STATE_AXIS if i < inputs else 0)
        for i, x in enumerate(token.present())
    ]
    rows = token.states
    if slots is not None:
        place = slots.clamp(min=0)
        rows = [x.index_select(0, place) for x in token.states]
    entered = [repeat_heads(cast_to(x, call.dtype), most, STATE_AXIS) for x in rows]
    results = step(*tensors, *entered, *numbers)
    count = len(call.signature.outputs)
    for state, held, new in zip(call.signature.states, token.states, results[count:], strict=True):
        if new is not held:
            value = _whole(call, new, most, state.shape)
            _write(held, take_heads(value, held.shape[STATE_AXIS], STATE_AXIS), slots)
    pairs = zip(results[:count], call.signature.outputs, strict=True)
    outputs = [_whole(call, x, most, o.shape) for x, o in pairs]
    if slots is None:
        return outputs
    skipped = slots < 0
    return [x.masked_fill(_along(skipped, x), 0.0) for x in outputs]


def _write(held: Tensor, value: Tensor, slots: Tensor | None) -> None:
    """The next states [B, ...] into the states, or into their slots of [P, ...]."""
    if slots is None:
        held.copy_(value)
    elif len(slots):
        _scatter(held, slots, value)


def _scatter(pool: Tensor, slots: Tensor, value: Tensor) -> None:
    """Writes [B, ...] into the slots of [P, ...] that are not negative; waits for no device."""
    value = value.to(pool.dtype)
    live = slots >= 0
    if pool.device.type == "cpu" and not torch.compiler.is_compiling() and bool(live.all()):
        pool.index_copy_(0, slots.long(), value)
        return
    # a skipped entry repeats one that is not; if all are, slot 0 is written as it is
    own = torch.arange(len(slots), device=slots.device)
    source = torch.where(live, own, live.int().argmax())
    place = slots[source].clamp(min=0).long()
    kept = pool.index_select(0, place)
    pool.index_copy_(0, place, torch.where(_along(live[source], kept), value[source], kept))


def _along(mask: Tensor, x: Tensor) -> Tensor:
    """A mask [B] for [B, ...]."""
    return mask.view(-1, *(1,) * (x.dim() - 1))


def _whole(call: Call, x: Tensor, heads: int, shape: Sequence[object]) -> Tensor:
    """A result with its leading axes, also where it depends on parameters alone."""
    own = x.shape[x.dim() - len(shape) :]
    return x if x.dim() == len(shape) + 2 else x.expand(call.batch, heads, *own)


# -- states -------------------------------------------------------------------------------


def _states(call: Call, store: Store) -> tuple[Tensor, ...]:
    """The states as they are given, new ones of zeros where none is."""
    found: list[Tensor] = []
    for state, value in zip(call.signature.states, _entries(call, store.state), strict=True):
        shape = [evaluate(s, call.sizes) for s in state.shape]
        shape = shape[::-1] if store.v_first and len(shape) == 2 else shape
        shape = [call.heads[f"state {state.name}"], *shape]
        if value is not None:
            found.append(_checked_state(call, state, value, (shape, store)))
        elif store.slots is None:
            found.append(torch.zeros(call.batch, *shape, dtype=call.dtype, device=call.device))
        else:
            _refuse(call, f"the state {state.name}", "no tensor", "a pool for state_indices")
    return tuple(found)


def _entries(call: Call, values: object) -> Sequence[Any]:
    """An entry for each state."""
    count = len(call.signature.states)
    if isinstance(values, list | tuple):
        if len(values) != count:
            _refuse(call, "the state", f"{len(values)} entries", f"a tuple of {count}")
        return values
    if values is not None and count > 1:
        _refuse(call, "the state", "one tensor", f"a tuple of {count}")
    return (values,) * count


def _checked_state(
    call: Call, state: State, value: object, where: tuple[list[int], Store]
) -> Tensor:
    shape, store = where
    axes = state.shape[::-1] if store.v_first and len(state.shape) == 2 else state.shape
    lead = "B H" if store.slots is None else "P H"
    label, wanted = f"the state {state.name}", shown(axes, lead)
    if not isinstance(value, Tensor):
        found = type(value).__name__
        raise TypeError(f"{call.signature.name}: {label} is {found}; expected: a tensor {wanted}")
    first = [call.batch] if store.slots is None else list(value.shape[:1])
    if list(value.shape) != [*first, *shape]:
        expected = f"{first + shape}, which is {wanted}"
        _refuse(call, label, f"the shape {list(value.shape)}", expected)
    if value.dtype not in FLOATS:
        _refuse(call, label, str(value.dtype).removeprefix("torch."), "a floating dtype")
    if value.device != call.device:
        _refuse(call, label, f"the device {value.device}", f"{call.device}")
    return value


def _check_slots(call: Call, slots: object) -> None:
    wanted = f"a tensor [{call.batch}] in int32 or int64 on {call.device}"
    if not isinstance(slots, Tensor):
        found = type(slots).__name__
        raise TypeError(f"{call.signature.name}: state_indices is {found}; expected: {wanted}")
    fits = slots.shape == (call.batch,) and slots.device == call.device
    if not fits or slots.dtype not in (torch.int32, torch.int64):
        found = f"{list(slots.shape)} in {str(slots.dtype).removeprefix('torch.')}"
        _refuse(call, "state_indices", f"{found} on {slots.device}", wanted)


def _refuse(call: Call, name: str, found: str, expected: str) -> NoReturn:
    raise ValueError(f"{call.signature.name}: {name} has {found}; expected: {expected}")
