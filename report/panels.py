"""The numbers of the report's panels: stage I's rubrics, the teacher, the clip modes.

As in explain.py: models and logs in, plain lists and dicts for report.json out, all in nats.
"""

import math
import re
from collections import defaultdict
from dataclasses import asdict, replace
from pathlib import Path

import torch

from data.grammar import canonical, states
from data.load import read_tests
from data.statements import claims_of
from loss import CLIP_MODES, token_divergence
from model import GPT
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
from rubrics import (
    GENERIC,
    SAYS,
    VERBS,
    Criterion,
    Example,
    Rubric,
    is_right,
    parse_rubric,
    satisfied,
    usable_rubric,
)
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


# -------------------------------------------------------------------------------- stage I's rubrics
_CHECKS = (  # what an unchecked criterion says, and the check that a solution must then pass
    (rf"(?:{'|'.join(VERBS)})(.* = .*)", r"states \1"),
    (r"gives the answer in (.*)", r"unit \1"),
    (r"does not divide (.*) by (.*)", r"avoids \1 ÷ \2"),
    (r"does not multiply (.*) by (.*)", r"avoids \1 × \2"),
    (r"does not add (.*) to (.*)", r"avoids \2 + \1"),
    (r"converts (.*) to .*", r"shows = \1"),
    (r"says by what factor it changes", "unit times"),
)


def statement(criterion: Criterion) -> str:
    """What a criterion demands: its description without the category."""
    return criterion.description.partition(": ")[2]


def is_wrong(criterion: Criterion, solution: str) -> bool:
    """Whether the reference solution fails the criterion; False if no program can tell."""
    words = statement(criterion)
    for verb in SAYS:
        if words.startswith(verb) and claims_of(words.removeprefix(verb)):
            return not states(solution, words.removeprefix(verb))
    for pattern, check in _CHECKS:
        match = re.fullmatch(pattern, words)
        if match and not satisfied(replace(criterion, check=match.expand(check)), solution):
            return True
    return False


def meaning(criterion: Criterion) -> tuple:
    """A key that is equal for criteria that say the same.

    Relations are equal up to the order of factors, causes with their effects in whatever words,
    other criteria up to the order of words.
    """
    words = statement(criterion)
    for verb in dict.fromkeys(VERBS + SAYS):
        if words.startswith(verb):
            said = words.removeprefix(verb)
            relation = tuple(sorted(claims_of(said))) or canonical(said)
            if relation:
                return relation
            break
    return (criterion.category, *sorted(re.findall(r"[^\s,]+", words)))


def aligned(rubrics: dict[str, Rubric | None], solution: str) -> list[dict]:
    """The criteria of several rubrics, those with the same meaning in one row.

    A row is {name: {"weight", "text", "wrong"}} by the names of `rubrics`. None stands for an
    invalid rubric.
    """
    rows = defaultdict(dict)
    for name, rubric in rubrics.items():
        for criterion in rubric.criteria if rubric else ():
            key = meaning(criterion)
            while name in rows[key]:  # one rubric says the same twice: another row
                key = (key, "again")
            rows[key][name] = {
                "weight": criterion.weight,
                "text": criterion.description,
                "wrong": is_wrong(criterion, solution),
            }
    return list(rows.values())


def stage1_panel(run: Run, examples: list[Example]) -> list[dict]:
    """For each question its reference rubric and the rubrics that base and stage I write."""
    by_base = write_rubrics(run.base, run.tokenizer, examples, run.settings)
    by_writer = write_rubrics(run.writer, run.tokenizer, examples, run.settings)
    panel = []
    for example, base_row, writer_row in zip(examples, by_base, by_writer):
        rubrics, problems = {"reference": example.rubric}, {}
        for name, row in (("base", base_row), ("stage I", writer_row)):
            problems[name] = row["problem"]
            rubrics[name] = None if row["problem"] else parse_rubric(row["text"])
        rows = aligned(rubrics, example.solution)
        panel.append({"question": example.question, "problems": problems, "rows": rows})
    return panel


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


def report(out: Path, settings: Settings, results: dict) -> dict:
    """All sections of a finished run that need its models, on its test questions about new laws."""
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
    by_kind = defaultdict(list)
    for e in examples:
        by_kind[e.meta["kind"]].append(e)
    found = [right_and_wrong(run, kind, those, learned) for kind, those in by_kind.items()]
    by_id = {e.id: e for e in examples}
    shown = [by_id[row["id"]] for row in found[:3]]
    known = {}
    for name, column in KNOWN_ANSWERS.items():
        known[name] = {row["id"]: row["text"] for row in results["answers"][column]}
    panels = {"examples": found, "stage1": [], "teacher": None}
    if examples:
        panels["stage1"] = stage1_panel(run, shown)
        panels["teacher"] = teacher_panel(run, examples[:PANEL], learned, known)
    return tidy(panels)
