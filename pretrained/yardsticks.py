"""What a run on one's own data means: base, teachers and student on the held-out questions.

Only what the rows allow is measured, each with its count:

    right        the letter of a choice, or a quantity with its unit
    likelihood   of the reference solution or answer, unaided: -log p, nats a token
    divergence   of the teacher that has read the reference rubric from a model, on the model's own
                 greedy answers, nats a token
    mentions     answers that name the rubric: what a teacher may leak into a student
    valid        rubrics that parse, by the form of the reference rubrics

On request pass@k and different answers (report/pass_at.py), and the base as a judge (judge.py).
"""

import platform

import torch

from base import count_parameters
from data.split import held_out_questions
from data.tokenizer import encode
from model import GPT
from pretrained.reason_first import with_analyses
from rcsd import teacher_context_of
from report.explain import Run, hidden, token_stats
from report.panels import mentions_rubric
from report.summary import values_of
from rubrics import (
    TEACHER_CONTEXTS,
    Example,
    Sections,
    can_check,
    form_of,
    is_right,
    missing,
    teacher_prompt,
)
from step import greedy, write_rubrics

MEASURES = {  # measure -> (its row, its part of the table)
    "right": ("right answers, %", "%"),
    "pass_1": ("pass@1 of samples, %", "%"),
    "pass_k": ("pass@{k} of samples, %", "%"),
    "judged": ("rubric score, the base as judge, %", "%"),
    "mentions": ("answers that mention the rubric, %", "%"),
    "truncated": ("cut at --max-new-tokens, %", "%"),
    "valid": ("valid rubrics, %", "%"),
    "likelihood": ("reference: -log p, nats a token", "nats"),
    "divergence": ("divergence from the teacher, nats a token", "nats"),
    "distinct": ("different ones of {k} sampled answers", "answers"),
}
DECIMALS = {"%": 1, "nats": 3, "answers": 2}


class Contender:
    """One who answers: a model and what it sees beside the question."""

    def __init__(self, run: Run, model: GPT, context: str = "nothing"):
        self.run, self.model, self.context = run, model, context
        self.tokenizer, self.settings = run.tokenizer, run.settings
        self.analysed: dict[str, Sections] = {}
        """Prompts by question id that hold an analysis (--reason-first)."""

    def sections(self, e: Example) -> Sections:
        return self.analysed.get(e.id) or teacher_prompt(e, self.context, e.rubric)

    def prompt_ids(self, e: Example) -> list[int]:
        return encode(self.tokenizer, self.sections(e))

    def can_read(self, e: Example) -> bool:
        """Whether the example has what this contender sees, and room for an answer behind it."""
        if missing(e, self.context, e.rubric):
            return False
        return len(self.prompt_ids(e)) <= self.settings.prompt_room()

    def answers(self, examples: list[Example], note: str) -> list[dict]:
        """Greedy answers with what can be measured of the text alone."""
        prompts = [self.prompt_ids(e) for e in examples]
        rows = []
        texts = greedy(self.model, self.tokenizer, prompts, self.settings, note)
        for e, (text, truncated, length) in zip(examples, texts):
            row = {"id": e.id, "text": text, "truncated": truncated, "length": length}
            row["mentions"] = mentions_rubric(text)
            if can_check(e):
                row["right"] = is_right(e, text)
            rows.append(row)
        return rows

    @torch.no_grad()
    def likelihood(self, e: Example) -> float | None:
        """-log p of the reference, nats a token; None if there is none, or it is too long."""
        ids = self.tokenizer.encode(e.solution or e.answer)
        prompt_ids = self.prompt_ids(e)
        if not ids or len(prompt_ids) + len(ids) > self.settings.max_seq_len:
            return None
        states = hidden(self.run, self.model, self.sections(e), ids)  # [n, n_embd]
        logprobs = (states @ self.model.head_weight.T).float().log_softmax(-1)  # [n, V]
        targets = torch.tensor(ids, device=states.device)[:, None]  # [n, 1]
        return -logprobs.gather(-1, targets).mean().item()

    def divergence(self, teacher: "Contender", e: Example, text: str) -> float | None:
        """D(p_T || p_S) of the run's own loss on the tokens of an answer, nats a token."""
        ids = self.tokenizer.encode(text) + [self.tokenizer.eos]
        longest = max(len(self.prompt_ids(e)), len(teacher.prompt_ids(e)))
        if longest + len(ids) > self.settings.max_seq_len:
            return None
        sides = [hidden(self.run, side.model, side.sections(e), ids) for side in (self, teacher)]
        return token_stats(self.run, self.model, *sides).divergence.mean().item()


def evaluate_own(run: Run) -> dict:
    """All measures of a finished run on its held-out questions.

    Raises ValueError if there is no such question, or none that fits.
    """
    base, tokenizer, settings = run.base, run.tokenizer, run.settings
    unaided = Contender(run, base)
    held_out = held_out_questions(settings)
    examples = [e for e in held_out if unaided.can_read(e)]
    if not examples:
        raise ValueError(
            f"{settings.eval_data or settings.data}: none of {len(held_out)} held-out questions "
            "fits; try a larger --held-out or --max-seq-len"
        )
    contenders = {"base": unaided}
    for context in TEACHER_CONTEXTS:
        teacher = Contender(run, base, context)
        if context != "nothing" and any(teacher.can_read(e) for e in examples):
            contenders[f"teacher, {context}"] = teacher
    trained = contenders.get(f"teacher, {teacher_context_of(settings)}")
    if settings.reason_first and trained:
        mine = [e for e in examples if trained.can_read(e)]
        prompts = [trained.sections(e) for e in mine]
        teacher = Contender(run, base, trained.context)
        prompts = with_analyses(base, tokenizer, prompts, settings)
        teacher.analysed = {e.id: sections for e, sections in zip(mine, prompts)}
        contenders[f"teacher, {trained.context}, reason first"] = teacher
    contenders["student"] = Contender(run, run.student)
    reader = contenders.get("teacher, rubric")
    answers = {}
    for name, contender in contenders.items():
        mine = [e for e in examples if contender.can_read(e)]
        rows = contender.answers(mine, name)
        for e, row in zip(mine, rows):
            if contender.context == "nothing":
                row["likelihood"] = contender.likelihood(e)
                if reader and reader.can_read(e):
                    row["divergence"] = contender.divergence(reader, e, row["text"])
        answers[name] = rows
    with_rubric = [e for e in examples if e.rubric]
    form = form_of([e.rubric for e in with_rubric])
    for name, model in (("base", base), ("student", run.writer)):
        if model is None:
            continue
        written = write_rubrics(model, tokenizer, with_rubric, settings, form)
        problems = {row["id"]: row["problem"] for row in written}
        for row in answers[name]:
            if row["id"] in problems:
                row["valid"] = not problems[row["id"]]
    device, threads = base.head_weight.device, torch.get_num_threads()
    return {
        "settings": settings.up_to("stage2"),
        "parameters": count_parameters(base),
        "machine": f"{platform.machine()}, {device}, torch {torch.__version__}, {threads} threads",
        "held_out": len(held_out),
        "answers": answers,
    }


# --------------------------------------------------------------------------------------- the table
def paired(after: dict[str, float], before: dict[str, float]) -> tuple[float, float]:
    """Mean difference on the shared questions, and half its 95% interval (normal)."""
    changes = [after[id] - before[id] for id in after if id in before]
    n, mean = len(changes), sum(changes) / len(changes)
    variance = sum((change - mean) ** 2 for change in changes) / max(1, n - 1)
    return mean, 1.96 * (variance / n) ** 0.5


def own_table_parts(answers: dict[str, list[dict]], questions: str, k: int = 0) -> list[dict]:
    """The table as report.table.table_parts has it, a part for each unit.

    `answers` are the rows of base, student and others; `questions` says in words which they are of;
    k is that of pass@k.
    """
    columns, parts = [*answers, "student - base"], []
    for unit, decimals in DECIMALS.items():
        rows, scale = [], 100 if unit == "%" else 1
        for measure, (label, its_unit) in MEASURES.items():
            values = {name: values_of(rows_, measure) for name, rows_ in answers.items()}
            if its_unit == unit and values["student"].keys() & values["base"].keys():
                cells = [cell(list(v.values()), scale) for v in values.values()]
                change, half = paired(values["student"], values["base"])
                cells.append([scale * change, scale * half])
                n = len(values["base"])
                rows.append({"label": label.format(k=k), "n": n, "cells": cells})
        part = {"title": f"in {unit}, {questions}", "columns": columns, "counted": True}
        if rows:
            parts.append(part | {"rows": rows, "decimals": decimals})
    return parts


def cell(values: list[float], scale: float) -> list:
    """[mean, None]; NaN if the contender has no such value."""
    return [scale * sum(values) / len(values) if values else float("nan"), None]


def own_table(parts: list[dict]) -> str:
    """The table as text: a block for each contender's column would be too wide, so a line each."""
    lines = []
    for part in parts:
        lines.append(part["title"])
        for row in part["rows"]:
            lines.append(f"  {row['label']} (n = {row['n']})")
            for name, (mean, half) in zip(part["columns"], row["cells"]):
                if mean == mean:
                    spread = "" if half is None else f" ± {half:.{part['decimals']}f} (95%)"
                    lines.append(f"    {name:28}{mean:10.{part['decimals']}f}{spread}")
    return "\n".join(lines)
