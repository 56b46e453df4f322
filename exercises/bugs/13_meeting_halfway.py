"""One model, two contexts: the teacher's logits are w + r, where r is what the model makes of the
rubric; the student's are w. The loss falls nicely. What has the student learned?"""

import torch

w = torch.zeros(4, requires_grad=True)  # [V]
r = torch.tensor([3.0, 0.0, 0.0, 0.0], requires_grad=True)  # [V]
start = (w + r).softmax(-1)[0].item()
optimizer = torch.optim.SGD([w, r], lr=0.3)
for step in range(100):
    log_p = (w + r).log_softmax(-1)  # [V] the teacher
    log_q = w.log_softmax(-1)  # [V] the student
    loss = (log_p.exp() * (log_p - log_q)).sum()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()

print(
    f"loss of the last step: {loss.item():.3f}, teacher at the start: {start:.2f} on the right token"
)
adds = (r[0] - r[1:].mean()).item()
print(f"what the rubric still adds to the right token's logit: {adds:.2f} (healthy: at least 2.9)")
