"""Two answers; both state the law, one of them also falls into the pitfall. The rubric is the
reward."""

import sys
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).resolve().parents[2]))
from rubrics import Criterion, Rubric, satisfied

RIGHT, WRONG = "force = mass × acceleration", "mass ÷ acceleration"
law = Criterion("Law", f"Essential: uses {RIGHT}", 5, f"states {RIGHT}")
trap = Criterion("Trap", "Pitfall: does not divide mass by acceleration", -3, f"avoids {WRONG}")
rubric = Rubric((law, trap))
answers = [f"{RIGHT}\nAnswer: 6 N", f"{RIGHT}\nor {WRONG}\nAnswer: 6 N"]
rewards = []
for text in answers:
    verdicts = [satisfied(c, text) for c in rubric.criteria]
    rewards.append(sum(c.weight * good for c, good in zip(rubric.criteria, verdicts)))

policy = torch.zeros(2, requires_grad=True)  # [answers]
optimizer = torch.optim.SGD([policy], lr=1.0)
for step in range(100):
    # the expected reward, without sampling
    value = policy.softmax(-1) @ torch.tensor(rewards, dtype=torch.float)
    (-value).backward()
    optimizer.step()
    optimizer.zero_grad()

print(
    f"probability of the answer without the pitfall: {policy.softmax(-1)[0].item():.2f} (healthy: at least 0.9)"
)
