"""A batch of two answers, of 4 and of 2 tokens. What the teacher says on the padding is masked out
of the loss."""

import sys
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).resolve().parents[2]))
from loss import token_divergence

torch.manual_seed(0)
mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]], dtype=torch.bool)  # [B, T]
teacher = 3 * torch.randn(2, 4, 6)  # [B, T, V]
teacher[~mask] = -torch.inf
student = torch.zeros(2, 4, 6, requires_grad=True)  # [B, T, V]
optimizer = torch.optim.SGD([student], lr=5.0)
for step in range(50):
    divergence = token_divergence(student.flatten(0, 1), teacher.flatten(0, 1))  # [B * T]
    loss = (divergence * mask.flatten()).sum() / mask.sum()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()

print(f"loss after 50 steps: {loss.item():.4f} (healthy: at most 0.05)")
