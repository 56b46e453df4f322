"""Two answers, 20 tokens: a short one of token 0, a long one of token 1. What share should token 1
have? 18 of 20."""

import torch
import torch.nn.functional as F

answers = [torch.zeros(2, dtype=torch.long), torch.ones(18, dtype=torch.long)]
student = torch.zeros(2, requires_grad=True)  # [V] the logits of every token
optimizer = torch.optim.SGD([student], lr=1.0)
for step in range(200):
    for y in answers:  # micro-batches of one answer
        z = student.expand(len(y), 2)  # [n, V]
        loss = F.cross_entropy(z, y) / len(answers)
        loss.backward()
    optimizer.step()
    optimizer.zero_grad()

print(f"probability of token 1: {student.softmax(-1)[1].item():.2f} (healthy: at least 0.89)")
