"""What a finished run means: accuracy of base, teacher and student, and the quality of rubrics.

    python evaluate.py --preset cpu      # the table; writes results.json and report.html in out/cpu
    python evaluate.py --summary out/cpu out/seed1 out/seed2    # mean and spread of several seeds
    python evaluate.py explain --question "..." --rubric FILE   # which criterion moves which token

Accuracy is exact: value and unit of the "Answer:" line. The teacher is the base model with a rubric
in its context: what it gets right is the ceiling of what a fixed teacher can teach. The student
answers with no rubric in sight.
"""

import json
import platform
import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import torch

from data.files import write_lines
from data.grammar import correct
from data.load import load_examples
from data.tokenizer import Tokenizer, encode, read_tokenizer
from model import GPT, count_parameters
from rcsd import greedy, write_rubrics
from report.panels import spread
from report.write import explain_one, read_json, write_report
from rubrics import Example, Rubric, grade, key_relations, prompt, usable_rubric
from trainer.checkpoints import is_up_to_date, load, load_model
from trainer.command_line import exit_code, settings_from, settings_parser
from trainer.processes import device_of, join_processes, rank_and_size, wait_for_all

GROUPS = (
    "known laws",
    "new laws",
    "hard: unseen phrasing, known",
    "hard: unseen phrasing, new",
    "hard: unseen two-step, known",
    "hard: unseen two-step, new",
)


def group_of(e: Example) -> str:
    """The row of the table that a test question belongs to."""
    knowledge = "new" if e.meta["new"] else "known"
    if e.meta["phrasing"] == "seen":
        return f"{knowledge} laws"
    return f"hard: unseen {'two-step' if e.meta['kind'] == 'two-step' else 'phrasing'}, {knowledge}"


def answer_all(
    model: GPT,
    tokenizer: Tokenizer,
    examples: list[Example],
    settings,
    rubrics=None,
    note="",
    solutions=False,
) -> list[dict]:
    """Greedy answers to the questions, a dict each.

    Its keys: id, group, kind, text, correct, score, truncated, length.

    `rubrics` (by question id) puts a rubric into the context, `solutions` the reference solution.
    `score` is the reference rubric's RaR score.
    """
    prompts = [
        encode(
            tokenizer,
            prompt(
                e.question,
                rubric=rubrics[e.id] if rubrics else None,
                solution=e.solution if solutions else "",
            ),
        )
        for e in examples
    ]
    return [
        {
            "id": e.id,
            "group": group_of(e),
            "kind": e.meta["kind"],
            "text": text,
            "truncated": truncated,
            "correct": correct(text, e.answer),
            "score": grade(e.rubric, text),
            "length": length,
        }
        for e, (text, truncated, length) in zip(
            examples, greedy(model, tokenizer, prompts, settings, note)
        )
    ]


def judge_rubrics(written: list[dict], examples: list[Example]) -> tuple[dict, dict[str, Rubric]]:
    """Stage I's measures by group, and the rubrics for a teacher by question id.

    valid: the text parses. key: its Essential criteria demand exactly the relations of the
    reference rubric.
    """
    groups, usable = defaultdict(lambda: {"valid": [], "key": []}), {}
    for row, e in zip(written, examples):
        usable[e.id] = usable_rubric(row)
        right = not row["problem"] and key_relations(usable[e.id]) == key_relations(e.rubric)
        groups[group_of(e)]["valid"].append(not row["problem"])
        groups[group_of(e)]["key"].append(right)
    return {
        g: {name: mean(values) for name, values in v.items()} for g, v in groups.items()
    }, usable


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
    models = {
        name: load_model(out / f"{name}.pt", device).eval() for name in ("base", "stage1", "stage2")
    }
    examples = [
        e
        for name in ("known", "new", "hard")
        for e in load_examples(out / "data" / f"test_{name}.jsonl")[0]
    ]
    reference = {e.id: e.rubric for e in examples}
    written = {
        name: write_rubrics(models[name], tokenizer, examples, settings)
        for name in ("base", "stage1")
    }
    stage1 = {name: judge_rubrics(rows, examples)[0] for name, rows in written.items()}
    learned = judge_rubrics(written["stage1"], examples)[1]
    answers = {
        "base": answer_all(models["base"], tokenizer, examples, settings, note="base"),
        "teacher, reference rubric": answer_all(
            models["base"], tokenizer, examples, settings, reference, "teacher"
        ),
        "teacher, learned rubric": answer_all(
            models["base"], tokenizer, examples, settings, learned, "teacher"
        ),
        "student": answer_all(models["stage2"], tokenizer, examples, settings, note="student"),
    }
    return {
        "settings": made,
        "parameters": count_parameters(models["base"]),
        "machine": f"{platform.machine()}, {device}, torch {torch.__version__}, "
        f"{torch.get_num_threads()} threads",
        "questions": {g: sum(group_of(e) == g for e in examples) for g in GROUPS},
        "accuracy": {name: by_group(rows, "correct") for name, rows in answers.items()},
        "score": {name: by_group(rows, "score") for name, rows in answers.items()},
        "truncated": {name: mean(r["truncated"] for r in rows) for name, rows in answers.items()},
        "length": {name: mean(r["length"] for r in rows) for name, rows in answers.items()},
        "kinds": {
            name: {
                g: {
                    k: mean(r["correct"] for r in rows if (r["group"], r["kind"]) == (g, k))
                    for k in sorted({r["kind"] for r in rows if r["group"] == g})
                }
                for g in ("known laws", "new laws")
            }
            for name, rows in answers.items()
        },
        "stage1": stage1,
        "seconds": {
            stage: seconds_of(out / f"{stage}.jsonl") for stage in ("base", "stage1", "stage2")
        },
        "answers": answers,
    }


def seconds_of(log: Path) -> float:
    """Time of a stage's steps, from its log."""
    with open(log, encoding="utf-8") as file:
        return sum(json.loads(line)["seconds"] for line in file)


def rows(runs: list[dict]) -> list[dict]:
    """The table that train.sh ends with, in two parts, in percent.

    {"title", "columns", "counted", "rows": [{"label", "n", "cells": [[mean, standard
    deviation]]}]}; a single run has no deviation (None), and n is the number of questions where it
    is known.
    """

    def row(label, columns, value, n=None):
        return {
            "label": label,
            "n": n,
            "cells": [spread([100 * value(run, c) for run in runs]) for c in columns],
        }

    columns, models = list(runs[0]["accuracy"]), {"base": "base", "stage1": "stage I"}
    answers = [
        row(g, columns, lambda run, c: run["accuracy"][c][g], runs[0]["questions"][g])
        for g in GROUPS
    ]
    answers += [
        row(f"  {g}, {kind}", columns, lambda run, c: run["kinds"][c][g][kind])
        for g in GROUPS[:2]
        for kind in runs[0]["kinds"]["base"][g]
    ]
    answers += [
        row(f"rubric score, {g}", columns, lambda run, c: run["score"][c][g]) for g in GROUPS[:2]
    ]
    written = [
        row(f"{g}: {label}", models, lambda run, m: run["stage1"][m][g][name])
        for g in GROUPS[:2]
        for name, label in (("valid", "valid"), ("key", "right key criteria"))
    ]
    return [
        {"title": "accuracy, %", "columns": columns, "counted": True, "rows": answers},
        {
            "title": "stage I: greedy rubrics, %",
            "columns": list(models.values()),
            "counted": False,
            "rows": written,
        },
    ]


def table(runs: list[dict]) -> str:
    """The same as text; of several runs (seeds) the mean ± standard deviation."""

    def line(label, n, cells):
        texts = (
            f"{middle:14.1f}" if spread is None else f"{middle:8.1f} ± {spread:3.1f}"
            for middle, spread in cells
        )
        return (f"{label:39}" if n is None else f"{label:34}{n:5}") + "".join(texts)

    answers, written = rows(runs)
    heads = [c.partition(", ") for c in answers["columns"]]
    lines = [
        f"{answers['title']:39}" + "".join(f"{name:>14}" for name, _, _ in heads),
        f"{'':34}{'n':>5}"
        + "".join(f"{context.replace('rubric', 'rubr.'):>14}" for _, _, context in heads),
        *(line(**row) for row in answers["rows"]),
        "",
        f"{written['title']:39}" + "".join(f"{c:>14}" for c in written["columns"]),
        *(line(**row) for row in written["rows"]),
    ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = settings_parser(__doc__)
    parser.add_argument(
        "command",
        nargs="?",
        choices=("explain",),
        help="explain: one question, and which criterion moves which token of its answers",
    )
    parser.add_argument(
        "--summary",
        type=Path,
        nargs="+",
        metavar="DIR",
        help="only print the mean of finished runs (and write their report where --out is given)",
    )
    parser.add_argument("--question", metavar="TEXT", help="for explain")
    parser.add_argument(
        "--rubric",
        type=Path,
        metavar="FILE",
        help='for explain: lines such as "5 Essential: uses a = b × c", or JSON as --data takes',
    )
    parser.add_argument(
        "--color",
        action="store_true",
        help="for explain: colours although the output is no terminal",
    )
    args = parser.parse_args(arguments)
    if not args.command and (args.question or args.rubric or args.color):
        parser.error("--question, --rubric and --color go with the command explain")

    def action() -> None:
        out, settings = settings_from(args)
        if args.command:
            settings = replace(settings, **load(out / "stage2.pt")["settings"])
            explain_one(out, settings, args.question, args.rubric, args.color)
            return
        if args.summary:
            runs = [read_json(folder / "results.json") for folder in args.summary]
        else:
            join_processes(settings)
            checkpoints = [out / f"{stage}.pt" for stage in ("base", "stage1", "stage2")]
            done = all(map(Path.exists, checkpoints)) and is_up_to_date(
                out / "results.json", *checkpoints
            )
            wait_for_all()
            if not done:
                results = evaluate(out, settings)
                if rank_and_size()[0] == 0:
                    write_lines(
                        out / "results.json", [json.dumps(results, ensure_ascii=False, indent=1)]
                    )
                wait_for_all()
            runs = [read_json(out / "results.json")]
        print(table(runs))
        for run in runs:
            minutes = [f"{stage} {s / 60:.1f} min" for stage, s in run["seconds"].items()]
            head = f"seed {run['settings']['seed']}: {run['parameters']:,} parameters; "
            print(head + f"{run['machine']}; {', '.join(minutes)}")
        if not args.summary:
            settings = replace(settings, **runs[0]["settings"])
            write_report(out, [out], runs, rows(runs), settings)
        elif args.out:
            write_report(out, args.summary, runs, rows(runs))

    return exit_code("evaluate.py", action)


if __name__ == "__main__":
    sys.exit(main())
