"""Self-distillation towards a running average of the student. The student starts out perfect: 5 of
5."""

import torch
import torch.nn.functional as F

torch.manual_seed(1)
questions, answers = torch.eye(5), torch.arange(5)
student = torch.nn.Linear(5, 5)
with torch.no_grad():
    student.weight.copy_(5 * torch.eye(5))
teacher = torch.nn.Linear(5, 5)
optimizer = torch.optim.SGD(student.parameters(), lr=2.0)
for step in range(100):
    with torch.no_grad():
        log_p = teacher(questions).log_softmax(-1)  # [5, V]
    log_q = student(questions).log_softmax(-1)  # [5, V]
    F.kl_div(log_q, log_p, log_target=True, reduction="batchmean").backward()
    optimizer.step()
    optimizer.zero_grad()
    with torch.no_grad():
        for average, new in zip(teacher.parameters(), student.parameters()):
            average.lerp_(new, 0.01)

certain = student(questions).softmax(-1)[answers, answers].mean().item()
print(f"mean probability of the right answer: {certain:.2f} (healthy: at least 0.9)")
