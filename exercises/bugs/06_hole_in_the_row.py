"""A model that counts (3 4 5 -> 6 7 8) continues 20 prompts of different lengths in one batch."""

import sys
from pathlib import Path

import torch
import torch.nn.functional as F

sys.path.append(str(Path(__file__).resolve().parents[2]))
from model import GPT, GPTConfig, generate

PAD = 10
torch.manual_seed(0)
shape = dict(n_layer=1, n_head=2, n_kv_head=1, head_dim=16, n_embd=32, mlp_width=64)
model = GPT(GPTConfig(vocab_size=11, max_seq_len=12, **shape))
optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
rows = (torch.arange(10)[:, None] + torch.arange(10)) % 10  # [10, T]
for step in range(60):
    logits = model(rows[:, :-1]) @ model.head_weight.T  # [10, T - 1, V]
    F.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten()).backward()
    optimizer.step()
    optimizer.zero_grad()


def continued(prompts, n):
    longest = max(map(len, prompts))
    ids = torch.tensor([p + [PAD] * (longest - len(p)) for p in prompts])  # [B, T]
    with torch.no_grad():
        for _ in range(n):
            best = (model(ids)[:, -1] @ model.head_weight.T).argmax(-1)  # [B]
            ids = torch.cat([ids, best[:, None]], 1)
    return ids[:, -n:].tolist()


prompts = []
for start in range(5):
    for length in (1, 2, 4, 6):
        prompts.append([(start + i) % 10 for i in range(length)])
answers = continued(prompts, 3)  # (model.py has `generate`, too)
right = sum(a == [(p[-1] + i) % 10 for i in (1, 2, 3)] for a, p in zip(answers, prompts))
print(f"right answers of 20: {right} (healthy: at least 20)")
