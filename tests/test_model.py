"""The model against plain Python loops: its block, its cache, its initial weights."""

import math

import pytest
import torch

from base import count_parameters
from model import GPT, GPTConfig, KVCache
from models import BASE, random_ids, random_model

# The block, in float64, one position and one head at a time, from the state_dict alone.


def matvec(matrix, vector):
    return [sum(m * x for m, x in zip(row, vector)) for row in matrix]


def rms(vector, weight, eps):
    scale = 1 / math.sqrt(sum(x * x for x in vector) / len(vector) + eps)
    return [x * scale * w for x, w in zip(vector, weight)]


def turn(vector, position, theta):
    """Rotate the plane (i, i + D/2) by position * theta^(-2i/D)."""
    half, out = len(vector) // 2, list(vector)
    for i in range(half):
        angle = position * theta ** (-2 * i / len(vector))
        pair = complex(vector[i], vector[i + half]) * complex(math.cos(angle), math.sin(angle))
        out[i], out[i + half] = pair.real, pair.imag
    return out


def split(vector, size):
    return [vector[i : i + size] for i in range(0, len(vector), size)]


def oracle(model, ids):
    c = model.config
    w = {name: p.double().tolist() for name, p in model.state_dict().items()}
    stream = [list(w["embed.weight"][token]) for token in ids]
    for layer in range(c.n_layer):

        def at(name):
            return w[f"blocks.{layer}.{name}.weight"]

        keys, values, after = [], [], []
        for position, x in enumerate(stream):
            h = rms(x, at("attn_norm"), c.norm_eps)

            def heads(name):
                return split(matvec(at(name), h), c.head_dim)

            keys.append(
                [turn(rms(k, at("k_norm"), c.norm_eps), position, c.rope_theta) for k in heads("k")]
            )
            values.append(heads("v"))
            mixed = []
            for head, q in enumerate(heads("q")):
                q = turn(rms(q, at("q_norm"), c.norm_eps), position, c.rope_theta)
                group = (
                    head * c.n_kv_head // c.n_head
                )  # neighbouring query heads share a key/value head
                scores = [
                    sum(a * b for a, b in zip(q, k[group])) / math.sqrt(c.head_dim) for k in keys
                ]
                total = sum(math.exp(s) for s in scores)
                mixed += [
                    sum(math.exp(s) / total * v[group][d] for s, v in zip(scores, values))
                    for d in range(c.head_dim)
                ]
            x = [a + b for a, b in zip(x, matvec(at("attn_out"), mixed))]
            h = rms(x, at("mlp_norm"), c.norm_eps)
            hidden = [
                g / (1 + math.exp(-g)) * u
                for g, u in zip(matvec(at("gate"), h), matvec(at("up"), h))
            ]
            after.append([a + b for a, b in zip(x, matvec(at("mlp_out"), hidden))])
        stream = after
    return torch.tensor([rms(x, w["norm.weight"], c.norm_eps) for x in stream], dtype=torch.float64)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"n_kv_head": 1},
        {"n_kv_head": 4},
        {"n_head": 6, "n_kv_head": 3},
        {"rope_theta": 50.0},
        {"norm_eps": 0.1},
    ],
    ids=str,
)
def test_forward_equals_plain_python(changes):
    model = random_model(**changes)
    ids = random_ids(2, 9)
    got = model.double()(ids)
    for row in range(2):
        # The rotary tables are float32 (1e-7); all else is float64.
        torch.testing.assert_close(got[row], oracle(model, ids[row].tolist()), rtol=0, atol=3e-6)


def test_future_and_padding_change_nothing_before():
    model, ids = random_model().double(), random_ids(3, 12)
    hidden = model(ids)
    for cut in (1, 5, 11):
        other = ids.clone()
        other[:, cut:] = (other[:, cut:] + 1) % 13
        changed = model(other)
        torch.testing.assert_close(changed[:, :cut], hidden[:, :cut], rtol=0, atol=1e-12)
        assert (changed[:, cut:] - hidden[:, cut:]).abs().amax(
            -1
        ).min() > 1e-3  # and something does change
        torch.testing.assert_close(model(ids[:, :cut]), hidden[:, :cut], rtol=0, atol=1e-12)


@pytest.mark.parametrize("chunks", [[12], [1] * 12, [5, 1, 1, 4, 1]])
def test_cache_equals_full_forward(chunks):
    model, ids = random_model(n_kv_head=1), random_ids(3, 12)
    cache = KVCache(model.config, 3, 12, like=model.head_weight)
    parts = []
    for part in ids.split(chunks, dim=1):
        parts.append(model(part, cache))
        cache.lengths += part.shape[1]
    torch.testing.assert_close(torch.cat(parts, dim=1), model(ids), rtol=0, atol=5e-6)


def test_cache_with_ragged_rows_and_dropped_rows():
    model, ids, lengths = random_model(), random_ids(4, 12), [3, 7, 1, 5]
    full = model(ids)
    cache = KVCache(model.config, 4, 12, like=model.head_weight)
    padded = torch.stack(
        [torch.where(torch.arange(7) < n, row[:7], 9) for row, n in zip(ids, lengths)]
    )
    model(padded, cache)
    cache.lengths[:] = torch.tensor(lengths)
    cache.keep([3, 0, 1])
    assert cache.lengths.tolist() == [5, 3, 7]
    for step in range(4):
        now = [(3, 5 + step), (0, 3 + step), (1, 7 + step)]
        got = model(torch.tensor([[int(ids[r, t])] for r, t in now]), cache)[:, 0]
        cache.lengths += 1
        want = torch.stack([full[r, t] for r, t in now])
        torch.testing.assert_close(got, want, rtol=0, atol=5e-6)


def test_context_limit_of_forward():
    model = random_model(max_seq_len=6)
    assert model(random_ids(1, 6)).shape == (1, 6, 12)
    with pytest.raises(ValueError, match="7 positions exceed max_seq_len 6"):
        model(random_ids(1, 7))
    cache = KVCache(model.config, 1, 6, like=model.head_weight)
    model(random_ids(1, 6), cache)
    cache.lengths += 6
    with pytest.raises(IndexError, match="index 6 is out of bounds"):
        model(random_ids(1, 1), cache)


def test_head_parameters_and_state():
    tied, untied = GPT(GPTConfig(**BASE)), GPT(GPTConfig(**BASE, tie_head=False))
    assert tied.head_weight is tied.embed.weight
    assert untied.head_weight is untied.head.weight and untied.head_weight.shape == (13, 12)
    # By hand: q 12*32, k and v 12*16 each, out 32*12, norms 12+12+8+8, three MLP matrices of 12*20.
    block = 12 * 32 * 2 + 2 * 12 * 16 + 40 + 3 * 12 * 20
    assert count_parameters(tied) == 13 * 12 + 2 * block + 12
    assert count_parameters(untied) == count_parameters(tied) + 13 * 12
    assert not any("cos" in name or "sin" in name for name in tied.state_dict())
    copy = GPT(GPTConfig(**BASE))
    copy.load_state_dict(tied.state_dict())
    assert torch.equal(copy(random_ids(1, 5)), tied(random_ids(1, 5)))


def test_init_and_gradients():
    torch.manual_seed(0)
    model = GPT(GPTConfig(**{**BASE, "n_embd": 64, "mlp_width": 128, "vocab_size": 50}))
    assert model.blocks[0].gate.weight.std().item() == pytest.approx(0.02, rel=0.05)
    for name in ("attn_out", "mlp_out"):
        std = getattr(model.blocks[1], name).weight.std().item()
        assert std == pytest.approx(0.02 / math.sqrt(4), rel=0.05)
    ids = random_ids(8, 20, vocab=50)
    logits = model(ids[:, :-1]) @ model.head_weight.T
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
    assert loss.item() == pytest.approx(math.log(50), abs=0.1)
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"n_kv_head": 3}, "n_head=4 is no multiple of n_kv_head=3"),
        ({"head_dim": 7}, "head_dim=7 must be even"),
        ({"n_embd": 0}, "n_embd must be positive, got 0"),
        ({"n_kv_head": 0}, "n_kv_head must be positive, got 0"),
        ({"norm_eps": -1.0}, "norm_eps must be positive"),
    ],
)
def test_config_errors(changes, message):
    with pytest.raises(ValueError, match=message):
        GPTConfig(**{**BASE, **changes})


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("at", [[26], [0, 5, 9, 8, 20, 20]])
def test_at_leaves_out_only_what_nobody_asked_for(at, cached):
    """At N positions: the hidden states, gradients and cached keys and values of the whole pass."""
    model, ids, at = (
        random_model(n_layer=2).double(),
        random_ids(3, 9, seed=len(at)),
        torch.tensor(at),
    )
    weight = torch.randn(
        len(at), 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    found, widest = [], []
    model.blocks[-1].mlp_out.register_forward_hook(
        lambda _, inputs, __: widest.append(inputs[0].shape[:-1])
    )
    for whole in (True, False):
        cache = KVCache(model.config, 3, 9, model.head_weight) if cached else None
        hidden = model(ids, cache).flatten(0, 1)[at] if whole else model(ids, cache, at)
        assert widest[-1] == ((3, 9) if whole else (len(at),))
        grads = (
            torch.autograd.grad((hidden.sin() * weight).sum(), list(model.parameters()))
            if not cached
            else []
        )
        found.append([hidden.detach(), *grads, *(cache.keys + cache.values if cached else [])])
    for want, got in zip(*found):
        torch.testing.assert_close(got, want, rtol=1e-11, atol=1e-12)
