"""The panels of the report: the run and its curves, stage I's rubrics, the teacher by what it sees, the clip modes.

As explain.py: models and logs in, plain lists and dicts for report.json out, everything in nats.
"""
import json
import math
import re
from collections import defaultdict
from dataclasses import asdict, replace
from pathlib import Path

import torch

from data.grammar import canonical, correct
from data.load import load_examples
from data.tokenizer import encode
from loss import CLIP_MODES, token_divergence
from model import GPT
from rcsd import greedy, write_rubrics
from report.explain import (
    TOP,
    Run,
    fits,
    log_probs,
    open_run,
    right_and_wrong,
    token_stats,
    token_text,
)
from rubrics import GENERIC, VERBS, Criterion, Example, Rubric, parse_rubric, prompt, satisfied
from step import Rollout, completion_hidden, micro_batches, rollout
from trainer.settings import PRESETS, Settings

PANEL = 100              # questions of the teacher's panel
TAIL_K = 20              # the student's mass outside this many most likely tokens of the teacher is its tail
SCALE_CLIP, POINT_CLIP = 0.5, 0.05   # nats: a bound for "scale", and the public code's for "pointwise"
BUCKETS = 24             # points of a learning curve


# -------------------------------------------------------------------------------------------------- stage I's rubrics
_CHECKS = (  # what an unchecked criterion says -> the check that the reference solution must then pass
    (rf"(?:{'|'.join(VERBS)})(.* = .*)", r"states \1"), (r"gives the answer in (.*)", r"unit \1"),
    (r"does not divide (.*) by (.*)", r"avoids \1 ÷ \2"), (r"does not multiply (.*) by (.*)", r"avoids \1 × \2"),
    (r"does not add (.*) to (.*)", r"avoids \2 + \1"), (r"converts (.*) to .*", r"shows = \1 = "),
    (r"says by what factor it changes", "unit times"))


def is_wrong(criterion: Criterion, solution: str) -> bool:
    """Whether a criterion demands what the reference solution does not do; False too where no program can tell."""
    body = criterion.description.partition(": ")[2]
    checks = (match.expand(check) for pattern, check in _CHECKS if (match := re.fullmatch(pattern, body)))
    return any(not satisfied(replace(criterion, check=check), solution) for check in checks)


def aligned(rubrics: dict[str, Rubric | None], solution: str) -> list[dict]:
    """Rows {name: {"weight", "text", "wrong"}}: the criteria of several rubrics (None: not valid), the same in one row.

    Relations count as the same up to the order of factors, all else up to the order of its words.
    """
    rows = defaultdict(dict)
    for name, rubric in rubrics.items():
        for c in rubric.criteria if rubric else ():
            body = c.description.partition(": ")[2]
            relation = next((canonical(body.removeprefix(v)) for v in VERBS if body.startswith(v)), None)
            key = relation or (c.category, *sorted(re.findall(r"[^\s,]+", body)))
            while name in rows[key]:
                key = (key, "again")
            rows[key][name] = {"weight": c.weight, "text": c.description, "wrong": is_wrong(c, solution)}
    return list(rows.values())


def usable(row: dict) -> Rubric:
    """A written rubric as a teacher sees it: an invalid one falls back to the generic one, as in stage II."""
    return GENERIC if row["problem"] else parse_rubric(row["text"])


def stage1_panel(run: Run, examples: list[Example]) -> list[dict]:
    """The reference rubric, that of the base and that of stage I, for each question."""
    written = [write_rubrics(model, run.tokenizer, examples, run.settings) for model in (run.base, run.writer)]
    return [{"question": e.question, "problems": {"base": b["problem"], "stage I": w["problem"]}, "rows": aligned(
        {"reference": e.rubric, **{name: None if row["problem"] else parse_rubric(row["text"])
                                   for name, row in (("base", b), ("stage I", w))}}, e.solution)}
            for e, b, w in zip(examples, *written)]


# ---------------------------------------------------------------------------------------- the teacher and the clip
def states_of(run: Run, student: GPT, rollouts: list[Rollout]) -> tuple[torch.Tensor, torch.Tensor, list]:
    """Student's and teacher's states [N, n_embd] of all tokens of rollouts, and (rollout, position) of each."""
    own, seen, where = [], [], []
    with torch.no_grad():
        for batch in micro_batches(rollouts, run.settings.micro_tokens):
            own.append(completion_hidden(student, [(r.prompt, r.completion) for r in batch]))
            seen.append(completion_hidden(run.base, [(r.teacher_prompt, r.completion) for r in batch]))
            where += [(r, t) for r in batch for t in range(len(r.completion))]
    return torch.cat(own), torch.cat(seen), where


LEAK = re.compile(r"\b(?:[Rr]ubric|[Cc]riteri(?:on|a)|Essential|Important|Optional|Pitfall)")  # an answer names its rubric


def teacher_panel(run: Run, examples: list[Example], learned: dict, known: dict[str, dict[str, str]]) -> dict:
    """The teacher by what it sees beside x, and the student after training, on the same questions.

    known: {name: {question id: greedy answer}} of results.json. "right" and "leak" (the answer names its rubric, see LEAK)
    are shares of greedy answers. The rest are means over the tokens of one sampled answer a question, of the base and in
    the last column of the student: entropies, divergence, and shares of tokens whose gradient `scale` would shrink
    ("clipped") or `pointwise` would turn round ("gradient_flipped"); "tail" is student mass outside the teacher's TAIL_K best.
    "positions" is the divergence by place in the answer while a tenth of the answers are that long.
    """
    contexts = {"nothing": lambda e: {}, "generic rubric": lambda e: {"rubric": GENERIC},
                "reference rubric": lambda e: {"rubric": e.rubric}, "learned rubric": lambda e: {"rubric": learned[e.id]},
                "solution": lambda e: {"solution": e.solution}}
    columns, positions, clip = {}, {}, None
    prompts = [encode(run.tokenizer, prompt(e.question)) for e in examples]
    samples = {name: [c.ids for c in rollout(model, prompts, run.tokenizer, run.settings, "report", name)]
               for name, model in (("before", run.base), ("after", run.student))}
    for name in (*contexts, "student, after"):
        see, late = contexts.get(name, contexts["learned rubric"]), name not in contexts
        texts = known.get(name)
        seen = [encode(run.tokenizer, prompt(e.question, **see(e))) for e in examples]
        texts = ([texts[e.id] for e in examples] if texts else
                 [text for text, _, _ in greedy(run.base, run.tokenizer, seen, run.settings)])
        student = run.student if late else run.base
        rollouts = [Rollout(p, ids, s) for p, ids, s in zip(prompts, samples["after" if late else "before"], seen)]
        own, theirs, where = states_of(run, student, rollouts)
        plain, tail, scale, point = (token_stats(run, student, own, theirs, **changes) for changes in (
            {}, {"top_k": TAIL_K}, {"clip": SCALE_CLIP, "clip_mode": "scale"}, {"clip": POINT_CLIP, "clip_mode": "pointwise"}))
        def share(values):
            return values.float().mean().item()
        columns[name] = {
            "right": sum(correct(t, e.answer) for t, e in zip(texts, examples)) / len(texts),
            "leak": sum(bool(LEAK.search(t)) for t in texts) / len(texts),
            "teacher_entropy": share(plain.teacher_entropy), "student_entropy": share(plain.student_entropy),
            "divergence": share(plain.divergence), "tail": share(tail.student_tail), "clipped": share(scale.clipped),
            "gradient_flipped": share(point.gradient_flipped)}
        if see is contexts["learned rubric"]:
            at = defaultdict(list)
            for (_, t), d in zip(where, plain.divergence.tolist()):
                at[t].append(d)
            positions["after" if late else "before"] = [
                [t + 1, sum(v) / len(v)] for t, v in sorted(at.items()) if 10 * len(v) >= len(examples)]
        if name == "learned rubric":
            clip = clip_modes(run, own, theirs, where, point.gradient_flipped)
    return {"questions": len(examples), "columns": columns, "positions": positions, "clip": clip,
            "tail_k": TAIL_K, "scale_clip": SCALE_CLIP, "point_clip": POINT_CLIP}


def clip_modes(run: Run, own: torch.Tensor, seen: torch.Tensor, where: list, gradient_flipped: torch.Tensor) -> dict | None:
    """Of the tokens that pointwise clipping turns round, the one whose gradient points away from the teacher most.

    {"before": text, "chosen": token, "top": [{"text", "p", "q"}] by p, "modes": {mode: {"loss", "gradient": of the logit of
    each of the top}}}, all modes with the bound POINT_CLIP. A gradient below 0 raises the logit. None without such a token.
    """
    if not gradient_flipped.any():
        return None
    s, at = run.settings, gradient_flipped.nonzero()[:, 0]                                                   # [K]
    log_q, log_p = log_probs(run, run.base, own[at]), log_probs(run, run.base, seen[at])           # [K, V]
    losses, gradients = {}, {}
    for mode in CLIP_MODES:
        z = (log_q * s.temperature).requires_grad_()                                               # logits, up to a constant
        loss = token_divergence(z, log_p * s.temperature, beta=s.beta, temperature=s.temperature, clip_mode=mode,
                                top_k=s.top_k_loss or None, clip=None if mode == "none" else POINT_CLIP)
        loss.sum().backward()
        losses[mode], gradients[mode] = loss.detach(), z.grad                                      # [K], [K, V]
    i = gradients["pointwise"].gather(-1, log_p.argmax(-1, keepdim=True)).argmax().item()
    (rollout, t), ids = where[at[i]], log_p[i].topk(min(TOP, log_p.shape[-1])).indices.tolist()
    return {"before": run.tokenizer.decode(rollout.completion[:t]),
            "chosen": token_text(run.tokenizer, rollout.completion[t]),
            "top": [{"text": token_text(run.tokenizer, k), "p": log_p[i, k].exp().item(), "q": log_q[i, k].exp().item()}
                    for k in ids],
            "modes": {mode: {"loss": losses[mode][i].item(), "gradient": gradients[mode][i, ids].tolist()}
                      for mode in CLIP_MODES}}


# ---------------------------------------------------------------------------------------------------- the whole run
CURVES = {"base": ("loss",), "stage1": ("loss", "valid"), "stage2": ("loss", "correct")}


def spread(values: list[float]) -> list:
    """[mean, standard deviation], the latter None for a single value."""
    middle = sum(values) / len(values)
    return [middle, (sum((v - middle) ** 2 for v in values) / (len(values) - 1)) ** 0.5 if len(values) > 1 else None]


def curves(folders: list[Path]) -> list[dict]:
    """{"stage", "measure", "points": [[step, mean, sd over runs]]}: each point is a mean over a stretch of steps."""
    found = []
    for stage, measures in CURVES.items():
        logs = [[json.loads(line) for line in (folder / f"{stage}.jsonl").read_text(encoding="utf-8").rstrip("\n").split("\n")]
                for folder in folders]
        steps = min(map(len, logs))
        wide = max(1, math.ceil(steps / BUCKETS))
        ends = range(wide, steps + 1, wide)
        found += [{"stage": stage, "measure": m, "points": [
            [end, *spread([sum(row[m] for row in log[end - wide:end]) / wide for log in logs])] for end in ends]}
            for m in measures if all(m in row for log in logs for row in log)]
    return found


def facts(results: dict) -> dict:
    """What was run: results.json's, and how its settings differ from the preset that is nearest to them."""
    made = results["settings"]
    changes = {name: {k: v for k, v in made.items() if v != asdict(Settings(**preset)).get(k)}
               for name, preset in PRESETS.items()}
    nearest = min(changes, key=lambda name: len(changes[name]))
    return {"preset": nearest, "changed": changes[nearest], **{k: results[k] for k in (
        "settings", "parameters", "machine", "seconds")}}


def tidy(value):
    """Floats to six decimals, NaN (a mean of nothing) as None: what JSON can say, in reasonable length."""
    if isinstance(value, dict):
        return {k: tidy(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [tidy(v) for v in value]
    return (round(value, 6) if math.isfinite(value) else None) if isinstance(value, float) else value


def report(out: Path, settings: Settings, results: dict) -> dict:
    """All sections of a finished run that need its models, on its test questions about new laws."""
    run = open_run(out, settings)
    examples = [e for e in load_examples(out / "data" / "test_new.jsonl")[0]
                if fits(run, e.question, rubric=e.rubric) and fits(run, e.question, solution=e.solution)]
    written = write_rubrics(run.writer, run.tokenizer, examples, settings)
    learned = {e.id: usable(row) for e, row in zip(examples, written)}
    examples = [e for e in examples if all(fits(run, e.question, rubric=r) for r in (learned[e.id], GENERIC))]
    kinds = [right_and_wrong(run, kind, [e for e in examples if e.meta["kind"] == kind], learned)
             for kind in dict.fromkeys(e.meta["kind"] for e in examples)]
    shown = [next(e for e in examples if e.id == found["id"]) for found in kinds[:3]]
    names = {"nothing": "base", "reference rubric": "teacher, reference rubric", "learned rubric": "teacher, learned rubric",
             "student, after": "student"}
    known = {name: {row["id"]: row["text"] for row in results["answers"][column]} for name, column in names.items()}
    return tidy({"examples": kinds, "stage1": stage1_panel(run, shown) if shown else [],
                 "teacher": teacher_panel(run, examples[:PANEL], learned, known) if examples else None})
