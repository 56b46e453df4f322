"""What a finished run means: greedy accuracy of base, teacher and student on each test set, and the rubrics of stage I.

    python evaluate.py --preset cpu                          # prints the table and writes out/cpu/results.json
    python evaluate.py --summary out/cpu out/seed1 out/seed2 # mean and spread of runs with different seeds

Accuracy is exact: value and unit of the "Answer:" line. The teacher is the base model with a rubric in its context:
what it gets right is the ceiling of what a fixed teacher can teach. The student answers with no rubric in sight.
"""
import json
import platform
import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import torch

from data.load import load_examples
from data.prepare import write_lines
from data.tokenizer import Tokenizer
from model import GPT, count_parameters, load, load_model
from rcsd import encode, greedy, newer, read_tokenizer, write_rubrics
from rubrics import GENERIC, Example, Rubric, correct, grade, key_relations, parse_rubric, prompt
from run import device_of, settings_from, settings_parser

GROUPS = ("known laws", "new laws", "hard: unseen phrasing, known", "hard: unseen phrasing, new",
          "hard: unseen two-step, known", "hard: unseen two-step, new")


def group_of(e: Example) -> str:
    """The row of the table that a test question belongs to."""
    knowledge = "new" if e.meta["new"] else "known"
    if e.meta["phrasing"] == "seen":
        return f"{knowledge} laws"
    return f"hard: unseen {'two-step' if e.meta['kind'] == 'two-step' else 'phrasing'}, {knowledge}"


def answer_all(model: GPT, tokenizer: Tokenizer, examples: list[Example], settings, rubrics=None, note="",
               solutions=False) -> list[dict]:
    """Greedy answers: {"id", "group", "kind", "text", "correct", "score", "cut"} for each question.

    `rubrics` (by question id) puts a rubric into the context, `solutions` the reference solution. `score` is the reference rubric's RaR score.
    """
    prompts = [encode(tokenizer, prompt(e.question, rubric=rubrics[e.id] if rubrics else None,
                                        solution=e.solution if solutions else "")) for e in examples]
    return [{"id": e.id, "group": group_of(e), "kind": e.meta["kind"], "text": text, "cut": cut,
             "correct": correct(text, e.answer), "score": grade(e.rubric, text), "length": length}
            for e, (text, cut, length) in zip(examples, greedy(model, tokenizer, prompts, settings, note))]


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
    made = load(out / "stage2.pt")["settings"]  # what the run was, whatever the flags say now
    settings = replace(settings, **made)
    tokenizer, device = read_tokenizer(out), device_of(settings)
    models = {name: load_model(out / f"{name}.pt", device).eval() for name in ("base", "stage1", "stage2")}
    examples = [e for name in ("known", "new", "hard") for e in load_examples(out / "data" / f"test_{name}.jsonl")[0]]
    reference = {e.id: e.rubric for e in examples}
    written = {name: write_rubrics(models[name], tokenizer, examples, settings) for name in ("base", "stage1")}
    stage1 = {name: judge_rubrics(rows, examples)[0] for name, rows in written.items()}
    learned = judge_rubrics(written["stage1"], examples)[1]
    answers = {
        "base": answer_all(models["base"], tokenizer, examples, settings, note="base"),
        "teacher, reference rubric": answer_all(models["base"], tokenizer, examples, settings, reference, "teacher"),
        "teacher, learned rubric": answer_all(models["base"], tokenizer, examples, settings, learned, "teacher"),
        "student": answer_all(models["stage2"], tokenizer, examples, settings, note="student"),
    }
    return {
        "settings": made, "parameters": count_parameters(models["base"]),
        "machine": f"{platform.machine()}, {device}, torch {torch.__version__}, {torch.get_num_threads()} threads",
        "questions": {g: sum(group_of(e) == g for e in examples) for g in GROUPS},
        "accuracy": {name: by_group(rows, "correct") for name, rows in answers.items()},
        "score": {name: by_group(rows, "score") for name, rows in answers.items()},
        "cut": {name: mean(r["cut"] for r in rows) for name, rows in answers.items()},
        "length": {name: mean(r["length"] for r in rows) for name, rows in answers.items()},
        "kinds": {name: {g: {k: mean(r["correct"] for r in rows if (r["group"], r["kind"]) == (g, k))
                             for k in sorted({r["kind"] for r in rows if r["group"] == g})}
                         for g in ("known laws", "new laws")} for name, rows in answers.items()},
        "stage1": stage1,
        "seconds": {stage: seconds_of(out / f"{stage}.jsonl") for stage in ("base", "stage1", "stage2")},
        "answers": answers,
    }


def seconds_of(log: Path) -> float:
    """Time of a stage's steps, from its log."""
    with open(log, encoding="utf-8") as file:
        return sum(json.loads(line)["seconds"] for line in file)


def table(runs: list[dict]) -> str:
    """The table that train.sh ends with, in percent; of several runs (seeds) the mean ± standard deviation."""
    def cell(value) -> str:
        values = [100 * value(run) for run in runs]
        middle = mean(values)
        if len(runs) == 1:
            return f"{middle:14.1f}"
        spread = (sum((v - middle) ** 2 for v in values) / (len(runs) - 1)) ** 0.5
        return f"{middle:8.1f} ± {spread:3.1f}"

    columns = list(runs[0]["accuracy"])
    lines = [f"{'accuracy, %':39}" + "".join(f"{c.partition(', ')[0]:>14}" for c in columns),
             f"{'':34}{'n':>5}" + "".join(f"{c.partition(', ')[2].replace('rubric', 'rubr.'):>14}" for c in columns)]
    for g in GROUPS:
        lines.append(f"{g:34}{runs[0]['questions'][g]:5}"
                     + "".join(cell(lambda r: r["accuracy"][c][g]) for c in columns))
    for g in GROUPS[:2]:
        for kind in runs[0]["kinds"]["base"][g]:
            lines.append(f"{'  ' + g + ', ' + kind:39}"
                         + "".join(cell(lambda r: r["kinds"][c][g][kind]) for c in columns))
    for g in GROUPS[:2]:
        lines.append(f"{'rubric score, ' + g:39}" + "".join(cell(lambda r: r["score"][c][g]) for c in columns))
    lines += ["", f"{'stage I: greedy rubrics, %':39}{'base':>14}{'stage I':>14}"]
    for g in GROUPS[:2]:
        for name, label in (("valid", "valid"), ("key", "right key criteria")):
            lines.append(f"{g + ': ' + label:39}" + "".join(cell(lambda r: r["stage1"][m][g][name])
                                                            for m in ("base", "stage1")))
    return "\n".join(lines)


def read_results(folder: Path) -> dict:
    try:
        return json.loads((folder / "results.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder / 'results.json'}: expected the results of a finished run: {error}") from None


def main(arguments: list[str] | None = None) -> int:
    parser = settings_parser(__doc__)
    parser.add_argument("--summary", type=Path, nargs="+", metavar="DIR", help="only print the mean of finished runs")
    args = parser.parse_args(arguments)
    try:
        if args.summary:
            runs = [read_results(folder) for folder in args.summary]
        else:
            out, settings = settings_from(args)
            checkpoints = [out / f"{stage}.pt" for stage in ("base", "stage1", "stage2")]
            if not all(map(Path.exists, checkpoints)) or not newer(out / "results.json", *checkpoints):
                results = evaluate(out, settings)
                write_lines(out / "results.json", [json.dumps(results, ensure_ascii=False, indent=1)])
            runs = [read_results(out)]
    except (ValueError, OSError) as error:
        print(f"evaluate.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("evaluate.py: interrupted", file=sys.stderr)
        return 130
    print(table(runs))
    for run in runs:
        print(f"seed {run['settings']['seed']}: {run['parameters']:,} parameters; {run['machine']}; "
              + ", ".join(f"{stage} {seconds / 60:.1f} min" for stage, seconds in run["seconds"].items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
