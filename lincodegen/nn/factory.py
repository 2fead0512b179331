"""Mixers by the name of their rule."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from lincodegen.loading import load_shipped
from lincodegen.nn.rule import Layer, Rule
from lincodegen.nn.rules import RULES
from lincodegen.nn.token_mixer import TokenMixer
from lincodegen.runtime.op import Op
from lincodegen.runtime.signature import Signature
from lincodegen.runtime.sizes import dimension


def mixer(
    rule: str | Rule,
    *,
    width: int,
    heads: int,
    layer: int = 0,
    layers: int = 1,
    op: Op | None = None,
    **sizes: int,
) -> TokenMixer:
    """The token mixer of a rule.

    Args:
        rule: a name in ``RULES``, or a description of one's own.
        width: channels of the hidden state.
        heads: heads, which divide the width.
        layer: place of the mixer in its model, from 0; some starts and decays depend on it.
        layers: how many layers the model has.
        op: the op; None: the shipped one of that name.
        sizes: dimensions of the spec, such as ``K=64, V=128``; the rule has defaults.

    Raises:
        ValueError: the name, a size or the layer does not fit.
    """
    if isinstance(rule, str):
        name, rule = rule, _described(rule)
        op = load_shipped(name) if op is None else op
    if op is None:
        raise ValueError("mixer: no op for a rule of one's own; expected: op=lincodegen.load(...)")
    if width < 1 or heads < 1 or width % heads:
        raise ValueError(f"mixer: {heads} heads at width {width}; expected: a divisor of it")
    if not 0 <= layer < layers:
        raise ValueError(f"mixer: layer {layer}; expected: one from 0 to {layers - 1}")
    known = _dimensions(op.signature)
    defaults = {n: x for n, x in rule.sizes(width // heads).items() if n in known}
    _check_sizes(op, sizes, known, defaults)
    return TokenMixer(rule, op, Layer(width, heads, {**defaults, **sizes}, layer, layers))


def _dimensions(signature: Signature) -> list[str]:
    """The dimensions of an op, each once."""
    shapes = [x.shape for x in (*signature.inputs, *signature.parameters)]
    named = [dimension(size) for shape in shapes for size in shape]
    return list(dict.fromkeys(x[0] for x in named if x is not None))


def _check_sizes(
    op: Op, given: Mapping[str, int], known: Sequence[str], defaults: Mapping[str, int]
) -> None:
    name = f"mixer of {op.signature.name}"
    for size, value in given.items():
        if size not in known:
            raise ValueError(f"{name}: a size {size}; expected: one of {', '.join(known)}")
        if value < 1:
            raise ValueError(f"{name}: {size} = {value}; expected: 1 or more")
    missing = [size for size in known if size not in given and not defaults.get(size)]
    if missing:
        raise ValueError(f"{name}: no size {missing[0]}; expected: {missing[0]}=...")


def _described(name: str) -> Rule:
    if name not in RULES:
        near = difflib.get_close_matches(name, RULES, 1)
        hint = f"{near[0]}?" if near else f"one of {', '.join(RULES)}"
        raise ValueError(f"mixer: no rule {name!r}; expected: {hint}")
    return RULES[name]
