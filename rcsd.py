"""Rubric-conditioned self-distillation (arXiv 2606.19327) from scratch: data, base model, stage I, stage II.

    python rcsd.py data   --preset cpu          # questions, rubrics and a tokenizer, made from the table of laws
    python rcsd.py base   --preset cpu          # stage 0: a small GPT that can read and write rubrics
    python rcsd.py stage1 --preset cpu          # stage I: learn to write rubrics; then writes them for stage II
    python rcsd.py stage2 --preset cpu          # stage II: learn to reason from rubrics
    python evaluate.py    --preset cpu          # the table

Student and teacher are one model in two contexts. The student samples a completion y from the question x; the teacher
sees x and more (stage I: the reference rubric, stage II: the learned one) and scores the same tokens; the loss on each
token is D(p_T(. | x, r, y_<t) || p_S(. | x, y_<t)). Every stage is one loop over two verbs, `roll_out` and `update`.

Deliberate choices, with the reasons in README: the student samples from the distribution that its loss uses; the
teacher is the starting policy unless --teacher says otherwise; no clip; a step's loss is divided by all its tokens.
"""
import copy
import json
import random
import resource
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from tqdm import tqdm

from data.prepare import prepare, write_lines
from data.tokenizer import Tokenizer
from loss import distillation_loss
from model import GPT, GPTConfig, count_parameters, generate, load, load_model, save
from rubrics import GENERIC, SEES, Example, Rubric, correct, load_examples, parse_rubric, prompt, teacher_prompt
from settings import Settings, device_of, seed_for, settings_from, settings_parser


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


def encode(tokenizer: Tokenizer, sections: list[tuple[str, str]]) -> list[int]:
    """Token ids of (section, text) pairs: each section's special token, then its text."""
    return [i for name, text in sections for i in [tokenizer.id[name]] + tokenizer.encode(text)]


def roll_out(student: GPT, prompts: list[list[int]], tokenizer: Tokenizer, settings: Settings, *seed) -> list:
    """The student's own samples, one completion a prompt, from the distribution that the loss uses."""
    generator = torch.Generator(student.head_weight.device).manual_seed(seed_for(settings, *seed))
    return generate(student, prompts, max_new_tokens=settings.max_new_tokens, eos=tokenizer.eos,
                    temperature=settings.temperature, generator=generator)


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
    return model(padded).flatten(0, 1)[torch.tensor(where, device=device)]                     # [N, width]


def micro_batches(rollouts: list[Rollout], tokens: int):
    """Rows of similar length together, at most `tokens` padded tokens (but at least one row) at a time."""
    batch, longest = [], 0
    for r in sorted(rollouts, key=lambda r: len(r.prompt) + len(r.completion)):
        length = len(r.completion) + max(len(r.prompt), len(r.teacher_prompt or ()))
        if batch and (len(batch) + 1) * max(longest, length) > tokens:
            yield batch
            batch, longest = [], 0
        batch.append(r)
        longest = max(longest, length)
    if batch:
        yield batch


def update(student: GPT, teacher: GPT | None, rollouts: list[Rollout], optimizers, settings: Settings) -> dict:
    """One step. The signal on a token is the divergence from the teacher or, without one, -log p of the token itself
    (times its weight).

    The sum over micro-batches is divided by the completion tokens of the whole step: how it is cut changes nothing,
    and a long answer weighs as much per token as a short one. Returns means over tokens, in nats.
    """
    rollouts = [r for r in rollouts if r.completion]
    count = sum(sum(r.weights) if r.weights else len(r.completion) for r in rollouts)
    sums = dict.fromkeys(("loss", "entropy", "teacher_entropy", "clipped"), 0.0)
    device = student.head_weight.device
    for batch in micro_batches(rollouts, settings.micro_tokens):
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.dtype == "bfloat16"):
            hidden = completion_hidden(student, [(r.prompt, r.completion) for r in batch])             # [N, width]
            if teacher is not None:
                with torch.no_grad():  # after the student: casts that autocast caches here would carry no gradient
                    teacher_hidden = completion_hidden(teacher, [(r.teacher_prompt, r.completion) for r in batch])
        if teacher is None:
            targets = torch.tensor([i for r in batch for i in r.completion], device=device)           # [N]
            weights = [w for r in batch for w in r.weights or [1.0] * len(r.completion)]
            weights = torch.tensor(weights, device=device)                                            # [N]
            nll = F.cross_entropy((hidden @ student.head_weight.T).float(), targets, reduction="none")  # [N]
            loss = nll @ weights / count
        else:
            loss, stats = distillation_loss(
                hidden, student.head_weight, teacher_hidden, teacher.head_weight, beta=settings.beta,
                temperature=settings.temperature, top_k=settings.top_k_loss or None, clip=settings.clip or None,
                clip_mode=settings.clip_mode, denominator=count, return_stats=True)
            sums["entropy"] += stats.student_entropy.sum().item() / count
            sums["teacher_entropy"] += stats.teacher_entropy.sum().item() / count
            sums["clipped"] += stats.clipped.float().sum().item() / count
        loss.backward()
        sums["loss"] += loss.item()
    if count:
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    return sums if teacher is not None else {"loss": sums["loss"]}


# -------------------------------------------------------------------------------------------------------- the loop
def train(stage: str, out: Path, student: GPT, teacher: GPT | None, draw_rows, steps: int, optimizers,
          learning_rate, settings: Settings, resume: bool, measure=lambda rows: {}) -> GPT:
    """The one training loop: `draw_rows(step)` rolls out, `update` learns from the rows, `measure` logs them.

    Everything random in a step comes from (seed, stage, step), so a checkpoint holds weights, optimizer and step, and a
    killed run goes on to the same bits. `learning_rate(step)` scales each optimizer's own rate.
    """
    path, log = out / f"{stage}.pt", out / f"{stage}.jsonl"
    wanted = settings.of(stage)
    start, ema = 0, teacher if settings.teacher == "ema" else None
    rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
    if path.exists():
        if not resume:
            raise ValueError(f"{path} is there already: pass --resume to go on with it, or another --out")
        content = load(path)
        same_settings(path, content["settings"], wanted)
        if content["config"] != asdict(student.config):
            raise ValueError(f"{path} holds a model of another shape: {content['config']}")
        student.load_state_dict(content["model"])
        start = content["step"]
        if start == steps:
            print(f"{stage}: done before, {path}")
            return student
        for optimizer, state in zip(optimizers, content["optimizers"]):
            optimizer.load_state_dict(state)
        if ema is not None:
            ema.load_state_dict(content["ema"])

    def checkpoint(step: int) -> None:
        content = {"step": step, "steps": steps, "settings": wanted, "config": asdict(student.config),
                   "model": student.state_dict()}
        if step < steps:
            content["optimizers"] = [optimizer.state_dict() for optimizer in optimizers]
            content["ema"] = ema.state_dict() if ema is not None else None
        save(path, content)

    kept = log.read_text(encoding="utf-8").split("\n")[:start] if start else []
    write_lines(log, kept)
    saved, bar = time.monotonic(), tqdm(range(start, steps), stage, initial=start, total=steps, mininterval=1)
    with open(log, "a", encoding="utf-8") as file:
        for step in bar:
            began = time.perf_counter()
            for optimizer, initial in zip(optimizers, rates):
                for group, rate in zip(optimizer.param_groups, initial):
                    group["lr"] = rate * learning_rate(step)
            rows = draw_rows(step)
            row = {"step": step, **update(student, teacher, rows, optimizers, settings), **measure(rows)}
            if ema is not None:
                with torch.no_grad():
                    for old, new in zip(ema.parameters(), student.parameters()):
                        old.lerp_(new, 1 - settings.ema_decay)
            tokens, seconds = sum(len(r.completion) for r in rows), time.perf_counter() - began
            row |= {"length": tokens / max(1, len(rows)), "cut": sum(r.cut for r in rows) / max(1, len(rows)),
                    "seconds": seconds, "tokens_per_s": tokens / seconds, "peak_mb": _peak_mb(student)}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            file.flush()
            bar.set_postfix(loss=f"{row['loss']:.3f}", refresh=False)
            if time.monotonic() - saved > settings.save_seconds and step + 1 < steps:
                checkpoint(step + 1)
                saved = time.monotonic()
    checkpoint(steps)
    return student


def same_settings(path: Path, made: dict, wanted: dict) -> None:
    """Raises ValueError naming the first setting in which a file differs from what is wanted."""
    for name, value in wanted.items():
        if made.get(name) != value:
            raise ValueError(f"{path} was made with {name}={made.get(name)!r}, not {value!r}: "
                             "use the same settings or another --out")


def _peak_mb(model: GPT) -> int:
    if model.head_weight.is_cuda:
        return torch.cuda.max_memory_allocated() >> 20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> (20 if sys.platform == "darwin" else 10)


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
    kept = [e for e in examples if all(len(encode(tokenizer, side(e))) <= room for side in sides)]
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
    prepare(out / "data", **wanted)
    write_lines(mark, [json.dumps(wanted)])


def run_base(out: Path, settings: Settings, resume: bool) -> None:
    """Stage 0: next-token prediction on the corpus. Its rollouts come from a file; prompt tokens count a little."""
    tokenizer, device, mark = read_tokenizer(out), device_of(settings), out / "data" / "data.json"
    if mark.exists():
        same_settings(mark, json.loads(mark.read_text(encoding="utf-8")), settings.of("data"))
    with open(out / "data" / "base.jsonl", encoding="utf-8") as file:
        texts = [json.loads(line)["sections"] for line in file]
    rows, starts = [], []  # ids, and where the completion starts
    for *context, (section, completion) in texts:
        head = encode(tokenizer, [*context, (section, "")])
        row = head + tokenizer.encode(completion) + [tokenizer.eos]
        if len(row) <= settings.context:
            rows.append(row)
            starts.append(len(head))
    if not rows:
        raise ValueError(f"--context {settings.context}: no row of the corpus fits")
    torch.manual_seed(seed_for(settings, "weights"))
    student = GPT(GPTConfig(tokenizer.vocab_size, settings.context, settings.n_layer, settings.n_head,
                            settings.n_kv_head, settings.head_dim, settings.width, settings.mlp_width)).to(device)
    print(f"base: {count_parameters(student):,} parameters, {len(rows):,} rows, {sum(map(len, rows)):,} tokens, "
          f"{device}, {torch.get_num_threads()} threads")
    matrices = [p for name, p in student.named_parameters() if p.dim() == 2 and "embed" not in name]
    others = [p for name, p in student.named_parameters() if p.dim() < 2 or "embed" in name]
    optimizers = [torch.optim.Muon(matrices, lr=settings.base_lr, weight_decay=0.0, ns_steps=3),
                  torch.optim.AdamW(others, lr=settings.base_lr / 5, betas=(0.9, 0.98), weight_decay=0.0)]
    batches = []

    def draw_rows(step):
        while len(batches) <= step:  # one epoch more
            batches.extend(bucketed(rows, settings.base_tokens, seed_for(settings, "epoch", len(batches))))
        return [Rollout(rows[i][:1], rows[i][1:], weights=[settings.prompt_weight] * (starts[i] - 1)
                        + [1.0] * (len(rows[i]) - starts[i])) for i in batches[step]]

    def schedule(step):  # up within 50 steps, down to 0 over the second half
        return min(1.0, (step + 1) / 50, 2 * (1 - step / settings.base_steps))

    train("base", out, student, None, draw_rows, settings.base_steps, optimizers, schedule, settings, resume)


def bucketed(rows: list[list[int]], tokens: int, seed: int) -> list[list[int]]:
    """One epoch: every row's index once, in batches of rows of similar length, at most `tokens` padded tokens each."""
    rng, batches = random.Random(seed), []
    order = rng.sample(range(len(rows)), len(rows))
    for start in range(0, len(order), 4096):  # sort within a window only, so that neighbours differ between epochs
        batch = []
        for i in sorted(order[start:start + 4096], key=lambda i: len(rows[i])):
            if batch and (len(batch) + 1) * len(rows[i]) > tokens:
                batches.append(batch)
                batch = []
            batch.append(i)
        batches.append(batch)
    rng.shuffle(batches)
    return batches


def self_distill(stage: str, out: Path, examples: list[Example], student_sees, teacher_sees, steps: int,
                 settings: Settings, resume: bool, measure) -> GPT:
    """Stages I and II: the student samples, its teacher (the same model in another context) scores the same tokens.

    Both stages start from the base model. `student_sees` and `teacher_sees` turn an example into a prompt.
    """
    tokenizer, device = read_tokenizer(out), device_of(settings)
    same_settings(out / "base.pt", load(out / "base.pt")["settings"], settings.of("base"))
    student = load_model(out / "base.pt", device)
    teacher = student if settings.teacher == "live" else copy.deepcopy(student)
    examples = fitting(examples, tokenizer, settings, student_sees, teacher_sees)
    prompts = [encode(tokenizer, student_sees(e)) for e in examples]
    teacher_prompts = [encode(tokenizer, teacher_sees(e)) for e in examples]

    def draw_rows(step):
        epoch, order = -1, []
        for k in range(step * settings.batch, (step + 1) * settings.batch):
            if k // len(examples) != epoch:
                epoch = k // len(examples)
                rng = random.Random(seed_for(settings, stage, "epoch", epoch))
                shuffled = rng.sample(range(len(examples)), len(examples))
            order.append(shuffled[k % len(examples)])
        completions = roll_out(student, [prompts[i] for i in order], tokenizer, settings, stage, step)
        return [Rollout(prompts[i], c.ids, teacher_prompts[i], c.cut, examples[i]) for i, c in zip(order, completions)]

    def log(rows):
        texts = [tokenizer.decode(r.completion[:-1] if not r.cut else r.completion) for r in rows]
        row = {"lr": settings.lr, **measure(rows, texts)}
        return row | {"sample": {"question": rows[0].example.question, "completion": texts[0]}}

    optimizers = [torch.optim.AdamW(student.parameters(), lr=settings.lr, betas=(0.9, 0.98), weight_decay=0.0)]
    return train(stage, out, student, teacher, draw_rows, steps, optimizers, lambda step: min(1.0, (step + 1) / 5),
                 settings, resume, log)


def write_rubrics(model: GPT, tokenizer: Tokenizer, examples: list[Example], settings: Settings) -> list[dict]:
    """Greedy rubrics for questions: {"id", "text", "problem"}; problem is "" or says why the rubric is invalid."""
    prompts = [encode(tokenizer, prompt(e.question, write="criteria")) for e in examples]
    written = []
    for start in range(0, len(prompts), 128):
        for c in generate(model, prompts[start:start + 128], max_new_tokens=settings.max_new_tokens,
                          eos=tokenizer.eos, temperature=0):
            text = tokenizer.decode(c.ids if c.cut else c.ids[:-1])
            written.append({"id": examples[len(written)].id, "text": text, "problem": invalid(text, c.cut)})
    return written


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
    examples = [e for e in read_questions(path, settings) if e.rubric]
    if not examples:
        raise ValueError(f"{path}: stage I needs questions with rubrics, found none")
    student = self_distill(
        "stage1", out, examples, lambda e: prompt(e.question, write="criteria"),
        lambda e: prompt(e.question, rubric=e.rubric, write="criteria"), settings.stage1_steps, settings, resume,
        lambda rows, texts: {"valid": sum(not invalid(t, r.cut) for t, r in zip(texts, rows)) / len(rows)})
    if newer(out / "rubrics.jsonl", out / "stage1.pt"):
        return
    questions = read_questions(Path(settings.data or out / "data" / "stage2.jsonl"), settings)
    questions = fitting(questions, tokenizer, settings, lambda e: prompt(e.question))
    written = write_rubrics(student, tokenizer, questions, settings)
    write_lines(out / "rubrics.jsonl", (json.dumps(row, ensure_ascii=False) for row in written))
    print(f"stage1: wrote rubrics for {len(written)} questions, {sum(bool(row['problem']) for row in written)} of them "
          f"invalid, {out / 'rubrics.jsonl'}")


def newer(result: Path, *inputs: Path) -> bool:
    """Whether a result was made after all of its inputs, so that it need not be made again."""
    return result.exists() and all(result.stat().st_mtime_ns >= path.stat().st_mtime_ns for path in inputs)


def run_stage2(out: Path, settings: Settings, resume: bool) -> None:
    """Stage II: the student answers from x, the teacher scores the answer from x and what --teacher-sees says."""
    tokenizer = read_tokenizer(out)
    path = Path(settings.data or out / "data" / "stage2.jsonl")
    examples = fitting(read_questions(path, settings), tokenizer, settings, lambda e: prompt(e.question))
    rubrics = choose_rubrics(out, examples, settings)
    self_distill(
        "stage2", out, examples, lambda e: prompt(e.question),
        lambda e: teacher_prompt(e, settings.teacher_sees, rubrics[e.id]), settings.stage2_steps, settings, resume,
        lambda rows, texts: {"correct": sum(correct(t, r.example.answer) for t, r in zip(texts, rows)) / len(rows)})


def choose_rubrics(out: Path, examples: list[Example], settings: Settings) -> dict[str, Rubric | None]:
    """The rubric that the teacher sees, by question id. An invalid learned rubric falls back to the generic one."""
    if "rubric" not in SEES[settings.teacher_sees]:
        return {e.id: None for e in examples}
    if settings.rubrics == "gt":
        return {e.id: e.rubric for e in examples}
    if settings.rubrics == "generic":
        return {e.id: GENERIC for e in examples}
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
    return 0


if __name__ == "__main__":
    sys.exit(main())
