"""Rubric-conditioned self-distillation (arXiv 2606.19327) from scratch: both stages, all methods.

    python rcsd.py data   --preset cpu   # questions, rubrics and a tokenizer
    python rcsd.py base   --preset cpu   # stage 0: a small GPT that can read and write rubrics
    python rcsd.py stage1 --preset cpu   # stage I: learn to write rubrics, then write stage II's
    python rcsd.py stage2 --preset cpu   # stage II: learn to reason from rubrics
    python evaluate.py    --preset cpu   # the table

Student and teacher are one model in two contexts. The student samples a completion y from the
question x. The teacher sees x and more (stage I: the reference rubric, stage II: the learned one)
and scores the same tokens. The loss on each token is D(p_T(. | x, r, y_<t) || p_S(. | x, y_<t)).

In this order: the table of methods, the loop of stages I and II, the two stages, the command line.
"""

import copy
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from base import check_data, load_student, run_data, train_base
from data.console import exit_code
from data.files import digest, write_lines
from data.needs import needs_of, with_needs
from data.sources import choose_rubrics, corrupt, describe_rubrics, rubrics_file_matches
from data.split import training_questions, validation_questions
from data.tokenizer import Tokenizer, encode
from model import GPT, Completion
from pretrained.reason_first import reason_first
from pretrained.start import frozen_copy, load_tokenizer
from rubrics import (
    TEACHER_CONTEXTS,
    Example,
    Rubric,
    Sections,
    form_of,
    grade,
    is_right,
    prompt,
    rubric_problem,
    teacher_prompt,
    writer_prompt,
)
from step import (
    LossFn,
    Rollout,
    distillation,
    draw_examples,
    length_measures,
    policy_gradient_loss,
    reward_rollouts,
    sample_completions,
    sft_loss,
    update,
    validate,
    write_rubrics,
)
from trainer.checkpoints import load
from trainer.command_line import hold_output, settings_from, settings_parser
from trainer.lengths import (
    LengthCheck,
    check_lengths,
    drop_too_long,
    lengths_from,
    stage2_questions,
)
from trainer.loop import Loop, State
from trainer.processes import join_processes, rank_and_size, wait_for_all
from trainer.settings import Settings
from trainer.sharding import share_out


# -------------------------------------------------------------------------------------- the methods
@dataclass(frozen=True)
class Method:
    """What tells one method from another. A new method is a row of METHODS and at most one loss."""

    loss_fn: LossFn
    """From a micro-batch to its loss: one of step.py's three, or your own."""
    on_policy: bool = True
    """The completion is the student's own sample. False: it is the reference solution."""
    uses_teacher: bool = False
    """A teacher reads the completion too."""
    teacher_context: str = ""
    """What this teacher must see, a key of TEACHER_CONTEXTS. Empty: --teacher-context says it."""
    edit_rubric: Callable[[Rubric], Rubric] | None = None
    """Changes each rubric before this teacher reads it. None: no change."""
    reward: Callable[[Example, str], float] | None = None
    """Scores an answer: 1 for a right one, or the rubric's score. Each question then gets a group
    of answers, whose rewards make advantages."""
    needs: str = ""
    """What a question must have, a key of NEEDS in data/needs.py."""


METHODS = {
    "rcsd": Method(distillation, uses_teacher=True),
    "opsd": Method(distillation, uses_teacher=True, teacher_context="solution"),
    "reverse-kl-pg": Method(policy_gradient_loss, uses_teacher=True),
    "grpo": Method(policy_gradient_loss, reward=is_right, needs="an answer to check"),
    "grpo-rubric": Method(policy_gradient_loss, reward=grade, needs="a rubric with checks"),
    "sft": Method(sft_loss, on_policy=False, needs="a solution"),
}


def method_of(settings: Settings) -> Method:
    """The row of METHODS that the settings name.

    Raises ValueError for an unknown method and for settings that do not fit it.
    """
    if settings.method not in METHODS:
        raise ValueError(f"--method: expected one of {', '.join(METHODS)}, got {settings.method!r}")
    method = METHODS[settings.method]
    if method.reward and (settings.group_size < 2 or settings.batch % settings.group_size):
        raise ValueError(
            f"--group-size: expected at least 2 and a divisor of --batch {settings.batch}, "
            f"got {settings.group_size}"
        )
    if settings.reason_first and not method.uses_teacher:
        raise ValueError(f"--reason-first: {settings.method} has no teacher")
    allowed = ("rubric", method.teacher_context)  # "rubric" is the default: not asked for
    if method.teacher_context and settings.teacher_context not in allowed:
        raise ValueError(
            f"--teacher-context {settings.teacher_context}: {settings.method} is the method whose "
            f"teacher sees the {method.teacher_context}"
        )
    return method


def teacher_context_of(settings: Settings) -> str | None:
    """What stage II's teacher sees, a key of TEACHER_CONTEXTS; None if there is no teacher."""
    method = method_of(settings)
    return (method.teacher_context or settings.teacher_context) if method.uses_teacher else None


# ---------------------------------------------------------------------- the loop of stages I and II
@dataclass(frozen=True)
class Stage:
    """What tells stage I from stage II. Both start from the base model."""

    name: str
    """File stem of the checkpoint and the log."""
    steps: int
    lr: float
    """Peak learning rate of AdamW."""
    method: Method
    student_prompt: Callable[[Example], Sections]
    teacher_prompt: Callable[[Example], Sections] | None
    success: str
    """What the log calls the share of rollouts that succeed."""
    succeeds: Callable[[Rollout, str], bool]
    """Whether a rollout succeeds, given the text of its completion."""
    reference: Callable[[Example], str]
    """The text that the student should come to write. Only its length is used."""
    analysis: int = 0
    """Most tokens that the teacher writes before it scores (--reason-first); 0: none."""
    validate: Callable[[GPT], dict[str, float]] | None = None
    """From the student to {name: score}; the best weights are kept."""
    inputs: dict[str, str] = field(default_factory=dict)
    """Digests of what it learns from beside the base model and the questions."""


def make_teacher(student: GPT, settings: Settings) -> GPT:
    """The starting policy; with --teacher live the student itself, at every step as it then is."""
    if settings.teacher == "fixed":
        return frozen_copy(student)
    return student if settings.teacher == "live" else copy.deepcopy(student)


@torch.no_grad()
def update_teacher(teacher: GPT, student: GPT, settings: Settings) -> None:
    """--teacher ema: after each step the teacher's weights move a little towards the student's."""
    if settings.teacher == "ema":
        for old, new in zip(teacher.parameters(), student.parameters()):
            old.lerp_(new, 1 - settings.ema_decay)


def collect_rollouts(
    student: GPT,
    tokenizer: Tokenizer,
    stage: Stage,
    examples: list[Example],
    step: int,
    settings: Settings,
) -> list[Rollout]:
    """The rollouts of a step: the student's completions, each with what its teacher sees."""
    method, rollouts = stage.method, []
    group_size = settings.group_size if method.reward else 1
    drawn = draw_examples(examples, settings.batch // group_size, step, stage.name, settings)
    drawn = [example for example in drawn for _ in range(group_size)]
    prompts = [encode(tokenizer, stage.student_prompt(example)) for example in drawn]
    if method.on_policy:
        completions = sample_completions(student, prompts, tokenizer, settings, stage.name, step)
    else:
        solutions = [tokenizer.encode(example.solution) + [tokenizer.eos] for example in drawn]
        completions = [Completion(ids, truncated=False) for ids in solutions]
    for example, prompt_ids, completion in zip(drawn, prompts, completions):
        r = Rollout(prompt_ids, completion.ids, truncated=completion.truncated, example=example)
        if method.uses_teacher:
            r.teacher_prompt_ids = encode(tokenizer, stage.teacher_prompt(example))
        rollouts.append(r)
    return rollouts


def describe(rollouts: list[Rollout], texts: list[str], stage: Stage) -> dict:
    """For the log: the share of rollouts that succeed, tokens, lengths, and one sample."""
    succeeded = sum(stage.succeeds(r, text) for r, text in zip(rollouts, texts))
    row = {stage.success: succeeded / len(rollouts), **length_measures(rollouts)}
    row["sampled"] = row["tokens"] if stage.method.on_policy else 0
    row["sample"] = {"question": rollouts[0].example.question, "completion": texts[0]}
    return row


def post_train(
    stage: Stage, out: Path, examples: list[Example], settings: Settings, resume: bool
) -> GPT:
    """Stages I and II: sample completions, then learn from the method's loss on each token.

    Returns the student. Raises ValueError if the base model is missing or was made otherwise.
    """
    tokenizer, method = load_tokenizer(out, settings), stage.method
    student, inputs = load_student(out, settings)
    teacher = make_teacher(student, settings) if method.uses_teacher else None
    share_out(settings, student, teacher)
    optimizers = [
        torch.optim.AdamW(student.parameters(), lr=stage.lr, betas=(0.9, 0.98), weight_decay=0.0)
    ]
    examples = drop_too_long(stage, out, examples, tokenizer, settings)
    inputs |= stage.inputs
    inputs["set of questions"] = digest(e.content() for e in examples)
    ema = teacher if method.uses_teacher and settings.teacher == "ema" else None
    state, group_size = State(student, optimizers, ema), settings.group_size
    options = dict(warmup=5, inputs=inputs, validate=stage.validate)
    with Loop(stage.name, state, stage.steps, out, settings, resume, **options) as loop:
        for step in loop:
            rollouts = collect_rollouts(student, tokenizer, stage, examples, step, settings)
            if stage.analysis:
                reason_first(teacher, tokenizer, rollouts, stage.teacher_prompt, settings)
            texts = [tokenizer.decode_completion(r.completion_ids) for r in rollouts]
            row = describe(rollouts, texts, stage)
            if method.reward:
                row |= reward_rollouts(rollouts, texts, method.reward, group_size)
            for _ in range(settings.updates_per_batch):
                row |= update(method.loss_fn, student, teacher, rollouts, optimizers, settings)
            if method.uses_teacher:
                update_teacher(teacher, student, settings)
            loop.end_step(row)
    return student


# --------------------------------------------------------------------------------------- the stages
def lengths_of_run(stage: str, out: Path, settings: Settings) -> list[LengthCheck]:
    """Who will read what in stages I and II and in the tests, from this stage on."""
    context, on_policy = teacher_context_of(settings), method_of(settings).on_policy
    return lengths_from(stage, out, load_tokenizer(out, settings), settings, context, on_policy)


def run_stage1(out: Path, settings: Settings, resume: bool) -> None:
    """Stage I: learn to write rubrics; then write those of stage II's questions.

    The student sees x. Its teacher sees x and the reference rubric. One's own data without rubrics
    goes without it, if stage II reads no learned rubric.
    """
    check_data(out)
    tokenizer = load_tokenizer(out, settings)
    examples = training_questions("stage1", out, settings, verbose=bool(settings.data))
    questions = stage2_questions(out, tokenizer, settings, verbose=False)
    context = teacher_context_of(settings)
    needs = needs_of(method_of(settings), context, settings)
    with_needs(questions, needs, out, settings)  # what stage II lacks is said now
    is_read = settings.rubrics == "learned" and "rubric" in TEACHER_CONTEXTS.get(context, ())
    if settings.data and not is_read and not any(e.rubric for e in examples):
        print(f"stage1: left out, {settings.data} has no rubrics and stage II reads none")
        return
    examples = with_needs(examples, {"a rubric": "stage I"}, out, settings)
    examples = examples[: settings.stage1_limit or None]
    examples = corrupt(examples, "noisy", settings.stage1_noisy, settings.seed)
    form = form_of([e.rubric for e in examples])
    check_lengths(lengths_of_run("stage1", out, settings), settings, out, "stage1")
    stage = Stage(
        "stage1",
        settings.stage1_steps,
        settings.stage1_lr,
        METHODS["rcsd"],
        student_prompt=writer_prompt,
        teacher_prompt=lambda e: writer_prompt(e, e.rubric),
        success="valid",
        succeeds=lambda r, text: not rubric_problem(text, r.truncated, form),
        reference=lambda e: e.rubric.text(),
    )
    student = post_train(stage, out, examples, settings, resume)
    path, writer = out / "rubrics.jsonl", load(out / "stage1.pt")["digest"]
    if path.exists() and rubrics_file_matches(path, questions, writer):
        return
    written = write_rubrics(student, tokenizer, questions, settings, form)
    rows = [row | {"writer": writer} for row in written]
    if rank_and_size()[0] == 0:
        write_lines(path, (json.dumps(row, ensure_ascii=False) for row in rows))
    wait_for_all()
    invalid = sum(bool(row["problem"]) for row in written)
    print(f"stage1: wrote rubrics for {len(written)} questions, {invalid} of them invalid, {path}")


def run_stage2(out: Path, settings: Settings, resume: bool) -> None:
    """Stage II: learn to answer. The student sees x; the loss on its tokens is the method's.

    RCSD's teacher sees x and the rubric.
    Raises ValueError if no question has what the method needs.
    """
    check_data(out)
    tokenizer, method = load_tokenizer(out, settings), method_of(settings)
    check_lengths(lengths_of_run("stage2", out, settings), settings, out, "stage2")
    examples = stage2_questions(out, tokenizer, settings)
    needs = needs_of(method, teacher_context_of(settings), settings)
    examples = with_needs(examples, needs, out, settings)[: settings.stage2_limit or None]
    examples = corrupt(examples, "solution", settings.corrupted, settings.seed)
    validation = validation_questions(out, settings)

    def validate_student(student: GPT) -> dict[str, float]:
        return validate(student, tokenizer, validation, settings)

    teacher_context, inputs = teacher_context_of(settings), {}
    rubrics = teacher_rubrics(out, examples, teacher_context, settings)
    if rubrics:
        inputs["set of rubrics"] = digest(rubrics[e.id].text() for e in examples)
    if settings.eval_every:
        inputs["validation questions"] = digest(e.content() for e in validation)

    def stage2_teacher(example: Example) -> Sections:
        rubric = rubrics.get(example.id)
        if rubric and method.edit_rubric:
            rubric = method.edit_rubric(rubric)
        return teacher_prompt(example, teacher_context, rubric)

    stage = Stage(
        "stage2",
        settings.stage2_steps,
        settings.lr,
        method,
        student_prompt=lambda e: prompt(e.question),
        teacher_prompt=stage2_teacher if method.uses_teacher else None,
        success="correct",
        succeeds=lambda r, text: is_right(r.example, text),
        reference=lambda e: e.solution,
        analysis=settings.reason_first,
        validate=validate_student if settings.eval_every else None,
        inputs=inputs,
    )
    post_train(stage, out, examples, settings, resume)


def teacher_rubrics(
    out: Path, examples: list[Example], context: str | None, settings: Settings
) -> dict[str, Rubric]:
    """The rubrics that a teacher with this context reads, by question id; none if it reads none.

    Raises ValueError for learned rubrics that another stage1.pt has written.
    """
    if "rubric" not in TEACHER_CONTEXTS.get(context, ()):
        print(f"stage2: {len(examples)} questions")
        return {}
    source, path, writer = settings.rubrics, out / "rubrics.jsonl", None
    if source == "learned" and (out / "stage1.pt").exists():
        writer = load(out / "stage1.pt")["digest"]
    rate, seed = settings.rubric_rate, settings.seed
    rubrics = choose_rubrics(source, examples, path, rate, seed, writer)
    print(f"stage2: {len(examples)} questions; rubrics: {describe_rubrics(source, rubrics)}")
    return rubrics


# --------------------------------------------------------------------------------- the command line
def run_base(out: Path, settings: Settings, resume: bool) -> None:
    """Check that the later stages fit the context, then train stage 0."""
    check_data(out, settings.up_to("data"))
    train_base(out, settings, resume, lengths_of_run("base", out, settings))


COMMANDS = {"data": run_data, "base": run_base, "stage1": run_stage1, "stage2": run_stage2}


def main(arguments: list[str] | None = None) -> int:
    parser = settings_parser(__doc__)
    parser.add_argument("command", choices=COMMANDS)
    args = parser.parse_args(arguments)

    def action() -> None:
        out, settings = settings_from(args)
        method_of(settings)  # reject a bad --method now, not after hours of stage 0
        join_processes(settings)
        with hold_output(out, args.source, create=args.command == "data"):
            if settings.skips(args.command):
                print(f"{args.command}: not needed with --model {settings.model}")
            else:
                COMMANDS[args.command](out, settings, args.resume)

    return exit_code("rcsd.py", action)


if __name__ == "__main__":
    sys.exit(main())
