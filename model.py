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
from collections.abc import Callable
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

    Row b has seen lengths[b] tokens; the caller moves the lengths on. Columns from there on hold
    nothing of meaning: they are masked, and the row's next token overwrites the first of them.
    """

    def __init__(self, config: GPTConfig, rows: int, columns: int, like: Tensor):
        shape = (rows, config.n_kv_head, columns, config.head_dim)
        # A tensor for each layer: torch.compile would copy one for all layers at each write.
        self.keys = [like.new_zeros(shape) for _ in range(config.n_layer)]  # [B, G, columns, D]
        self.values = [torch.zeros_like(keys) for keys in self.keys]
        self.lengths = torch.zeros(rows, dtype=torch.long, device=like.device)  # [B]
        self.is_empty = True  # until the first tokens are written
        self.read = columns  # S, the columns that attention reads: none behind them is filled

    def keep(self, rows: list[int]):
        """Keep only these rows, in this order."""
        self.keys = [keys[rows] for keys in self.keys]
        self.values = [values[rows] for values in self.values]
        self.lengths = self.lengths[rows]

    def append(self, layer: int, positions: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Write k, v [B, G, T, D] at positions [B, T] of a layer, in place.

        Returns the first S columns of the layer's keys and values [B, G, S, D].
        """
        keys, values = self.keys[layer], self.values[layer]  # [B, G, columns, D]
        rows = torch.arange(len(k), device=k.device)[:, None]  # [B, 1]
        k, v = k.to(keys.dtype), v.to(values.dtype)  # autocast makes them narrower
        keys[rows, :, positions] = k.transpose(1, 2)
        values[rows, :, positions] = v.transpose(1, 2)
        return keys[:, :, : self.read], values[:, :, : self.read]


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
        [B, 1, T, S] is added to the scores: 0, or -inf for what a token may not see (None: causal).
        """
        c, (B, T, _) = self.config, x.shape
        h = self.attn_norm(x)  # [B, T, n_embd]
        q = self.q_norm(self.q(h).view(B, T, c.n_head, c.head_dim))  # [B, T, H, D]
        k = self.k_norm(self.k(h).view(B, T, c.n_kv_head, c.head_dim))  # [B, T, G, D]
        v = self.v(h).view(B, T, c.n_kv_head, c.head_dim).transpose(1, 2)  # [B, G, T, D]
        q, k = rotate(q, cos, sin).transpose(1, 2), rotate(k, cos, sin).transpose(1, 2)
        if append_kv is not None:
            k, v = append_kv(k, v)  # [B, G, S, D]
        if T == 1 and mask is not None:  # the query heads of a key head read it together
            q = q.reshape(B, c.n_kv_head, -1, c.head_dim)  # [B, G, H/G, D]
        y = F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=q.shape[1] != c.n_kv_head
        )  # [B, H, T, D] or [B, G, H/G, D]
        y = y.reshape(B, c.n_head, T, c.head_dim).transpose(1, 2).flatten(2)  # [B, T, H * D]
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

        With a cache, ids continue row b from cache.lengths[b].
        Raises ValueError past the context.
        """
        if (T := ids.shape[1]) > self.config.max_seq_len:
            raise ValueError(f"{T} positions exceed max_seq_len {self.config.max_seq_len}")
        cos, sin, mask = self.cos[:T, None], self.sin[:T, None], None  # [T, 1, D]
        x = self.embed(ids)  # [B, T, n_embd]
        if cache is not None:
            position_ids = cache.lengths[:, None] + torch.arange(T, device=ids.device)  # [B, T]
        if cache is not None and not cache.is_empty:
            cos = self.cos[position_ids][:, :, None]  # [B, T, 1, D]
            sin = self.sin[position_ids][:, :, None]  # [B, T, 1, D]
            columns = torch.arange(cache.read, device=ids.device)  # [S]
            unseen = columns > position_ids[:, :, None]  # [B, T, S]
            mask = x.new_zeros(unseen.shape).masked_fill(unseen, -math.inf)[:, None]
        for layer, block in enumerate(self.blocks):
            append_kv = partial(cache.append, layer, position_ids) if cache is not None else None
            selected = positions if block is self.blocks[-1] else None
            if self.recompute and torch.is_grad_enabled():
                block = partial(checkpoint, block, use_reentrant=False)
            x = block(x, cos, sin, mask, append_kv, selected)  # [B, T, n_embd]; last [N, n_embd]
        if cache is not None:
            cache.is_empty = False
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


# Prompt tokens at a time: little padding, and buffers that fit a CPU's cache.
PREFILL = {"cpu": 2**11, "cuda": 2**16}
LOOK_EVERY = 8  # tokens: to see which rows have ended, the host waits for the device


class Batch:
    """The rows in work, a place each. A row that has ended draws its last token again and again.

    A step changes tensors of fixed shape in place and reads nothing back, so it can be captured.
    """

    def __init__(self, model: GPT, places: int, columns: int, draw: Callable, noise: Tensor):
        like = model.head_weight
        self.model, self.draw, self.noise = model, draw, noise  # noise [prompts, max_new_tokens]
        self.cache = KVCache(model.config, places, columns, like)
        self.hidden = like.new_zeros(places, like.shape[1])  # of the token before the next
        # [B] each: number of the prompt, t tokens drawn, the last of them, 1 until the row ends
        self.state = torch.zeros(4, places, dtype=torch.long, device=like.device)
        self.new = torch.full(noise.shape, -1, device=like.device)  # tokens drawn; -1: none

    def prefill(self, prompts: dict[int, list[int]], places: list[int]):
        """Start the prompts, by their numbers, in a place each.

        Neighbours in length are read together, equal ones once (GRPO samples a group from each).
        """
        cache, like = self.cache, self.hidden
        starts: dict[tuple, list[tuple]] = {}
        for (number, prompt), place in zip(prompts.items(), places):
            starts.setdefault(tuple(prompt), []).append((place, len(prompt), number, 0, 0, 1))
        queue = sorted(starts, key=len)
        while queue:
            longest = len(queue[-1])
            size = max(1, PREFILL[like.device.type] // longest)
            part, queue = queue[-size:], queue[:-size]
            part_cache = KVCache(self.model.config, len(part), longest, like)
            ids = [[*prompt] + [0] * (longest - len(prompt)) for prompt in part]
            last = [i * longest + len(prompt) - 1 for i, prompt in enumerate(part)]
            ids, last = (torch.tensor(x, device=like.device) for x in (ids, last))
            rows = [(i, *start) for i, prompt in enumerate(part) for start in starts[prompt]]
            source, to, length, *state = torch.tensor(rows, device=like.device).T
            self.hidden[to] = self.model(ids, part_cache, last)[source].to(like.dtype)
            for layer in range(self.model.config.n_layer):
                cache.keys[layer][to, :, :longest] = part_cache.keys[layer][source]
                cache.values[layer][to, :, :longest] = part_cache.values[layer][source]
            cache.lengths[to], self.state[:, to] = length, torch.stack(state)
        cache.is_empty = False

    def step(self, ends: Tensor, total: Tensor):
        """Draw a token for each row and read it; some of `ends` or total[prompt] tokens end it."""
        row, t, token, alive = self.state  # [B] each
        drawn = self.draw(self.hidden @ self.model.head_weight.T, uniform=self.noise[row, t])  # [B]
        token.copy_(torch.where(alive == 1, drawn, token))
        self.new[row, t] = token
        alive.mul_(~torch.isin(token, ends) & (self.cache.lengths + 1 < total[row]))
        t.add_(alive)
        self.hidden.copy_(self.model(token[:, None], self.cache)[:, 0])
        self.cache.lengths.add_(alive)


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
    places: int = 128,
) -> list[Completion]:
    """Continue each prompt, a list of token ids, by at most max_new_tokens; the order is kept.

    A completion ends at its first eos (of several: at any). It is truncated at max_new_tokens or
    max_seq_len; a prompt of max_seq_len tokens gets an empty one. Row b draws its token t with
    noise[b, t], numbers from [0, 1) in float64 [B, max_new_tokens] (None: fresh ones; the global
    random state is never used). So a completion depends on its own prompt and noise alone, up to
    rounding. At most `places` rows are in work at a time; further prompts wait until one ends.

    Raises ValueError for a prompt that is empty or longer than the context, for settings out of
    range, and for noise of another shape.
    """
    max_seq_len, device = model.config.max_seq_len, model.head_weight.device
    for row, n in enumerate(map(len, prompts)):
        if not 1 <= n <= max_seq_len:
            raise ValueError(f"prompt {row} has {n} tokens, not 1 to {max_seq_len} (max_seq_len)")
    bad_top_k = top_k is not None and top_k < 1
    bad_top_p = top_p is not None and not 0 < top_p <= 1
    if temperature < 0 or bad_top_k or bad_top_p:
        raise ValueError(f"got {temperature=}, {top_k=}, {top_p=}; need >= 0, >= 1, and in (0, 1]")
    shape = [len(prompts), max_new_tokens]
    if noise is None:
        generator = torch.Generator(device)
        generator.seed()
        noise = torch.rand(shape, dtype=torch.float64, device=device, generator=generator)
    if [*noise.shape] != shape:
        raise ValueError(f"noise: expected {shape}, got {[*noise.shape]}")
    ends = {eos} if isinstance(eos, int) else eos
    total = [min(len(prompt) + max_new_tokens, max_seq_len) for prompt in prompts]
    waiting = [row for row, prompt in enumerate(prompts) if total[row] > len(prompt)]
    columns = max((total[row] for row in waiting), default=0)
    rows = [-1] * min(places, len(waiting))  # the prompt in each place
    left = [0] * len(rows)  # tokens that it may still get; 0: it has ended, the place is free
    draw = partial(sample, temperature=temperature, top_k=top_k, top_p=top_p)
    stop = torch.tensor([*ends], device=device), torch.tensor(total, device=device)
    with torch.inference_mode():
        batch = Batch(model, len(rows), columns, draw, noise)
        while waiting or any(left):
            free = [i for i, n in enumerate(left) if n == 0]
            if waiting and free:
                for i, row in zip(free, waiting):
                    rows[i], left[i] = row, total[row] - len(prompts[row])
                batch.prefill({row: prompts[row] for row in waiting[: len(free)]}, free)
                waiting = waiting[len(free) :]
            elif len(free) >= len(rows) / 4:  # dropping rows copies the cache: now and then
                kept = [i for i, n in enumerate(left) if n]
                rows, left = [rows[i] for i in kept], [left[i] for i in kept]
                batch.cache.keep(kept)
                batch.hidden, batch.state = batch.hidden[kept], batch.state[:, kept]
            steps = min(LOOK_EVERY, max(left))
            filled = max(total[row] - n for row, n in zip(rows, left) if n)  # of the longest row
            batch.cache.read = min(filled + steps, columns)
            for _ in range(steps):
                batch.step(*stop)
            left = [max(0, n - steps) for n in left]
            if any(left):
                left = [n * alive for n, alive in zip(left, batch.state[3].tolist())]
    new = [[token for token in row if token >= 0] for row in batch.new.tolist()]
    return [Completion(ids, truncated=not ids or ids[-1] not in ends) for ids in new]
