"""What a finished run means: greedy accuracy of base, teacher and student on each test set, and the rubrics of stage I.

    python evaluate.py --preset cpu      # prints the table and writes out/cpu/results.json

Accuracy is exact: value and unit of the "Answer:" line. The teacher is the base model with a rubric in its context:
what it gets right is the ceiling of what a fixed teacher can teach. The student answers with no rubric in sight.
"""
import json
import platform
import sys
from collections import defaultdict
from pathlib import Path

import torch
from tqdm import tqdm

from data.prepare import write_lines
from data.tokenizer import Tokenizer
from model import GPT, count_parameters, generate
from rcsd import encode, load_model, read_tokenizer, write_rubrics
from rubrics import GENERIC, Example, Rubric, correct, grade, key_relations, load_examples, parse_rubric, prompt
from settings import device_of, settings_from, settings_parser

GROUPS = ("known laws", "new laws", "hard: unseen phrasing, known", "hard: unseen phrasing, new",
          "hard: unseen two-step, known", "hard: unseen two-step, new")


def group_of(e: Example) -> str:
    """The row of the table that a test question belongs to."""
    knowledge = "new" if e.meta["new"] else "known"
    if e.meta["phrasing"] == "seen":
        return f"{knowledge} laws"
    return f"hard: unseen {'two-step' if e.meta['kind'] == 'two-step' else 'phrasing'}, {knowledge}"


def answer_all(model: GPT, tokenizer: Tokenizer, examples: list[Example], settings, rubrics=None, note="") -> list[dict]:
    """Greedy answers: {"id", "group", "kind", "text", "correct", "score", "cut"} for each question.

    `rubrics` (by question id) puts a rubric into the context. `score` is the reference rubric's RaR score.
    """
    prompts = [encode(tokenizer, prompt(e.question, rubric=rubrics[e.id] if rubrics else None)) for e in examples]
    order, rows = sorted(range(len(prompts)), key=lambda i: len(prompts[i])), {}
    for start in tqdm(range(0, len(order), 128), note, leave=False):
        batch = order[start:start + 128]
        for i, c in zip(batch, generate(model, [prompts[i] for i in batch], max_new_tokens=settings.max_new_tokens,
                                        eos=tokenizer.eos, temperature=0)):
            e, text = examples[i], tokenizer.decode(c.ids if c.cut else c.ids[:-1])
            rows[i] = {"id": e.id, "group": group_of(e), "kind": e.meta["kind"], "text": text, "cut": c.cut,
                       "correct": correct(text, e.answer), "score": grade(e.rubric, text), "length": len(c.ids)}
    return [rows[i] for i in range(len(examples))]


def judge_rubrics(written: list[dict], examples: list[Example]) -> tuple[dict, dict[str, Rubric]]:
    """Stage I's measures by group, and the rubrics for a teacher (an invalid one falls back to the generic rubric).

    valid: the text parses. key: its Essential criteria demand exactly the relations of the reference rubric.
    """
    groups, usable = defaultdict(lambda: {"valid": [], "key": []}), {}
    for row, e in zip(written, examples):
        usable[e.id] = GENERIC if row["problem"] else parse_rubric(row["text"])
        right = not row["problem"] and key_relations(usable[e.id]) == key_relations(e.rubric)
        groups[group_of(e)]["valid"].append(not row["problem"])
        groups[group_of(e)]["key"].append(right)
    return {g: {name: mean(values) for name, values in v.items()} for g, v in groups.items()}, usable


def mean(values) -> float:
    values = list(values)
    return sum(values) / len(values) if values else float("nan")


def by_group(rows: list[dict], name: str) -> dict[str, float]:
    return {g: mean(r[name] for r in rows if r["group"] == g) for g in GROUPS}


def evaluate(out: Path, settings) -> dict:
    """All measures of a finished run. Raises ValueError if a stage is missing or unfinished."""
    tokenizer, device = read_tokenizer(out), device_of(settings)
    models = {name: load_model(out / f"{name}.pt", device).eval() for name in ("base", "stage1", "stage2")}
    examples = [e for name in ("known", "new", "hard") for e in load_examples(out / "data" / f"test_{name}.jsonl")[0]]
    reference = {e.id: e.rubric for e in examples}
    stage1 = {}
    for name in ("base", "stage1"):
        stage1[name], usable = judge_rubrics(write_rubrics(models[name], tokenizer, examples, settings), examples)
    answers = {
        "base": answer_all(models["base"], tokenizer, examples, settings, note="base"),
        "teacher, reference rubric": answer_all(models["base"], tokenizer, examples, settings, reference, "teacher"),
        "teacher, learned rubric": answer_all(models["base"], tokenizer, examples, settings, usable, "teacher"),
        "student": answer_all(models["stage2"], tokenizer, examples, settings, note="student"),
    }
    return {
        "seed": settings.seed, "parameters": count_parameters(models["base"]),
        "machine": f"{platform.machine()}, {device}, torch {torch.__version__}, {torch.get_num_threads()} threads",
        "questions": by_count(examples),
        "accuracy": {name: by_group(rows, "correct") for name, rows in answers.items()},
        "score": {name: by_group(rows, "score") for name, rows in answers.items()},
        "cut": {name: mean(r["cut"] for r in rows) for name, rows in answers.items()},
        "length": {name: mean(r["length"] for r in rows) for name, rows in answers.items()},
        "kinds": {name: {g: {k: mean(r["correct"] for r in rows if (r["group"], r["kind"]) == (g, k))
                             for k in sorted({r["kind"] for r in rows if r["group"] == g})}
                         for g in ("known laws", "new laws")} for name, rows in answers.items()},
        "stage1": stage1,
        "answers": {name: rows for name, rows in answers.items()},
    }


def by_count(examples: list[Example]) -> dict[str, int]:
    return {g: sum(group_of(e) == g for e in examples) for g in GROUPS}


def table(results: dict) -> str:
    """The table that train.sh ends with, in percent."""
    columns = list(results["accuracy"])
    lines = [f"{'accuracy, %':34}{'n':>5}" + "".join(f"{c.replace(', ', chr(10)).split(chr(10))[0]:>12}" for c in columns),
             f"{'':39}" + "".join(f"{(c.split(', ') + [''])[1].replace(' rubric', ' r.'):>12}" for c in columns)]
    for g in GROUPS:
        lines.append(f"{g:34}{results['questions'][g]:5}" + "".join(f"{100 * results['accuracy'][c][g]:12.1f}" for c in columns))
    for g in ("known laws", "new laws"):
        lines.append(f"{'rubric score, ' + g:39}" + "".join(f"{100 * results['score'][c][g]:12.1f}" for c in columns))
    for g in ("known laws", "new laws"):
        for kind in results["kinds"]["base"][g]:
            lines.append(f"{'  ' + g + ', ' + kind:39}" + "".join(f"{100 * results['kinds'][c][g][kind]:12.1f}" for c in columns))
    lines += ["", f"{'stage I: greedy rubrics, %':39}{'base':>12}{'stage I':>12}"]
    for g in ("known laws", "new laws"):
        for name in ("valid", "key"):
            label = f"{g}: {'valid' if name == 'valid' else 'right key criteria'}"
            lines.append(f"{label:39}" + "".join(f"{100 * results['stage1'][m][g][name]:12.1f}" for m in ("base", "stage1")))
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    args = settings_parser(__doc__).parse_args(arguments)
    try:
        out, settings = settings_from(args)
        results = evaluate(out, settings)
        write_lines(out / "results.json", [json.dumps(results, ensure_ascii=False, indent=1)])
    except (ValueError, OSError) as error:
        print(f"evaluate.py: {error}", file=sys.stderr)
        return 2
    print(table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
