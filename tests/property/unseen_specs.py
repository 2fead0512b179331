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
    "matrix": "{shape: [K, K]}",
    "raw": "{shape: []}",
    "rawk": "{shape: [K]}",
    "beta": '{shape: [], domain: "[0, 1]"}',
    "gamma": '{shape: [], domain: "[0, 1]"}',
    "wide": '{shape: [], domain: "[0, 2]"}',
    "keep": '{shape: [], domain: "[0, 1]"}',
    "keepk": '{shape: [K], domain: "[0, 1]"}',
    "slowk": '{shape: [K], domain: "[-1, 0]"}',
    "soft": '{shape: [], domain: "[0.02, 1]"}',
    "openk": '{shape: [K], domain: "[0.02, 1]"}',
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
        "bounded_channel_decay": (
            """
            S = exp(slowk)[:, None] * S
            p = S.T @ d
            S = S + outer(k, v)
            o = S.T @ q
            """,
            {"outputs": "[p, o]"},
        ),
        "bounded_channel_erase": (
            """
            S = diag(0.5 + 0.5 * keepk) @ S
            S = exp(g) * S
            S = S - beta * outer(k, S.T @ e) + outer(d, v)
            o = S @ u + d
            p = S.T @ q
            """,
            {"outputs": "[o, p]"},
        ),
        "early_column": (
            """
            o = (S - beta * outer(k, S.T @ k) + outer(d, v)) @ u
            S = exp(g) * S + outer(k, v)
            """,
            {},
        ),
        "early_row_of_a_value_side": (
            """
            S = S - outer(S @ u, u) + outer(d, v)
            o = (0.5 * S - beta * outer(S @ u, u) + outer(d, v)).T @ q
            """,
            {},
        ),
        "sums_of_the_state": (
            """
            S = exp(g) * S - outer(k, sum(S * k[:, None], axis=0)) + outer(d, v)
            o = sum(S, axis=0)
            p = sum(S, axis=1) + q
            """,
            {"outputs": "[o, p]"},
        ),
        "quotients": (
            """
            S = S / (1 + wide) + outer(k, v) / (1 + keep)
            o = S.T @ q / 2
            """,
            {},
        ),
        "a_read_used_twice": (
            """
            S = exp(g) * S + outer(k, v)
            y = S.T @ q
            o = silu(y) * rmsnorm(y) + tanh(dot(y, v)) * y
            p = outer(y, v)
            """,
            {"outputs": "[o, p]"},
        ),
        "constant_key": (
            """
            S = exp(g) * S + outer(ones(K), v) - outer(p0, v)
            o = S.T @ (p0 * q)
            """,
            {"parameters": "{p0: {shape: [K]}}"},
        ),
        "never_written": (
            """
            o = S.T @ q
            S = exp(g) * S
            p = S @ v
            """,
            {"outputs": "[o, p]"},
        ),
        "square_state": (
            """
            S = exp(g) * S
            S = S + beta * outer(k, d - S.T @ k)
            o = S.T @ q + S @ q
            """,
            {"state": "{S: {shape: [K, K]}}"},
        ),
        "normaliser": (
            """
            S = exp(g) * S + outer(k, v)
            z = exp(g) * z + k
            o = (S.T @ q) / maximum(abs(dot(z, q)), 1)
            """,
            {"state": "{S: {shape: [K, V]}, z: {shape: [K]}}"},
        ),
        "gate_of_another_state": (
            """
            z = exp(g) * z + k
            S = sigmoid(dot(z, q)) * S + beta * outer(k, v - S.T @ k)
            o = S.T @ q
            """,
            {"state": "{z: {shape: [K]}, S: {shape: [K, V]}}"},
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
    name: (spec(name, step, **blocks), statement, reason)
    for name, (step, statement, reason, blocks) in {
        "tanh_of_state": (
            """
            S = exp(g) * S + outer(k, v)
            S = tanh(S)
            o = S.T @ q
            """,
            "S = tanh(S)",
            "`tanh` makes the update non-linear in S",
            {},
        ),
        "squared_state": (
            """
            S = S * S + outer(k, v)
            o = S.T @ q
            """,
            "S = S * S",
            "a product of two values that depend on S",
            {},
        ),
        "full_decay": (
            """
            S = sigmoid(outer(d, v)) * S + outer(k, v)
            o = S.T @ q
            """,
            "S = sigmoid",
            "the state is scaled elementwise by a full matrix",
            {},
        ),
        "gated_erase": (
            """
            S = exp(g) * S
            S = S + outer(k, v - w * (S.T @ k))
            o = S.T @ q
            """,
            "S = S + outer",
            "an erased value is gated per value channel",
            {},
        ),
        "decay_on_the_other_side": (
            """
            S = exp(gv)[None, :] * S
            S = S + beta * outer(k, v - S.T @ k)
            o = S.T @ q
            """,
            "S = ",
            "state S",
            {},
        ),
        "coupled_momentum": (
            """
            M = keep * M + outer(k, v - S.T @ k)
            S = S + beta * M
            o = S.T @ q
            """,
            "",
            "the states S, M depend on each other",
            {"state": _MOMENTUM},
        ),
        "state_as_output": (
            """
            S = exp(g) * S + outer(k, v)
            o = S
            """,
            "o = S",
            "S itself is an output",
            {},
        ),
        "state_used_elementwise": (
            """
            S = exp(g) * S + outer(k, v)
            o = sum(relu(S), axis=0) + q[0] * v
            """,
            "o = sum",
            "`relu`",
            {},
        ),
        "overwritten": (
            """
            o = S.T @ q
            S = outer(k, v)
            """,
            "S = outer",
            "the state is overwritten by a value without its past",
            {},
        ),
        "signed_decay": (
            """
            S = raw * S + outer(k, v)
            o = S.T @ q
            """,
            "S = raw",
            "a decay factor is not proved to be >= 0",
            {},
        ),
        "growing_channel": (
            """
            S = exp(rawk)[:, None] * S + outer(k, v)
            o = S.T @ q
            """,
            "S = exp",
            "a channel decay is not proved to be <= 1",
            {},
        ),
        "old_state_back": (
            """
            S0 = S
            S = exp(g) * S + outer(k, v)
            S = S0 + outer(k, v)
            o = S.T @ q
            """,
            "S = S0",
            "an earlier value of the state replaces later updates",
            {},
        ),
        "two_values_added": (
            """
            S0 = S
            S = exp(g) * S + outer(k, v)
            S = S + 0.5 * S0
            o = S.T @ q
            """,
            "S = S + 0.5",
            "two values of the state from different lines are added",
            {},
        ),
        "both_sides": (
            """
            S = S - beta * outer(k, S.T @ k)
            S = S - beta * outer(S @ u, u)
            o = S.T @ q
            """,
            "S = S",
            "the transition acts on the other side of the state",
            {},
        ),
        "transposed_state": (
            """
            S = exp(g) * S.T + outer(k, d)
            o = S.T @ q
            """,
            "S = exp",
            "the state becomes its own transpose",
            {"state": "{S: {shape: [K, K]}}"},
        ),
        "full_transition": (
            """
            S = matrix @ S + outer(k, v)
            o = S.T @ q
            """,
            "S = matrix",
            "`input` gives a matrix that is no sum of outer products",
            {},
        ),
        "quadratic_read": (
            """
            S = exp(g) * S + outer(k, v) * dot(S.T @ q, v)
            o = S.T @ q
            """,
            "S = exp",
            "state S",
            {},
        ),
        "read_by_a_read": (
            """
            S = exp(g) * S + outer(k, S.T @ (S @ v))
            o = S.T @ q
            """,
            "S = exp",
            "a product of two values that depend on S",
            {},
        ),
        "division_by_a_read": (
            """
            S = exp(g) * S + outer(k, v / (1 + abs(S.T @ k)))
            o = S.T @ q
            """,
            "S = exp",
            "a division by a value that depends on S",
            {},
        ),
    }.items()
}
