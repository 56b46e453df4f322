"""One step of any stage: sample completions, take the loss on their tokens, update the student.

    draw_examples        the questions of a step
    sample_completions   the student's own answers (or rubrics)
    greedy, write_rubrics, validate                     likeliest completions
    sft_loss, distillation, policy_gradient_loss        the loss on each token
    reward_rollouts, set_advantages                     rewards of a group, for GRPO
    update               count the step's tokens, by which each loss divides; backward; optimizer

Student and teacher score the same tokens: `completion_hidden` reads both from the same ids.
"""

import math
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from data.tokenizer import Tokenizer, encode
from fused_loss import distillation_loss
from model import GPT, Completion, generate
from pretrained.memory import places_for
from rubrics import Example, RubricForm, is_right, prompt, rubric_problem, writer_prompt
from trainer.processes import gather, share, sum_gradients
from trainer.settings import Settings, seed_for
from trainer.sharding import full, gathered, groups, in_lockstep


# -------------------------------------------------------------------------------------- the rollout
@dataclass
class Rollout:
    """One completion of a step: `update` learns from nothing else."""

    prompt_ids: list[int]
    """What the student sees."""
    completion_ids: list[int]
    """The n tokens that the loss is on. They are never decoded and encoded again."""
    teacher_prompt_ids: list[int] | None = None
    """What the teacher sees. None: there is no teacher."""
    truncated: bool = False
    """The completion met the length limit before its EOS."""
    example: Example | None = None
    """The question that the completion answers. None in stage 0."""
    token_weights: list[float] | None = None
    """[n] weights of the tokens in the loss, used by sft_loss only. None: 1 for each token."""
    advantage: float = 0.0
    """GRPO's advantage, shared by all tokens of the completion."""
    old_logprobs: torch.Tensor | None = None
    """[n] under the policy that sampled the tokens. Set when a batch is first used."""


def draw_examples(
    examples: list[Example], count: int, step: int, stage: str, settings: Settings
) -> list[Example]:
    """The `count` questions of a step: one epoch after another, each in a new order."""
    drawn = []
    for k in range(step * count, (step + 1) * count):
        if not drawn or k % len(examples) == 0:
            rng = random.Random(seed_for(settings, stage, "epoch", k // len(examples)))
            shuffled = rng.sample(examples, len(examples))
        drawn.append(shuffled[k % len(examples)])
    return drawn


def sample_completions(
    student: GPT, prompts: list[list[int]], tokenizer: Tokenizer, settings: Settings, *purpose
) -> list[Completion]:
    """One sample of the student for each prompt, from the distribution that the loss uses.

    `purpose` (stage, step, ...) selects the random stream. The noise of a sample depends on the
    stream and on the sample's place alone.
    """
    generator = torch.Generator().manual_seed(seed_for(settings, *purpose))
    shape = (len(prompts), settings.max_new_tokens)
    noise = torch.rand(shape, dtype=torch.float64, generator=generator)
    with gathered(student):
        completions = generate(
            student,
            share(prompts),
            max_new_tokens=settings.max_new_tokens,
            eos=tokenizer.ends,
            temperature=settings.temperature,
            noise=share(noise).to(student.head_weight.device),
        )
    return gather(completions)


def greedy(
    model: GPT,
    tokenizer: Tokenizer,
    prompts: list[list[int]],
    settings: Settings,
    note: str = "",
    max_new_tokens: int = 0,
) -> list[tuple[str, bool, int]]:
    """Most likely completions: (text, truncated, number of tokens) for each prompt.

    They have at most `max_new_tokens`; 0: those of the settings.
    A prompt that is longer than the context gets none: ("", True, 0).
    """
    most, done = model.config.max_seq_len, []
    order = [i for i in range(len(prompts)) if len(prompts[i]) <= most]
    order.sort(key=lambda i: len(prompts[i]))
    mine, longest = share(order), max_new_tokens or settings.max_new_tokens
    with gathered(model):
        for start in tqdm(range(0, len(mine), 512), note, leave=False, disable=not note):
            part = [prompts[i] for i in mine[start : start + 512]]
            places = places_for(model, min(most, len(part[-1]) + longest))
            options = dict(temperature=0, max_new_tokens=longest, places=places)
            done += generate(model, part, eos=tokenizer.ends, **options)
    done = [(tokenizer.decode_completion(c.ids), c.truncated, len(c.ids)) for c in done]
    found = dict(zip(order, gather(done)))
    return [found.get(i, ("", True, 0)) for i in range(len(prompts))]


def write_rubrics(
    model: GPT,
    tokenizer: Tokenizer,
    examples: list[Example],
    settings: Settings,
    form: RubricForm | None = None,
) -> list[dict]:
    """Greedy rubrics for questions, {"id", "question", "text", "problem"} each.

    problem is "" or says why the rubric is invalid by the form.
    """
    prompts = [encode(tokenizer, writer_prompt(e)) for e in examples]
    return [
        {
            "id": e.id,
            "question": e.question,
            "text": text,
            "problem": rubric_problem(text, truncated, form),
        }
        for e, (text, truncated, _) in zip(examples, greedy(model, tokenizer, prompts, settings))
    ]


def validate(
    model: GPT, tokenizer: Tokenizer, examples: list[Example], settings: Settings
) -> dict[str, float]:
    """Greedy accuracy (0 to 1) on the validation questions: of known laws, new laws, one's own."""
    prompts = [encode(tokenizer, prompt(e.question)) for e in examples]
    answers = greedy(model, tokenizer, prompts, settings)
    right = {"valid_known": [], "valid_new": [], "valid_own": []}
    for e, (text, _, _) in zip(examples, answers):
        knowledge = "own" if "new" not in e.meta else "new" if e.meta["new"] else "known"
        right[f"valid_{knowledge}"].append(is_right(e, text))
    return {name: sum(values) / len(values) for name, values in right.items() if values}


# --------------------------------------------------------------------------------- the token losses
# (student, teacher, micro_batch, num_tokens, settings) -> (loss, measures {name: [N]})
LossFn = Callable[[GPT, GPT | None, list[Rollout], float, Settings], tuple[Tensor, dict]]


def completion_hidden(model: GPT, rows: list[tuple[list[int], list[int]]]) -> torch.Tensor:
    """Hidden states [N, n_embd] that predict the N completion tokens of (prompt, completion) rows.

    A token is predicted one position before it. So the last prompt position comes along, and the
    last token is never fed. Padding stands on the right, where causal attention cannot see it.
    """
    device = model.head_weight.device
    ids = [prompt_ids + completion_ids[:-1] for prompt_ids, completion_ids in rows]
    longest = max(map(len, ids))
    ids = [row + [0] * (longest - len(row)) for row in ids]  # any id: no real position sees it
    padded = torch.tensor(ids, device=device)  # [B, T]
    positions = []  # b * T + t of each predicting position
    for b, (prompt_ids, completion_ids) in enumerate(rows):
        first = b * longest + len(prompt_ids) - 1
        positions.extend(range(first, first + len(completion_ids)))
    return model(padded, positions=torch.tensor(positions, device=device))  # [N, n_embd]


def sft_loss(
    student: GPT, teacher: None, micro_batch: list[Rollout], num_tokens: float, settings: Settings
) -> tuple[Tensor, dict]:
    """-log p_S(y_t) times the token's weight: stage 0 and supervised distillation."""
    rows = [(r.prompt_ids, r.completion_ids) for r in micro_batch]
    hidden = completion_hidden(student, rows)  # [N, n_embd]
    targets = [i for r in micro_batch for i in r.completion_ids]
    targets = torch.tensor(targets, device=hidden.device)  # [N]
    weights = [w for r in micro_batch for w in r.token_weights or [1.0] * len(r.completion_ids)]
    weights = torch.tensor(weights, device=hidden.device)  # [N]
    logits = (hidden @ student.head_weight.T).float()  # [N, V]
    nll = F.cross_entropy(logits, targets, reduction="none")  # [N]
    return (nll * weights).sum() / num_tokens, {}  # autocast would round nll @ weights


def distillation(
    student: GPT, teacher: GPT, micro_batch: list[Rollout], num_tokens: float, settings: Settings
) -> tuple[Tensor, dict]:
    """D(p_T || p_S), the teacher's and the student's distribution of a token: RCSD, OPSD, stage I.

    The teacher reads the same completion after another prompt.
    """
    rows = [(r.prompt_ids, r.completion_ids) for r in micro_batch]
    teacher_rows = [(r.teacher_prompt_ids, r.completion_ids) for r in micro_batch]
    hidden = completion_hidden(student, rows)  # [N, n_embd]
    # The student first: autocast caches its casts of weights, and a cast made under no_grad would
    # cut the student's gradient where both share weights (--teacher live).
    with torch.no_grad():
        teacher_hidden = completion_hidden(teacher, teacher_rows)  # [N, n_embd]
    # token_divergence(student logits, teacher logits).sum() / num_tokens, without keeping logits
    loss, stats = distillation_loss(
        hidden,
        student.head_weight,
        teacher_hidden,
        teacher.head_weight,
        **settings.loss_options(),
        denominator=num_tokens,
        return_stats=True,
    )
    return loss, {
        "entropy": stats.student_entropy,
        "teacher_entropy": stats.teacher_entropy,
        "clipped": stats.clipped,
        "gradient_flipped": stats.gradient_flipped,
    }


def policy_gradient_loss(
    student: GPT,
    teacher: GPT | None,
    micro_batch: list[Rollout],
    num_tokens: float,
    settings: Settings,
) -> tuple[Tensor, dict]:
    """The clipped policy gradient: -min(ratio A, clip(ratio, 1 - eps, 1 + eps) A).

    ratio = p_S(y_t) / p_old(y_t), where p_old is the student that sampled the completion.

    Without a teacher, A is the rollout's advantage, the same on all its tokens: GRPO as in
    DeepSeekMath (2402.03300, outcome rewards) with two published changes. There is no KL penalty.
    And, from DAPO (2503.14476), the sum over tokens is divided by the tokens of the step, so a long
    wrong answer is not favoured (there: 1 / |y| an answer).

    With a teacher, A_t = log p_T(y_t) - log p_old(y_t): reverse KL as a policy gradient. Given y_<t,
    the mean of -A_t grad log p_S(y_t) over y_t ~ p_S is the gradient of KL(p_S || p_T), which
    --beta 1 has without the noise.

    On the first use of a batch it stores old_logprobs in the rollouts, and the ratio is 1: clipping
    takes effect with --updates-per-batch > 1.
    """
    device = student.head_weight.device
    targets = [[i] for r in micro_batch for i in r.completion_ids]
    targets = torch.tensor(targets, device=device)  # [N, 1]

    def token_logprobs(model, rows):  # log probabilities [N, V] and that of the sampled token [N]
        logits = (completion_hidden(model, rows) @ model.head_weight.T).float()  # [N, V]
        all_logprobs = logits.div(settings.temperature).log_softmax(-1)
        return all_logprobs, all_logprobs.gather(-1, targets)[:, 0]

    all_logprobs, logprobs = token_logprobs(
        student, [(r.prompt_ids, r.completion_ids) for r in micro_batch]
    )
    if micro_batch[0].old_logprobs is None:
        sizes = [len(r.completion_ids) for r in micro_batch]
        for r, old in zip(micro_batch, logprobs.detach().split(sizes)):
            r.old_logprobs = old
    old_logprobs = torch.cat([r.old_logprobs for r in micro_batch])  # [N]
    if teacher is not None:
        with torch.no_grad():
            rows = [(r.teacher_prompt_ids, r.completion_ids) for r in micro_batch]
            advantage = token_logprobs(teacher, rows)[1] - old_logprobs  # [N]
    else:
        advantage = [r.advantage for r in micro_batch for _ in r.completion_ids]
        advantage = torch.tensor(advantage, device=device)  # [N]
    ratio = (logprobs - old_logprobs).exp()  # [N]
    clipped = ratio.clamp(1 - settings.clip_eps, 1 + settings.clip_eps) * advantage  # [N]
    loss = -torch.minimum(ratio * advantage, clipped).sum() / num_tokens
    entropy = -(all_logprobs.detach().exp() * all_logprobs.detach()).sum(-1)  # [N]
    return loss, {"entropy": entropy, "clipped": clipped < ratio * advantage}


def set_advantages(rollouts: list[Rollout], rewards: list[float], group_size: int) -> float:
    """GRPO: (reward - mean) / standard deviation within a group, the samples of one question.

    The rollouts of a group are neighbours.
    Returns the share of groups without signal: all rewards equal, so all advantages are 0.
    """
    silent = 0
    for start in range(0, len(rollouts), group_size):
        group = rewards[start : start + group_size]
        mean = sum(group) / len(group)
        std = (sum((reward - mean) ** 2 for reward in group) / len(group)) ** 0.5
        equal = max(group) - min(group) < 1e-6  # rewards that differ by rounding alone are equal
        silent += equal
        for r, reward in zip(rollouts[start : start + group_size], group):
            r.advantage = 0.0 if equal else (reward - mean) / std
    return silent * group_size / max(1, len(rollouts))


def reward_rollouts(
    rollouts: list[Rollout], texts: list[str], reward: Callable, group_size: int
) -> dict[str, float]:
    """Set the advantages. A truncated answer earns nothing. Returns two measures for the log."""
    rewards = []
    for r, text in zip(rollouts, texts):
        rewards.append(0.0 if r.truncated else reward(r.example, text))
    silent = set_advantages(rollouts, rewards, group_size)
    return {"reward": sum(rewards) / len(rewards), "frac_zero_std": silent}


# --------------------------------------------------------------------------------------- the update
MAX_GRAD_NORM = 1.0  # a longer gradient is scaled down to this length


def batch_by_tokens(rows: Iterable, tokens: int, length: Callable = len) -> Iterator[list]:
    """Cut rows, in their order, into batches of at most `tokens` padded tokens.

    A batch has at least one row. Sorted rows need least padding.
    """
    batch, longest = [], 0
    for row in rows:
        if batch and (len(batch) + 1) * max(longest, length(row)) > tokens:
            yield batch
            batch, longest = [], 0
        batch.append(row)
        longest = max(longest, length(row))
    if batch:
        yield batch


def micro_batches(rollouts: list[Rollout], tokens: int) -> Iterator[list[Rollout]]:
    """Rollouts of similar length together, at most `tokens` padded tokens a batch."""
    by_length = sorted(rollouts, key=lambda r: len(r.prompt_ids) + len(r.completion_ids))
    return batch_by_tokens(by_length, tokens, padded_length)


def padded_length(r: Rollout) -> int:
    """Tokens of the longer of its two sequences, the student's and the teacher's."""
    return len(r.completion_ids) + max(len(r.prompt_ids), len(r.teacher_prompt_ids or ()))


def update(
    loss_fn: LossFn,
    student: GPT,
    teacher: GPT | None,
    rollouts: list[Rollout],
    optimizers: list,
    settings: Settings,
) -> dict[str, float]:
    """One optimizer step. Returns means over the step's tokens: the loss (nats) and its measures.

    `loss_fn` turns a micro-batch into its loss and measures {name: [N]}, as the three above do.
    Each loss divides by `num_tokens`, counted here: the completion tokens of the whole step (with
    token weights: their sum). So the size of a micro-batch changes nothing, and every token weighs the
    same, in a long answer or a short one.
    Raises FloatingPointError, before the weights change, for a loss or gradient that is not finite.
    """
    rollouts = [r for r in rollouts if r.completion_ids]
    num_tokens = sum(
        sum(r.token_weights) if r.token_weights else len(r.completion_ids) for r in rollouts
    )
    device, norm = student.head_weight.device, 0.0
    names, found = [], []  # the sum of each measure in each micro-batch, on the device
    by_length = sorted(rollouts, key=lambda r: len(r.prompt_ids) + len(r.completion_ids))
    # Shared out by length, so that each process has as much to do as the others.
    own = micro_batches(share(by_length), settings.micro_tokens)
    keep_casts = not groups(student)  # of weights: together they are a whole model
    for micro_batch, divisor in in_lockstep(own, by_length[:1], num_tokens, student, teacher):
        with torch.autocast(device.type, torch.bfloat16, settings.dtype == "bfloat16", keep_casts):
            loss, measures = loss_fn(student, teacher, micro_batch, divisor, settings)
        loss.backward()
        if divisor == num_tokens:
            names += ["loss", *measures]
            found += [loss.detach(), *(values.float().sum() for values in measures.values())]
    sum_gradients([p for p in student.parameters() if p.requires_grad])
    if num_tokens:
        found.append(full(torch.nn.utils.clip_grad_norm_(student.parameters(), MAX_GRAD_NORM)))
        *found, norm = torch.stack(found).tolist()  # here alone the host waits for the device
    sums = {"loss": 0.0}
    for name, number in zip(names, found):
        sums[name] = sums.get(name, 0.0) + (number if name == "loss" else number / num_tokens)
    parts = gather([sums])
    # A process without rows has the loss alone.
    sums = {name: sum(part.get(name, 0.0) for part in parts) for name in max(parts, key=len)}
    if num_tokens:
        if not math.isfinite(sums["loss"] + norm):
            raise FloatingPointError(f"loss {sums['loss']:g}, gradient norm {norm:g}")
        sums["grad_norm"] = norm
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    return sums


def length_measures(rollouts: list[Rollout]) -> dict[str, float]:
    """For the log: completion tokens, their mean per rollout, and the share of truncated ones."""
    tokens, rows = sum(len(r.completion_ids) for r in rollouts), max(1, len(rollouts))
    return {
        "tokens": tokens,
        "length": tokens / rows,
        "truncated": sum(r.truncated for r in rollouts) / rows,
    }
