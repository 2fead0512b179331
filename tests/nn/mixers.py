"""Small mixers and models of every rule, away from starts at which parts of them are 0."""

import torch

from lincodegen.nn import RULES, CausalLM, TokenMixer, mixer

WIDTH = 24
HEADS = 2
VOCABULARY = 11
SIZES = {"mamba2": {"K": 12}}

TOLERANCE = 1e-5
"""Relative to the largest number: float32 in another order of summation."""

EVERY_RULE = tuple(RULES)


def drawn(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def shaken(module: torch.nn.Module, by: float = 0.05) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for x in module.parameters():
            x.add_(by * torch.randn(x.shape, generator=generator))
    return module


def small(name: str, **options) -> TokenMixer:
    torch.manual_seed(0)
    given = {"width": WIDTH, "heads": HEADS, "layer": 1, "layers": 3, **SIZES.get(name, {})}
    return shaken(mixer(name, **given | options))


def small_model(name: str, **options) -> CausalLM:
    torch.manual_seed(0)
    given = {"vocabulary": VOCABULARY, "width": WIDTH, "heads": HEADS, "layers": 2}
    return shaken(CausalLM(name, **given | SIZES.get(name, {}) | options), by=0.2)


def assert_near(found: torch.Tensor, wanted: torch.Tensor, tolerance: float = TOLERANCE) -> None:
    assert found.shape == wanted.shape
    scale = wanted.abs().max().item()
    assert scale > 0
    assert (found - wanted).abs().max().item() <= tolerance * scale
