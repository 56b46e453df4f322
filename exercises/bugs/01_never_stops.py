"""A small model learns: given d and n, write d n times and stop. 20 prompts, all of them seen in
training."""

import sys
from pathlib import Path

import torch
import torch.nn.functional as F

sys.path.append(str(Path(__file__).resolve().parents[2]))
from model import GPT, GPTConfig, generate

PAD = EOS = 0
torch.manual_seed(0)
shape = dict(n_layer=1, n_head=2, n_kv_head=1, head_dim=16, n_embd=32, mlp_width=64)
model = GPT(GPTConfig(vocab_size=11, max_seq_len=12, **shape))
optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
prompts = [[d, 5 + n] for d in range(1, 6) for n in range(1, 5)]
rows = [[d, n] + [d] * (n - 5) + [EOS] for d, n in prompts]
longest = max(map(len, rows))
ids = torch.tensor([row + [PAD] * (longest - len(row)) for row in rows])  # [B, T]
targets = ids[:, 2:]  # [B, T - 2]: the completion
mask = targets != PAD
for step in range(200):
    logits = model(ids)[:, 1:-1] @ model.head_weight.T  # [B, T - 2, V]
    loss = F.cross_entropy(logits[mask], targets[mask])
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()

answers = generate(model, prompts, max_new_tokens=8, eos=EOS, temperature=0)
print(f"loss of the last step: {loss.item():.3f}")
print(f"answers of 20 that end: {sum(not a.truncated for a in answers)} (healthy: at least 19)")
