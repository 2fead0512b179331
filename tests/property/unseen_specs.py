"""Recurrences of no paper and no catalogue, and steps that have no chunked form."""

from __future__ import annotations

from textwrap import dedent, indent

_INPUTS = {
    "q": "{shape: [K]}",
    "k": '{shape: [K], norm: "[0, 1]"}',
    "v": "{shape: [V]}",
    "e": '{shape: [K], norm: "[0, 1]"}',
    "f": '{shape: [K], norm: "[0, 1]"}',
    "d": "{shape: [K]}",
    "a": '{shape: [K], domain: "[0, 1]"}',
    "w": '{shape: [V], domain: "[0, 1]"}',
    "u": '{shape: [V], norm: "[0, 1]"}',
    "g": '{shape: [], domain: "[-inf, 0]"}',
    "h": '{shape: [], domain: "[-inf, 0]"}',
    "gk": '{shape: [K], domain: "[-inf, 0]"}',
    "gv": '{shape: [V], domain: "[-inf, 0]"}',
    "raw": "{shape: []}",
    "rawk": "{shape: [K]}",
    "beta": '{shape: [], domain: "[0, 1]"}',
    "gamma": '{shape: [], domain: "[0, 1]"}',
    "wide": '{shape: [], domain: "[0, 2]"}',
    "keep": '{shape: [], domain: "[0, 1]"}',
    "keepk": '{shape: [K], domain: "[0, 1]"}',
    "soft": '{shape: [], domain: "(0, 1]"}',
    "openk": '{shape: [K], domain: "(0, 1]"}',
    "kn": '{shape: [n, K], norm: "[0, 1]"}',
    "vn": "{shape: [n, V]}",
    "bn": '{shape: [n], domain: "[0, 1]"}',
    "kr": "{shape: [K, n]}",
    "vr": "{shape: [V, n]}",
}


def spec(name: str, step: str, **blocks: str) -> str:
    """A spec text: the inputs that the step names, then other blocks, then the step."""
    import re

    words = set(re.findall(r"[A-Za-z_]\w*", step))
    inputs = "".join(f"  {n}: {v}\n" for n, v in _INPUTS.items() if n in words)
    blocks = {"state": "{S: {shape: [K, V]}}"} | blocks
    extra = "".join(f"{key}: {value}\n" for key, value in blocks.items())
    body = indent(dedent(step).strip() + "\n", "  ")
    return f"name: {name}\ninputs:\n{inputs}{extra}step: |\n{body}"


SPECS = {
    name: spec(name, step, **blocks)
    for name, (step, blocks) in {
        "other_erase_key": (
            """
            S = exp(g) * S
            S = S - beta * outer(k, S.T @ e) + outer(d, v)
            o = S.T @ q
            """,
            {},
        ),
        "gated_erase_gated_write": (
            """
            S = S + outer(k, w * v - S.T @ (a * k))
            o = S.T @ q
            """,
            {},
        ),
        "reads_around": (
            """
            p = S.T @ q
            S = exp(g) * S
            m = S.T @ d
            S = S + beta * outer(k, v - S.T @ k)
            o = scale * S.T @ q
            """,
            {"constants": "{scale: K**-0.5}", "outputs": "[p, m, o]"},
        ),
        "two_decays": (
            """
            S = exp(g) * S
            S = S + beta * outer(k, v - S.T @ k)
            p = S.T @ d
            S = exp(h) * S
            o = S.T @ q + p
            """,
            {},
        ),
        "two_channel_decays": (
            """
            S = exp(gk)[:, None] * S
            S = S - beta * outer(k, S.T @ e)
            S = diag(keepk) @ S
            S = S + outer(d, v)
            o = S.T @ q
            """,
            {},
        ),
        "scalar_and_channel_decay": (
            """
            S = exp(g) * S
            S = S + beta * outer(k, v - S.T @ k)
            p = S.T @ q
            S = exp(gk)[:, None] * S
            o = S.T @ q - p
            """,
            {},
        ),
        "value_side": (
            """
            S = S - outer(S @ u, u) + outer(d, v)
            o = S.T @ q
            """,
            {},
        ),
        "value_side_gated": (
            """
            S = S * exp(gv)[None, :]
            S = S + beta * outer(d - S @ u, u)
            o = scale * S.T @ q
            """,
            {"constants": "{scale: K**-0.5}"},
        ),
        "column_read": (
            """
            S = exp(g) * S
            S = S + beta * outer(k, v - S.T @ k)
            o = S @ u
            """,
            {},
        ),
        "column_read_channel": (
            """
            S = exp(gk)[:, None] * S
            S = S + beta * outer(k, v - S.T @ k)
            o = S @ u
            p = S.T @ q
            """,
            {"outputs": "[o, p]"},
        ),
        "rank_two_early": (
            """
            S0 = S
            S = exp(g) * S
            S = S - 0.5 * beta * outer(k, S0.T @ e) - 0.5 * outer(f, S0.T @ k) + outer(d, v)
            o = S.T @ q
            """,
            {},
        ),
        "early_and_late": (
            """
            S0 = S
            S = exp(gk)[:, None] * S
            S = S - 0.5 * beta * outer(k, S0.T @ e) - 0.5 * outer(k, S.T @ e) + outer(d, v)
            o = S.T @ q
            """,
            {},
        ),
        "three_factors_channel": (
            """
            S = exp(gk)[:, None] * S
            for j in range(n):
                S = S + bn[j] * outer(kn[j], vn[j] - S.T @ kn[j])
            o = S.T @ q
            """,
            {"constants": "{n: 3}"},
        ),
        "four_factors": (
            """
            S = exp(g) * S
            for j in range(n):
                kj = l2norm(kn[j])
                S = S + bn[j] * outer(kj, vn[j] - S.T @ kj)
            o = scale * S.T @ q
            """,
            {"constants": "{n: 4, scale: K**-0.5}"},
        ),
        "four_decays_between": (
            """
            for j in range(n):
                S = keep * S
                S = S + bn[j] * outer(kn[j], vn[j] - S.T @ kn[j])
            o = S.T @ q
            """,
            {"constants": "{n: 4}"},
        ),
        "vector_state": (
            """
            s = exp(gk) * s + k
            o = dot(s, q)
            """,
            {"state": "{s: {shape: [K]}}"},
        ),
        "vector_rank_one": (
            """
            s = exp(g) * s
            s = s - beta * dot(s, e) * e + raw * k
            o = dot(s, q) * v
            """,
            {"state": "{s: {shape: [K]}}"},
        ),
        "householder_matrix": (
            """
            S = (eye(K) - wide * outer(k, k)) @ S + outer(k, v)
            o = S.T @ q
            """,
            {},
        ),
        "broadcast_write": (
            """
            S = exp(g) * S + k[:, None] * v[None, :]
            o = S.T @ q
            """,
            {},
        ),
        "rank_r_write": (
            """
            S = exp(g) * S + kr @ vr.T
            o = S.T @ q
            """,
            {"constants": "{n: 2}"},
        ),
        "two_groups": (
            """
            C = exp(g) * C + outer(d, f)
            y = softmax(C.T @ q)
            S = exp(g) * S + outer(f, v)
            o = S.T @ y
            """,
            {"state": "{C: {shape: [K, K]}, S: {shape: [K, V]}}"},
        ),
        "parameter_decay": (
            """
            S = exp(lam) * S + beta * outer(k, v - S.T @ k)
            o = S.T @ q
            """,
            {"parameters": '{lam: {shape: [], domain: "[-inf, 0]"}}'},
        ),
        "constant_decay": (
            """
            S = 0.9 * S
            S = S + beta * outer(k, v - S.T @ k)
            o = S.T @ q
            """,
            {},
        ),
        "sigmoid_decay": (
            """
            S = sigmoid(raw) * S
            S = S + outer(k, v)
            o = S.T @ q
            """,
            {},
        ),
        "channel_sigmoid_decay": (
            """
            S = diag(sigmoid(rawk)) @ S
            S = S + beta * outer(k, v - S.T @ k)
            o = S.T @ q
            """,
            {},
        ),
        "factor_decay": (
            """
            S = keep * S
            S = S + beta * outer(k, v - S.T @ k)
            o = S.T @ q
            """,
            {},
        ),
        "channel_factor_decay": (
            """
            S = openk[:, None] * S + outer(1 - openk, v)
            o = S.T @ q
            """,
            {},
        ),
        "mixed_signs": (
            """
            S = exp(g) * S
            S = S + 0.3 * beta * outer(k, S.T @ e)
            S = S - 0.3 * gamma * outer(e, S.T @ k) + outer(d, v)
            o = S.T @ q
            """,
            {},
        ),
        "mixed_signs_one_line": (
            """
            S = exp(g) * S + 0.3 * outer(k, S.T @ e) - 0.3 * outer(e, S.T @ k) - outer(d, v)
            o = -S.T @ q
            """,
            {},
        ),
    }.items()
}

_MOMENTUM = "{S: {shape: [K, V]}, M: {shape: [K, V]}}"
REFUSED = {
    name: (spec(name, step, **blocks), reason)
    for name, (step, reason, blocks) in {
        "tanh_of_state": (
            """
            S = exp(g) * S + outer(k, v)
            S = tanh(S)
            o = S.T @ q
            """,
            "line 9: `tanh`",
            {},
        ),
        "squared_state": (
            """
            S = S * S + outer(k, v)
            o = S.T @ q
            """,
            "line 7: a product of two values that depend on S",
            {},
        ),
        "full_decay": (
            """
            S = sigmoid(outer(d, v)) * S + outer(k, v)
            o = S.T @ q
            """,
            "line 8: the state is scaled elementwise by a full matrix",
            {},
        ),
        "gated_erase": (
            """
            S = S + outer(k, v - w * (S.T @ k))
            o = S.T @ q
            """,
            "line 8: an erased value is gated per value channel",
            {},
        ),
        "channel_decay_on_the_other_side": (
            """
            S = exp(gv)[None, :] * S
            S = S + beta * outer(k, v - S.T @ k)
            o = S.T @ q
            """,
            "state S",
            {},
        ),
        "coupled": (
            """
            M = keep * M + outer(k, v - S.T @ k)
            S = S + beta * M
            o = S.T @ q
            """,
            "depend on each other",
            {"state": _MOMENTUM},
        ),
        "state_as_output": (
            """
            S = exp(g) * S + outer(k, v)
            o = S
            """,
            "S itself is an output",
            {},
        ),
        "overwritten": (
            """
            o = S.T @ q
            S = outer(k, v)
            """,
            "line 8: the state is overwritten",
            {},
        ),
        "signed_decay": (
            """
            S = raw * S + outer(k, v)
            o = S.T @ q
            """,
            "line 8: a decay factor is not proved to be >= 0",
            {},
        ),
        "growing_channel": (
            """
            S = exp(rawk)[:, None] * S + outer(k, v)
            o = S.T @ q
            """,
            "line 8: a channel decay is not proved to be <= 1",
            {},
        ),
        "old_state_back": (
            """
            S0 = S
            S = exp(g) * S + outer(k, v)
            S = S0 + outer(k, v)
            o = S.T @ q
            """,
            "line 10: an earlier value of the state",
            {},
        ),
        "both_sides": (
            """
            S = S - beta * outer(k, S.T @ k)
            S = S - beta * outer(S @ u, u)
            o = S.T @ q
            """,
            "state S",
            {},
        ),
        "transposed_state": (
            """
            S = exp(g) * S.T + outer(k, d)
            o = S.T @ q
            """,
            "state S",
            {"state": "{S: {shape: [K, K]}}"},
        ),
        "quadratic_read": (
            """
            S = exp(g) * S + outer(k, v) * dot(S.T @ q, v)
            o = S.T @ q
            """,
            "state S",
            {},
        ),
        "read_by_a_read": (
            """
            S = exp(g) * S + outer(k, S.T @ (S @ v))
            o = S.T @ q
            """,
            "a product of two values that depend on S",
            {},
        ),
    }.items()
}
