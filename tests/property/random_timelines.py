"""Random event timelines: steps that must all have a chunked form, whatever their order.

Statements are drawn one by one: decays, kept values of the state, rank-1 updates that erase from
any value kept so far, plain writes, reads of rows and columns at any point.
"""

from __future__ import annotations

import re
from random import Random

from tests.property.unseen_specs import spec

_DECAYS = (
    "exp(g)", "exp(h)", "keep", "sigmoid(raw)", "0.9",
    "exp(-0.25)", "exp(lam)", "sqrt(soft)", "soft ** 3",
    "(1 - 0.5 * keep)", "2 ** minimum(raw, 0)", "where(raw > 0, soft, exp(g))",
)  # fmt: skip
_CHANNELS = ("exp(gk)", "keepk", "sigmoid(rawk)", "exp(-0.5 * abs(rawk))", "(1 - 0.5 * openk)")
_SCALARS = ("beta", "gamma", "sigmoid(raw)", "-beta", "0.5", "tanh(raw)")
_KEYS = ("k", "e", "f", "l2norm(d)", "(a * k)", "-e")
_VALUES = ("v", "w * v", "silu(v)", "-v", "gamma * v")


def random_timeline(seed: int) -> str:
    """The text of a spec, always the same for a seed."""
    random = Random(seed)
    right = random.random() < 0.25
    step = _Step(random, right)
    for _ in range(random.randint(2, 7)):
        random.choice((step.decay, step.event, step.event, step.write, step.keep, step.read))()
    if not step.updated:
        step.event()
    step.finish()
    text = "\n".join(step.lines)
    blocks = {"constants": "{scale: K**-0.5}"} if "scale" in text else {}
    if "lam" in text:
        blocks["parameters"] = '{lam: {shape: [], domain: "[-inf, 0]"}}'
    blocks["outputs"] = f"[{', '.join(step.outputs)}]"
    if right:
        blocks["state"] = "{S: {shape: [V, K]}}"
    return spec(f"timeline_{seed}", text, **blocks)


class _Step:
    """Statements drawn so far; ``kept`` are names of values of the state."""

    def __init__(self, random: Random, right: bool) -> None:
        self.random, self.right = random, right
        self.lines: list[str] = []
        self.outputs: list[str] = []
        self.kept = ["S"]
        self.updated = False
        self.gain = 0.9

    def pick(self, options: tuple[str, ...] | list[str]) -> str:
        return self.random.choice(options)

    def decay(self) -> None:
        if self.random.random() < 0.6:
            self.lines.append(f"S = {self.pick(_DECAYS)} * S")
        elif self.right:
            self.lines.append(f"S = S * {self.pick(_CHANNELS)}[None, :]")
        else:
            self.lines.append(f"S = {self.pick(_CHANNELS)}[:, None] * S")
        self.updated = True

    def outer(self, key: str, value: str) -> str:
        return f"outer({value}, {key})" if self.right else f"outer({key}, {value})"

    def row_read(self, state: str, key: str) -> str:
        return f"{state} @ {key}" if self.right else f"{state}.T @ {key}"

    def event(self) -> None:
        self.gain *= 0.6
        read = self.row_read(self.pick(self.kept), self.pick(_KEYS))
        strength = f"{self.gain:.3g} * {self.pick(_SCALARS)}"
        sign = self.pick("+-")
        value = f"{self.pick(_VALUES)} - {read}" if self.random.random() < 0.5 else read
        self.lines.append(f"S = S {sign} {strength} * {self.outer(self.pick(_KEYS), value)}")
        self.updated = True

    def write(self) -> None:
        strength = self.pick(("", "beta * ", "-", "0.5 * "))
        update = f"{strength}{self.outer(self.pick((*_KEYS, 'd')), self.pick(_VALUES))}"
        self.lines.append(f"S = S + {update}")
        self.updated = True

    def keep(self) -> None:
        name = f"S{len(self.kept)}"
        self.lines.append(f"{name} = S")
        self.kept.append(name)

    def read(self) -> None:
        name = f"o{len(self.outputs)}"
        state, factor = self.pick(self.kept), self.pick(("", "scale * ", "0.5 * ", "beta * "))
        if self.random.random() < 0.25:
            column = f"{state}.T @ v" if self.right else f"{state} @ v"
            self.lines.append(f"{name} = {factor}({column})")
        else:
            self.lines.append(f"{name} = {factor}({self.row_read(state, 'q')})")
        self.outputs.append(name)

    def finish(self) -> None:
        text = "\n".join(self.lines)
        if "v" not in re.findall(r"\w+", text):
            self.lines.append(f"S = S + {self.outer('k', 'v')}")
        unread = [n for n in self.kept if n != "S" and not re.search(rf"{n}\b(?! = S)", text)]
        self.lines = [line for line in self.lines if line.split(" = ")[0] not in unread]
        self.lines.append(f"o = {self.row_read('S', 'q')}")
        self.outputs.append("o")
