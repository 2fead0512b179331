"""A small causal language model of token mixers."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from lincodegen.nn.cache import Cache
from lincodegen.nn.factory import mixer
from lincodegen.nn.rule import Rule
from lincodegen.nn.starts import normal
from lincodegen.nn.token_mixer import TokenMixer
from lincodegen.runtime.op import Op

EPS = 1e-5


class Block(nn.Module):
    """A mixer and a SwiGLU layer (Shazeer 2020, arXiv:2002.05202), each behind an RMS norm."""

    def __init__(self, mixer: TokenMixer, inner: int) -> None:
        super().__init__()
        width = mixer.layer.width
        self.mixer = mixer
        self.mixer_norm = nn.RMSNorm(width, eps=EPS)
        self.feed_norm = nn.RMSNorm(width, eps=EPS)
        self.up = nn.Linear(width, 2 * inner, bias=False)
        self.down = nn.Linear(inner, width, bias=False)

    def forward(
        self, x: Tensor, cache: Cache | None = None, cu_seqlens: Tensor | None = None
    ) -> Tensor:
        """[B, T, width] to the same; arguments as those of the mixer."""
        x = x + self.mixer(self.mixer_norm(x), cache, cu_seqlens)
        gate, up = self.up(self.feed_norm(x)).chunk(2, -1)
        return x + self.down(functional.silu(gate) * up)


class CausalLM(nn.Module):
    """Tokens [B, T] to logits of the next ones [B, T, vocabulary]; embedding and head are tied.

    Weights are normal with 0.02, those that write to the residual stream divided by
    sqrt(2 layers) (Radford et al. 2019); what a mixer starts with is its rule's.

    Args:
        rule: as in ``mixer``, as are width, heads, op and sizes.
        vocabulary: how many tokens there are.
        width: channels of the hidden state.
        heads: heads of every mixer.
        layers: how many blocks.
        op: the op; None: the shipped one.
        sizes: dimensions of the spec.

    Attributes:
        checkpointing: whether training recomputes the blocks in the backward to save memory.
    """

    def __init__(
        self,
        rule: str | Rule,
        *,
        vocabulary: int,
        width: int,
        heads: int,
        layers: int,
        op: Op | None = None,
        **sizes: int,
    ) -> None:
        super().__init__()
        self.checkpointing = False
        self.embedding = nn.Embedding(vocabulary, width)
        inner = math.ceil(8 * width / (3 * 32)) * 32
        mixers = [
            mixer(rule, width=width, heads=heads, layer=i, layers=layers, op=op, **sizes)
            for i in range(layers)
        ]
        blocks = [Block(m, inner) for m in mixers]
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.RMSNorm(width, eps=EPS)
        for m in mixers[1:]:
            for name in m.rule.shared:
                m.learned[name] = mixers[0].learned[name]
        with torch.no_grad():
            normal(self.embedding.weight)
            for block in blocks:
                normal(block.up.weight)
                normal(block.down.weight).div_(math.sqrt(2 * layers))
                block.mixer.out.weight.div_(math.sqrt(2 * layers))

    def forward(
        self,
        tokens: Tensor,
        cache: Cache | None = None,
        cu_seqlens: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Logits at every token.

        Args:
            tokens: [B, T].
            cache: what came before, updated; None: nothing.
            cu_seqlens: [N + 1], rows at which N packed sequences start; B is 1 then.
            mask: [B, T], False where a token is padding, on either side. The others are packed,
                so that nothing depends on padding; logits there are 0.

        Raises:
            ValueError: a shape does not fit, or mask and cu_seqlens are both given.
        """
        if mask is None:
            return self._logits(self._hidden(tokens, cache, cu_seqlens))
        if cu_seqlens is not None:
            raise ValueError("CausalLM: mask and cu_seqlens; expected: one of them")
        packed, offsets = _packed(tokens, mask)
        found = self._logits(self._hidden(packed, cache, offsets))
        logits = found.new_zeros(*tokens.shape, found.shape[-1])
        logits[mask.bool()] = found[0]
        return logits

    @torch.no_grad()
    def generate(
        self,
        tokens: Tensor,
        max_new_tokens: int,
        *,
        temperature: float = 0.0,
        mask: Tensor | None = None,
        stop: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The tokens and those that follow, [B, T + at most max_new_tokens].

        Args:
            tokens: [B, T], T at least 1.
            max_new_tokens: how many are made.
            temperature: the most likely token at 0, else samples of the softmax of
                logits / temperature.
            mask: [B, T], False where a token is padding.
            stop: the token that ends a sequence and fills it up; all having ended, it returns.
            generator: draws the samples.

        Raises:
            ValueError: a sequence is empty, or a number does not fit.
        """
        _check_request(tokens, max_new_tokens, temperature)
        cache = Cache()
        if mask is None:
            last = self._hidden(tokens, cache, None)[:, -1]
        else:
            packed, offsets = _packed(tokens, mask)
            if not bool((offsets.diff() > 0).all()):
                raise ValueError("generate: a sequence is all padding; expected: a token in each")
            last = self._hidden(packed, cache, offsets)[0, offsets[1:] - 1]
        ended = torch.zeros(tokens.shape[0], dtype=torch.bool, device=tokens.device)
        for made in range(max_new_tokens):
            if made:
                last = self._hidden(tokens[:, -1:], cache, None)[:, -1]
            chosen = _choose(self._logits(last), temperature, generator)
            if stop is not None:
                chosen = chosen.masked_fill(ended, stop)
                ended |= chosen == stop
            tokens = torch.cat((tokens, chosen[:, None]), 1)
            if stop is not None and bool(ended.all()):
                break
        return tokens

    def _hidden(self, tokens: Tensor, cache: Cache | None, cu_seqlens: Tensor | None) -> Tensor:
        """[B, T, width] before the head."""
        if tokens.dim() != 2 or tokens.dtype not in (torch.int32, torch.int64):
            found = f"the shape {list(tokens.shape)} in {str(tokens.dtype).removeprefix('torch.')}"
            raise ValueError(f"CausalLM: tokens have {found}; expected: [B, T] in int32 or int64")
        x = self.embedding(tokens)
        for block in self.blocks:
            if self.checkpointing and self.training and cache is None:
                x = checkpoint(block, x, None, cu_seqlens, use_reentrant=False)
            else:
                x = block(x, cache, cu_seqlens)
        return self.norm(x)

    def _logits(self, hidden: Tensor) -> Tensor:
        return functional.linear(hidden, self.embedding.weight)


def _packed(tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The tokens that are none of padding in one row [1, N], and where sequences start."""
    if mask.shape != tokens.shape:
        raise ValueError(
            f"CausalLM: the mask has the shape {list(mask.shape)}; expected: {list(tokens.shape)}"
        )
    kept = mask.bool()
    return tokens[kept][None], functional.pad(kept.sum(1).cumsum(0), (1, 0))


def _check_request(tokens: Tensor, max_new_tokens: int, temperature: float) -> None:
    if tokens.dim() != 2 or not tokens.shape[1]:
        raise ValueError(
            f"generate: tokens have the shape {list(tokens.shape)}; expected: [B, T], T at least 1"
        )
    if max_new_tokens < 0:
        raise ValueError(f"generate: max_new_tokens = {max_new_tokens}; expected: 0 or more")
    if not temperature >= 0:
        raise ValueError(f"generate: temperature = {temperature}; expected: 0 or more")


def _choose(logits: Tensor, temperature: float, generator: torch.Generator | None) -> Tensor:
    """One token of every row of logits [B, vocabulary]."""
    if not temperature:
        return logits.argmax(-1)
    shares = (logits.float() / temperature).softmax(-1)
    return torch.multinomial(shares, 1, generator=generator)[:, 0]
