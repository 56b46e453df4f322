"""Exercise 2, causal attention with a cache: its check and the mistakes it knows."""

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

import model
from exercises.harness import compare, given, normal, same, small_model, wrong


def attend(q, k, v, keys, values, lengths):
    """The shipped pieces of model.py in one place: KVCache.append, GPT.forward's mask,
    Block.forward's read."""
    cache = model.KVCache.__new__(model.KVCache)
    cache.keys, cache.values, cache.read = [keys], [values], keys.shape[2]
    positions = torch.tensor(lengths)[:, None] + torch.arange(q.shape[2])  # [B, T]
    k, v = cache.append(0, positions, k, v)  # [B, G, S, D]
    mask = (torch.arange(k.shape[2]) <= positions[:, :, None])[:, None]  # [B, 1, T, S]
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)  # [B, H, T, D]


def read(q, keys, values, lengths, *, scale=True, visible="own", neighbours=True):
    """Attention in plain loops, with the typical mistakes as switches. keys, values: the buffers
    after the write."""
    B, H, T, D = q.shape
    G, y = keys.shape[1], torch.zeros_like(q)
    for b in range(B):
        for h in range(H):
            g = h * G // H if neighbours else h % G
            for t in range(T):
                s = {
                    "own": lengths[b] + t + 1,
                    "future": lengths[b] + T,
                    "longest": max(lengths) + t + 1,
                    "no cache": t + 1,
                    "one short": max(1, lengths[b] + t),
                }[visible]
                weights = (keys[b, g, :s] @ q[b, h, t] / (D**0.5 if scale else 1)).softmax(-1)
                y[b, h, t] = weights @ values[b, g, :s]
    return y


def attention_mistakes(q, keys, values, lengths):
    return [
        (read(q, keys, values, lengths, **switch), text)
        for switch, text in (
            (dict(scale=False), "The scores should be divided by sqrt(D)."),
            (
                dict(visible="future"),
                "A new token sees the new tokens behind it: query t may read columns up to lengths[b] "
                "+ t.",
            ),
            (
                dict(visible="no cache"),
                "The causal mask starts at column 0: query t is at position lengths[b] + t, not t.",
            ),
            (
                dict(visible="longest"),
                "Every row was read as far as the longest one: columns behind a row's own length are "
                "stale.",
            ),
            (dict(visible="one short"), "A token should see itself too: <=, not <."),
            (
                dict(neighbours=False),
                "Query head h reads key/value head h // (H / G): repeat_interleave, not repeat.",
            ),
        )
    ]


class Capture(TorchFunctionMode):
    """Notes queries and results of the attention in a shipped model, with what its cache noted just
    before."""

    def __init__(self, cache):
        super().__init__()
        self.cache, self.calls = cache, []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func is F.scaled_dot_product_attention:
            noted = self.cache.noted[-1]
            heads = len(args[0]), -1, *noted[0].shape[2:]  # [B, H, T, D], also in a decode step
            self.calls.append((args[0].reshape(heads), out.reshape(heads), *noted))
        return out


class Watched(model.KVCache):
    """Notes what each append found and brought."""

    def append(self, layer, positions, k, v):
        self.noted = getattr(self, "noted", [])
        before = self.keys[layer].clone(), self.values[layer].clone()
        out = super().append(layer, positions, k, v)
        self.noted.append(
            (
                k,
                v,
                *before,
                self.lengths.tolist(),
                self.keys[layer].clone(),
                self.values[layer].clone(),
            )
        )
        return out


TITLE = "causal attention with a cache"
SHIPPED = (attend,)


def check(attend):
    def compared(case, q, k, v, keys, values, lengths, expected, after):
        before, keys, values, own = (keys, values), keys.clone(), values.clone(), list(lengths)
        with given(case):
            got = attend(q, k, v, keys, values, own)
        if own != list(lengths):
            raise wrong(
                case,
                f"lengths as they were, {lengths}",
                str(own),
                "The caller moves the lengths on.",
            )
        unwritten = (
            "The buffers are as they were: write the new keys and values into them, in place."
        )
        untouched = [(got, unwritten)] * same(values, before[1])
        compare(case, got, expected, attention_mistakes(q, *after, lengths) + untouched)
        for name, old, now, wanted in (
            ("keys", before[0], keys, after[0]),
            ("values", before[1], values, after[1]),
        ):
            old, now, wanted = (x[:, :, : max(lengths) + q.shape[2]] for x in (old, now, wanted))
            compare(f"{case}; the buffer `{name}` afterwards", now, wanted, [(old, unwritten)])

    zero, stale = torch.zeros(1, 1, 2, 1, dtype=torch.float64), 50.0

    def column(*numbers):
        return torch.tensor(numbers, dtype=torch.float64).view(1, 1, -1, 1)  # [1, 1, C, 1]

    keys, values = torch.zeros(1, 1, 4, 1, dtype=torch.float64), column(2, 4, stale, stale)
    compared(
        "the case by hand: 2 and 4 in the buffer, new values 9 and 1, all queries and keys 0",
        zero,
        zero,
        column(9, 1),
        keys,
        values,
        [2],
        column(5, 4),
        (keys, column(2, 4, 9, 1)),
    )
    gpt = small_model()
    cache = Watched(gpt.config, 3, 10, like=gpt.head_weight)
    with torch.no_grad(), Capture(cache) as capture:
        for new, lengths in ((4, [0, 0, 0]), (1, [4, 2, 1]), (1, [5, 3, 2]), (3, [6, 4, 3])):
            cache.lengths = torch.tensor(lengths)
            gpt(torch.randint(0, 30, (3, new), generator=torch.Generator().manual_seed(new)), cache)
    for q, expected, k, v, keys, values, lengths, *after in capture.calls:
        compared(
            f"inside a shipped model: {q.shape[2]} new tokens a row, lengths {lengths}, H = 4, G = 2",
            q,
            k,
            v,
            keys,
            values,
            lengths,
            expected,
            after,
        )
    for new, lengths in ((3, [2, 5]), (1, [0, 8])):
        q, k, v, keys, values = (
            normal(i, *s)
            for i, s in enumerate([(2, 4, new, 4)] + [(2, 2, new, 4)] * 2 + [(2, 2, 9, 4)] * 2)
        )
        after = keys.clone(), values.clone()
        for b, n in enumerate(lengths):
            after[0][b, :, n : n + new], after[1][b, :, n : n + new] = k[b], v[b]
        compared(
            f"random: {new} new tokens a row, lengths {lengths}, H = 4, G = 2",
            q,
            k,
            v,
            keys,
            values,
            lengths,
            read(q, *after, lengths),
            after,
        )
    q, k, v, keys, values = (
        normal(i, *s)
        for i, s in enumerate([(2, 2, 3, 4)] + [(2, 1, 3, 4)] * 2 + [(2, 1, 9, 4)] * 2)
    )
    whole = attend(q, k, v, keys.clone(), values.clone(), [2, 5])
    one_by_one = torch.cat(
        [
            attend(
                q[:, :, t : t + 1],
                k[:, :, t : t + 1],
                v[:, :, t : t + 1],
                keys,
                values,
                [2 + t, 5 + t],
            )
            for t in range(3)
        ],
        2,
    )
    compare("three new tokens at once, against the same three one at a time", whole, one_by_one)
