"""Rubric-conditioned self-distillation (arXiv 2606.19327) from scratch: data, base model, stage I, stage II.

    python rcsd.py data   --preset cpu          # questions, rubrics and a tokenizer, made from the table of laws
    python rcsd.py base   --preset cpu          # stage 0: a small GPT that can read and write rubrics
    python rcsd.py stage1 --preset cpu          # stage I: learn to write rubrics; then writes them for stage II
    python rcsd.py stage2 --preset cpu          # stage II: learn to reason from rubrics
    python evaluate.py    --preset cpu          # the table

Student and teacher are one model in two contexts. The student samples a completion y from the question x; the teacher
sees x and more (stage I: the reference rubric, stage II: the learned one) and scores the same tokens; the loss on each
token is D(p_T(. | x, r, y_<t) || p_S(. | x, y_<t)). Every stage is one loop over two verbs, `roll_out` and `update`.

Stage II knows the baselines too (--method): they differ in where the tokens come from and what the signal on each is.

Deliberate choices, with the reasons in README: the student samples from the distribution that its loss uses; the
teacher is the starting policy unless --teacher says otherwise; no clip; a step's loss is divided by all its tokens.
"""
import copy
import json
import random
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from tqdm import tqdm

from base import base_optimizers, bucketed, new_model, read_corpus
from data.files import write_lines
from data.load import load_examples
from data.prepare import imperfect, prepare
from data.tokenizer import Tokenizer, encode
from fused_loss import distillation_loss
from model import GPT, count_parameters, generate, packed
from rubrics import (GENERIC, SEES, Example, Rubric, correct, grade, parse_rubric, prompt, teacher_prompt, weighted_subset)
from trainer import (Settings, device_of, gather, join_processes, load, load_model, rank_and_size, same_settings,
                     seed_for, settings_from, settings_parser, shard, sum_gradients, train, wait_for_all)


# ----------------------------------------------------------------------------------------------------- the rollout
@dataclass
class Rollout:
    """One row of a step: the two verbs pass nothing else between them."""
    prompt: list[int]                        # what the student sees
    completion: list[int]                    # the tokens that the loss is on; never decoded and encoded again
    teacher_prompt: list[int] | None = None  # what the teacher sees; None: the completion itself is the target
    cut: bool = False                        # the completion met the length limit before its EOS
    example: Example | None = None
    weights: list[float] | None = None       # of the completion tokens when they are the target; None: 1 each
    advantage: float = 0.0                   # of the whole completion, for GRPO
    logprobs: torch.Tensor | None = None     # [n] of the completion under the policy that sampled it, after a first use


def roll_out(student: GPT, prompts: list[list[int]], tokenizer: Tokenizer, settings: Settings, *seed) -> list:
    """The student's own samples, one completion a prompt, from the distribution that the loss uses."""
    generator = torch.Generator().manual_seed(seed_for(settings, *seed))
    noise = torch.rand(len(prompts), settings.max_new_tokens, dtype=torch.float64, generator=generator)
    return gather(generate(student, shard(prompts), max_new_tokens=settings.max_new_tokens, eos=tokenizer.eos,
                           temperature=settings.temperature, noise=shard(noise).to(student.head_weight.device)))


# ------------------------------------------------------------------------------------------------------ the update
def completion_hidden(model: GPT, rows: list[tuple[list[int], list[int]]]) -> torch.Tensor:
    """Hidden states [N, width] from which each completion token of (prompt, completion) rows is predicted, row by row.

    Token t of a completion is predicted one position before it, so the last prompt position comes along and the last
    token is never fed. Padding stands on the right, where causal attention cannot see it.
    """
    ids = [prompt + completion[:-1] for prompt, completion in rows]
    longest, device = max(map(len, ids)), model.head_weight.device
    padded = torch.tensor([row + [0] * (longest - len(row)) for row in ids], device=device)    # [B, T]
    where = [b * longest + t for b, (p, c) in enumerate(rows) for t in range(len(p) - 1, len(p) + len(c) - 1)]
    return model(padded, at=torch.tensor(where, device=device))                                # [N, width]


def micro_batches(rollouts: list[Rollout], tokens: int):
    """Rows of similar length together, at most `tokens` padded tokens (but at least one row) at a time."""
    return packed(sorted(rollouts, key=lambda r: len(r.prompt) + len(r.completion)), tokens,
                  lambda r: len(r.completion) + max(len(r.prompt), len(r.teacher_prompt or ())))


def imitate(student: GPT, teacher: None, batch: list[Rollout], count: float, settings: Settings):
    """The completion is the target: -log p_S(y_t), times the token's weight. Stage 0 and supervised distillation."""
    hidden = completion_hidden(student, [(r.prompt, r.completion) for r in batch])                 # [N, width]
    targets = torch.tensor([i for r in batch for i in r.completion], device=hidden.device)         # [N]
    weights = [w for r in batch for w in r.weights or [1.0] * len(r.completion)]
    weights = torch.tensor(weights, device=hidden.device)                                          # [N]
    nll = F.cross_entropy((hidden @ student.head_weight.T).float(), targets, reduction="none")     # [N]
    return nll @ weights / count, {}


def distill(student: GPT, teacher: GPT, batch: list[Rollout], count: float, settings: Settings):
    """The divergence from the teacher, who reads the same completion after another prompt. RCSD and OPSD."""
    hidden = completion_hidden(student, [(r.prompt, r.completion) for r in batch])                 # [N, width]
    with torch.no_grad():  # after the student: casts that autocast caches here would carry no gradient
        teacher_hidden = completion_hidden(teacher, [(r.teacher_prompt, r.completion) for r in batch])
    loss, stats = distillation_loss(
        hidden, student.head_weight, teacher_hidden, teacher.head_weight, beta=settings.beta,
        temperature=settings.temperature, top_k=settings.top_k_loss or None, clip=settings.clip or None,
        clip_mode=settings.clip_mode, denominator=count, return_stats=True)
    return loss, {"entropy": stats.student_entropy, "teacher_entropy": stats.teacher_entropy,
                  "clipped": stats.clipped, "turned": stats.turned}


def reinforce(student: GPT, teacher: GPT | None, batch: list[Rollout], count: float, settings: Settings):
    """The clipped policy gradient -min(ratio A, clip(ratio, 1 - c, 1 + c) A), ratio = p_S(y_t) / p_sampled(y_t).

    Without a teacher, A is the rollout's advantage, the same on all its tokens: GRPO as in DeepSeekMath (2402.03300,
    outcome rewards) with two published changes: no KL penalty, and, from DAPO (2503.14476), the sum over tokens is
    divided by the tokens of the step, so a long answer is not favoured when wrong (there: 1 / |y| for each answer).

    With one, A_t = log p_T(y_t) - log p_S(y_t): reverse KL as a policy gradient. Given y_<t, the mean of -A_t grad
    log p_S(y_t) over y_t ~ p_S is the gradient of KL(p_S || p_T), which --beta 1 has without the noise of sampling.

    On the first use of a batch the ratio is 1: only --reuse ever clips it.
    """
    targets = torch.tensor([i for r in batch for i in r.completion])[:, None].to(student.head_weight.device)   # [N, 1]

    def read(model, rows):  # log probabilities [N, V] and that of the sampled token [N]
        log_p = (completion_hidden(model, rows) @ model.head_weight.T).float().div(settings.temperature).log_softmax(-1)
        return log_p, log_p.gather(-1, targets)[:, 0]

    log_q, chosen = read(student, [(r.prompt, r.completion) for r in batch])
    sizes = [len(r.completion) for r in batch]
    if batch[0].logprobs is None:
        for r, logprobs in zip(batch, chosen.detach().split(sizes)):
            r.logprobs = logprobs
    sampled = torch.cat([r.logprobs for r in batch])                                               # [N]
    if teacher is not None:
        with torch.no_grad():
            advantage = read(teacher, [(r.teacher_prompt, r.completion) for r in batch])[1] - sampled   # [N]
    else:
        advantage = torch.tensor([r.advantage for r in batch for _ in r.completion], device=chosen.device)
    ratio, bound = (chosen - sampled).exp(), settings.ratio_clip
    clipped = ratio.clamp(1 - bound, 1 + bound) * advantage                                        # [N]
    loss = -torch.minimum(ratio * advantage, clipped).sum() / count
    return loss, {"entropy": -(log_q.detach().exp() * log_q.detach()).sum(-1), "clipped": clipped < ratio * advantage}


def update(signal, student: GPT, teacher: GPT | None, rollouts: list[Rollout], optimizers, settings: Settings) -> dict:
    """One step. `signal` (imitate, distill or reinforce) is the loss of a micro-batch and measures of its tokens.

    The sum over micro-batches is divided by the completion tokens of the whole step: how it is cut changes nothing,
    and a long answer weighs as much per token as a short one. Returns means over tokens, in nats.
    """
    rollouts = [r for r in rollouts if r.completion]
    count = sum(sum(r.weights) if r.weights else len(r.completion) for r in rollouts)
    sums, device = {"loss": 0.0}, student.head_weight.device
    mine = shard(sorted(rollouts, key=lambda r: len(r.prompt) + len(r.completion)))
    for batch in micro_batches(mine, settings.micro_tokens):
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.dtype == "bfloat16"):
            loss, measures = signal(student, teacher, batch, count, settings)
        loss.backward()
        sums["loss"] += loss.item()
        for name, values in measures.items():
            sums[name] = sums.get(name, 0.0) + values.float().sum().item() / count
    sum_gradients(list(student.parameters()))
    parts = gather([sums])
    sums = {name: sum(part.get(name, 0.0) for part in parts) for name in max(parts, key=len)}
    if count:
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    return sums


def set_advantages(rollouts: list[Rollout], rewards: list[float], group: int) -> float:
    """GRPO: (reward - mean) / standard deviation within each `group` neighbours, samples of one question.

    Returns the share of groups without signal: all rewards equal, so all advantages are 0.
    """
    silent = 0
    for start in range(0, len(rollouts), group):
        part = rewards[start:start + group]
        middle = sum(part) / len(part)
        spread = (sum((reward - middle) ** 2 for reward in part) / len(part)) ** 0.5
        silent += max(part) == min(part)
        for r, reward in zip(rollouts[start:start + group], part):
            r.advantage = 0.0 if max(part) == min(part) else (reward - middle) / spread
    return silent * group / max(1, len(rollouts))


METHODS = {"rcsd": distill, "opsd": distill, "reverse-kl-pg": reinforce, "grpo": reinforce, "grpo-rubric": reinforce,
           "sft": imitate}
REWARDS = {"grpo": lambda e, text: float(correct(text, e.answer)), "grpo-rubric": lambda e, text: grade(e.rubric, text)}


# ------------------------------------------------------------------------------------------------------ the stages
def read_tokenizer(out: Path) -> Tokenizer:
    try:
        return Tokenizer.from_file(out / "data" / "tokenizer.txt")
    except FileNotFoundError:
        raise ValueError(f"{out / 'data'}: no data yet; run `python rcsd.py data` with the same --out first") from None


def read_questions(path: Path, settings: Settings) -> list[Example]:
    """The questions of a data file; for a file of the user's own it says what was kept and why the rest was dropped."""
    examples, report = load_examples(path)
    if settings.data:
        print(report)
    return examples


def fitting(examples: list[Example], tokenizer: Tokenizer, settings: Settings, *sides) -> list[Example]:
    """The examples whose prompts, one for each function in `sides`, leave room for a completion; says what it drops.
    Raises ValueError if none is left."""
    room = settings.context - settings.max_new_tokens
    kept = [e for e in examples if all(len(encode(tokenizer, side(e))) <= room for side in sides if side)]
    rule = f"a prompt must fit into {room} tokens (--context less --max-new-tokens)"
    if not kept:
        raise ValueError(f"no question left to train on: {rule}")
    if len(kept) < len(examples):
        print(f"dropped {len(examples) - len(kept)} of {len(examples)} questions: {rule}")
    return kept


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
    """Stage 0: the same `update` on rollouts that come from the corpus. base.py has the model, rows and optimizers."""
    tokenizer, device, mark = read_tokenizer(out), device_of(settings), out / "data" / "data.json"
    if mark.exists():
        same_settings(mark, json.loads(mark.read_text(encoding="utf-8")), settings.of("data"))
    rows = read_corpus(out / "data" / "base.jsonl", tokenizer, settings)
    student = new_model(tokenizer.vocab_size, settings).to(device)
    print(f"base: {count_parameters(student):,} parameters, {len(rows):,} rows, {sum(len(row) for row, _ in rows):,} tokens, "
          f"{device}, {torch.get_num_threads()} threads")
    optimizers = base_optimizers(student, settings)
    batches = []

    def draw_rollouts(step):
        while len(batches) <= step:  # one epoch more
            batches.extend(bucketed([row for row, _ in rows], settings.base_tokens, seed_for(settings, "epoch", len(batches))))
        rollouts = []
        for i in batches[step]:
            row, start = rows[i]
            weights = [settings.prompt_weight] * (start - 1) + [1.0] * (len(row) - start)
            rollouts.append(Rollout(row[:1], row[1:], weights=weights))
        return rollouts

    def take_step(step):
        rollouts = draw_rollouts(step)
        return {**update(imitate, student, None, rollouts, optimizers, settings), **lengths(rollouts)}

    train("base", out, student, None, take_step, settings.base_steps, optimizers, 50, settings, resume)


def lengths(rollouts: list[Rollout]) -> dict:
    """For the log: completion tokens of a step, their mean per row, and the share of rows cut at the length limit."""
    tokens, rows = sum(len(r.completion) for r in rollouts), max(1, len(rollouts))
    return {"tokens": tokens, "length": tokens / rows, "cut": sum(r.cut for r in rollouts) / rows}


def post_train(stage: str, out: Path, examples: list[Example], student_sees, teacher_sees, steps: int,
               settings: Settings, resume: bool, measure, method="rcsd", validate=None) -> GPT:
    """Stages I and II: roll out, then learn from the signal of the method (see METHODS). Both start from the base model.

    `student_sees` turns an example into a prompt, `teacher_sees` does so with a random generator for what is drawn anew
    at each step (None for a method without a teacher).
    """
    tokenizer, device = read_tokenizer(out), device_of(settings)
    same_settings(out / "base.pt", load(out / "base.pt")["settings"], settings.of("base"))
    student, teacher = load_model(out / "base.pt", device), None
    if teacher_sees:
        teacher = student if settings.teacher == "live" else copy.deepcopy(student)
    examples = fitting(examples, tokenizer, settings, student_sees, teacher_sees)
    group = settings.group if method in REWARDS else 1

    def draw_questions(step):  # each epoch in a new order
        count, drawn = settings.batch // group, []
        for k in range(step * count, (step + 1) * count):
            if not drawn or k % len(examples) == 0:
                rng = random.Random(seed_for(settings, stage, "epoch", k // len(examples)))
                shuffled = rng.sample(examples, len(examples))
            drawn += [shuffled[k % len(examples)]] * group
        return drawn

    def roll_out_step(step):
        drawn, rng = draw_questions(step), random.Random(seed_for(settings, stage, "teacher", step))
        prompts = [encode(tokenizer, student_sees(e)) for e in drawn]
        if method == "sft":
            return [Rollout(p, tokenizer.encode(e.solution) + [tokenizer.eos], example=e) for p, e in zip(prompts, drawn)]
        completions = roll_out(student, prompts, tokenizer, settings, stage, step)
        seen = [encode(tokenizer, teacher_sees(e, rng)) if teacher_sees else None for e in drawn]
        return [Rollout(p, c.ids, s, c.cut, e) for p, c, s, e in zip(prompts, completions, seen, drawn)]

    def take_step(step):
        rollouts = roll_out_step(step)
        texts = [tokenizer.decode(r.completion if r.cut else r.completion[:-1]) for r in rollouts]
        row = {**measure(rollouts, texts), **lengths(rollouts)}
        row["sampled"] = 0 if method == "sft" else row["tokens"]
        row["sample"] = {"question": rollouts[0].example.question, "completion": texts[0]}
        if method in REWARDS:  # an answer that met the length limit earns nothing
            rewards = [0.0 if r.cut else REWARDS[method](r.example, text) for r, text in zip(rollouts, texts)]
            row |= {"reward": sum(rewards) / len(rewards), "no_signal": set_advantages(rollouts, rewards, group)}
        for _ in range(settings.reuse):
            row |= update(METHODS[method], student, teacher, rollouts, optimizers, settings)
        return row

    optimizers = [torch.optim.AdamW(student.parameters(), lr=settings.lr, betas=(0.9, 0.98), weight_decay=0.0)]
    return train(stage, out, student, teacher, take_step, steps, optimizers, 5, settings, resume, validate)


def greedy(model: GPT, tokenizer: Tokenizer, prompts: list[list[int]], settings: Settings, note="") -> list[tuple]:
    """Most likely completions: (text, cut, number of tokens) for each prompt, prompts of similar length together."""
    order, done = sorted(range(len(prompts)), key=lambda i: len(prompts[i])), []
    mine = shard(order)
    for start in tqdm(range(0, len(mine), 128), note, leave=False, disable=not note):
        completions = generate(model, [prompts[i] for i in mine[start:start + 128]], eos=tokenizer.eos, temperature=0,
                               max_new_tokens=settings.max_new_tokens)
        done += [(tokenizer.decode(c.ids if c.cut else c.ids[:-1]), c.cut, len(c.ids)) for c in completions]
    found = dict(zip(order, gather(done)))
    return [found[i] for i in range(len(prompts))]


def write_rubrics(model: GPT, tokenizer: Tokenizer, examples: list[Example], settings: Settings) -> list[dict]:
    """Greedy rubrics for questions: {"id", "text", "problem"}; problem is "" or says why the rubric is invalid."""
    prompts = [encode(tokenizer, prompt(e.question, write="criteria")) for e in examples]
    return [{"id": e.id, "text": text, "problem": invalid(text, cut)}
            for e, (text, cut, _) in zip(examples, greedy(model, tokenizer, prompts, settings))]


def invalid(text: str, cut: bool) -> str:
    """Why a sampled rubric cannot be used, or ""."""
    try:
        parse_rubric(text)
    except ValueError as error:
        return str(error)
    return "cut at the length limit" if cut else ""


def run_stage1(out: Path, settings: Settings, resume: bool) -> None:
    """Stage I: the rubric student sees x, its teacher x and the reference rubric; then it writes for stage II."""
    tokenizer = read_tokenizer(out)
    path = Path(settings.data or out / "data" / "stage1.jsonl")
    examples = [e for e in read_questions(path, settings) if e.rubric][:settings.stage1_limit or None]
    if not examples:
        raise ValueError(f"{path}: stage I needs questions with rubrics, found none")
    student = post_train(
        "stage1", out, examples, lambda e: prompt(e.question, write="criteria"),
        lambda e, rng=None: prompt(e.question, rubric=e.rubric, write="criteria"), settings.stage1_steps, settings, resume,
        lambda rows, texts: {"valid": sum(not invalid(t, r.cut) for t, r in zip(texts, rows)) / len(rows)})
    if newer(out / "rubrics.jsonl", out / "stage1.pt"):
        return
    questions = read_questions(Path(settings.data or out / "data" / "stage2.jsonl"), settings)
    questions = fitting(questions, tokenizer, settings, lambda e: prompt(e.question))
    written = write_rubrics(student, tokenizer, questions, settings)
    if rank_and_size()[0] == 0:
        write_lines(out / "rubrics.jsonl", (json.dumps(row, ensure_ascii=False) for row in written))
    wait_for_all()
    print(f"stage1: wrote rubrics for {len(written)} questions, {sum(bool(row['problem']) for row in written)} of them "
          f"invalid, {out / 'rubrics.jsonl'}")


def newer(result: Path, *inputs: Path) -> bool:
    """Whether a result was made after all of its inputs, so that it need not be made again."""
    return result.exists() and all(result.stat().st_mtime_ns >= path.stat().st_mtime_ns for path in inputs)


def run_stage2(out: Path, settings: Settings, resume: bool) -> None:
    """Stage II: the student answers from x; the signal on its tokens is the method's, for RCSD from x and a rubric."""
    tokenizer, method, sees = read_tokenizer(out), settings.method, None
    path = Path(settings.data or out / "data" / "stage2.jsonl")
    examples = fitting(read_questions(path, settings), tokenizer, settings, lambda e: prompt(e.question))
    examples = imperfect(examples[:settings.stage2_limit or None], "solution", settings.imperfect, settings.seed)
    lacks = {"sft": lambda e: not e.solution, "grpo": lambda e: not e.answer,
             "grpo-rubric": lambda e: not e.rubric or not all(c.check for c in e.rubric.criteria)}.get(method)
    if lacks and (poor := [e.id for e in examples if lacks(e)]):
        what = {"sft": "a solution", "grpo": "an answer", "grpo-rubric": "a rubric with checks"}[method]
        raise ValueError(f"{path}: --method {method} needs {what} for each question; {poor[0]} and {len(poor) - 1} "
                         "more have none")
    if METHODS[method] is not imitate and method not in REWARDS:
        sees = teacher_sees(out, examples, settings)
    valid = load_examples(out / "data" / "valid.jsonl")[0]
    post_train("stage2", out, examples, lambda e: prompt(e.question), sees, settings.stage2_steps, settings, resume,
               lambda rows, texts: {"correct": sum(correct(t, r.example.answer) for t, r in zip(texts, rows)) / len(rows)},
               method, settings.eval_every and (lambda student: validate(student, tokenizer, valid, settings)))


def validate(model: GPT, tokenizer: Tokenizer, examples: list[Example], settings: Settings) -> dict[str, float]:
    """Greedy accuracy (0 to 1) on the validation questions about known and about new laws."""
    answers = greedy(model, tokenizer, [encode(tokenizer, prompt(e.question)) for e in examples], settings)
    right = {"valid_known": [], "valid_new": []}
    for e, (text, _, _) in zip(examples, answers):
        right["valid_new" if e.meta["new"] else "valid_known"].append(correct(text, e.answer))
    return {name: sum(values) / len(values) for name, values in right.items() if values}


def teacher_sees(out: Path, examples: list[Example], settings: Settings):
    """The function from an example (and a random generator) to the Stage II teacher's prompt."""
    sees = "solution" if settings.method == "opsd" else settings.teacher_sees
    rubrics = choose_rubrics(out, examples, settings) if "rubric" in SEES[sees] else {}

    def see(e, rng=None):
        rubric = rubrics.get(e.id)
        if rubric and rng and settings.criterion_weights == "loss":
            rubric = weighted_subset(rubric, rng)
        return teacher_prompt(e, sees, rubric)
    return see


def choose_rubrics(out: Path, examples: list[Example], settings: Settings) -> dict[str, Rubric | None]:
    """The rubric that the teacher sees, by question id. An invalid learned rubric falls back to the generic one."""
    if settings.rubrics == "generic":
        return {e.id: GENERIC for e in examples}
    if settings.rubrics != "learned" and (poor := [e.id for e in examples if not e.rubric]):
        raise ValueError(f"--rubrics {settings.rubrics}: question {poor[0]} and {len(poor) - 1} more have no reference rubric")
    if settings.rubrics in ("noisy", "reduced", "shuffled"):
        examples = imperfect(examples, settings.rubrics, settings.rubric_rate, settings.seed)
    if settings.rubrics != "learned":
        return {e.id: e.rubric for e in examples}
    path = out / "rubrics.jsonl"
    if not path.exists():
        raise ValueError(f"{path}: no learned rubrics; run stage1 first, or pass --rubrics gt")
    with open(path, encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    learned = {row["id"]: GENERIC if row["problem"] else parse_rubric(row["text"]) for row in rows}
    if missing := [e.id for e in examples if e.id not in learned]:
        raise ValueError(f"{path}: no rubric for question {missing[0]} and {len(missing) - 1} more; "
                         "run stage1 on this data")
    return learned


# ------------------------------------------------------------------------------------------------ the command line
def main(arguments: list[str] | None = None) -> int:
    commands = {"data": run_data, "base": run_base, "stage1": run_stage1, "stage2": run_stage2}
    parser = settings_parser(__doc__)
    parser.add_argument("command", choices=commands)
    args = parser.parse_args(arguments)
    try:
        out, settings = settings_from(args)
        join_processes(settings)
        out.mkdir(parents=True, exist_ok=True)
        commands[args.command](out, settings, args.resume)
    except (ValueError, OSError) as error:
        print(f"rcsd.py: {error}", file=sys.stderr)
        return 2
    except torch.OutOfMemoryError:
        print("rcsd.py: out of GPU memory; try a smaller --micro-tokens or --batch", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("rcsd.py: interrupted; the same command with --resume goes on from the last checkpoint", file=sys.stderr)
        return 130
    except RuntimeError as error:
        if rank_and_size()[1] == 1:
            raise
        print(f"rcsd.py: rank {rank_and_size()[0]}: another process of this run has ended ({str(error).splitlines()[0]}); "
              "the same command with --resume goes on from the last checkpoint", file=sys.__stderr__)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
