"""An answer: one of three openings (0.6, 0.3, 0.1), then a token that must fit the opening. The
teacher knows which."""

import sys
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).resolve().parents[2]))
from loss import token_divergence
from model import sample

torch.manual_seed(0)
opening = torch.tensor([0.6, 0.3, 0.1]).log()  # [3] the same for both
teacher = 8 * torch.eye(3)  # [openings, V]
student = torch.zeros(3, 3, requires_grad=True)  # [openings, V]
optimizer = torch.optim.SGD([student], lr=3.0)
for step in range(60):
    uniform = torch.rand(16, dtype=torch.float64)
    drawn = sample(opening.expand(16, -1), 1.0, None, 0.85, uniform)  # [16] openings of 16 rollouts
    loss = token_divergence(student[drawn], teacher[drawn]).mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()

fits = student.softmax(-1).diagonal()
print(f"loss of the last step: {loss.item():.3f}")
print(
    f"probability of the fitting token after the rare opening: {fits[2].item():.2f} (healthy: at least 0.8)"
)
