"""Random models, whose every term shows in the output, and random states and heads."""

import itertools

import numpy as np
import torch

from model import GPT, GPTConfig

BASE = dict(
    vocab_size=13,
    max_seq_len=24,
    n_layer=2,
    n_head=4,
    n_kv_head=2,
    head_dim=8,
    n_embd=12,
    mlp_width=20,
)
# settings of the loss, and every combination of them
BETAS, TEMPERATURES, TOP_K = (0.0, 0.1, 0.5, 0.9, 1.0), (0.6, 1.0, 2.5), (None, 1, 4, 99)
CLIPS = (("none", None), ("pointwise", 0.05), ("token", 0.4), ("scale", 0.2))
GRID = list(itertools.product(BETAS, TEMPERATURES, TOP_K, CLIPS))


def random_model(seed=0, spread=0.4, **changes):
    """A model with random weights large enough that every term of it shows in the output."""
    model = GPT(GPTConfig(**{**BASE, **changes}))
    rng = torch.Generator().manual_seed(seed)
    for p in model.parameters():
        centre = 1.0 if p.dim() == 1 else 0.0
        p.data = centre + spread * torch.randn(p.shape, generator=rng)
    return model


def random_ids(*shape, vocab=13, seed=0):
    return torch.randint(vocab, shape, generator=torch.Generator().manual_seed(seed))


def logits(n, v, seed, scale=2.0):
    rng = np.random.default_rng(seed)
    return torch.tensor(scale * rng.standard_normal((n, v)))


def states(n, v=13, seed=0, dtype=torch.float64):
    """The student's states [n, 5] and head [v, 5], the teacher's [n, 7] and [v, 7]."""
    g = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype)

    return draw(n, 5).requires_grad_(), draw(v, 5).requires_grad_(), draw(n, 7), draw(v, 7)
