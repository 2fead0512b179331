"""The recurrences of flash-linear-attention's functions as plans of shipped ops.

A rule takes the arguments of a call by that library's names and gives its output and state.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import softplus

from lincodegen.integrations.rules import Plan, Sequences, l2norm, normalised, run, widened
from lincodegen.loading import load_shipped

Results: TypeAlias = tuple[Any, Any]


@dataclass(frozen=True, slots=True)
class Given:
    """The arguments of one call by name, defaults filled in."""

    function: str
    arguments: Mapping[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.arguments.get(name)

    def tensors(self, *names: str) -> dict[str, Tensor]:
        """Arguments that the op has under the same names."""
        return {name: self[name] for name in names}

    def but(self, **changed: object) -> Given:
        """The call with other values of some arguments."""
        return Given(self.function, {**self.arguments, **changed})

    @property
    def sequences(self) -> Sequences:
        """States and packed sequences, the states in the layout of the ops."""
        state, order = self["initial_state"], self.state_order
        return Sequences(
            None if state is None else order(state),
            bool(self["output_final_state"]),
            self["cu_seqlens"],
            self["cu_seqlens_cpu"],
        )

    @property
    def state_order(self) -> Callable[[Any], Any]:
        """Between the layout of the caller's states and [N, H, K, V]; its own inverse."""
        swapped = self["state_v_first"] or self["transpose_state_layout"]
        return (lambda x: x.transpose(-1, -2).contiguous()) if swapped else (lambda x: x)

    def refuse(self, name: str, expected: str) -> ValueError:
        """The error about an argument that no shipped op honours."""
        value = self[name]
        found = f"a tensor {list(value.shape)}" if isinstance(value, Tensor) else repr(value)
        return ValueError(f"{self.function}: {name} is {found}; expected: {expected}")


Rule: TypeAlias = Callable[[Given], Results]


def results(given: Given, plan: Plan) -> Results:
    """Output and final state of a plan, the state in the caller's layout."""
    if given["use_qk_l2norm_in_kernel"]:
        plan = normalised(plan)
    output, state = run(plan, given.sequences)
    return output, None if state is None else given.state_order(state)


def scaled(given: Given, op: str, tensors: Mapping[str, Tensor]) -> Results:
    """Results of an op that takes the tensors as they are."""
    return results(given, Plan(op, tensors, {"scale": given["scale"]}))


def plain(op: str, *names: str, **renamed: str) -> Rule:
    """A rule whose op takes the caller's tensors, some under other names: ``op's=caller's``."""

    def rule(given: Given) -> Results:
        others = {own: given[theirs] for own, theirs in renamed.items()}
        return scaled(given, op, given.tensors(*names) | others)

    return rule


def delta(given: Given) -> Results:
    """Delta rules without a decay, with one per head or with one per key channel."""
    qkv = given.tensors("q", "k", "v")
    g, gk = _decay(given), given["gk"]
    if g is not None and gk is not None:
        g = g[..., None] + gk
    elif g is None:
        g = gk
    beta = _beta(given)
    if g is None:
        return scaled(given, "delta_rule", qkv | {"beta": beta})
    op = "kda" if g.dim() == 4 else "gated_delta_rule"
    return scaled(given, op, qkv | {"g": g, "beta": beta})


def _beta(given: Given) -> Tensor:
    beta, v = given["beta"], given["v"]
    if beta is None:
        return torch.ones(v.shape[:3], dtype=v.dtype, device=v.device)
    if beta.dim() != 3:
        raise given.refuse("beta", "one learning rate per head, [B, T, H]")
    if given["use_beta_sigmoid_in_kernel"]:
        return widened(beta).sigmoid() * (2 if given["allow_neg_eigval"] else 1)
    return beta


def _decay(given: Given) -> Tensor | None:
    """The log decay, computed from the raw gate where the call asks for it."""
    g = given["g"]
    if g is None or not given["use_gate_in_kernel"]:
        return g
    heads = (g.shape[2], -1) if g.dim() == 4 else (g.shape[2],)
    rate, bias, bound = given["A_log"], given["dt_bias"], given["lower_bound"]
    if rate is None and bound is None:
        raise given.refuse("A_log", "a tensor [H] with use_gate_in_kernel")
    raw = widened(g) if bias is None else widened(g) + widened(bias).reshape(heads)
    speed = 1.0 if rate is None else widened(rate).exp().reshape(g.shape[2], *[1] * (g.dim() - 3))
    return -speed * softplus(raw) if bound is None else bound * torch.sigmoid(speed * raw)


def householder_product(given: Given) -> Results:
    """n delta steps a token on interleaved k, v and beta, one decay a token or none."""
    n, g, normed = given["num_householder"], given["g"], given["use_qk_l2norm_in_kernel"]
    op = "delta_product" if g is None else "gated_delta_product"
    shipped = load_shipped(op).signature.inputs[1].shape[0]
    if n != shipped or (g is not None and not normed):
        return _interleaved(given)
    tensors = given.tensors("q", "k", "v", "beta")
    # the gated op normalises its keys itself
    for name in ("q", "k") if g is None else ("q",):
        tensors[name] = l2norm(tensors[name]) if normed else tensors[name]
    for name in ("k", "v", "beta"):
        x = tensors[name]
        tensors[name] = x.reshape(x.shape[0], -1, n, *x.shape[2:]).transpose(2, 3)
    if g is not None:
        tensors["g"] = g
    return run(Plan(op, tensors, {"scale": given["scale"]}), given.sequences)


def _interleaved(given: Given) -> Results:
    """The product as a delta rule of n times the tokens: the first of n decays, the last reads."""
    n, g = given["num_householder"], given["g"]
    tensors = {**given.tensors("k", "v", "beta"), "q": given["q"].repeat_interleave(n, 1)}
    if g is not None:
        own = g.new_zeros(*g.shape[:2], n, *g.shape[2:])
        own[:, :, 0] = g
        tensors["g"] = own.flatten(1, 2)
    offsets = {
        name: None if given[name] is None else given[name] * n
        for name in ("cu_seqlens", "cu_seqlens_cpu")
    }
    op = "delta_rule" if g is None else "gated_delta_rule"
    output, state = scaled(given.but(**offsets), op, tensors)
    return output[:, n - 1 :: n], state


def linear(given: Given) -> Results:
    """Linear attention, with the sum of keys [N, 1, H, K] beside the state if normalised."""
    tensors = given.tensors("q", "k", "v")
    if not given["normalize"]:
        return scaled(given, "linear_attention", tensors)
    state = given["initial_state"]
    mixed, keys = (state, None) if state is None or isinstance(state, Tensor) else state
    own = given.but(initial_state=(mixed, None if keys is None else keys.squeeze(1)))
    output, final = scaled(own, "linear_attention_normalized", tensors)
    return output, None if final is None else (final[0], final[1].unsqueeze(1))


def scalar_decay(given: Given) -> Results:
    """A decay per token and head, one per head, both or none."""
    tensors, g, rate = given.tensors("q", "k", "v"), given["g"], given["g_gamma"]
    if g is None and rate is None:
        return scaled(given, "linear_attention", tensors)
    if g is None:
        return scaled(given, "retention", tensors | {"g": rate})
    total = g if rate is None else g + rate
    channels = total[..., None].expand(*total.shape, given["k"].shape[-1])
    return scaled(given, "gla", tensors | {"g": channels})


def key_decay(given: Given) -> Results:
    """A decay per key channel, or none."""
    tensors, gk = given.tensors("q", "k", "v"), given["gk"]
    if gk is None:
        return scaled(given, "linear_attention", tensors)
    return scaled(given, "gla", tensors | {"g": gk})


def layered_decay(given: Given) -> Results:
    """A decay per head that depends on the layer."""
    constants = {
        "layer_idx": float(given["layer_idx"]),
        "num_layers": float(given["num_layers"]),
        "scale": given["scale"],
    }
    return results(given, Plan("lightning_attention", given.tensors("q", "k", "v"), constants))


def slots(given: Given) -> Results:
    """Two passes over slots, with a given decay."""
    if given["g"] is None:
        raise given.refuse("g", "a tensor [B, T, H, M]")
    return scaled(given, "gsa", given.tensors("q", "k", "v", "s", "g"))


def undecayed_rank_one(given: Given) -> Results:
    """Identity plus rank 1."""
    tensors = given.tensors("q", "k", "v", "a", "b")
    return scaled(given, "dplr", tensors | {"gk": torch.zeros_like(given["k"])})


LEAST_LOG_DECAY = -math.exp(-0.5)
"""The bound that the spec rwkv7 promises; without that promise the general op computes it."""


def bounded_diagonal_rank_one(given: Given) -> Results:
    """Diagonal plus rank 1, by the op of bounded decays if the caller promises the bound."""
    bound = given["lower_bound"]
    if bound is not None and bound >= LEAST_LOG_DECAY:
        scale = given["k"].shape[-1] ** -0.5 if given["scale"] is None else given["scale"]
        tensors = given.tensors("r", "w", "k", "v", "a", "b")
        return results(given, Plan("rwkv7", tensors, {"scale": scale}))
    return plain("dplr", "k", "v", "a", "b", q="r", gk="w")(given)
