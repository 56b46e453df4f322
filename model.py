"""A small decoder-only transformer and its sampler: token ids in, token ids out.

The block is Qwen3's (arXiv 2505.09388): RMSNorm before each sublayer, attention without biases,
grouped query heads, an RMSNorm on every query and key head before the rotary embedding, and a
SwiGLU MLP.

    hidden = model(ids)                                  # [B, T, n_embd]
    logits = hidden @ model.head_weight.T                # [B, T, V], for the rows that are needed
    completions = generate(model, prompts, max_new_tokens=64, eos=eos)

Shapes: B rows, T tokens, H query heads, G key/value heads (each serves H/G query heads), D head
size, S cached positions, V vocabulary.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


@dataclass
class GPTConfig:
    vocab_size: int
    """Number of token ids, special tokens included."""
    max_seq_len: int
    """Most positions a row may have: prompt and completion together, in tokens."""
    n_layer: int
    """Number of blocks."""
    n_head: int
    """Query heads per block."""
    n_kv_head: int
    """Key/value heads per block; must divide n_head (equal to it: plain multi-head attention)."""
    head_dim: int
    """Size of one head; even, for rotary pairs. n_head * head_dim need not equal n_embd."""
    n_embd: int
    """Size of the residual stream."""
    mlp_width: int
    """Size of the SwiGLU's hidden layer."""
    rope_theta: float = 10_000.0
    """Base of the rotary wavelengths (Qwen3: 1e6)."""
    tie_head: bool = True
    """Use the token embedding as output head."""
    norm_eps: float = 1e-6
    """Added to the mean square in every RMSNorm."""
    qk_norm: bool = True
    """An RMSNorm on every query and key head, as in Qwen3. Llama has none."""
    rope_scaling: tuple[float, ...] | None = None
    """Llama 3's longer wavelengths: see `rope_tables`."""

    def __post_init__(self):
        for name, value in vars(self).items():
            if isinstance(value, (int, float)) and not isinstance(value, bool) and not value > 0:
                raise ValueError(f"GPTConfig.{name} must be positive, got {value}")
        if self.n_head % self.n_kv_head:
            raise ValueError(f"n_head={self.n_head} is no multiple of n_kv_head={self.n_kv_head}")
        if self.head_dim % 2:
            raise ValueError(f"head_dim={self.head_dim} must be even: rotary embeddings turn pairs")


class KVCache:
    """Keys and values of the positions seen so far, for rows of different lengths.

    Row b has seen lengths[b] tokens. Columns from there on hold nothing of meaning: they are
    masked, and the row's next token overwrites the first of them.
    """

    def __init__(self, config: GPTConfig, rows: int, columns: int, like: Tensor):
        shape = (config.n_layer, rows, config.n_kv_head, columns, config.head_dim)
        self.keys = like.new_zeros(shape)  # [L, B, G, columns, D]
        self.values = torch.zeros_like(self.keys)
        self.lengths = [0] * rows  # on the host: their maximum costs no device sync

    def keep(self, rows: list[int]):
        """Keep only these rows, in this order."""
        self.keys, self.values = self.keys[:, rows], self.values[:, rows]
        self.lengths = [self.lengths[row] for row in rows]

    def append(
        self, layer: int, position_ids: Tensor, k: Tensor, v: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Write k, v [B, G, T, D] at position_ids [B, T] of a layer.

        Returns all filled columns of the layer's keys and values [B, G, S, D].
        """
        keys, values = self.keys[layer], self.values[layer]  # [B, G, columns, D]
        rows = torch.arange(len(k), device=k.device)[:, None]  # [B, 1]
        k, v = k.to(keys.dtype), v.to(values.dtype)  # autocast makes them narrower
        keys[rows, :, position_ids] = k.transpose(1, 2)
        values[rows, :, position_ids] = v.transpose(1, 2)
        filled = max(self.lengths) + k.shape[2]
        return keys[:, :, :filled], values[:, :, :filled]


def rope_tables(c: GPTConfig) -> tuple[Tensor, Tensor]:
    """Cosine and sine [max_seq_len, D] of each position's rotation, for `rotate`.

    rope_scaling (factor, low, high, context) is Llama 3's: wavelengths above context / low become
    `factor` times as long, those below context / high stay, between them both are mixed.
    """
    frequency = c.rope_theta ** (-torch.arange(0, c.head_dim, 2).double() / c.head_dim)  # [D/2]
    if c.rope_scaling is not None:
        factor, low, high, context = c.rope_scaling
        turns = context * frequency / (2 * math.pi)  # rotations within the old context
        share = ((turns - low) / (high - low)).clamp(0, 1)  # of the unscaled frequency
        frequency = frequency * (share + (1 - share) / factor)
    angle = torch.outer(torch.arange(c.max_seq_len).double(), frequency)  # [max_seq_len, D/2]
    angle = angle.repeat(1, 2)  # [max_seq_len, D]
    return angle.cos().float(), angle.sin().float()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding (arXiv 2104.09864), half-split as in the Llama and Qwen weights:
    dimensions i and i + D/2 form a pair. x [B, T, heads, D]; cos, sin [T, 1, D] or [B, T, 1, D].
    """
    a, b = x.chunk(2, dim=-1)
    return (x * cos + torch.cat((-b, a), dim=-1) * sin).to(x.dtype)


class Block(nn.Module):
    """Attention and MLP, each behind an RMSNorm and added to the residual stream."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.config = c = config
        # A matrix for each of Qwen3's q_proj, k_proj, ... Fused matrices train 8% slower on a CPU:
        # their slices are strided, which slows every elementwise pass behind them.
        self.attn_norm = nn.RMSNorm(c.n_embd, eps=c.norm_eps)
        self.q = nn.Linear(c.n_embd, c.n_head * c.head_dim, bias=False)
        self.k = nn.Linear(c.n_embd, c.n_kv_head * c.head_dim, bias=False)
        self.v = nn.Linear(c.n_embd, c.n_kv_head * c.head_dim, bias=False)
        self.q_norm = nn.RMSNorm(c.head_dim, eps=c.norm_eps) if c.qk_norm else nn.Identity()
        self.k_norm = nn.RMSNorm(c.head_dim, eps=c.norm_eps) if c.qk_norm else nn.Identity()
        self.attn_out = nn.Linear(c.n_head * c.head_dim, c.n_embd, bias=False)
        self.mlp_norm = nn.RMSNorm(c.n_embd, eps=c.norm_eps)
        self.gate = nn.Linear(c.n_embd, c.mlp_width, bias=False)
        self.up = nn.Linear(c.n_embd, c.mlp_width, bias=False)
        self.mlp_out = nn.Linear(c.mlp_width, c.n_embd, bias=False)

    def forward(self, x, cos, sin, mask=None, append_kv=None, positions=None):
        """x [B, T, n_embd] -> [B, T, n_embd], or [N, n_embd] at positions [N] of the B * T.

        append_kv(k, v) stores the new keys and values in a cache and returns all of the row's; mask
        [B, 1, T, S] says which of them each token may see (None: causal).
        """
        c, (B, T, _) = self.config, x.shape
        h = self.attn_norm(x)  # [B, T, n_embd]
        q = self.q_norm(self.q(h).view(B, T, c.n_head, c.head_dim))  # [B, T, H, D]
        k = self.k_norm(self.k(h).view(B, T, c.n_kv_head, c.head_dim))  # [B, T, G, D]
        v = self.v(h).view(B, T, c.n_kv_head, c.head_dim).transpose(1, 2)  # [B, G, T, D]
        q, k = rotate(q, cos, sin).transpose(1, 2), rotate(k, cos, sin).transpose(1, 2)
        if append_kv is not None:
            k, v = append_kv(k, v)  # [B, G, S, D]
        y = F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=c.n_head != c.n_kv_head
        )  # [B, H, T, D]
        y = y.transpose(1, 2).flatten(2)  # [B, T, H * D]
        if positions is not None:
            x, y = x.flatten(0, 1)[positions], y.flatten(0, 1)[positions]  # [N, n_embd], [N, H * D]
        x = x + self.attn_out(y)  # [B, T, n_embd] or [N, n_embd]
        h = self.mlp_norm(x)
        return x + self.mlp_out(F.silu(self.gate(h)) * self.up(h))


class GPT(nn.Module):
    """ids [B, T] -> hidden [B, T, n_embd], after the final norm.

    The caller applies head_weight [V, n_embd].

    Rows of different lengths are padded on the right with any id. They need no mask: attention is
    causal, so no real position sees the padding behind it, and the caller ignores the outputs at
    padded positions.
    """

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.config = c = config
        self.recompute = False  # True: activations in the backward pass, which saves their memory
        self.embed = nn.Embedding(c.vocab_size, c.n_embd)
        self.blocks = nn.ModuleList(Block(c) for _ in range(c.n_layer))
        self.norm = nn.RMSNorm(c.n_embd, eps=c.norm_eps)
        self.head = None if c.tie_head else nn.Linear(c.n_embd, c.vocab_size, bias=False)

        cos, sin = rope_tables(c)  # [max_seq_len, D] each
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

        for name, p in self.named_parameters():
            if p.dim() == 2:  # norms stay at one
                # The 2 * n_layer sublayers add up in the residual stream; scaled down, its variance
                # stays put.
                nn.init.normal_(p, std=0.02 / math.sqrt(2 * c.n_layer) if "_out" in name else 0.02)

    @property
    def head_weight(self) -> Tensor:
        """Output head [V, n_embd]."""
        return self.embed.weight if self.head is None else self.head.weight

    def forward(
        self, ids: Tensor, cache: KVCache | None = None, positions: Tensor | None = None
    ) -> Tensor:
        """ids [B, T] -> hidden [B, T, n_embd].

        positions [N], each b * T + t, select the states [N, n_embd] of these positions alone. The
        last block then skips the others' MLP, which makes an update of stage II a tenth faster.

        With a cache, ids continue row b from cache.lengths[b], and the cache grows by T.
        Raises ValueError past the context.
        """
        T, seen = ids.shape[1], max(cache.lengths) if cache is not None else 0
        if seen + T > self.config.max_seq_len:
            raise ValueError(f"{seen + T} positions exceed max_seq_len {self.config.max_seq_len}")
        cos, sin, mask = self.cos[:T, None], self.sin[:T, None], None  # [T, 1, D]
        if cache is not None:
            position_ids = torch.tensor(cache.lengths)[:, None] + torch.arange(T)  # [B, T]
            position_ids = position_ids.to(ids.device)
        if seen:
            cos = self.cos[position_ids][:, :, None]  # [B, T, 1, D]
            sin = self.sin[position_ids][:, :, None]  # [B, T, 1, D]
            columns = torch.arange(seen + T, device=ids.device)  # [S]
            mask = (columns <= position_ids[:, :, None])[:, None]  # [B, 1, T, S]
        x = self.embed(ids)  # [B, T, n_embd]
        for layer, block in enumerate(self.blocks):
            append_kv = partial(cache.append, layer, position_ids) if cache is not None else None
            selected = positions if block is self.blocks[-1] else None
            if self.recompute and torch.is_grad_enabled():
                block = partial(checkpoint, block, use_reentrant=False)
            x = block(x, cos, sin, mask, append_kv, selected)  # [B, T, n_embd]; last [N, n_embd]
        if cache is not None:
            cache.lengths = [length + T for length in cache.lengths]
        return self.norm(x)


class Completion(NamedTuple):
    ids: list[int]
    """New tokens, the EOS included when it was sampled."""
    truncated: bool
    """True when the length limit came before the EOS."""


def sample(
    logits: Tensor, temperature: float, top_k: int | None, top_p: float | None, uniform: Tensor
) -> Tensor:
    """Draw one token per row: logits [B, V] and numbers from [0, 1) in float64 [B] -> ids [B].

    Temperature first (0: the most likely token); then the top_k most likely tokens; then, of what
    is left, the nucleus: the fewest most likely tokens whose probabilities reach top_p (arXiv
    1904.09751).
    """
    if temperature == 0:
        return logits.argmax(dim=-1)
    ids = None
    if top_k is not None or top_p is not None:
        k = min(top_k or logits.shape[-1], logits.shape[-1])
        logits, ids = logits.topk(k, dim=-1)  # sorted, [B, k]
    # Inverse of the cumulative distribution: one uniform number per row, not V. In float64, because
    # a float32 sum of many probabilities is too coarse for the rare ones of a large vocabulary.
    probs = (logits.float() / temperature).softmax(dim=-1)  # [B, V or k]
    cumulative = probs.cumsum(dim=-1, dtype=torch.float64)  # [B, V or k]
    mass = cumulative[:, -1:]  # [B, 1]
    if top_p is not None:
        last = (cumulative < top_p * mass).sum(dim=-1, keepdim=True)  # [B, 1]
        mass = cumulative.gather(1, last)
    drawn = torch.searchsorted(cumulative, uniform[:, None] * mass, right=True)  # [B, 1]
    return (drawn if ids is None else ids.gather(1, drawn))[:, 0]


def batch_by_tokens(rows: Iterable, tokens: int, length: Callable = len) -> Iterator[list]:
    """Cut rows, in their order, into batches of at most `tokens` padded tokens.

    A batch has at least one row. Sorted rows need least padding.
    """
    batch, longest = [], 0
    for row in rows:
        if batch and (len(batch) + 1) * max(longest, length(row)) > tokens:
            yield batch
            batch, longest = [], 0
        batch.append(row)
        longest = max(longest, length(row))
    if batch:
        yield batch


# Prompt tokens at a time: little padding, and buffers that fit a CPU's cache.
PREFILL = {"cpu": 2**11, "cuda": 2**16}


def prefill(model: GPT, prompts: list[list[int]], room: list[int]) -> tuple[Tensor, KVCache]:
    """Read the prompts: neighbours in length together, equal ones once.

    GRPO samples a whole group from one prompt.

    Returns the hidden state of each prompt's last token [B, n_embd] and the cache, with room[b]
    columns left for row b.
    """
    copies: dict[tuple, list[int]] = {}
    for row, prompt in sorted(enumerate(prompts), key=lambda item: len(item[1])):
        copies.setdefault(tuple(prompt), []).append(row)
    like = model.head_weight
    columns = max(len(prompt) + more for prompt, more in zip(prompts, room))
    cache = KVCache(model.config, len(prompts), columns, like)
    hidden = torch.empty(len(prompts), model.config.n_embd, dtype=like.dtype, device=like.device)
    for part in batch_by_tokens(copies, PREFILL[like.device.type]):
        rows, source = [], []  # prompts[rows[j]] is part[source[j]]
        for i, prompt in enumerate(part):
            rows += copies[prompt]
            source += [i] * len(copies[prompt])
        longest = len(part[-1])
        part_cache = KVCache(model.config, len(part), longest, like)
        ids = torch.tensor([[*p] + [0] * (longest - len(p)) for p in part], device=like.device)
        last = [i * longest + len(prompt) - 1 for i, prompt in enumerate(part)]
        last = torch.tensor(last, device=like.device)
        hidden[rows] = model(ids, part_cache, last)[source].to(hidden.dtype)  # [.., n_embd]
        cache.keys[:, rows, :, :longest] = part_cache.keys[:, source]
        cache.values[:, rows, :, :longest] = part_cache.values[:, source]
    cache.lengths = [len(prompt) for prompt in prompts]  # forget the padding
    return hidden, cache


def generate(
    model: GPT,
    prompts: list[list[int]],
    *,
    max_new_tokens: int,
    eos: int | set[int],
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    noise: Tensor | None = None,
) -> list[Completion]:
    """Continue each prompt by at most max_new_tokens; the order is kept.

    A prompt is a list of token ids. Lengths may differ.

    A completion ends at its first eos (of several: at any of them). It is truncated at max_new_tokens
    or max_seq_len; a prompt of max_seq_len tokens gets an empty completion. All randomness comes from `noise`, numbers from
    [0, 1) in float64 [B, max_new_tokens]: row b draws its token t with noise[b, t]. So a completion
    depends on its own prompt and noise alone (up to the rounding of batched matrix products), not
    on the rest of the batch. None takes fresh noise; the global random state is never used.

    Raises ValueError for a prompt that is empty or longer than the context, for settings out of
    range, and for noise of another shape.
    """
    max_seq_len, device = model.config.max_seq_len, model.head_weight.device
    for row, prompt in enumerate(prompts):
        if not 1 <= len(prompt) <= max_seq_len:
            raise ValueError(
                f"prompt {row} has {len(prompt)} tokens, not 1 to {max_seq_len} (max_seq_len)"
            )
    bad_top_k = top_k is not None and top_k < 1
    bad_top_p = top_p is not None and not 0 < top_p <= 1
    if temperature < 0 or bad_top_k or bad_top_p:
        raise ValueError(f"got {temperature=}, {top_k=}, {top_p=}; need >= 0, >= 1, and in (0, 1]")
    if noise is None:
        generator = torch.Generator(device)
        generator.seed()
        noise = torch.rand(
            len(prompts), max_new_tokens, dtype=torch.float64, device=device, generator=generator
        )
    if noise.shape != (len(prompts), max_new_tokens):
        raise ValueError(
            f"noise: expected [{len(prompts)}, {max_new_tokens}], got {[*noise.shape]}"
        )

    ends = {eos} if isinstance(eos, int) else eos
    new: list[list[int]] = [[] for _ in prompts]
    limit = [min(max_new_tokens, max_seq_len - len(prompt)) for prompt in prompts]
    rows = [row for row in range(len(prompts)) if limit[row] > 0]  # the batch, in its order
    alive = set(rows)  # those of them that are not finished
    with torch.inference_mode():
        if rows:
            room = [limit[row] for row in rows]
            hidden, cache = prefill(model, [prompts[row] for row in rows], room)
            noise = noise[rows].T.contiguous()  # [max_new_tokens, B]
        for step in range(max_new_tokens):
            if not alive:
                break
            logits = hidden @ model.head_weight.T  # [B, V]
            tokens = sample(logits, temperature, top_k, top_p, noise[step])  # [B]
            for i, (row, token) in enumerate(zip(rows, tokens.tolist())):
                if row in alive:
                    new[row].append(token)
                    if token in ends or len(new[row]) == limit[row]:
                        alive.remove(row)
                if row not in alive:  # until it is dropped, it writes over its own start
                    cache.lengths[i] = 0
            if len(alive) <= 0.75 * len(rows):  # dropping rows copies the cache: do it now and then
                kept = [i for i, row in enumerate(rows) if row in alive]
                rows, tokens, noise = [rows[i] for i in kept], tokens[kept], noise[:, kept]
                cache.keep(kept)
            if alive:
                hidden = model(tokens[:, None], cache)[:, 0]  # [B, n_embd]
    return [Completion(ids, truncated=not ids or ids[-1] not in ends) for ids in new]
