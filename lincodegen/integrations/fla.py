"""Functions with flash-linear-attention's names and signatures, run by generated ops.

``from lincodegen.integrations.fla import chunk_kda`` takes the place of the import from
``fla.ops.kda``. Arguments that only steer that library's kernels are accepted and do nothing;
those that no op honours raise a ValueError that names them.
"""

from __future__ import annotations

import ast
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lincodegen.integrations.fla_rules import (
    Given,
    Rule,
    bounded_diagonal_rank_one,
    delta,
    householder_product,
    key_decay,
    layered_decay,
    linear,
    plain,
    scalar_decay,
    slots,
    undecayed_rank_one,
)

EXTRA = "kwargs"

NEUTRAL: dict[str, object] = {
    "reverse": False,
    "gv": None,
    "cp_context": None,
    "return_intermediate_states": False,
    "use_graph": False,
    "head_first": False,
    "output_attentions": False,
}
"""Arguments that no op honours, and the one value that asks for nothing."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A function: the rule that computes it and its parameters as Python writes them."""

    rule: Rule
    parameters: str


STATES = "scale=None, initial_state=None, output_final_state=False"
PACKED = "cu_seqlens=None, cu_seqlens_cpu=None"
NORM = "use_qk_l2norm_in_kernel=False"
BETA = "use_beta_sigmoid_in_kernel=False, allow_neg_eigval=False"
GATE = "use_gate_in_kernel=False"
LAYER = "layer_idx, num_layers"
BOUNDED = "safe_gate=False, chunk_size=None, disable_recompute=False, cp_context=None"

_QKV_LINEAR = f"q, k, v, {STATES}"
_QKV_DECAY = f"q, k, v, g=None, g_gamma=None, {STATES}"
_RANK_ONE = f"q, k, v, a, b, gk, {STATES}"
_KDA_CHUNK = (
    f"q, k, v, g, beta, {STATES}, {NORM}, {GATE}, {BETA}, safe_gate=False, lower_bound=None, "
    "disable_recompute=False, return_intermediate_states=False, state_v_first=False, "
    f"{PACKED}, cp_context=None, use_graph=False, max_num_seqs=None, **kwargs"
)
_KDA_TOKENS = (
    f"q, k, v, g, beta, A_log=None, dt_bias=None, {STATES}, {NORM}, {GATE}, {BETA}, "
    "lower_bound=None, state_v_first=False, cu_seqlens=None, **kwargs"
)
_GATED_CHUNK = (
    f"q, k, v, g, beta, {STATES}, {NORM}, {BETA}, state_v_first=False, {PACKED}, "
    "chunk_indices=None, cp_context=None, **kwargs"
)
_GATED_TOKENS = (
    f"q, k, v, g=None, gk=None, gv=None, beta=None, {STATES}, {NORM}, {GATE}, A_log=None, "
    f"dt_bias=None, {BETA}, state_v_first=False, cu_seqlens=None, **kwargs"
)

_dplr = plain("dplr", "q", "k", "v", "a", "b", "gk")
_rwkv6 = plain("rwkv6", "r", "k", "v", "w", "u")
_retention = plain("retention", "q", "k", "v")

FUNCTIONS = {
    "chunk_linear_attn": Entry(linear, f"{_QKV_LINEAR}, normalize=True, cu_seqlens=None"),
    "fused_chunk_linear_attn": Entry(linear, f"{_QKV_LINEAR}, normalize=True, cu_seqlens=None"),
    "fused_recurrent_linear_attn": Entry(
        linear, f"{_QKV_LINEAR}, reverse=False, normalize=False, cu_seqlens=None"
    ),
    "chunk_retention": Entry(_retention, f"{_QKV_LINEAR}, cu_seqlens=None, **kwargs"),
    "fused_chunk_retention": Entry(_retention, f"{_QKV_LINEAR}, cu_seqlens=None"),
    "fused_recurrent_retention": Entry(
        _retention, f"{_QKV_LINEAR}, reverse=False, state_v_first=False, cu_seqlens=None, **kwargs"
    ),
    "chunk_simple_gla": Entry(
        scalar_decay, f"{_QKV_DECAY}, state_v_first=False, {PACKED}, **kwargs"
    ),
    "fused_chunk_simple_gla": Entry(scalar_decay, f"{_QKV_DECAY}, cu_seqlens=None"),
    "fused_recurrent_simple_gla": Entry(
        scalar_decay,
        f"{_QKV_DECAY}, reverse=False, state_v_first=False, cu_seqlens=None, **kwargs",
    ),
    "chunk_lightning_attn": Entry(
        layered_decay, f"q, k, v, {LAYER}, {STATES}, cu_seqlens=None, **kwargs"
    ),
    "fused_recurrent_lightning_attn": Entry(
        layered_decay, f"q, k, v, {LAYER}, {STATES}, reverse=False, cu_seqlens=None"
    ),
    "chunk_gla": Entry(
        plain("gla", "q", "k", "v", "g"), f"q, k, v, g, {STATES}, state_v_first=False, {PACKED}"
    ),
    "fused_recurrent_gla": Entry(
        key_decay,
        f"q, k, v, gk=None, gv=None, {STATES}, reverse=False, state_v_first=False, "
        "cu_seqlens=None, **kwargs",
    ),
    "chunk_rwkv6": Entry(_rwkv6, f"r, k, v, w, u, {STATES}, {PACKED}, **kwargs"),
    "fused_recurrent_rwkv6": Entry(
        _rwkv6, f"r, k, v, w, u, {STATES}, reverse=False, cu_seqlens=None"
    ),
    "chunk_rwkv7": Entry(
        bounded_diagonal_rank_one,
        "r, w, k, v, a, b, scale=1.0, initial_state=None, output_final_state=False, "
        f"{PACKED}, {BOUNDED}, lower_bound=None",
    ),
    "fused_recurrent_rwkv7": Entry(
        bounded_diagonal_rank_one,
        "r, w, k, v, a, b, scale=None, initial_state=None, output_final_state=True, "
        "cu_seqlens=None",
    ),
    "chunk_dplr_delta_rule": Entry(
        _dplr, f"{_RANK_ONE}, {PACKED}, {BOUNDED}, lower_bound=None, **kwargs"
    ),
    "fused_recurrent_dplr_delta_rule": Entry(_dplr, f"{_RANK_ONE}, reverse=False, cu_seqlens=None"),
    "chunk_iplr_delta_rule": Entry(
        undecayed_rank_one, f"q, k, v, a, b, {STATES}, {PACKED}, **kwargs"
    ),
    "fused_recurrent_iplr_delta_rule": Entry(
        undecayed_rank_one, f"q, k, v, a, b, {STATES}, cu_seqlens=None"
    ),
    "chunk_gsa": Entry(
        slots, f"q, k, v, s, g=None, {STATES}, checkpoint_level=2, {PACKED}, **kwargs"
    ),
    "fused_recurrent_gsa": Entry(
        slots, f"q, k, v, s, g=None, {STATES}, reverse=False, cu_seqlens=None"
    ),
    "chunk_delta_rule": Entry(delta, f"q, k, v, beta, {STATES}, {NORM}, {PACKED}, **kwargs"),
    "fused_recurrent_delta_rule": Entry(
        delta, f"q, k, v, beta=None, {STATES}, {NORM}, cu_seqlens=None"
    ),
    "chunk_gated_delta_rule": Entry(delta, _GATED_CHUNK),
    "fused_recurrent_gated_delta_rule": Entry(delta, _GATED_TOKENS),
    "chunk_gated_delta_product": Entry(
        householder_product,
        f"q, k, v, g, beta, num_householder, {STATES}, {NORM}, {PACKED}, cp_context=None",
    ),
    "chunk_kda": Entry(delta, _KDA_CHUNK),
    "fused_recurrent_kda": Entry(delta, _KDA_TOKENS),
}
"""The functions by name; parameters as in flash-linear-attention 0.6."""


def __getattr__(name: str) -> Callable[..., Any]:
    if name not in FUNCTIONS:
        raise AttributeError(f"no function {name!r}; there are {', '.join(FUNCTIONS)}")
    return _function(name)


def __dir__() -> list[str]:
    return list(FUNCTIONS)


@functools.cache
def _function(name: str) -> Callable[..., Any]:
    entry = FUNCTIONS[name]
    signature = read_signature(entry.parameters)

    def function(*args: object, **kwargs: object) -> tuple[Any, Any]:
        given = _given(name, signature, args, kwargs)
        _check(given)
        return entry.rule(given)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"{name} of flash-linear-attention, run by a generated op."
    vars(function)["__signature__"] = signature
    return function


def refusal(name: str, *args: object, **kwargs: object) -> str | None:
    """Why a function would not honour the arguments of a call, None if it would."""
    try:
        _check(_given(name, read_signature(FUNCTIONS[name].parameters), args, kwargs))
    except (TypeError, ValueError) as error:
        return str(error)
    return None


def _given(
    name: str, signature: inspect.Signature, args: Sequence[object], kwargs: Mapping[str, object]
) -> Given:
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    return Given(name, {**bound.arguments.pop(EXTRA, {}), **bound.arguments})


def _check(given: Given) -> None:
    for argument, neutral in NEUTRAL.items():
        if given[argument] is not None and given[argument] is not neutral:
            raise given.refuse(argument, repr(neutral))


def read_signature(parameters: str) -> inspect.Signature:
    """The signature whose parameters are written as in a definition."""
    tree = ast.parse(f"lambda {parameters}: 0", mode="eval").body
    assert isinstance(tree, ast.Lambda)
    names, defaults = tree.args.args, tree.args.defaults
    values = [inspect.Parameter.empty] * (len(names) - len(defaults))
    values += [ast.literal_eval(x) for x in defaults]
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    found = [
        inspect.Parameter(x.arg, kind, default=value)
        for x, value in zip(names, values, strict=True)
    ]
    if tree.args.kwarg is not None:
        found.append(inspect.Parameter(tree.args.kwarg.arg, inspect.Parameter.VAR_KEYWORD))
    return inspect.Signature(found)
