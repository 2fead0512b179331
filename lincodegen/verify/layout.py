"""What a call's shapes say: sizes of the dimensions, heads of every state and output."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lincodegen.spec.step import Node, Recurrence, Tensor
from lincodegen.verify.attributes import index_of, name_of

if TYPE_CHECKING:
    from torch import Tensor as Values


@dataclass(frozen=True, slots=True)
class Heads:
    """Head counts by name; ``tensors`` has those that are not given as well."""

    tensors: Mapping[str, int]
    states: Mapping[str, int]
    outputs: Mapping[str, int]


def tensors_of(recurrence: Recurrence) -> tuple[Tensor, ...]:
    """Inputs, then parameters."""
    return recurrence.inputs + recurrence.parameters


def is_unbounded_vector(tensor: Tensor) -> bool:
    """Whether a tensor has a last axis and no promise about its entries."""
    low, high = tensor.domain.low, tensor.domain.high
    return bool(tensor.shape) and low == -math.inf and high == math.inf


def check_tensors(recurrence: Recurrence, given: Mapping[str, Values]) -> None:
    """Raise ValueError unless the declared tensors are there, of one batch and length.

    Those with a default may be left out, but not all inputs.
    """
    declared = {x.name for x in tensors_of(recurrence)}
    missing = [x.name for x in tensors_of(recurrence) if x.default is None and x.name not in given]
    unknown = sorted(set(given) - declared)
    if missing or unknown:
        raise ValueError(f"{recurrence.name}: missing {missing}, unknown {unknown}")
    leading = {tuple(given[x.name].shape[:2]) for x in recurrence.inputs if x.name in given}
    if len(leading) != 1:
        raise ValueError(f"{recurrence.name}: inputs of one [B, T], not {sorted(leading)}")


def dimension_sizes(recurrence: Recurrence, given: Mapping[str, Values]) -> dict[str, int]:
    """The size of each dimension, read off the shapes; ValueError where two disagree."""
    sizes: dict[str, int] = {}
    for tensor in tensors_of(recurrence):
        if tensor.name not in given:
            continue
        lead = 3 if tensor in recurrence.inputs else 1
        actual = given[tensor.name].shape[lead:]
        wanted = ", ".join(map(str, tensor.shape))
        if given[tensor.name].ndim != lead + len(tensor.shape):
            raise ValueError(
                f"{tensor.name}: {len(actual)} axes after the heads, wanted [{wanted}]"
            )
        for dim, size in zip(tensor.shape, actual, strict=True):
            for name in dim.names:
                sizes.setdefault(name, size // dim.terms[0][1])
            if dim.evaluate(sizes) != size:
                raise ValueError(f"{tensor.name}: {tuple(actual)} is not [{wanted}] for {sizes}")
    return sizes


def head_counts(recurrence: Recurrence, given: Mapping[str, Values]) -> Heads:
    """Heads of tensors, states and outputs.

    A state has as many as the largest tensor that its updates depend on, through other states
    too; an output as the largest tensor or state it depends on; a tensor that is not given
    as many as the states that depend on it, or the most of any state.
    """
    counts = {
        x.name: given[x.name].shape[2 if x in recurrence.inputs else 0] if x.name in given else 1
        for x in tensors_of(recurrence)
    }
    reach = _reached(recurrence)
    states = {s.name: max(_counts(reach[s.name], counts), default=1) for s in recurrence.states}
    for tensor in tensors_of(recurrence):
        if tensor.name not in given and tensor.default is not None:
            fed = [states[s.name] for s in recurrence.states if tensor.name in reach[s.name]]
            counts[tensor.name] = max(fed or states.values())
    known = {**counts, **{f"state {name}": count for name, count in states.items()}}
    local = _per_statement(recurrence)
    outputs = {
        name: max(_counts(_names(node, local), known), default=1)
        for name, node in recurrence.outputs
    }
    return Heads(counts, states, outputs)


def _counts(names: frozenset[str], counts: Mapping[str, int]) -> list[int]:
    return [counts[name] for name in names if name in counts]


def _reached(recurrence: Recurrence) -> dict[str, frozenset[str]]:
    """Per state the tensors and ``"state S"`` its updates depend on, over any number of tokens."""
    local = _per_statement(recurrence)
    reach = {s.name: frozenset[str]() for s in recurrence.states}
    for assign, names in zip(recurrence.step, local, strict=True):
        if assign.state:
            reach[assign.name] |= names
    for _ in recurrence.states:
        for state, names in reach.items():
            through = (reach[s] for s in reach if f"state {s}" in names)
            reach[state] = names.union(*through)
    return reach


def _per_statement(recurrence: Recurrence) -> list[frozenset[str]]:
    local: list[frozenset[str]] = []
    for assign in recurrence.step:
        local.append(_names(assign.value, local))
    return local


def _names(node: Node, local: list[frozenset[str]]) -> frozenset[str]:
    """Tensors and ``"state S"`` below a node, through the statements it refers to."""
    found: set[str] = set()
    for leaf in node.walk():
        if leaf.op in ("input", "parameter"):
            found.add(name_of(leaf))
        elif leaf.op == "state":
            found.add(f"state {name_of(leaf)}")
        elif leaf.op == "ref":
            found |= local[index_of(leaf)]
    return frozenset(found)
