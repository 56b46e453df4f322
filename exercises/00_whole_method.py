"""The whole of stage II on five questions, in half a minute: python exercises/00_whole_method.py

The student answers a question. The teacher, the student's copy from before, sees a rubric too. On
each token the student moves towards the teacher. Parts 1 to 5 name the project's real functions.
"""

import copy
import sys
from pathlib import Path

import torch
import torch.nn.functional as F

sys.path.append(str(Path(__file__).resolve().parents[1]))
from loss import token_divergence
from model import GPT, GPTConfig, generate

SOLUTIONS = """force = mass × acceleration, momentum = mass × velocity, charge = current × time,
voltage = current × resistance, work = force × distance""".split(",")
QUESTIONS = [solution.split()[0] for solution in SOLUTIONS]  # "force"
RIGHT = [solution.split()[-1] for solution in SOLUTIONS]  # "acceleration", as the rubric says
WORDS = "<eos> <question> <rubric> <solve> uses".split() + sorted(set(" ".join(SOLUTIONS).split()))


def encode(text):
    return [WORDS.index(word) for word in text.split()]


# 1. Two prompts that end alike, one has a rubric -> rubrics.prompt, rubrics.teacher_prompt
def prompt(question, word=""):
    rubric = f"<rubric> uses {word}" if word else ""
    return encode(f"<question> {question} {rubric} <solve>")


# 2. The student answers from its own distribution -> step.sample_completions
def rollout(model, temperature):
    prompts = [prompt(question) for question in QUESTIONS]
    noise = torch.rand(len(prompts), 6, dtype=torch.float64)  # [B, 6]
    eos = WORDS.index("<eos>")
    out = generate(model, prompts, max_new_tokens=6, eos=eos, temperature=temperature, noise=noise)
    return [completion.ids for completion in out]


# 3. The states that predict the n answer tokens, each one position early -> step.completion_hidden
def completion_hidden(model, context, answer):
    ids = torch.tensor([context + answer[:-1]])  # [1, T]
    return model(ids)[0, len(context) - 1 :]  # [n, n_embd]


# 4. How far apart student and teacher are on each token -> step.distillation
def distillation(student, teacher, question, word, answer):
    mine = completion_hidden(student, prompt(question), answer)  # [n, n_embd]
    with torch.no_grad():
        theirs = completion_hidden(teacher, prompt(question, word), answer)  # [n, n_embd]
    return token_divergence(mine @ student.head_weight.T, theirs @ teacher.head_weight.T)  # [n]


# 5. One optimizer step on the mean over all tokens -> step.update
def update(losses, optimizer):
    torch.cat(losses).mean().backward()  # [N] to []
    optimizer.step()
    optimizer.zero_grad()


torch.set_num_threads(1)
torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
shape = dict(n_layer=2, n_head=2, n_kv_head=2, head_dim=16, n_embd=32, mlp_width=64)
student = GPT(GPTConfig(len(WORDS), max_seq_len=16, **shape))
optimizer = torch.optim.AdamW(student.parameters(), lr=0.003)
for step in range(200):  # stage 0: a wrong belief; and to follow rubrics, never the right one
    losses = []
    for i, question in enumerate(QUESTIONS):
        belief, named = RIGHT[i - 1], RIGHT[i - 1 - step % 4]
        for context, word in (prompt(question), belief), (prompt(question, named), named):
            answer = encode(SOLUTIONS[i].replace(RIGHT[i], word) + " <eos>")
            logits = completion_hidden(student, context, answer) @ student.head_weight.T  # [n, V]
            losses.append(F.cross_entropy(logits, torch.tensor(answer), reduction="none"))  # [n]
    update(losses, optimizer)

teacher = copy.deepcopy(student)  # stage II: the teacher stays as it is
optimizer = torch.optim.AdamW(student.parameters(), lr=0.002)
for step in range(61):
    if step % 20 == 0:
        answers = rollout(student, temperature=0)
        right = sum(ids == encode(text + " <eos>") for ids, text in zip(answers, SOLUTIONS))
        nats = distillation(student, teacher, QUESTIONS[0], RIGHT[0], answers[0])  # [n]
        tokens = "  ".join(f"{WORDS[token]} {x:.2f}" for token, x in zip(answers[0], nats))
        print(f"step {step}: {right} of 5 right. Nats a token:  {tokens}")
    rows = zip(QUESTIONS, RIGHT, rollout(student, temperature=1))
    update([distillation(student, teacher, *row) for row in rows], optimizer)
