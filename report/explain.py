"""Token by token: what teacher and student think of an answer, and which criterion of the rubric made it so.

Models and rubrics in, plain lists and dicts for report.json out; panels.py adds the rest and page.py draws them.

Throughout, x is a question, r a rubric, y = y_1..y_n the tokens of an answer. The teacher is the base model that reads
(x, r), p_T(. | x, r, y_<t); the student reads x alone, p_S(. | x, y_<t), and is the base before training and the model of
stage II after it. Both distributions are softmax(logits / temperature), as in the loss. Log-probabilities, entropies
and divergences are in nats.
"""
import math
from dataclasses import dataclass
from pathlib import Path

import torch

from data.grammar import correct
from data.tokenizer import Tokenizer, encode, read_tokenizer
from fused_loss import TokenStats, distillation_loss
from model import GPT, generate
from rubrics import Criterion, Example, Rubric, grade, prompt
from step import completion_hidden, rollout
from trainer.checkpoints import load_model
from trainer.processes import device_of
from trainer.settings import Settings

TOP = 5                  # most likely tokens that are kept for each distribution
TRIED, SAMPLES = 16, 6   # questions of a kind, and answers to each, from which a right and a wrong one are taken


@dataclass
class Run:
    """What a finished run left behind."""
    settings: Settings
    tokenizer: Tokenizer
    base: GPT
    writer: GPT              # of stage I
    student: GPT             # of stage II


def open_run(out: Path, settings: Settings) -> Run:
    """Raises ValueError if a stage is missing or unfinished."""
    device = device_of(settings)
    return Run(settings, read_tokenizer(out),
               *(load_model(out / f"{stage}.pt", device).eval() for stage in ("base", "stage1", "stage2")))


# ------------------------------------------------------------------------------------------------- token by token
def hidden(run: Run, model: GPT, sections: list, ids: list[int]) -> torch.Tensor:
    """States [n, n_embd] from which a model that reads `sections` predicts the n tokens `ids`."""
    with torch.no_grad():
        return completion_hidden(model, [(encode(run.tokenizer, sections), ids)])


def log_probs(run: Run, model: GPT, states: torch.Tensor) -> torch.Tensor:
    """[n, n_embd] -> log-probabilities [n, V], at the temperature of the loss."""
    with torch.no_grad():
        return (states @ model.head_weight.T).float().div(run.settings.temperature).log_softmax(-1)


def token_stats(run: Run, student: GPT, own: torch.Tensor, seen: torch.Tensor, **changes) -> TokenStats:
    """The loss's own account of n tokens: student's states `own` and teacher's `seen` [n, n_embd] -> TokenStats of [n].

    `divergence` is that of the run's settings before any clip. `changes` replace settings of the loss (top_k, clip, ...).
    """
    with torch.enable_grad():  # for `gradient_flipped`, which needs the gradient
        return distillation_loss(own.detach().requires_grad_(), student.head_weight.detach(), seen, run.base.head_weight,
                                 return_stats=True, **run.settings.divergence() | changes)[1]


def token_text(tokenizer: Tokenizer, i: int) -> str:
    """One token's text; bytes that are no whole character show as "·"."""
    return tokenizer.decode([i]).replace("\ufffd", "·")


def opinions(run: Run, model: GPT, states: torch.Tensor, ids: list[int]) -> list[dict]:
    """What a model thinks at each of n tokens: {"logprob" of y_t, "entropy", "top": [[text, probability] * TOP]}."""
    log_p = log_probs(run, model, states)                                                          # [n, V]
    best = log_p.topk(min(TOP, log_p.shape[-1]))                                                   # [n, TOP] twice
    entropy = -(log_p.exp() * log_p).sum(-1)                                                       # [n]
    return [{"logprob": log_p[t, i].item(), "entropy": entropy[t].item(),
             "top": [[token_text(run.tokenizer, k), math.exp(v)] for v, k in zip(*(b[t].tolist() for b in best))]}
            for t, i in enumerate(ids)]


def strip(run: Run, question: str, rubric: Rubric, ids: list[int]) -> list[dict]:
    """Two strips of n tokens: {"text", "teacher": opinion, "before", "after": opinion, "divergence", "clipped"} each.

    "before" and "after" are the student's, the teacher is the same: p_T(. | x, r, y_<t). The mean of "divergence" over
    the tokens of an answer that this student sampled is what stage II makes small; on another's answer it is not.
    """
    seen = hidden(run, run.base, prompt(question, rubric=rubric), ids)
    rows = [{"text": token_text(run.tokenizer, i), "teacher": o} for i, o in zip(ids, opinions(run, run.base, seen, ids))]
    for name, model in (("before", run.base), ("after", run.student)):
        own = hidden(run, model, prompt(question), ids)
        stats = token_stats(run, model, own, seen)
        for t, (row, opinion) in enumerate(zip(rows, opinions(run, model, own, ids))):
            row[name] = opinion | {"divergence": stats.divergence[t].item(), "clipped": stats.clipped[t].item()}
    return rows


# ------------------------------------------------------------------------------------ which criterion moves which token
def attribute(score, criteria: tuple) -> dict[str, torch.Tensor]:
    """How each of C criteria moves each of n tokens, for M measures: whole [M, n], left out and alone [C, M, n].

    score      from a tuple of criteria to the measures [M, n] under a teacher who reads just these; () is no rubric
    whole      score(r) - score(())                the whole rubric's effect
    left out   score(r) - score(r without c)       what is gone if c goes
    alone      score((c,)) - score(())             what c does by itself

    What sums to what. With one criterion all three are equal. If each criterion adds its own part whatever else is
    there, left out = alone, and over the criteria they sum to the whole. Else neither sums to the whole: of two
    criteria that say the same, each left out changes nothing (the other still says it) though each alone does all; of two
    that work only together, each left out takes all away and each alone does nothing. Over tokens, the effects on
    log p_T(y_t) do sum: to the effect on log p_T(y), the whole answer's log-probability.
    """
    known = {}

    def s(chosen):
        if chosen not in known:
            known[chosen] = score(chosen)
        return known[chosen]
    whole, nothing = s(criteria), s(())
    return {"whole": whole - nothing,
            "left out": torch.stack([whole - s(criteria[:i] + criteria[i + 1:]) for i in range(len(criteria))]),
            "alone": torch.stack([s((c,)) - nothing for c in criteria])}


MEASURES = ("logprob", "divergence")


def scorer(run: Run, question: str, ids: list[int]):
    """The score function of a run for `attribute`: criteria -> [2, n], log p_T(y_t) and the divergence on token t of the
    student before training from this teacher. With no criterion the teacher is that student: divergence 0."""
    own = hidden(run, run.base, prompt(question), ids)                                             # [n, n_embd]

    def score(criteria: tuple) -> torch.Tensor:
        sections = prompt(question, rubric=Rubric(criteria) if criteria else None)
        seen = hidden(run, run.base, sections, ids)                                                # [n, n_embd]
        chosen = log_probs(run, run.base, seen)[torch.arange(len(ids)), torch.tensor(ids)]         # [n]
        return torch.stack([chosen, token_stats(run, run.base, own, seen).divergence])
    return score


IRRELEVANT = Criterion("Control", "Optional: is written in blue ink", 1)   # no answer can meet it or fail to


def answer(run: Run, question: str, rubric: Rubric, ids: list[int], **facts) -> dict:
    """All about one answer: its facts, its strip, and the effects {measure: {"whole": [n], "left out", "alone": [C][n]}}.

    "control" [K][n] has what a criterion more at the end of the rubric changes, one that repeats its first Essential one and
    IRRELEVANT, as far as they fit into the context: the size of an effect that means nothing.
    """
    score, criteria = scorer(run, question, ids), rubric.criteria
    again = next((c for c in criteria if c.category == "Essential"), criteria[0])
    controls = [c for c in (again, IRRELEVANT) if len(ids) + len(encode(run.tokenizer, prompt(
        question, rubric=Rubric((*criteria, c))))) <= run.settings.max_seq_len]
    found = attribute(score, criteria) | {"control": torch.stack(
        [score((*criteria, c)) - score(criteria) for c in controls] or [torch.zeros(2, 0)])[:len(controls)]}
    return {**facts, "tokens": strip(run, question, rubric, ids), "controls": [c.description for c in controls], "effects": {
        m: {name: values.select(-2, i).tolist() for name, values in found.items()} for i, m in enumerate(MEASURES)}}


def criteria_of(rubric: Rubric) -> list[dict]:
    return [{"weight": c.weight, "text": c.description} for c in rubric.criteria]


def fits(run: Run, question: str, **context) -> bool:
    """Whether a prompt leaves room for a completion: the rule of training."""
    return len(encode(run.tokenizer, prompt(question, **context))) <= run.settings.max_seq_len - run.settings.max_new_tokens


def right_and_wrong(run: Run, kind: str, examples: list[Example], rubrics: dict[str, Rubric]) -> dict | None:
    """A question with a right and a wrong answer that the base sampled: of the first TRIED of a kind, SAMPLES each, the one
    whose right answer has the best rubric score (only the final answer makes it right, and luck can) and, of equals, whose
    wrong answer diverges most from the teacher, in the mean over its tokens. None without questions.

    If no question has both, the one with the wrong (or else right) answer that diverges most.
    """
    examples, most = examples[:TRIED], None
    prompts = [encode(run.tokenizer, prompt(e.question)) for e in examples for _ in range(SAMPLES)]
    samples = rollout(run.base, prompts, run.tokenizer, run.settings, "report", kind)
    for i, e in enumerate(examples):
        found, best = {}, 0.0
        for c in samples[i * SAMPLES:(i + 1) * SAMPLES]:
            text = run.tokenizer.decode(c.ids[:-1])
            right = not c.truncated and correct(text, e.answer)
            score = grade(e.rubric, text) if right and e.rubric else 0.0
            if right not in found or score > best:
                found[right], best = c.ids, max(score, best)
        ids = found.get(False) or found[True]
        own, seen = (hidden(run, run.base, prompt(e.question, rubric=r), ids) for r in (None, rubrics[e.id]))
        diverges = token_stats(run, run.base, own, seen).divergence.mean().item()
        rank = len(found), best if len(found) > 1 else 0.0, False in found, diverges
        if most is None or rank > most[0]:
            most = rank, e, found
    if most is None:
        return None
    _, e, found = most
    return {"id": e.id, "kind": kind, "question": e.question, "answer": e.answer, "tried": len(examples), "samples": SAMPLES,
            "rubric": criteria_of(rubrics[e.id]),
            "answers": [answer(run, e.question, rubrics[e.id], found[right], right=right, by="base, sampled")
                        for right in (True, False) if right in found]}


def most_changed(run: Run, examples: list[Example]) -> Example:
    """Of the first TRIED questions, the one where the rubric moves the base's greedy answer most.

    By the mean divergence of the answer's tokens. Raises ValueError if no question fits.
    """
    examples = [e for e in examples if e.rubric and fits(run, e.question, rubric=e.rubric)][:TRIED]
    if not examples:
        raise ValueError("no test question of this run leaves room for an answer beside its rubric")
    prompts = [encode(run.tokenizer, prompt(e.question)) for e in examples]
    answers = generate(run.base, prompts, eos=run.tokenizer.eos, temperature=0,
                       max_new_tokens=run.settings.max_new_tokens)
    changes = []
    for e, completion in zip(examples, answers):
        own = hidden(run, run.base, prompt(e.question), completion.ids)
        seen = hidden(run, run.base, prompt(e.question, rubric=e.rubric), completion.ids)
        changes.append(token_stats(run, run.base, own, seen).divergence.mean().item())
    return examples[changes.index(max(changes))]


def explain(run: Run, question: str, rubric: Rubric) -> dict:
    """A question and a rubric of one's own: the greedy answers of the base and of the student. Raises ValueError if
    question and rubric do not fit into the context."""
    if not fits(run, question, rubric=rubric):
        raise ValueError(f"question and rubric have {len(encode(run.tokenizer, prompt(question, rubric=rubric)))} tokens; "
                         f"at most {run.settings.max_seq_len - run.settings.max_new_tokens} leave room for an answer")
    found = {}
    for name, model in (("base", run.base), ("student", run.student)):
        ids = tuple(generate(model, [encode(run.tokenizer, prompt(question))], eos=run.tokenizer.eos, temperature=0,
                             max_new_tokens=run.settings.max_new_tokens)[0].ids)
        found[ids] = f"{found[ids]} and {name}" if ids in found else name
    return {"kind": "own", "question": question, "rubric": criteria_of(rubric),
            "answers": [answer(run, question, rubric, list(ids), by=f"{name}, greedy") for ids, name in found.items()]}
