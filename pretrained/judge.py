"""The base model as judge: does an answer do what a criterion asks? Its "Yes" against its "No".

A model of a few billion parameters at most is a rough judge. It judges all alike, so a difference
between two contenders says more than a score.
"""

import torch

from data.tokenizer import encode
from model import GPT
from pretrained.tokenizer import ChatTokenizer
from report.explain import Run
from rubrics import Example, judge_prompt
from step import batch_by_tokens, completion_hidden
from trainer.settings import Settings


@torch.no_grad()
def judge(
    model: GPT, tokenizer: ChatTokenizer, e: Example, text: str, settings: Settings
) -> list[float] | None:
    """For each criterion p("Yes") / (p("Yes") + p("No")) of the next token, from 0 to 1.

    None if a prompt does not fit.
    """
    verdicts = [tokenizer.encode(word)[0] for word in ("Yes", "No")]
    prompts = [encode(tokenizer, judge_prompt(e.question, text, c)) for c in e.rubric.criteria]
    if max(map(len, prompts)) >= settings.max_seq_len:
        return None
    found = []
    for part in batch_by_tokens(prompts, settings.micro_tokens):
        hidden = completion_hidden(model, [(ids, verdicts[:1]) for ids in part])  # [N, n_embd]
        logits = (hidden @ model.head_weight[verdicts].T).float()  # [N, 2]
        found += logits.softmax(-1)[:, 0].tolist()
    return found


def add_judgements(answers: dict[str, list[dict]], examples: list[Example], run: Run) -> None:
    """Add to all rows, {"id", "text", ...}, the verdicts and the rubric's expected score.

    A pitfall's verdict says that it is avoided, so the score is sum of |w| p / sum of |w|.
    """
    with_rubric = {e.id: e for e in examples if e.rubric}
    for row in (row for rows in answers.values() for row in rows if row["id"] in with_rubric):
        e = with_rubric[row["id"]]
        row["verdicts"] = judge(run.base, run.tokenizer, e, row["text"], run.settings)
        if row["verdicts"]:
            weights = [abs(c.weight) for c in e.rubric.criteria]
            earned = sum(w * p for w, p in zip(weights, row["verdicts"]))
            row["judged"] = earned / sum(weights)
