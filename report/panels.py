"""The numbers of the report's panels: the teacher, the clip modes, and the whole run.

As in explain.py: models and logs in, plain lists and dicts for report.json out, all in nats.
"""

import math
import re
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path

import torch

from data import explanations
from data.load import read_tests
from loss import CLIP_MODES, token_divergence
from model import GPT
from report.alignment import stage1_panel
from report.explain import (
    TOP,
    Run,
    fits,
    log_probs,
    open_run,
    prompt_ids,
    right_and_wrong,
    token_stats,
    token_text,
)
from report.link_tokens import link_tokens, shares_of_answer
from rubrics import GENERIC, Example, Rubric, is_right, usable_rubric
from step import (
    Rollout,
    completion_hidden,
    greedy,
    micro_batches,
    sample_completions,
    write_rubrics,
)
from trainer.settings import PRESETS, Settings

PANEL = 100  # questions of the teacher's panel
TAIL_K = 20  # the tail is the student's mass outside the teacher's TAIL_K likeliest tokens
SCALE_CLIP = 0.5  # nats: the bound of clip mode "scale" in the panel
POINT_CLIP = 0.05  # nats: the bound of "pointwise", as in the public code


# -------------------------------------------------------------------------------------- the teacher
_MENTION = re.compile(r"\b(?:[Rr]ubric|[Cc]riteri(?:on|a)|Essential|Important|Optional|Pitfall)")


def mentions_rubric(text: str) -> bool:
    """Whether an answer names the rubric that its author should not have seen."""
    return bool(_MENTION.search(text))


STUDENT = "student, after"  # the last column of the teacher's panel
Places = list[tuple[Rollout, int]]  # (rollout, position in its completion) of each of N tokens


def states_of(
    run: Run, student: GPT, rollouts: list[Rollout]
) -> tuple[torch.Tensor, torch.Tensor, Places]:
    """The student's and the teacher's hidden states [N, n_embd] of all tokens, and their places."""
    student_states, teacher_states, places = [], [], []
    with torch.no_grad():
        for batch in micro_batches(rollouts, run.settings.micro_tokens):
            rows = [(r.prompt_ids, r.completion_ids) for r in batch]
            teacher_rows = [(r.teacher_prompt_ids, r.completion_ids) for r in batch]
            student_states.append(completion_hidden(student, rows))
            teacher_states.append(completion_hidden(run.base, teacher_rows))
            for r in batch:
                places += [(r, t) for t in range(len(r.completion_ids))]
    return torch.cat(student_states), torch.cat(teacher_states), places


def mean(values: torch.Tensor) -> float:
    """The mean of numbers or booleans [N]."""
    return values.float().mean().item()


def by_position(places: Places, divergence: torch.Tensor, answers: int) -> list[list]:
    """[position, mean divergence] from 1 on, while a tenth of the answers are that long."""
    found = defaultdict(list)
    for (_, t), d in zip(places, divergence.tolist()):
        found[t].append(d)
    rows = []
    for t, values in sorted(found.items()):
        if 10 * len(values) >= answers:
            rows.append([t + 1, sum(values) / len(values)])
    return rows


def contexts_of(example: Example, learned: Rubric) -> dict[str, dict]:
    """What each column's teacher sees beside the question, as arguments of `prompt`."""
    return {
        "nothing": {},
        "generic rubric": {"rubric": GENERIC},
        "reference rubric": {"rubric": example.rubric},
        "learned rubric": {"rubric": learned},
        "solution": {"solution": example.solution},
        STUDENT: {"rubric": learned},
    }


def teacher_panel(
    run: Run, examples: list[Example], learned: dict[str, Rubric], known: dict[str, dict[str, str]]
) -> dict:
    """Compare teachers that see different things, and the trained student, on the same questions.

    learned   the written rubrics by question id
    known     greedy answers from results.json, {column: {question id: text}}

    Returns "columns", a dict of measures for each column. "right" and "leak" (the answer names
    its rubric) are shares of greedy answers. The other measures are means over the
    tokens of one sampled answer to each question, from the base or, in the last column, from the
    student: both entropies, "divergence", "tail" (see TAIL_K), and the shares of tokens whose
    gradient clip mode "scale" would shrink ("clipped") or "pointwise" would reverse
    ("gradient_flipped"). "positions" is the divergence by position in the answer, "clip" the
    result of `clip_modes`.
    """
    prompts = [prompt_ids(run, e.question) for e in examples]
    samples = {}
    for name, model in (("before", run.base), ("after", run.student)):
        completions = sample_completions(
            model, prompts, run.tokenizer, run.settings, "report", name
        )
        samples[name] = [c.ids for c in completions]
    contexts = [contexts_of(e, learned[e.id]) for e in examples]
    columns, positions, clip = {}, {}, None
    for name in contexts[0]:
        teacher_prompts = [
            prompt_ids(run, e.question, **c[name]) for e, c in zip(examples, contexts)
        ]
        if known.get(name):
            texts = [known[name][e.id] for e in examples]
        else:
            answers = greedy(run.base, run.tokenizer, teacher_prompts, run.settings)
            texts = [text for text, _, _ in answers]
        time, student = ("after", run.student) if name == STUDENT else ("before", run.base)
        rollouts = []
        for student_prompt, ids, teacher_prompt in zip(prompts, samples[time], teacher_prompts):
            rollouts.append(Rollout(student_prompt, ids, teacher_prompt))
        states = states_of(run, student, rollouts)
        student_states, teacher_states, places = states
        pair = (run, student, student_states, teacher_states)
        plain = token_stats(*pair)
        tail = token_stats(*pair, top_k=TAIL_K)
        scale = token_stats(*pair, clip=SCALE_CLIP, clip_mode="scale")
        pointwise = token_stats(*pair, clip=POINT_CLIP, clip_mode="pointwise")
        right = [is_right(e, text) for text, e in zip(texts, examples)]
        leaks = [mentions_rubric(text) for text in texts]
        columns[name] = {
            "right": sum(right) / len(right),
            "leak": sum(leaks) / len(leaks),
            "teacher_entropy": mean(plain.teacher_entropy),
            "student_entropy": mean(plain.student_entropy),
            "divergence": mean(plain.divergence),
            "tail": mean(tail.student_tail),
            "clipped": mean(scale.clipped),
            "gradient_flipped": mean(pointwise.gradient_flipped),
        }
        if name in ("learned rubric", STUDENT):
            positions[time] = by_position(places, plain.divergence, len(examples))
        if name == "learned rubric":
            clip = clip_modes(run, *states, pointwise.gradient_flipped)
    return {
        "questions": len(examples),
        "columns": columns,
        "positions": positions,
        "clip": clip,
        "tail_k": TAIL_K,
        "scale_clip": SCALE_CLIP,
        "point_clip": POINT_CLIP,
    }


def clip_modes(
    run: Run,
    student_states: torch.Tensor,
    teacher_states: torch.Tensor,
    places: Places,
    gradient_flipped: torch.Tensor,
) -> dict | None:
    """Show all clip modes on the token whose gradient pointwise clipping reverses most.

    States are [N, n_embd], gradient_flipped [N]. All modes have the bound POINT_CLIP. Returns
    "before" (the answer up to the token), "chosen" (the token), "top" (the teacher's likeliest
    tokens as {"text", "p": teacher, "q": student}) and "modes" ({mode: "loss" and "gradient"}, the
    latter on the logit of each token of "top"; below 0 it raises the logit). Returns None if no
    gradient is flipped.
    """
    if not gradient_flipped.any():
        return None
    s = run.settings
    flipped = gradient_flipped.nonzero()[:, 0]  # [K]
    log_q = log_probs(run, run.base, student_states[flipped])  # [K, V]
    log_p = log_probs(run, run.base, teacher_states[flipped])  # [K, V]
    losses, gradients = {}, {}
    for mode in CLIP_MODES:
        logits = (log_q * s.temperature).requires_grad_()  # the student's, up to a constant
        loss = token_divergence(
            logits,
            log_p * s.temperature,
            beta=s.beta,
            temperature=s.temperature,
            clip_mode=mode,
            top_k=s.top_k_loss or None,
            clip=None if mode == "none" else POINT_CLIP,
        )
        loss.sum().backward()
        losses[mode], gradients[mode] = loss.detach(), logits.grad  # [K], [K, V]
    best = log_p.argmax(-1, keepdim=True)  # [K, 1]
    i = gradients["pointwise"].gather(-1, best).argmax().item()
    r, t = places[flipped[i]]
    ids = log_p[i].topk(min(TOP, log_p.shape[-1])).indices.tolist()
    top = []
    for k in ids:
        p, q = log_p[i, k].exp().item(), log_q[i, k].exp().item()
        top.append({"text": token_text(run.tokenizer, k), "p": p, "q": q})
    modes = {}
    for mode in CLIP_MODES:
        gradient = gradients[mode][i, ids].tolist()
        modes[mode] = {"loss": losses[mode][i].item(), "gradient": gradient}
    return {
        "before": run.tokenizer.decode(r.completion_ids[:t]),
        "chosen": token_text(run.tokenizer, r.completion_ids[t]),
        "top": top,
        "modes": modes,
    }


# ------------------------------------------------------------------------------------ the whole run
def facts(results: dict) -> dict:
    """What was run, from results.json, and how its settings differ from the nearest preset."""
    settings, changes = results["settings"], {}
    for name, preset in PRESETS.items():
        defaults = asdict(Settings(**preset))
        changes[name] = {k: v for k, v in settings.items() if v != defaults.get(k)}
    nearest = min(changes, key=lambda name: len(changes[name]))
    return {
        "preset": nearest,
        "changed": changes[nearest],
        "settings": settings,
        "parameters": results["parameters"],
        "machine": results["machine"],
        "seconds": results["seconds"],
    }


def tidy(value):
    """The value for JSON: floats with six decimals, and None for NaN (a mean of nothing)."""
    if isinstance(value, dict):
        return {k: tidy(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [tidy(v) for v in value]
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value


KNOWN_ANSWERS = {  # column of the teacher's panel -> column of results.json
    "nothing": "base",
    "reference rubric": "teacher, reference rubric",
    "learned rubric": "teacher, learned rubric",
    STUDENT: "student",
}


EXPLANATION = "explanation"  # a question that asks why over two or three links
KINDS = ("one-step", EXPLANATION, "two-step", "comparison")  # are shown, before any other kind


def kind_of(example: Example) -> str:
    """The kind of a question as the report has it: EXPLANATION, or that of the data."""
    kind = example.meta["kind"]
    if kind in explanations.KINDS and kind != "held" and example.meta["law"].count(" > ") > 1:
        return EXPLANATION
    return kind


def report(out: Path, settings: Settings, results: dict) -> dict:
    """All sections of a finished run that need its models, on its test questions about what is new."""
    run = open_run(out, settings)
    examples = []
    for e in read_tests(out / "data" / "test_new.jsonl"):
        if fits(run, e.question, rubric=e.rubric) and fits(run, e.question, solution=e.solution):
            examples.append(e)
    written = write_rubrics(run.writer, run.tokenizer, examples, settings)
    learned = {e.id: usable_rubric(row) for e, row in zip(examples, written)}
    examples = [
        e
        for e in examples
        if fits(run, e.question, rubric=learned[e.id]) and fits(run, e.question, rubric=GENERIC)
    ]
    by_kind = {kind: [] for kind in KINDS}
    for e in examples:
        by_kind.setdefault(kind_of(e), []).append(e)
    found = []
    for kind, those in by_kind.items():
        if those and len(found) < len(KINDS):
            found.append(right_and_wrong(run, kind, those, learned))
            is_why = those[0].meta["kind"] in explanations.KINDS
            found[-1]["subject"] = "links" if is_why else "laws"
            for answer in found[-1]["answers"]:
                answer["links"] = shares_of_answer(run, found[-1], answer)
    by_id = {e.id: e for e in examples}
    shown = [by_id[row["id"]] for row in found[:3]]
    known = {}
    for name, column in KNOWN_ANSWERS.items():
        known[name] = {row["id"]: row["text"] for row in results["answers"][column]}
    panels = {"examples": found, "link_tokens": link_tokens(run, examples, learned)}
    panels |= {"stage1": [], "teacher": None}
    if examples:
        panels["stage1"] = stage1_panel(run, shown)
        panels["teacher"] = teacher_panel(run, examples[:PANEL], learned, known)
    return tidy(panels)
