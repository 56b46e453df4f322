"""Tokens: stop, right, wrong. An answer is worth 1 if "right" is in it. At most 12 tokens, then it
is cut off."""

import torch

STOP, RIGHT, WRONG = range(3)
torch.manual_seed(0)
policy = torch.tensor([0.0, 0.0, 1.0], requires_grad=True)  # [V]
optimizer = torch.optim.SGD([policy], lr=0.3)
for step in range(150):
    log_q, loss, cut = policy.log_softmax(-1), 0.0, 0
    drawn = torch.multinomial(log_q.detach().exp(), 64 * 12, replacement=True)
    answers = drawn.view(64, 12).tolist()
    rewards = []
    for i, ids in enumerate(answers):
        ended = STOP in ids
        answers[i] = ids[: ids.index(STOP) + 1] if ended else ids
        rewards.append(float(RIGHT in answers[i]))
        cut += not ended
    mean = sum(rewards) / 64
    for ids, reward in zip(answers, rewards):
        loss = loss - (reward - mean) * log_q[ids].sum() / 64
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()

print(f"reward in the last step: {mean:.2f}")
print(f"share of answers that are cut: {cut / 64:.2f} (healthy: at most 0.1)")
