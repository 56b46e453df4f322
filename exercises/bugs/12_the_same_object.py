"""The teacher is the starting policy in another context: it adds what the rubric says. It is 80%
sure, not more."""

import copy

import torch

rubric = torch.tensor([2.5, 0.0, 0.0, 0.0])  # [V] what reading it adds to the logits
policy = {"logits": torch.zeros(4, requires_grad=True)}
student = policy
teacher = copy.copy(policy)
optimizer = torch.optim.SGD([student["logits"]], lr=1.0)
for step in range(300):
    p = (teacher["logits"].detach() + rubric).softmax(-1)  # [V] x and the rubric
    log_q = student["logits"].log_softmax(-1)  # [V] x alone
    loss = (p * (p.log() - log_q)).sum()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()

q = log_q.detach().exp()
print(f"loss of the last step: {loss.item():.5f}")
print(f"student's entropy, nats: {-(q * q.log()).sum().item():.3f} (healthy: at least 0.5)")
