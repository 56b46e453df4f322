"""The teacher has the answer in its prompt and copies it; the student is taught on its own samples
to do without."""

import sys
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).resolve().parents[2]))
from loss import token_divergence
from model import GPT, GPTConfig, generate

SOLVE, V = 15, 16
torch.manual_seed(0)
shape = dict(n_layer=1, n_head=2, n_kv_head=1, head_dim=16, n_embd=32, mlp_width=64)
student = GPT(GPTConfig(V, max_seq_len=12, **shape))
optimizer = torch.optim.AdamW(student.parameters(), lr=0.01)
rubrics = {question: torch.randint(5, 15, (3,)).tolist() for question in range(5)}


def teacher(ids):
    """A perfect reader: after ids[t] comes ids[t - 3], which is right from SOLVE on. ids [T] to
    logits [T, V]."""
    back = [0, 0, 0] + ids[:-3]
    return 10 * torch.nn.functional.one_hot(torch.tensor(back), V).float()


for step in range(60):
    questions = list(rubrics) * 2
    noise = torch.rand(len(questions), 3, dtype=torch.float64)
    prompts = [[q, SOLVE] for q in questions]
    answers = generate(student, prompts, max_new_tokens=3, eos=-1, noise=noise)
    for q, y in zip(questions, answers):
        prompt, teacher_prompt = [q, SOLVE], [q] + rubrics[q] + [SOLVE]
        z = student(torch.tensor([prompt + y.ids]))[0] @ student.head_weight.T  # [2 + 3, V]
        seen = teacher(teacher_prompt + y.ids)  # [5 + 3, V]
        mine = z[len(prompt) - 1 : -1]  # [3, V]
        theirs = seen[len(teacher_prompt) :]  # [3, V]
        loss = token_divergence(mine, theirs).mean() / len(questions)
        loss.backward()
    optimizer.step()
    optimizer.zero_grad()

answers = generate(student, [[q, SOLVE] for q in rubrics], max_new_tokens=3, eos=-1, temperature=0)
right = sum(a == b for y, q in zip(answers, rubrics) for a, b in zip(y.ids, rubrics[q]))
print(f"divergence of the last answer: {loss.item() * 10:.3f}")
print(f"right tokens of 15: {right} (healthy: at least 13)")
