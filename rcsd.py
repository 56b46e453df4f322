"""Rubric-conditioned self-distillation (arXiv 2606.19327) from scratch: data, base model, stage I, stage II.

    python rcsd.py data   --preset cpu   # questions, rubrics and a tokenizer, from the table of laws
    python rcsd.py base   --preset cpu   # stage 0: a small GPT that can read and write rubrics
    python rcsd.py stage1 --preset cpu   # stage I: learn to write rubrics, then write them for stage II
    python rcsd.py stage2 --preset cpu   # stage II: learn to reason from rubrics
    python evaluate.py    --preset cpu   # the table

Student and teacher are one model in two contexts. The student samples a completion y from the question x. The
teacher sees x and more (stage I: the reference rubric, stage II: the learned one) and scores the same tokens.
The loss on each token is D(p_T(. | x, r, y_<t) || p_S(. | x, y_<t)).

In this order: the rollout, the three token losses, the update, the methods, the loop of stages I and II, the stages,
the command line. Every stage is one loop over `rollout` and `update`.

Deliberate choices, with the reasons in README: the student samples from the distribution that its loss uses; the
teacher is the starting policy unless --teacher says otherwise; no clip; a step's loss is divided by all its tokens.
"""
import copy
import json
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from tqdm import tqdm

from base import base_optimizers, bucketed, new_model, read_corpus
from data.files import write_lines
from data.grammar import correct
from data.load import filter_by_length, load_examples, read_questions
from data.prepare import prepare
from data.sources import choose_rubrics, corrupt
from data.tokenizer import Tokenizer, encode, read_tokenizer
from fused_loss import distillation_loss
from model import GPT, Completion, batch_by_tokens, count_parameters, generate
from rubrics import (
    TEACHER_CONTEXTS,
    Example,
    grade,
    prompt,
    rubric_problem,
    teacher_prompt,
)
from trainer import (
    Settings,
    device_of,
    exit_code,
    gather,
    is_up_to_date,
    join_processes,
    load,
    load_model,
    rank_and_size,
    same_settings,
    seed_for,
    settings_from,
    settings_parser,
    shard,
    share,
    sum_gradients,
    train,
    wait_for_all,
)

Sections = list[tuple[str, str]]  # a prompt before it is encoded: (section, text) pairs


# ---------------------------------------------------------------------------------------------------- the rollout
@dataclass
class Rollout:
    """One completion of a step: `update` learns from nothing else."""
    prompt: list[int]                           # what the student sees
    completion: list[int]                       # the tokens that the loss is on; never decoded and encoded again
    teacher_prompt: list[int] | None = None     # what the teacher sees; None: there is no teacher
    truncated: bool = False                     # the completion met the length limit before its EOS
    example: Example | None = None
    weights: list[float] | None = None          # of the completion's tokens, for sft_loss; None: 1 each
    advantage: float = 0.0                      # of the whole completion, for GRPO
    old_logprobs: torch.Tensor | None = None    # [n] under the policy that sampled it; set when a batch is first used


def rollout(student: GPT, prompts: list[list[int]], tokenizer: Tokenizer, settings: Settings,
            *purpose) -> list[Completion]:
    """One sample of the student for each prompt, from the distribution that the loss uses.

    `purpose` (stage, step, ...) is the seed: the noise of a sample depends on it and on the sample's place alone.
    """
    generator = torch.Generator().manual_seed(seed_for(settings, *purpose))
    noise = torch.rand(len(prompts), settings.max_new_tokens, dtype=torch.float64, generator=generator)
    completions = generate(student, shard(prompts), max_new_tokens=settings.max_new_tokens, eos=tokenizer.eos,
                           temperature=settings.temperature, noise=shard(noise).to(student.head_weight.device))
    return gather(completions)


# ---------------------------------------------------------------------------------------------- the token losses
def completion_hidden(model: GPT, rows: list[tuple[list[int], list[int]]]) -> torch.Tensor:
    """Hidden states [N, n_embd] from which the N completion tokens of (prompt, completion) rows are predicted.

    A token is predicted one position before it. So the last prompt position comes along, and the last token is
    never fed. Padding stands on the right, where causal attention cannot see it.
    """
    device = model.head_weight.device
    ids = [context + completion[:-1] for context, completion in rows]
    longest = max(map(len, ids))
    padded = torch.tensor([row + [0] * (longest - len(row)) for row in ids], device=device)        # [B, T]
    positions = []                                                     # b * T + t of each predicting position
    for b, (context, completion) in enumerate(rows):
        first = b * longest + len(context) - 1
        positions.extend(range(first, first + len(completion)))
    return model(padded, positions=torch.tensor(positions, device=device))                         # [N, n_embd]


def sft_loss(student: GPT, teacher: None, batch: list[Rollout], num_tokens: float, settings: Settings):
    """-log p_S(y_t), times the token's weight: the completion is the target. Stage 0 and supervised distillation."""
    hidden = completion_hidden(student, [(r.prompt, r.completion) for r in batch])                 # [N, n_embd]
    targets = torch.tensor([i for r in batch for i in r.completion], device=hidden.device)         # [N]
    weights = [w for r in batch for w in r.weights or [1.0] * len(r.completion)]
    weights = torch.tensor(weights, device=hidden.device)                                          # [N]
    nll = F.cross_entropy((hidden @ student.head_weight.T).float(), targets, reduction="none")     # [N]
    return nll @ weights / num_tokens, {}


def distillation(student: GPT, teacher: GPT, batch: list[Rollout], num_tokens: float, settings: Settings):
    """D(p_T || p_S): the teacher reads the same completion after another prompt. RCSD, OPSD and stage I."""
    hidden = completion_hidden(student, [(r.prompt, r.completion) for r in batch])                 # [N, n_embd]
    with torch.no_grad():  # after the student: casts that autocast caches here would carry no gradient
        teacher_hidden = completion_hidden(teacher, [(r.teacher_prompt, r.completion) for r in batch])
    loss, stats = distillation_loss(hidden, student.head_weight, teacher_hidden, teacher.head_weight,
                                    **settings.divergence(), denominator=num_tokens, return_stats=True)
    return loss, {"entropy": stats.student_entropy, "teacher_entropy": stats.teacher_entropy,
                  "clipped": stats.clipped, "gradient_flipped": stats.gradient_flipped}


def policy_gradient_loss(student: GPT, teacher: GPT | None, batch: list[Rollout], num_tokens: float,
                         settings: Settings):
    """-min(ratio A, clip(ratio, 1 - eps, 1 + eps) A), ratio = p_S(y_t) / p_old(y_t): the clipped policy gradient.

    Without a teacher, A is the rollout's advantage, the same on all its tokens: GRPO as in DeepSeekMath (2402.03300,
    outcome rewards) with two published changes. There is no KL penalty. And, from DAPO (2503.14476), the sum over
    tokens is divided by the tokens of the step, so a long wrong answer is not favoured (there: 1 / |y| an answer).

    With a teacher, A_t = log p_T(y_t) - log p_S(y_t): reverse KL as a policy gradient. Given y_<t, the mean of
    -A_t grad log p_S(y_t) over y_t ~ p_S is the gradient of KL(p_S || p_T), which --beta 1 has without the noise.

    On the first use of a batch the ratio is 1: only --updates-per-batch above 1 ever clips it.
    """
    device = student.head_weight.device
    targets = torch.tensor([i for r in batch for i in r.completion])[:, None].to(device)           # [N, 1]

    def read(model, rows):  # log probabilities [N, V] and that of the sampled token [N]
        logits = (completion_hidden(model, rows) @ model.head_weight.T).float()                    # [N, V]
        all_logprobs = logits.div(settings.temperature).log_softmax(-1)
        return all_logprobs, all_logprobs.gather(-1, targets)[:, 0]

    all_logprobs, logprobs = read(student, [(r.prompt, r.completion) for r in batch])
    if batch[0].old_logprobs is None:
        lengths = [len(r.completion) for r in batch]
        for r, old in zip(batch, logprobs.detach().split(lengths)):
            r.old_logprobs = old
    old_logprobs = torch.cat([r.old_logprobs for r in batch])                                      # [N]
    if teacher is not None:
        with torch.no_grad():
            teacher_logprobs = read(teacher, [(r.teacher_prompt, r.completion) for r in batch])[1]
            advantage = teacher_logprobs - old_logprobs                                            # [N]
    else:
        advantage = torch.tensor([r.advantage for r in batch for _ in r.completion], device=device)
    ratio = (logprobs - old_logprobs).exp()                                                        # [N]
    clipped = ratio.clamp(1 - settings.clip_eps, 1 + settings.clip_eps) * advantage                # [N]
    loss = -torch.minimum(ratio * advantage, clipped).sum() / num_tokens
    entropy = -(all_logprobs.detach().exp() * all_logprobs.detach()).sum(-1)                       # [N]
    return loss, {"entropy": entropy, "clipped": clipped < ratio * advantage}


# ----------------------------------------------------------------------------------------------------- the update
def micro_batches(rollouts: list[Rollout], tokens: int) -> Iterator[list[Rollout]]:
    """Rollouts of similar length together, at most `tokens` padded tokens (but at least one rollout) at a time."""
    by_length = sorted(rollouts, key=lambda r: len(r.prompt) + len(r.completion))
    longer_side = lambda r: len(r.completion) + max(len(r.prompt), len(r.teacher_prompt or ()))  # noqa: E731
    return batch_by_tokens(by_length, tokens, longer_side)


def update(loss_fn: Callable, student: GPT, teacher: GPT | None, rollouts: list[Rollout], optimizers: list,
           settings: Settings) -> dict[str, float]:
    """One optimizer step. Returns the loss and the measures of `loss_fn`, means over tokens, in nats.

    `loss_fn` is sft_loss, distillation or policy_gradient_loss: from a micro-batch to its loss and {name: [N]}.
    The sum over micro-batches is divided by the completion tokens of the whole step. So the micro-batch size
    changes nothing, and a token of a long answer weighs as much as one of a short answer.
    """
    rollouts = [r for r in rollouts if r.completion]
    num_tokens = sum(sum(r.weights) if r.weights else len(r.completion) for r in rollouts)
    sums, device = {"loss": 0.0}, student.head_weight.device
    mine = shard(sorted(rollouts, key=lambda r: len(r.prompt) + len(r.completion)))
    for batch in micro_batches(mine, settings.micro_tokens):
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.dtype == "bfloat16"):
            loss, measures = loss_fn(student, teacher, batch, num_tokens, settings)
        loss.backward()
        sums["loss"] += loss.item()
        for name, values in measures.items():
            sums[name] = sums.get(name, 0.0) + values.float().sum().item() / num_tokens
    sum_gradients(list(student.parameters()))
    parts = gather([sums])
    sums = {name: sum(part.get(name, 0.0) for part in parts) for name in max(parts, key=len)}
    if num_tokens:
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    return sums


# ---------------------------------------------------------------------------------------------------- the methods
@dataclass(frozen=True)
class Method:
    """What tells one method from another. A new baseline is one row of METHODS and at most one loss function."""
    loss_fn: Callable
    on_policy: bool = True         # the completion is the student's sample; False: it is the reference solution
    teacher: bool = False          # a teacher reads the completion too
    teacher_context: str = ""      # what the teacher must see, a key of TEACHER_CONTEXTS; "": --teacher-context says
    reward: Callable[[Example, str], float] | None = None  # of an answer; then GRPO's groups set the advantages
    needs: str = ""                # what every question must have, a key of NEEDS


NEEDS: dict[str, Callable[[Example], bool]] = {
    "an answer": lambda e: bool(e.answer),
    "a solution": lambda e: bool(e.solution),
    "a rubric with checks": lambda e: e.rubric is not None and all(c.check for c in e.rubric.criteria),
}
METHODS = {
    "rcsd": Method(distillation, teacher=True),
    "opsd": Method(distillation, teacher=True, teacher_context="solution"),
    "reverse-kl-pg": Method(policy_gradient_loss, teacher=True),
    "grpo": Method(policy_gradient_loss, reward=lambda e, text: float(correct(text, e.answer)), needs="an answer"),
    "grpo-rubric": Method(policy_gradient_loss, reward=lambda e, text: grade(e.rubric, text),
                          needs="a rubric with checks"),
    "sft": Method(sft_loss, on_policy=False, needs="a solution"),
}


def method_of(settings: Settings) -> Method:
    """The row of METHODS that the settings name. Raises ValueError for settings that do not fit the method."""
    if settings.method not in METHODS:
        raise ValueError(f"--method: expected one of {', '.join(METHODS)}, got {settings.method!r}")
    method = METHODS[settings.method]
    if method.reward and (settings.group_size < 2 or settings.batch % settings.group_size):
        raise ValueError(f"--group-size: expected at least 2 and a divisor of --batch {settings.batch}, "
                         f"got {settings.group_size}")
    if method.teacher_context and settings.teacher_context not in ("rubric", method.teacher_context):
        raise ValueError(f"--teacher-context {settings.teacher_context}: {settings.method} is the method whose teacher "
                         f"sees the {method.teacher_context}")
    return method


def set_advantages(rollouts: list[Rollout], rewards: list[float], group_size: int) -> float:
    """GRPO: (reward - mean) / standard deviation within each group of neighbours, samples of one question.

    Returns the share of groups without signal: all rewards equal, so all advantages are 0.
    """
    silent = 0
    for start in range(0, len(rollouts), group_size):
        group = rewards[start:start + group_size]
        mean = sum(group) / len(group)
        std = (sum((reward - mean) ** 2 for reward in group) / len(group)) ** 0.5
        equal = max(group) == min(group)
        silent += equal
        for r, reward in zip(rollouts[start:start + group_size], group):
            r.advantage = 0.0 if equal else (reward - mean) / std
    return silent * group_size / max(1, len(rollouts))


# ---------------------------------------------------------------------------------- the loop of stages I and II
@dataclass(frozen=True)
class Stage:
    """What tells stage I from stage II. Both start from the base model."""
    name: str                                              # of its checkpoint and its log
    steps: int
    method: Method
    student_prompt: Callable[[Example], Sections]
    teacher_prompt: Callable[[Example], Sections] | None
    measure: str                                           # a share for the log, by this name:
    counts: Callable[[Rollout, str], bool]                 # which rollouts (and their texts) count
    validate: Callable[[GPT], dict[str, float]] | None = None


def make_teacher(student: GPT, settings: Settings) -> GPT:
    """The starting policy; with --teacher live the student itself, at every step as it then is."""
    return student if settings.teacher == "live" else copy.deepcopy(student)


@torch.no_grad()
def update_teacher(teacher: GPT, student: GPT, settings: Settings) -> None:
    """--teacher ema: after each step the teacher's weights move a little towards the student's."""
    if settings.teacher == "ema":
        for old, new in zip(teacher.parameters(), student.parameters()):
            old.lerp_(new, 1 - settings.ema_decay)


def draw_examples(examples: list[Example], count: int, step: int, stage: str, settings: Settings) -> list[Example]:
    """The `count` questions of a step: one epoch after another, each in a new order."""
    drawn = []
    for k in range(step * count, (step + 1) * count):
        if not drawn or k % len(examples) == 0:
            rng = random.Random(seed_for(settings, stage, "epoch", k // len(examples)))
            shuffled = rng.sample(examples, len(examples))
        drawn.append(shuffled[k % len(examples)])
    return drawn


def post_train(stage: Stage, out: Path, examples: list[Example], settings: Settings, resume: bool) -> GPT:
    """Stages I and II: sample completions, then learn from the method's loss on each token."""
    tokenizer, device, method = read_tokenizer(out), device_of(settings), stage.method
    same_settings(out / "base.pt", load(out / "base.pt")["settings"], settings.of("base"))
    student = load_model(out / "base.pt", device)
    teacher = make_teacher(student, settings) if method.teacher else None
    optimizers = [torch.optim.AdamW(student.parameters(), lr=settings.lr, betas=(0.9, 0.98), weight_decay=0.0)]
    examples = filter_by_length(examples, tokenizer, settings.prompt_room(), stage.student_prompt, stage.teacher_prompt)
    group_size = settings.group_size if method.reward else 1

    def collect(step: int) -> list[Rollout]:
        drawn = draw_examples(examples, settings.batch // group_size, step, stage.name, settings)
        drawn = [e for e in drawn for _ in range(group_size)]
        prompts = [encode(tokenizer, stage.student_prompt(e)) for e in drawn]
        if not method.on_policy:
            return [Rollout(p, tokenizer.encode(e.solution) + [tokenizer.eos], example=e)
                    for p, e in zip(prompts, drawn)]
        rollouts = []
        completions = rollout(student, prompts, tokenizer, settings, stage.name, step)
        for e, p, completion in zip(drawn, prompts, completions):
            teacher_ids = encode(tokenizer, stage.teacher_prompt(e)) if method.teacher else None
            rollouts.append(Rollout(p, completion.ids, teacher_ids, completion.truncated, e))
        return rollouts

    def take_step(step: int) -> dict:
        rollouts = collect(step)
        texts = [tokenizer.decode_completion(r.completion) for r in rollouts]
        share = sum(stage.counts(r, text) for r, text in zip(rollouts, texts)) / len(rollouts)
        row = {stage.measure: share, **lengths(rollouts)}
        row["sampled"] = row["tokens"] if method.on_policy else 0
        row["sample"] = {"question": rollouts[0].example.question, "completion": texts[0]}
        if method.reward:  # a truncated answer earns nothing
            rewards = [0.0 if r.truncated else method.reward(r.example, text) for r, text in zip(rollouts, texts)]
            row["reward"] = sum(rewards) / len(rewards)
            row["frac_zero_std"] = set_advantages(rollouts, rewards, group_size)
        for _ in range(settings.updates_per_batch):
            row |= update(method.loss_fn, student, teacher, rollouts, optimizers, settings)
        if method.teacher:
            update_teacher(teacher, student, settings)
        return row

    ema = teacher if method.teacher and settings.teacher == "ema" else None
    return train(stage.name, out, student, take_step, stage.steps, optimizers, 5, settings, resume, ema, stage.validate)


def lengths(rollouts: list[Rollout]) -> dict[str, float]:
    """For the log: completion tokens of a step, their mean per rollout, and the share of truncated rollouts."""
    tokens, rows = sum(len(r.completion) for r in rollouts), max(1, len(rollouts))
    return {"tokens": tokens, "length": tokens / rows, "truncated": sum(r.truncated for r in rollouts) / rows}


def greedy(model: GPT, tokenizer: Tokenizer, prompts: list[list[int]], settings: Settings,
           note: str = "") -> list[tuple[str, bool, int]]:
    """Most likely completions: (text, truncated, number of tokens) for each prompt."""
    order, done = sorted(range(len(prompts)), key=lambda i: len(prompts[i])), []
    mine = shard(order)
    for start in tqdm(range(0, len(mine), 128), note, leave=False, disable=not note):
        part = [prompts[i] for i in mine[start:start + 128]]
        completions = generate(model, part, eos=tokenizer.eos, temperature=0, max_new_tokens=settings.max_new_tokens)
        done += [(tokenizer.decode_completion(c.ids), c.truncated, len(c.ids)) for c in completions]
    found = dict(zip(order, gather(done)))
    return [found[i] for i in range(len(prompts))]


# ----------------------------------------------------------------------------------------------------- the stages
def run_data(out: Path, settings: Settings, resume: bool) -> None:
    """Make the data. The file data.json comes last: it says that the rest is whole."""
    wanted, mark = settings.of("data"), out / "data" / "data.json"
    if mark.exists():
        if not resume:
            raise ValueError(f"{mark.parent} is there already: pass --resume to keep it, or another --out")
        same_settings(mark, json.loads(mark.read_text(encoding="utf-8")), wanted)
        print(f"data: done before, {mark.parent}")
        return
    if rank_and_size()[0] == 0:
        prepare(out / "data", **wanted)
        write_lines(mark, [json.dumps(wanted)])
    wait_for_all()


def run_base(out: Path, settings: Settings, resume: bool) -> None:
    """Stage 0: `update` on rollouts that come from the corpus. base.py has the model, the rows and the optimizers."""
    tokenizer, device, mark = read_tokenizer(out), device_of(settings), out / "data" / "data.json"
    if mark.exists():
        same_settings(mark, json.loads(mark.read_text(encoding="utf-8")), settings.of("data"))
    rows = read_corpus(out / "data" / "base.jsonl", tokenizer, settings)
    ids = [row for row, _ in rows]
    student = new_model(tokenizer.vocab_size, settings).to(device)
    print(f"base: {count_parameters(student):,} parameters, {len(rows):,} rows, {sum(map(len, ids)):,} tokens, "
          f"{device}, {torch.get_num_threads()} threads")
    optimizers = base_optimizers(student, settings)
    batches = []

    def collect(step: int) -> list[Rollout]:
        while len(batches) <= step:  # one epoch more
            batches.extend(bucketed(ids, settings.base_tokens, seed_for(settings, "epoch", len(batches))))
        rollouts = []
        for i in batches[step]:
            row, start = rows[i]
            weights = [settings.prompt_weight] * (start - 1) + [1.0] * (len(row) - start)
            rollouts.append(Rollout(row[:1], row[1:], weights=weights))
        return rollouts

    def take_step(step: int) -> dict:
        rollouts = collect(step)
        return {**update(sft_loss, student, None, rollouts, optimizers, settings), **lengths(rollouts)}

    train("base", out, student, take_step, settings.base_steps, optimizers, 50, settings, resume)


def run_stage1(out: Path, settings: Settings, resume: bool) -> None:
    """Stage I: the rubric student sees x, its teacher x and the reference rubric; then it writes for stage II."""
    tokenizer = read_tokenizer(out)
    path = Path(settings.data or out / "data" / "stage1.jsonl")
    examples = [e for e in read_questions(path, bool(settings.data)) if e.rubric][:settings.stage1_limit or None]
    if not examples:
        raise ValueError(f"{path}: stage I needs questions with rubrics, found none")
    stage = Stage("stage1", settings.stage1_steps, METHODS["rcsd"],
                  student_prompt=lambda e: prompt(e.question, task="write_rubric"),
                  teacher_prompt=lambda e: prompt(e.question, rubric=e.rubric, task="write_rubric"),
                  measure="valid", counts=lambda r, text: not rubric_problem(text, r.truncated))
    student = post_train(stage, out, examples, settings, resume)
    if is_up_to_date(out / "rubrics.jsonl", out / "stage1.pt"):
        return
    questions = read_questions(Path(settings.data or out / "data" / "stage2.jsonl"), bool(settings.data))
    questions = filter_by_length(questions, tokenizer, settings.prompt_room(), lambda e: prompt(e.question))
    written = write_rubrics(student, tokenizer, questions, settings)
    if rank_and_size()[0] == 0:
        write_lines(out / "rubrics.jsonl", (json.dumps(row, ensure_ascii=False) for row in written))
    wait_for_all()
    print(f"stage1: wrote rubrics for {len(written)} questions, {sum(bool(row['problem']) for row in written)} of them "
          f"invalid, {out / 'rubrics.jsonl'}")


def write_rubrics(model: GPT, tokenizer: Tokenizer, examples: list[Example], settings: Settings) -> list[dict]:
    """Greedy rubrics for questions: {"id", "text", "problem"}; problem is "" or says why the rubric is invalid."""
    prompts = [encode(tokenizer, prompt(e.question, task="write_rubric")) for e in examples]
    return [{"id": e.id, "text": text, "problem": rubric_problem(text, truncated)}
            for e, (text, truncated, _) in zip(examples, greedy(model, tokenizer, prompts, settings))]


def run_stage2(out: Path, settings: Settings, resume: bool) -> None:
    """Stage II: the student answers from x; the loss on its tokens is the method's, for RCSD from x and a rubric."""
    tokenizer, method = read_tokenizer(out), method_of(settings)
    path = Path(settings.data or out / "data" / "stage2.jsonl")
    examples = filter_by_length(read_questions(path, bool(settings.data)), tokenizer, settings.prompt_room(), lambda e: prompt(e.question))
    examples = corrupt(examples[:settings.stage2_limit or None], "solution", settings.corrupted, settings.seed)
    if method.needs and (poor := [e.id for e in examples if not NEEDS[method.needs](e)]):
        raise ValueError(f"{path}: --method {settings.method} needs {method.needs} for each question; "
                         f"{poor[0]} and {len(poor) - 1} more have none")
    questions = load_examples(out / "data" / "valid.jsonl")[0]
    stage = Stage("stage2", settings.stage2_steps, method,
                  student_prompt=lambda e: prompt(e.question),
                  teacher_prompt=stage2_teacher(out, examples, method, settings) if method.teacher else None,
                  measure="correct", counts=lambda r, text: correct(text, r.example.answer),
                  validate=(lambda model: validate(model, tokenizer, questions, settings)) if settings.eval_every else None)
    post_train(stage, out, examples, settings, resume)


def stage2_teacher(out: Path, examples: list[Example], method: Method, settings: Settings) -> Callable:
    """The function from an example to the stage II teacher's prompt."""
    context = method.teacher_context or settings.teacher_context
    rubrics = choose_rubrics(settings.rubrics, examples, out / "rubrics.jsonl", settings.rubric_rate,
                             settings.seed) if "rubric" in TEACHER_CONTEXTS[context] else {}
    return lambda e: teacher_prompt(e, context, rubrics.get(e.id))


def validate(model: GPT, tokenizer: Tokenizer, examples: list[Example], settings: Settings) -> dict[str, float]:
    """Greedy accuracy (0 to 1) on the validation questions about known and about new laws."""
    answers = greedy(model, tokenizer, [encode(tokenizer, prompt(e.question)) for e in examples], settings)
    right = {"valid_known": [], "valid_new": []}
    for e, (text, _, _) in zip(examples, answers):
        right["valid_new" if e.meta["new"] else "valid_known"].append(correct(text, e.answer))
    return {name: sum(values) / len(values) for name, values in right.items() if values}


# ----------------------------------------------------------------------------------------------- the command line
STAGES = {"data": run_data, "base": run_base, "stage1": run_stage1, "stage2": run_stage2}


def main(arguments: list[str] | None = None) -> int:
    parser = settings_parser(__doc__)
    parser.add_argument("command", choices=STAGES)
    args = parser.parse_args(arguments)

    def action() -> None:
        out, settings = settings_from(args)
        method_of(settings)  # a bad --method is told before hours of stage 0
        join_processes(settings)
        out.mkdir(parents=True, exist_ok=True)
        if args.source and rank_and_size()[0] == 0:
            share(args.source, out)
        wait_for_all()
        STAGES[args.command](out, settings, args.resume)

    return exit_code("rcsd.py", action)


if __name__ == "__main__":
    sys.exit(main())
