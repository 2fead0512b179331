"""Token mixers around the ops, and a causal language model of them.

mixer = lincodegen.nn.mixer("gated_delta_rule", width=512, heads=4)
y = mixer(x)  # [B, T, 512]
model = lincodegen.nn.CausalLM("kda", vocabulary=50_000, width=512, heads=4, layers=8)
"""

from __future__ import annotations

from lincodegen.nn.cache import Cache
from lincodegen.nn.causal_lm import Block, CausalLM
from lincodegen.nn.factory import mixer
from lincodegen.nn.rule import Layer, Rule, Stream
from lincodegen.nn.rules import RULES
from lincodegen.nn.token_mixer import TokenMixer

__all__ = ["RULES", "Block", "Cache", "CausalLM", "Layer", "Rule", "Stream", "TokenMixer", "mixer"]
