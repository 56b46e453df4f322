"""GRPO on two questions. Every answer to the first earns 0.2, every answer to the second 0.8:
nothing to learn."""

import torch

torch.manual_seed(0)
policy = torch.zeros(2, 4, requires_grad=True)  # [questions, answers]
optimizer = torch.optim.SGD([policy], lr=1.0)
for step in range(100):
    log_q = policy.log_softmax(-1)  # [2, 4]
    q = log_q.detach().exp()
    drawn = torch.multinomial(q, 8, replacement=True)  # [2, 8] a group for each question
    rewards = torch.tensor([[0.2], [0.8]]).expand(2, 8)  # [2, 8]
    advantage = (rewards - rewards.mean()) / (rewards.std() + 1e-6)  # [2, 8]
    loss = -(advantage * log_q.gather(1, drawn)).mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()

print(
    f"largest probability on the second question: {policy.softmax(-1)[1].max().item():.2f} (healthy: at most 0.26)"
)
