"""pass@k: is one of k sampled answers right, and how many of them differ.

A student may answer better at first and yet know fewer ways: greedy accuracy does not show it. Twice
k answers are sampled to each question, and pass@k is estimated without bias (Chen et al. 2021, arXiv
2107.03374): of n answers, c of them right, 1 - C(n - c, k) / C(n, k).
"""

from math import comb
from pathlib import Path

import torch
from tqdm import tqdm

from data.grammar import chosen, final_answer
from data.reading import write_json
from data.tokenizer import Tokenizer, encode
from data.units import is_same
from model import GPT, generate
from pretrained.memory import places_for
from pretrained.yardsticks import own_table, own_table_parts
from report.explain import Run
from rubrics import Example, can_check, is_right, prompt
from trainer.processes import gather, rank_and_size, share
from trainer.settings import Settings, seed_for

ROWS = 512  # answers asked of `generate` at a time: those that wait take the places of ended ones


def pass_at_k(n: int, right: int, k: int) -> float:
    """The chance that of k of the n answers, drawn without replacement, at least one is right."""
    return 1 - comb(n - right, k) / comb(n, k)


def distinct_at_k(counts: list[int], k: int) -> float:
    """How many different answers k of them have on average; counts[i] answers are the i-th kind."""
    return sum(pass_at_k(sum(counts), count, k) for count in counts)


def count_kinds(example: Example, texts: list[str]) -> list[int]:
    """How often each answer occurs: a choice, a quantity in whatever unit, else the last line."""
    kinds = []  # [quantity or text, how often]
    for text in texts:
        kind = chosen(text, example.answer) if "letter" in example.meta else final_answer(text)
        kind = kind or " ".join(text.strip().rpartition("\n")[2].casefold().split())
        if kind == example.meta.get("letter", "").upper():
            kind = example.answer  # the label and the text are one choice
        for other in kinds:
            are_texts = isinstance(kind, str), isinstance(other[0], str)
            if kind == other[0] or (not any(are_texts) and is_same(kind, other[0])):
                other[1] += 1
                break
        else:
            kinds.append([kind, 1])
    return [count for _, count in kinds]


def sample_answers(
    model: GPT, tokenizer: Tokenizer, examples: list[Example], n: int, settings: Settings
) -> list[list[str]]:
    """n answers to each question, at the run's temperature.

    Their noise depends on the seed and the question's id alone: two models draw with the same.
    """
    mine, found = share(examples), []
    per_batch = max(1, ROWS // n)
    for start in tqdm(range(0, len(mine), per_batch), "samples", leave=False):
        prompts, noise = [], []
        for e in mine[start : start + per_batch]:
            prompts += [encode(tokenizer, prompt(e.question))] * n
            generator = torch.Generator().manual_seed(seed_for(settings, "pass@k", e.id))
            size = n, settings.max_new_tokens
            noise.append(torch.rand(size, dtype=torch.float64, generator=generator))
        completions = generate(
            model,
            prompts,
            max_new_tokens=settings.max_new_tokens,
            eos=tokenizer.ends,
            temperature=settings.temperature,
            noise=torch.cat(noise).to(model.head_weight.device),
            places=places_for(model, max(map(len, prompts)) + settings.max_new_tokens),
        )
        texts = [tokenizer.decode_completion(c.ids) for c in completions]
        found += [texts[i : i + n] for i in range(0, len(texts), n)]
    return gather(found)


def add_pass_at(answers: dict[str, list[dict]], examples: list[Example], run: Run, k: int) -> None:
    """Add pass@1, pass@k and distinct answers to the rows, {"id", ...}, of base and student."""
    by_id = {e.id: e for e in examples}
    for name, model in (("base", run.base), ("student", run.student)):
        asked = [by_id[row["id"]] for row in answers[name]]
        sampled = sample_answers(model, run.tokenizer, asked, 2 * k, run.settings)
        for row, e, texts in zip(answers[name], asked, sampled):
            row["distinct"] = distinct_at_k(count_kinds(e, texts), k)
            if can_check(e):
                right = sum(is_right(e, text) for text in texts)
                row["pass_1"] = pass_at_k(2 * k, right, 1)
                row["pass_k"] = pass_at_k(2 * k, right, k)


def report_pass_at(
    out: Path, answers: dict[str, list[dict]], examples: list[Example], run: Run, k: int
) -> None:
    """Print the same for the project's own tests, by group, and write it into pass_at.json.

    `answers` are those of results.json: rows with "id" and "group" of base, student and others.
    """
    found = {}
    for name in ("base", "student"):
        found[name] = [{"id": row["id"], "group": row["group"]} for row in answers[name]]
    add_pass_at(found, examples, run, k)
    for group in dict.fromkeys(row["group"] for row in found["base"]):
        mine = {name: [r for r in rows if r["group"] == group] for name, rows in found.items()}
        print(own_table(own_table_parts(mine, group, k)))
    if rank_and_size()[0] == 0:
        write_json(out / "pass_at.json", {"k": k, "answers": found})
