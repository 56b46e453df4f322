"""Token by token: what teacher and student think of an answer, and which criterion caused it.

Takes models and rubrics, returns plain lists and dicts for report.json. The other panels are in
panels.py; page.py draws them all.

Throughout, x is a question, r a rubric, y = y_1..y_n the tokens of an answer. The teacher is the
base model that reads (x, r), p_T(. | x, r, y_<t). The student reads x alone, p_S(. | x, y_<t); it
is the base model before training and the model of stage II after it. Both distributions are
softmax(logits / temperature), as in the loss. Log-probabilities, entropies and divergences are in
nats.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from base import load_base
from data.tokenizer import Tokenizer, encode
from fused_loss import TokenStats, distillation_loss
from model import GPT, generate
from pretrained.start import load_tokenizer
from rubrics import Criterion, Example, Rubric, grade, is_right, prompt
from step import completion_hidden, sample_completions
from trainer.checkpoints import load_model
from trainer.processes import device_of
from trainer.settings import Settings

TOP = 5  # likeliest tokens that are kept of each distribution
TRIED = 16  # questions of a kind that are sampled to find a right and a wrong answer
SAMPLES = 6  # answers sampled to each of them

Score = Callable[[tuple[Criterion, ...]], torch.Tensor]  # criteria -> M measures of n tokens [M, n]


@dataclass
class Run:
    """What a finished run left behind."""

    settings: Settings
    tokenizer: Tokenizer
    base: GPT
    writer: GPT | None  # the model of stage I; one's own data may go without
    student: GPT  # the model of stage II


def open_run(out: Path, settings: Settings) -> Run:
    """Load the models and the tokenizer of a finished run.

    Raises ValueError if a stage is missing or unfinished.
    """
    device = device_of(settings)
    tokenizer = load_tokenizer(out, settings)
    base = load_base(out, settings, device)[0].eval()
    left_out = settings.data and not (out / "stage1.pt").exists()
    writer = None if left_out else load_model(out / "stage1.pt", device).eval()
    student = load_model(out / "stage2.pt", device).eval()
    return Run(settings, tokenizer, base, writer, student)


# ----------------------------------------------------------------------------------- token by token
def prompt_ids(run: Run, question: str, **context) -> list[int]:
    """The ids of a prompt: the question, and the rubric or solution in `context`."""
    return encode(run.tokenizer, prompt(question, **context))


def hidden(run: Run, model: GPT, sections: list, ids: list[int]) -> torch.Tensor:
    """Hidden states [n, n_embd] from which a model that reads `sections` predicts the n `ids`."""
    with torch.no_grad():
        return completion_hidden(model, [(encode(run.tokenizer, sections), ids)])


def log_probs(run: Run, model: GPT, states: torch.Tensor) -> torch.Tensor:
    """Log-probabilities [n, V] for hidden states [n, n_embd], at the temperature of the loss."""
    with torch.no_grad():
        logits = (states @ model.head_weight.T).float()
        return logits.div(run.settings.temperature).log_softmax(-1)


def token_stats(
    run: Run, student: GPT, student_states: torch.Tensor, teacher_states: torch.Tensor, **changes
) -> TokenStats:
    """The statistics [n] that the loss itself reports for n tokens.

    Both states are [n, n_embd]. `divergence` is the value before any clip. `changes` replace
    settings of the loss (top_k, clip, ...).
    """
    with torch.enable_grad():  # for `gradient_flipped`, which needs the gradient
        _, stats = distillation_loss(
            student_states.detach().requires_grad_(),
            student.head_weight.detach(),
            teacher_states,
            run.base.head_weight,
            return_stats=True,
            **run.settings.loss_options() | changes,
        )
    return stats


def token_text(tokenizer: Tokenizer, i: int) -> str:
    """The text of token i; bytes that are no whole character show as "·"."""
    return tokenizer.decode([i]).replace("\ufffd", "·")


def opinions(run: Run, model: GPT, states: torch.Tensor, ids: list[int]) -> list[dict]:
    """What a model thinks at each of n tokens, one dict a token.

    "logprob" is that of the token y_t, "entropy" that of the distribution, "top" lists the TOP
    likeliest tokens as [text, probability].
    """
    log_p = log_probs(run, model, states)  # [n, V]
    best = log_p.topk(min(TOP, log_p.shape[-1]))  # values and indices, [n, TOP] each
    entropy = -(log_p.exp() * log_p).sum(-1)  # [n]
    rows = []
    for t, i in enumerate(ids):
        top = []
        for value, index in zip(best.values[t].tolist(), best.indices[t].tolist()):
            top.append([token_text(run.tokenizer, index), math.exp(value)])
        rows.append({"logprob": log_p[t, i].item(), "entropy": entropy[t].item(), "top": top})
    return rows


def strip(run: Run, question: str, rubric: Rubric, ids: list[int]) -> list[dict]:
    """What the teacher and the student (before and after training) think of each answer token.

    One dict for each of the n tokens: "text", "teacher", "before" and "after". The last three are
    opinions; those of the student, "before" and "after", also have "divergence" and "clipped".
    Stage II minimizes the mean "divergence" over answers that the student itself samples; on
    other answers the mean need not fall.
    """
    teacher_states = hidden(run, run.base, prompt(question, rubric=rubric), ids)
    teacher = opinions(run, run.base, teacher_states, ids)
    rows = [{"text": token_text(run.tokenizer, i), "teacher": o} for i, o in zip(ids, teacher)]
    for name, model in (("before", run.base), ("after", run.student)):
        states = hidden(run, model, prompt(question), ids)
        stats = token_stats(run, model, states, teacher_states)
        for t, opinion in enumerate(opinions(run, model, states, ids)):
            opinion["divergence"] = stats.divergence[t].item()
            opinion["clipped"] = stats.clipped[t].item()
            rows[t][name] = opinion
    return rows


# ---------------------------------------------------------------- which criterion moves which token
def attribute(score: Score, criteria: tuple) -> dict[str, torch.Tensor]:
    """How each of C criteria moves each of n tokens: "whole" [M, n], "left out", "alone" [C, M, n].

    score      M measures [M, n] under a teacher who reads the given criteria; () is no rubric
    whole      score(r) - score(())                the effect of the whole rubric
    left out   score(r) - score(r without c)       what is lost when c is removed
    alone      score((c,)) - score(())             what c does by itself

    With one criterion all three are equal. If each criterion adds its own part whatever else is
    there, left out = alone, and over the criteria they sum to the whole. Otherwise neither sums to
    the whole. Two criteria that say the same: leaving out one changes nothing, each alone does
    everything. Two that work only together: leaving out one loses everything, each alone does
    nothing. Over tokens, the effects on log p_T(y_t) do sum: to the effect on log p_T(y), the
    log-probability of the whole answer.
    """
    known = {}

    def score_once(chosen: tuple) -> torch.Tensor:
        if chosen not in known:
            known[chosen] = score(chosen)
        return known[chosen]

    whole, nothing = score_once(criteria), score_once(())
    left_out, alone = [], []
    for i in range(len(criteria)):
        left_out.append(whole - score_once(criteria[:i] + criteria[i + 1 :]))
    for criterion in criteria:
        alone.append(score_once((criterion,)) - nothing)
    return {
        "whole": whole - nothing,
        "left out": torch.stack(left_out),
        "alone": torch.stack(alone),
    }


MEASURES = ("logprob", "divergence")


def scorer(run: Run, question: str, ids: list[int]) -> Score:
    """The `score` for `attribute`: criteria -> [2, n], in the order of MEASURES.

    The measures are log p_T(y_t) and the divergence of the student before training from this
    teacher. With no criterion the teacher is that student, and the divergence is 0.
    """
    student_states = hidden(run, run.base, prompt(question), ids)  # [n, n_embd]

    def score(criteria: tuple) -> torch.Tensor:
        sections = prompt(question, rubric=Rubric(criteria) if criteria else None)
        teacher_states = hidden(run, run.base, sections, ids)  # [n, n_embd]
        log_p = log_probs(run, run.base, teacher_states)  # [n, V]
        logprobs = log_p[torch.arange(len(ids)), torch.tensor(ids)]  # [n]
        stats = token_stats(run, run.base, student_states, teacher_states)
        return torch.stack([logprobs, stats.divergence])

    return score


IRRELEVANT = Criterion("Control", "Optional: is written in blue ink", 1)  # no answer can meet it


def controls_of(run: Run, question: str, rubric: Rubric, ids: list[int]) -> list[Criterion]:
    """The control criteria for one answer: a repeated one and IRRELEVANT, where they fit.

    The repeated one is the first Essential criterion. A control fits if the rubric with it and
    the answer stay within max_seq_len tokens.
    """
    essential = [c for c in rubric.criteria if c.category == "Essential"]
    repeated = essential[0] if essential else rubric.criteria[0]
    controls = []
    for control in (repeated, IRRELEVANT):
        longer = Rubric((*rubric.criteria, control))
        if len(prompt_ids(run, question, rubric=longer)) + len(ids) <= run.settings.max_seq_len:
            controls.append(control)
    return controls


def answer(run: Run, question: str, rubric: Rubric, ids: list[int], **facts) -> dict:
    """Everything the report shows about one answer: `facts`, "tokens", "controls" and "effects".

    "effects" holds for each measure "whole" [n], "left out" and "alone" [C][n], and "control"
    [K][n]. The last is the change when one of K control criteria is added to the end of the rubric:
    the size of an effect that means nothing.
    """
    score, criteria = scorer(run, question, ids), rubric.criteria
    controls = controls_of(run, question, rubric, ids)
    found = attribute(score, criteria)
    found["control"] = torch.zeros(0, len(MEASURES), len(ids))
    if controls:
        added = [score((*criteria, control)) - score(criteria) for control in controls]
        found["control"] = torch.stack(added)
    effects = {}
    for i, measure in enumerate(MEASURES):
        effects[measure] = {name: v.select(-2, i).tolist() for name, v in found.items()}
    return {
        **facts,
        "tokens": strip(run, question, rubric, ids),
        "controls": [control.description for control in controls],
        "effects": effects,
    }


def criteria_of(rubric: Rubric) -> list[dict]:
    """The criteria as report.json has them."""
    return [{"weight": c.weight, "text": c.description} for c in rubric.criteria]


def fits(run: Run, question: str, **context) -> bool:
    """Whether a prompt leaves room for a completion: the rule of training."""
    room = run.settings.max_seq_len - run.settings.max_new_tokens
    return len(prompt_ids(run, question, **context)) <= room


def divergences(run: Run, question: str, rubric: Rubric, ids: list[int]) -> list[float]:
    """The divergence at each of the n tokens of an answer before training, nats."""
    student_states = hidden(run, run.base, prompt(question), ids)
    teacher_states = hidden(run, run.base, prompt(question, rubric=rubric), ids)
    return token_stats(run, run.base, student_states, teacher_states).divergence.tolist()


def mean_divergence(run: Run, question: str, rubric: Rubric, ids: list[int]) -> float:
    """Mean divergence over the tokens of an answer before training, nats per token."""
    values = divergences(run, question, rubric, ids)
    return sum(values) / len(values)


def pick_answers(run: Run, example: Example, samples: list) -> tuple[dict[bool, list[int]], float]:
    """One right and one wrong answer out of `samples`, {right: ids}, and the right one's score.

    The first wrong sample is kept, and the first right one with the best rubric score. The score
    is 0 without a right answer or a rubric.
    """
    answers, best_score = {}, 0.0
    for completion in samples:
        text = run.tokenizer.decode(completion.ids[:-1])
        right = not completion.truncated and is_right(example, text)
        score = grade(example, text) if right and example.rubric else 0.0
        if right not in answers or score > best_score:
            answers[right] = completion.ids
            best_score = max(score, best_score)
    return answers, best_score


def right_and_wrong(
    run: Run, kind: str, examples: list[Example], rubrics: dict[str, Rubric]
) -> dict | None:
    """Choose one question and, if possible, a right and a wrong answer that the base samples to it.

    Tries the first TRIED examples with SAMPLES answers each. Prefers, in this order: questions
    with both a right and a wrong answer; among these, the best rubric score of the right answer
    (an answer can be right by luck); a question with a wrong answer; the largest mean divergence
    of the wrong answer, or of the right one if there is no wrong one. `rubrics`, by question id,
    are what the teacher reads. Returns None without examples.
    """
    examples = examples[:TRIED]
    prompts = []
    for example in examples:
        prompts += [prompt_ids(run, example.question)] * SAMPLES
    samples = sample_completions(run.base, prompts, run.tokenizer, run.settings, "report", kind)
    best, best_rank = None, None
    for i, example in enumerate(examples):
        own_samples = samples[i * SAMPLES : (i + 1) * SAMPLES]
        answers, score = pick_answers(run, example, own_samples)
        ids = answers[False] if False in answers else answers[True]
        divergence = mean_divergence(run, example.question, rubrics[example.id], ids)
        both = len(answers) == 2
        rank = (both, score if both else 0.0, False in answers, divergence)
        if best is None or rank > best_rank:
            best, best_rank = (example, answers), rank
    if best is None:
        return None
    example, answers = best
    rubric = rubrics[example.id]
    shown = []
    for right in (True, False):
        if right in answers:
            facts = {"right": right, "by": "base, sampled"}
            shown.append(answer(run, example.question, rubric, answers[right], **facts))
    return {
        "id": example.id,
        "kind": kind,
        "question": example.question,
        "answer": example.answer,
        "tried": len(examples),
        "samples": SAMPLES,
        "rubric": criteria_of(rubric),
        "answers": shown,
    }


# ------------------------------------------------------------------------------- one question alone
def greedy_answers(run: Run, model: GPT, questions: list[str]) -> list[list[int]]:
    """The ids of a model's greedy answers to questions."""
    completions = generate(
        model,
        [prompt_ids(run, question) for question in questions],
        eos=run.tokenizer.ends,
        temperature=0,
        max_new_tokens=run.settings.max_new_tokens,
    )
    return [completion.ids for completion in completions]


def most_changed(run: Run, examples: list[Example]) -> Example:
    """The example whose rubric moves the base's greedy answer most, by mean divergence.

    Looks at the first TRIED examples whose rubric fits. Raises ValueError if none does.
    """
    examples = [e for e in examples if e.rubric and fits(run, e.question, rubric=e.rubric)][:TRIED]
    if not examples:
        raise ValueError("no test question of this run leaves room for an answer beside its rubric")
    answers = greedy_answers(run, run.base, [e.question for e in examples])
    changes = []
    for example, ids in zip(examples, answers):
        changes.append(mean_divergence(run, example.question, example.rubric, ids))
    return examples[changes.index(max(changes))]


def explain(run: Run, question: str, rubric: Rubric) -> dict:
    """A question and a rubric of the user's own, with the greedy answers of base and student.

    If both give the same answer, it is shown once. Raises ValueError if question and rubric leave
    no room for an answer.
    """
    if not fits(run, question, rubric=rubric):
        used = len(prompt_ids(run, question, rubric=rubric))
        room = run.settings.max_seq_len - run.settings.max_new_tokens
        raise ValueError(
            f"question and rubric have {used} tokens; at most {room} leave room for an answer"
        )
    authors = {}  # answer -> who gives it
    for name, model in (("base", run.base), ("student", run.student)):
        ids = tuple(greedy_answers(run, model, [question])[0])
        authors[ids] = f"{authors[ids]} and {name}" if ids in authors else name
    answers = []
    for ids, names in authors.items():
        answers.append(answer(run, question, rubric, list(ids), by=f"{names}, greedy"))
    return {"kind": "own", "question": question, "rubric": criteria_of(rubric), "answers": answers}
