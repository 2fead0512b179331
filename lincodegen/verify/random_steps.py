"""Random valid specs: recurrences of no paper, for which everything must hold as for known ones.

A spec has a matrix state S [K, V], one or two decays a token, 1 to 4 rank-1 events, reads
before, between and after them, and now and then a normaliser, a gate, a bonus or a
non-linear update that has no chunked form. Transitions stay non-expansive: erase keys have a
norm of at most 1, tied ones a factor of at most 2, the others of a token together 1/2.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

LOG_DECAY = '"[-inf, 0]"'
UNIT = '"[0, 1]"'


@dataclass(slots=True)
class _Draft:
    """A spec in the making; inputs are declared at their first use, so that all are read."""

    random: Random
    events: int
    inputs: dict[str, str] = field(default_factory=dict)
    parameters: dict[str, str] = field(default_factory=dict)
    constants: dict[str, str] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=lambda: {"S": "[K, V]"})
    prologue: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=lambda: ["o"])

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.random.random() < probability

    def input(self, name: str, shape: str, **promises: str) -> str:
        """Declare an input, once, and return its name."""
        self.inputs[name] = _fields(shape, promises)
        return name

    def parameter(self, name: str, shape: str, **promises: str) -> str:
        """Declare a parameter, once, and return its name."""
        self.parameters[name] = _fields(shape, promises)
        return name

    def text(self, name: str) -> str:
        """The spec file."""
        blocks = [f"name: {name}"]
        for title in ("inputs", "parameters", "constants"):
            entries: dict[str, str] = getattr(self, title)
            if entries:
                blocks.append(
                    "\n".join([f"{title}:", *(f"  {n}: {v}" for n, v in entries.items())])
                )
        blocks.append(
            "state: {" + ", ".join(f"{n}: {{shape: {s}}}" for n, s in self.states.items()) + "}"
        )
        if self.outputs != ["o"]:
            blocks.append(f"outputs: [{', '.join(self.outputs)}]")
        blocks.append("\n".join(["step: |", *(f"  {s}" for s in self.prologue + self.lines)]))
        return "\n".join(blocks) + "\n"


def _fields(shape: str, promises: dict[str, str]) -> str:
    return "{" + ", ".join([f"shape: {shape}", *(f"{n}: {v}" for n, v in promises.items())]) + "}"


def random_recurrence(seed: int) -> str:
    """The text of a valid spec, always the same for a seed."""
    draft = _Draft(Random(seed), events=Random(seed + 1).choice((1, 1, 1, 2, 2, 3, 4)))
    if draft.events > 1:
        draft.constants["n"] = str(draft.events)
    if draft.chance(0.8):
        draft.constants["scale"] = draft.random.choice(("K**-0.5", "0.5", "1.0 / K"))
    right = draft.chance(0.15)
    kind = draft.random.choice(("additive", "tied", "tied", "untied", "untied"))
    early = kind == "untied" and draft.chance(0.4)
    _read_before(draft)
    if early:
        draft.lines.append("S0 = S")
    decays = _decays(draft, right, kind)
    late = decays.pop() if len(decays) == 2 and draft.chance(0.5) else None
    draft.lines += decays
    _events(draft, right, kind, "S0" if early else "S")
    if late is not None:
        draft.lines.append(late)
    _normaliser(draft)
    if draft.chance(0.06):
        draft.lines.append(draft.random.choice(("S = tanh(S)", "S = l2norm(S)")))
    _read_after(draft)
    return draft.text(f"random_{seed}")


def _decays(draft: _Draft, right: bool, kind: str) -> list[str]:
    """Statements of no, one or two decays; channel decays on the side of the transition.

    One spec in twenty has a decay on the other side, which rules the chunked form out.
    """
    channel = "value" if right or (kind == "additive" and draft.chance(0.3)) else "key"
    if draft.chance(0.05):
        channel = "key" if channel == "value" else "value"
    count = draft.random.choice((0, 1, 1, 1, 2))
    kinds = [
        draft.random.choice(("scalar", channel, "constant", "parameter")) for _ in range(count)
    ]
    return [_decay(draft, what, f"g{i}") for i, what in enumerate(kinds)]


def _decay(draft: _Draft, kind: str, name: str) -> str:
    if kind == "constant":
        return f"S = {draft.random.choice(('0.9', 'exp(-0.125)', '0.5'))} * S"
    if kind == "parameter":
        return f"S = exp({draft.parameter(name, '[]', domain=LOG_DECAY)}) * S"
    shape = {"scalar": "[]", "key": "[K]", "value": "[V]"}[kind]
    factor = _factor(draft, name, shape)
    if kind == "scalar":
        return f"S = {factor} * S"
    if kind == "key":
        return draft.random.choice((f"S = {factor}[:, None] * S", f"S = diag({factor}) @ S"))
    return draft.random.choice((f"S = {factor}[None, :] * S", f"S = S @ diag({factor})"))


def _factor(draft: _Draft, name: str, shape: str) -> str:
    """A decay factor: of a log decay, a raw gate, or as it is."""
    form = draft.random.choice(("log", "log", "log", "softplus", "sigmoid", "factor"))
    if form == "log":
        return f"exp({draft.input(name, shape, domain=LOG_DECAY)})"
    if form == "softplus":
        rate = draft.parameter(f"a{name}", "[]", domain='"[0, 4]"')
        draft.prologue.append(f"{name} = -{rate} * softplus({draft.input(f'x{name}', shape)})")
        return f"exp({name})"
    if form == "sigmoid":
        return f"sigmoid({draft.input(name, shape)})"
    return f"{draft.input(name, shape, domain=UNIT)}"


def _events(draft: _Draft, right: bool, kind: str, seen: str) -> None:
    """1 to 4 rank-1 updates, in a loop where there are several; ``seen`` is the state erased."""
    index, lead = ("[j]", "[n, {}]") if draft.events > 1 else ("", "[{}]")
    own, other = ("V", "K") if right else ("K", "V")
    norm = {"norm": UNIT} if kind != "additive" or draft.chance(0.5) else {}
    key = draft.input("k", lead.format(own), **norm) + index
    value = draft.input("v", lead.format(other)) + index
    body: list[str] = []
    if draft.chance(0.2):
        body.append(f"kj = l2norm({key})")
        key = "kj"
    if draft.chance(0.2):
        value = f"{draft.input('w', f'[{other}]', domain=UNIT)} * {value}"
    body += _update(draft, kind, (key, value, seen), right)
    if draft.events > 1 and draft.chance(0.15):
        body.append("r = r + " + _query(draft, right))
        draft.lines.append("r = zeros(V)")
        draft.outputs.append("r")
    loop = draft.events > 1
    draft.lines += (["for j in range(n):"] if loop else []) + [
        "    " * loop + line for line in body
    ]


def _update(draft: _Draft, kind: str, names: tuple[str, str, str], right: bool) -> list[str]:
    key, value, seen = names
    if kind == "additive":
        return [f"S = S + {_outer(key, value, right)}"]
    gate = _strength(draft, '"[0, 2]"' if kind == "tied" and draft.chance(0.5) else UNIT)
    if kind == "tied":
        erased = f"{value} - {_applied(seen, key, right)}"
        return [f"S = S + {gate}{_outer(key, erased, right)}"]
    erase = _erase_key(draft, key, right)
    erased = f"{0.5 / draft.events:.3g} * {gate}" + _outer(key, _applied(seen, erase, right), right)
    if draft.chance(0.5):
        return [f"S = S - {erased} + {_outer(key, value, right)}"]
    return [f"S = S - {erased}", f"S = S + {_outer(key, value, right)}"]


def _strength(draft: _Draft, domain: str) -> str:
    """The scalar factor of an event, written in front of it."""
    index, shape = ("[j]", "[n]") if draft.events > 1 else ("", "[]")
    form = draft.random.choice(("none", "domain", "domain", "sigmoid"))
    if form == "domain":
        return f"{draft.input('beta', shape, domain=domain)}{index} * "
    return f"sigmoid({draft.input('beta', shape)}{index}) * " if form == "sigmoid" else ""


def _erase_key(draft: _Draft, key: str, right: bool) -> str:
    """The key an untied event reads with: one of its own, or the written one behind a gate."""
    own = "V" if right else "K"
    if draft.chance(0.5):
        index, shape = ("[j]", f"[n, {own}]") if draft.events > 1 else ("", f"[{own}]")
        return draft.input("e", shape, norm=UNIT) + index
    return f"({draft.input('a', f'[{own}]', domain=UNIT)} * {key})"


def _outer(key: str, value: str, right: bool) -> str:
    return f"outer({value}, {key})" if right else f"outer({key}, {value})"


def _applied(state: str, key: str, right: bool) -> str:
    return f"{state} @ {key}" if right else f"{state}.T @ {key}"


def _query(draft: _Draft, right: bool) -> str:
    scale = "scale * " if "scale" in draft.constants else ""
    return f"{scale}S.T @ {draft.input('q', '[K]')}"


def _read_before(draft: _Draft) -> None:
    """A read of the previous token's state, as an output of its own or a summand."""
    if draft.chance(0.25):
        draft.lines.append(f"p = {_query(draft, False)}")
        if draft.chance(0.5):
            draft.outputs.append("p")


def _read_after(draft: _Draft) -> None:
    read = _query(draft, False)
    if any(line.startswith("p = ") for line in draft.lines) and "p" not in draft.outputs:
        read = f"p + {read}"
    if "z" in draft.states:
        read = f"({read}) / maximum(abs(dot(z, {draft.input('q', '[K]')})), 1)"
    if draft.events == 1 and "w" not in draft.inputs and draft.chance(0.15):
        read += " + dot(q, u) * m"
        draft.parameter("u", "[K]")
        draft.input("m", "[V]")
    draft.lines.append(f"o = {read}")
    if draft.chance(0.15):
        draft.lines[-1] = f"y = {read}"
        draft.lines.append(f"o = silu({draft.input('gate', '[V]')}) * rmsnorm(y)")


def _normaliser(draft: _Draft) -> None:
    """A second state z [K] that sums up the keys the outputs are divided by."""
    if draft.chance(0.12):
        draft.states["z"] = "[K]"
        draft.lines.append(f"z = 0.9 * z + {draft.input('kz', '[K]')}")
