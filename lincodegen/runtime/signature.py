"""What a generated op takes and gives, and the reading of one call against it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor

from lincodegen.runtime.backend import chosen_backend, forced_backend
from lincodegen.runtime.call import Call, Layout, States
from lincodegen.runtime.lazy import Lazy
from lincodegen.runtime.pins import any_pinned, pinned
from lincodegen.runtime.sizes import Size, dimension, evaluate, shown
from lincodegen.runtime.tuned import Chosen, any_named, tables_epoch, tuned_for

checks, launch = Lazy("lincodegen.runtime.checks"), Lazy("lincodegen.runtime.launch")
packed = Lazy("lincodegen.runtime.packing")

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
TOKEN_AXES = "B T H"
MOST_LAYOUTS = 512


# Here and beside it are plain classes: one that typing or dataclasses make takes 0.1 to 0.4 ms,
# and an op's import should take few.


class Argument:
    """An input [B, T, Hx, *shape] or a parameter [Hx, *shape]; ``optional``: has a default.

    ``domain`` and ``norm`` are the intervals of its values and of its norm along the last axis,
    such as ``[-inf, 0]``; without text it promises finite values, and no norm.
    """

    def __init__(
        self,
        name: str,
        shape: tuple[Size, ...] = (),
        optional: bool = False,
        domain: str = "",
        norm: str = "",
    ) -> None:
        self.name, self.shape = name, shape
        self.optional, self.domain, self.norm = optional, domain, norm


class State:
    """A carried value [B, H, *shape].

    ``updates`` are the tensors that its updates depend on, which settle its heads;
    ``solved`` those and what its reads depend on, which settle how many heads are computed.
    """

    def __init__(
        self, name: str, shape: tuple[Size, ...], updates: tuple[str, ...], solved: tuple[str, ...]
    ) -> None:
        self.name, self.shape = name, shape
        self.updates, self.solved = updates, solved


class Output:
    """A result [B, T, H, *shape]; ``sources`` are the tensors that it depends on."""

    def __init__(self, name: str, shape: tuple[Size, ...], sources: tuple[str, ...]) -> None:
        self.name, self.shape, self.sources = name, shape, sources


class Signature:
    """The tensors, states and outputs of an op, in the order of its recurrence.

    Attributes:
        layouts: by what ``_look`` sees: reading arguments one by one costs more than a small
            kernel.
    """

    def __init__(
        self,
        name: str,
        *,
        inputs: tuple[Argument, ...],
        parameters: tuple[Argument, ...],
        states: tuple[State, ...],
        outputs: tuple[Output, ...],
        chunk_size: int,
        has_kernels: bool = False,
    ) -> None:
        self.name = name
        self.inputs, self.parameters = inputs, parameters
        self.states, self.outputs = states, outputs
        self.chunk_size, self.has_kernels = chunk_size, has_kernels
        self.layouts: dict[object, Layout] = {}
        self._names = tuple(x.name for x in self._arguments)

    def check(self, call: Call, /, **constants: float | None) -> None:
        """Compares every value of a call with its domain; waits for the device.

        Raises:
            ValueError: a value is not what the argument promises.
        """
        checks.check_values(call, **constants)

    def call(
        self,
        tensors: Sequence[Tensor | None],
        initial_state: States = None,
        cu_seqlens: Tensor | None = None,
        cu_seqlens_cpu: Tensor | None = None,
    ) -> Call:
        """Reads sizes, heads, dtype and device off the arguments of a call.

        Raises:
            TypeError: an argument is no tensor.
            ValueError: a shape, dtype, device or number of heads does not fit.
        """
        states = self._initial_states(initial_state)
        offsets = cu_seqlens if cu_seqlens is not None else cu_seqlens_cpu
        key = _look(tensors, states, offsets)
        layout = self.layouts.get(key)
        if layout is None:
            layout = self.layout(tensors, states, (cu_seqlens, cu_seqlens_cpu))
            self._remember(key, layout)
        given = dict(zip(self._names, tensors, strict=True))
        for name in self._names[len(self.inputs) :]:
            value = given[name]
            given[name] = None if value is None else value[None, None]
        packing = None
        if offsets is not None:
            leading = (layout.batch, layout.length)
            packing = packed.read_packing(
                self.name, (cu_seqlens, cu_seqlens_cpu), leading, layout.device
            )
        return Call(layout, given, states, packing)

    def _remember(self, key: object, layout: Layout) -> None:
        """Keeps the layout of like arguments; None is like nothing."""
        if key is not None:
            if len(self.layouts) >= MOST_LAYOUTS:
                self.layouts.clear()
            self.layouts[key] = layout

    def layout(
        self,
        tensors: Sequence[Tensor | None],
        states: Sequence[Tensor | None] = (),
        offsets: tuple[Tensor | None, Tensor | None] = (None, None),
    ) -> Layout:
        """Sizes, heads, dtype and device of arguments that are read one by one.

        Raises:
            TypeError: an argument is no tensor.
            ValueError: a shape, dtype, device or number of heads does not fit.
        """
        pairs = zip(self._arguments, tensors, strict=True)
        given = {x.name: self._tensor(x, value) for x, value in pairs}
        present = {name: x for name, x in given.items() if x is not None}
        batch, length = self._leading(present)
        sizes = self._sizes(present)
        device = self._device(present)
        heads = self._heads(present)
        double = any(x.dtype == torch.float64 for x in present.values())
        dtype = torch.float64 if double else torch.float32
        packing = None
        if any(x is not None for x in offsets):
            packing = packed.read_packing(self.name, offsets, (batch, length), device)
        sequences = batch if packing is None else packing.sequences
        for state, value in zip(self.states, states, strict=False):
            if value is not None:
                self._check_state(state, value, (sequences, heads, sizes, device))
        form = chosen_backend(device, dtype, self.has_kernels)
        vectors = [present[x.name] for x in self.inputs if x.shape and x.name in present]
        operands = launch.common_dtype(*vectors) if form == "triton" and vectors else dtype
        # of packed sequences the mean length counts
        extent = sequences * max(heads.values(), default=1), batch * length // max(sequences, 1)
        # symbolic sizes lie in no bucket
        known = type(batch * length) is int
        tuned = tuned_for(self.name, form, device, (operands, sizes), extent) if known else None
        return Layout(
            signature=self,
            batch=batch,
            length=length,
            sizes=sizes,
            heads=heads,
            dtype=dtype,
            output_dtype=next(present[x.name].dtype for x in self.inputs if x.name in present),
            device=device,
            backend=form,
            chunk_limit=self._chunk_limit(form, (vectors, tuned), sizes, device),
            tuned=tuned,
            packed=packing is not None,
        )

    def _chunk_limit(
        self,
        form: str,
        given: tuple[Sequence[Tensor], Chosen | None],
        sizes: Mapping[str, int],
        device: torch.device,
    ) -> int:
        """Tokens a chunk: the op's number, or the one that its kernels take on the device."""
        vectors, tuned = given
        tokens = self.chunk_size if tuned is None else tuned.config.chunk_size
        if form == "torch" or not vectors:
            return tokens
        if tuned is not None:
            return pinned(self.name, None).get("chunk_size", tokens)
        size = max((evaluate(s, sizes) for state in self.states for s in state.shape), default=1)
        return launch.chunk_tokens(self.name, tokens, launch.common_dtype(*vectors), size, device)

    def token_layout(self, tensors: Sequence[Tensor | None]) -> Layout:
        """The layout of the arguments of one token, inputs [B, H, *shape]."""
        seen = _look(tensors, (), None)
        # what is a token's shape is no sequence's
        key = None if seen is None else ("token", seen)
        layout = self.layouts.get(key)
        if layout is None:
            count = len(self.inputs)
            inputs = [x.unsqueeze(1) if isinstance(x, Tensor) else x for x in tensors[:count]]
            layout = self.layout([*inputs, *tensors[count:]])
            self._remember(key, layout)
        return layout

    @property
    def _arguments(self) -> tuple[Argument, ...]:
        return (*self.inputs, *self.parameters)

    def _tensor(self, argument: Argument, value: object) -> Tensor | None:
        """The tensor of an argument, parameters as [1, 1, Hx, *shape]."""
        is_input = argument in self.inputs
        wanted = shown(argument.shape, TOKEN_AXES if is_input else "H")
        if value is None and argument.optional:
            return None
        if not isinstance(value, Tensor):
            found = "None" if value is None else type(value).__name__
            raise TypeError(f"{self.name}: {argument.name} is {found}; expected: a tensor {wanted}")
        if value.dtype not in DTYPES:
            names = ", ".join(str(d).removeprefix("torch.") for d in DTYPES)
            self._refuse(argument.name, str(value.dtype).removeprefix("torch."), names)
        axes = len(argument.shape) + (3 if is_input else 1)
        if value.dim() != axes:
            self._refuse(argument.name, f"the shape {list(value.shape)}", wanted)
        return value if is_input else value[None, None]

    def _refuse(self, name: str, found: str, expected: str) -> None:
        raise ValueError(f"{self.name}: {name} has {found}; expected: {expected}")

    def _leading(self, present: Mapping[str, Tensor]) -> tuple[int, int]:
        """B and T, the same for all inputs."""
        given = [x.name for x in self.inputs if x.name in present]
        if not given:
            names = ", ".join(x.name for x in self.inputs)
            raise ValueError(f"{self.name}: no input is given; expected: at least one of {names}")
        first = given[0]
        batch, length = present[first].shape[:2]
        for name in given:
            if present[name].shape[:2] != (batch, length):
                found = f"B, T = {', '.join(map(str, present[name].shape[:2]))}"
                self._refuse(name, found, f"{batch}, {length} as {first} has")
        return batch, length

    def _sizes(self, present: Mapping[str, Tensor]) -> dict[str, int]:
        """The dimensions, each from the first tensor that shows it."""
        sizes: dict[str, int] = {}
        source: dict[str, str] = {}
        for argument in self._arguments:
            if argument.name not in present:
                continue
            actual = present[argument.name].shape[3:]
            for size, found in zip(argument.shape, actual, strict=True):
                named = dimension(size)
                if named is not None and named[0] not in sizes and found % named[1] == 0:
                    sizes[named[0]], source[named[0]] = found // named[1], argument.name
                wanted = -1 if named and named[0] not in sizes else evaluate(size, sizes)
                if found != wanted:
                    by = f" as {source[named[0]]} has" if named and named[0] in source else ""
                    self._refuse(argument.name, f"{size} = {found}", f"{size} = {wanted}{by}")
        for size in (size for argument in self._arguments for size in argument.shape):
            named = dimension(size)
            if named is not None and named[0] not in sizes:
                raise ValueError(f"{self.name}: no tensor that is given shows the size {named[0]}")
        return sizes

    def _device(self, present: Mapping[str, Tensor]) -> torch.device:
        first, *rest = present
        device = present[first].device
        for name in rest:
            if present[name].device != device:
                self._refuse(name, f"the device {present[name].device}", f"{device} as {first} has")
        return device

    def _heads(self, present: Mapping[str, Tensor]) -> dict[str, int]:
        """Heads of what is given, of states, of what is computed for them, and of outputs.

        Keys are a tensor's name, ``state S``, ``solved S`` and ``output o``. A tensor that is
        not given has as many as the states that depend on it.
        """
        own = {name: x.shape[2] for name, x in present.items()}
        heads = dict(own)
        groups = [(f"state {s.name}", s.updates) for s in self.states]
        groups += [(f"solved {s.name}", s.solved) for s in self.states]
        groups += [(f"output {o.name}", o.sources) for o in self.outputs]
        for key, sources in groups:
            heads[key] = max((own[n] for n in sources if n in own), default=1)
            for name in sources:
                if name in own and (own[name] == 0 or heads[key] % own[name]):
                    most = next(n for n in sources if own.get(n) == heads[key])
                    expected = f"a number that divides {heads[key]}, the heads of {most}"
                    self._refuse(name, f"{own[name]} heads", expected)
        for argument in self._arguments:
            if argument.name not in own:
                fed = [s.name for s in self.states if argument.name in s.updates]
                names = fed or [s.name for s in self.states]
                heads[argument.name] = max(heads[f"state {name}"] for name in names)
        return heads

    def _initial_states(self, given: States) -> tuple[Tensor | None, ...]:
        """The initial states in order, None where none is given."""
        count = len(self.states)
        if given is None:
            return (None,) * count
        if count == 1 and not isinstance(given, list | tuple):
            return (cast("Tensor", given),)
        if not isinstance(given, list | tuple) or len(given) != count:
            names = ", ".join(s.name for s in self.states)
            found = f"{len(given)} entries" if isinstance(given, list | tuple) else "one tensor"
            self._refuse("the initial state", found, f"a tuple of {count} for {names}")
        return tuple(given)

    def _check_state(
        self,
        state: State,
        value: object,
        where: tuple[int, Mapping[str, int], Mapping[str, int], torch.device],
    ) -> None:
        batch, heads, sizes, device = where
        shape = [batch, heads[f"state {state.name}"], *(evaluate(s, sizes) for s in state.shape)]
        wanted = f"{shape}, which is {shown(state.shape, 'B H')}"
        label = f"the initial state {state.name}"
        if not isinstance(value, Tensor):
            found = type(value).__name__
            raise TypeError(f"{self.name}: {label} is {found}; expected: a tensor {wanted}")
        if list(value.shape) != shape:
            self._refuse(label, f"the shape {list(value.shape)}", wanted)
        if value.dtype not in DTYPES:
            self._refuse(label, str(value.dtype).removeprefix("torch."), "a floating dtype")
        if value.device != device:
            self._refuse(label, f"the device {value.device}", f"{device}")


def _look(
    tensors: Sequence[Tensor | None], states: Sequence[Tensor | None], offsets: Tensor | None
) -> object:
    """All that a layout depends on; None where it has to be read again."""
    if any_pinned() or any_named():
        return None
    try:
        seen = [None if x is None else (x.shape, x.dtype, x.device) for x in (*tensors, *states)]
        packed = None if offsets is None else offsets.shape
        return forced_backend(), tables_epoch(), packed, tuple(seen)
    except AttributeError:
        return None
