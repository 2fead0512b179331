"""Models of transformers with random weights, two layers and few channels."""

import importlib
from dataclasses import dataclass
from typing import Any

import torch

VOCABULARY = 64

ATTENTION = {"num_attention_heads": 2, "num_key_value_heads": 2}
GROUPED = {
    **ATTENTION,
    "head_dim": 16,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 24,
    "layer_types": ["linear_attention", "full_attention"],
}
LATENT = {
    **ATTENTION,
    "kv_lora_rank": 8,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 16,
    "linear_head_dim": 16,
    "linear_num_heads": 2,
    "num_local_experts": 4,
    "layer_types": ["linear_attention", "full_attention"],
}
EXPERTS = {
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
}


@dataclass(frozen=True)
class Tiny:
    """A model by its folder in transformers, its two classes there and its settings."""

    folder: str
    config: str
    model: str
    settings: dict[str, Any]

    def make(self) -> torch.nn.Module:
        """The model with decays of a trained one: none that forgets within a token."""
        module = importlib.import_module(f"transformers.models.{self.folder}")
        common = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2}
        common |= {"pad_token_id": 0, "bos_token_id": None, "eos_token_id": None}
        torch.manual_seed(0)
        config = getattr(module, self.config)(**common | self.settings)
        model = getattr(module, self.model)(config).eval()
        with torch.no_grad():
            for name, x in model.named_parameters():
                if name.endswith("A_log"):
                    x.copy_(torch.linspace(0.05, 0.5, x.numel()).log().reshape(x.shape))
                elif x.dim() > 1:
                    x.mul_(5)
        return model


MODELS = {
    x.folder: x
    for x in (
        Tiny(
            "qwen3_next",
            "Qwen3NextConfig",
            "Qwen3NextForCausalLM",
            {
                **GROUPED,
                **EXPERTS,
                "num_experts": 4,
                "shared_expert_intermediate_size": 16,
                "intermediate_size": 48,
            },
        ),
        Tiny(
            "qwen3_5",
            "Qwen3_5TextConfig",
            "Qwen3_5ForCausalLM",
            {**GROUPED, "intermediate_size": 48},
        ),
        Tiny(
            "qwen3_5_moe",
            "Qwen3_5MoeTextConfig",
            "Qwen3_5MoeForCausalLM",
            {**GROUPED, **EXPERTS, "num_experts": 4, "shared_expert_intermediate_size": 16},
        ),
        Tiny(
            "olmo_hybrid",
            "OlmoHybridConfig",
            "OlmoHybridForCausalLM",
            {**GROUPED, "intermediate_size": 48, "linear_num_key_heads": 4},
        ),
        Tiny(
            "kimi_linear",
            "KimiLinearConfig",
            "KimiLinearForCausalLM",
            {**LATENT, **EXPERTS, "intermediate_size": 48},
        ),
    )
}
