"""Make the data of a run: the stage-0 corpus, the tokenizer, the questions of both stages, the test sets.

    python data/prepare.py --show 5             # print examples as a person would read them
    python data/prepare.py --out DIR --seed 0   # write the files (rcsd.py data does the same for a preset)

Files, all JSON Lines but the tokenizer:
    base.jsonl        stage 0: {"sections": [[section, text], ...]}, prompt and completion in one
    stage1.jsonl      questions with reference rubrics, from which the rubric generator learns
    stage2.jsonl      other questions, for which it then writes the rubrics that stage II teaches from
    valid.jsonl       questions about known and new laws for choosing settings
    test_known.jsonl, test_new.jsonl    numbers that no training question has
    test_hard.jsonl   the same, and a phrasing or a two-step combination that no training question has
    tokenizer.txt     the merges, trained on base.jsonl
"""
import argparse
import json
import os
import random
import sys
from pathlib import Path

if __name__ == "__main__":  # `python data/prepare.py` starts in data/: let it find its siblings
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data.generate import draw, example, invented, rubric
from data.tokenizer import save_ranks, train_bpe
from rubrics import GENERIC, Example, Rubric, prompt

KINDS = ("one-step", "conversion", "comparison", "two-step")
KIND_SHARES = (0.5, 0.15, 0.15, 0.2)

# Stage 0 (shared/DATA.md's reasons, in short): solve known laws unaided, solve invented laws from a context, write
# rubrics. The new laws appear only in a few solved questions, so that an unaided student has something to build on.
MIX = (
    ("known", 0.36),            # question -> solution, known laws
    ("read", 0.34),             # question + context -> solution, invented laws
    ("uninformative", 0.06),    # question + rubric without its key criterion -> solution, known laws
    ("write", 0.11),            # question -> rubric, known laws
    ("rewrite", 0.13),          # question + reference rubric -> rubric in other words, known and invented laws
)
CONTEXTS = (("rubric", 0.7), ("rubric+answer", 0.1), ("solution", 0.1), ("answer", 0.1))


def _kind(rng: random.Random) -> str:
    return rng.choices(KINDS, KIND_SHARES)[0]


def corpus(count: int, exposures: list[Example], exposure_share: float, seed: int):
    """Yield the stage-0 corpus, one list of (section, text) a row; the text of the last section is the completion."""
    rng = random.Random(f"base {seed}")
    names, shares = zip(*MIX)
    for _ in range(count):
        if rng.random() < exposure_share:
            e = rng.choice(exposures)
            yield prompt(e.question)[:-1] + [("solve", e.solution)]
            continue
        task = rng.choices(names, shares)[0]
        imagined = task == "read" or (task == "rewrite" and rng.random() < 0.6)
        problem = invented(_kind(rng), rng) if imagined else draw(_kind(rng), False, "train", rng)
        e = example(problem, rng, "")
        if task == "known":
            sections = prompt(e.question)
        elif task == "read":
            sees = rng.choices([name for name, _ in CONTEXTS], [share for _, share in CONTEXTS])[0]
            sections = prompt(e.question, rubric=e.rubric if "rubric" in sees else None,
                              answer=e.answer if "answer" in sees else "",
                              solution=e.solution if sees == "solution" else "")
        elif task == "uninformative":
            rest = tuple(c for c in e.rubric.criteria if c.title != "Relation")
            sections = prompt(e.question, rubric=GENERIC if rng.random() < 0.4 else Rubric(rest))
        elif task == "write":
            sections = prompt(e.question, write="criteria")
        else:
            sections = prompt(e.question, rubric=rubric(problem, rng), write="criteria")
        yield sections[:-1] + [(sections[-1][0], e.rubric.text() if sections[-1][0] == "criteria" else e.solution)]


def questions(name: str, count: int, split: str, seed: int, *, new_share: float, hard=False) -> list[Example]:
    """`count` different questions of a split. `hard` takes unseen phrasings and unseen combinations."""
    rng = random.Random(f"{name} {seed}")
    found, seen = [], set()
    for _ in range(50 * count):
        problem = draw(_kind(rng), rng.random() < new_share, split, rng, held_out=hard)
        e = example(problem, rng, f"{name}-{len(found)}", held_out=hard)
        mark = (problem.keys, problem.target, problem.converted) if split == "test" else e.question
        if mark not in seen:
            seen.add(mark)
            found.append(e)
        if len(found) == count:
            return found
    raise ValueError(f"{name}: found only {len(found)} different questions, asked for {count}")


def write_lines(path: Path, lines) -> None:
    """Write a text file whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "w", encoding="utf-8") as file:
        file.writelines(line + "\n" for line in lines)
    os.replace(temporary, path)


def prepare(out: Path, *, seed: int, base_rows: int, exposure_count: int, exposure_share: float, stage1_questions: int,
            stage2_questions: int, test_questions: int, vocab_size: int) -> None:
    """Write all files of a run into `out`; a killed run leaves no half file."""
    out.mkdir(parents=True, exist_ok=True)
    sets = {
        "stage1": questions("stage1", stage1_questions, "train", seed, new_share=0.8),
        "stage2": questions("stage2", stage2_questions, "train", seed, new_share=0.8),
        "valid": questions("valid", test_questions // 2, "valid", seed, new_share=0.5),
        "test_known": questions("test_known", test_questions, "test", seed, new_share=0),
        "test_new": questions("test_new", test_questions, "test", seed, new_share=1),
        "test_hard": questions("test_hard", test_questions, "test", seed, new_share=0.5, hard=True),
    }
    for name, rows in sets.items():
        write_lines(out / f"{name}.jsonl", (e.to_json() for e in rows))
    exposures = questions("exposure", exposure_count, "train", seed, new_share=1)
    rows = list(corpus(base_rows, exposures, exposure_share, seed))
    write_lines(out / "base.jsonl", (json.dumps({"sections": s}, ensure_ascii=False) for s in rows))
    save_ranks(train_bpe((text for sections in rows for _, text in sections), vocab_size - 8), out / "tokenizer.txt")
