"""The teacher gives its best token 0.9, the student starts at 0.6. The loss of each token is
bounded by 0.05."""

import sys
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).resolve().parents[2]))
from loss import token_divergence

teacher = torch.tensor([[0.9, 0.06, 0.04]]).log()  # [1, V]
student = torch.tensor([[0.6, 0.2, 0.2]]).log().requires_grad_()  # [1, V]
optimizer = torch.optim.SGD([student], lr=1.0)
for step in range(300):
    loss = token_divergence(student, teacher, clip=0.05, clip_mode="pointwise").mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()

print(f"loss of the last step: {loss.item():.3f}")
q = student.softmax(-1)[0, 0].item()
print(f"student's probability of the teacher's best token: {q:.2f} (healthy: at least 0.85)")
