"""A policy-gradient step on sampled texts. At the first update nothing has changed yet: every ratio
should be 1."""

import sys
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).resolve().parents[2]))
from data.tokenizer import Tokenizer, train_bpe

tokenizer = Tokenizer(train_bpe(["heat the tea that ate"] * 9, 290))
generator = torch.Generator().manual_seed(0)
policy = torch.full((tokenizer.vocab_size,), -20.0)  # [V] the same at every position
for i in [*b"aeht", *tokenizer.encode("heat tea")]:  # letters, and merges of them
    policy[i] = 0.0
policy.requires_grad_()


def logprob(ids):
    return policy.log_softmax(-1)[ids].sum()


ratios = []
for _ in range(32):
    drawn = torch.multinomial(policy.softmax(-1), 8, replacement=True, generator=generator)
    sampled = drawn.tolist()
    old = logprob(sampled).detach()
    text = tokenizer.decode(sampled)  # what the reward is computed from
    completion = tokenizer.encode(text)
    ratios.append((logprob(completion) - old).exp())
    (-ratios[-1] * float(text.startswith("h"))).backward()

off = sum(abs(r.item() - 1) > 1e-4 for r in ratios)
print(f"answers of 32 whose ratio is not 1 before any step: {off} (healthy: at most 0)")
