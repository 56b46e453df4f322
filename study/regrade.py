"""Grade a study's stored answers again, after a change of the grader; nothing is trained.

    python -m study.regrade --out out/study

A run's answers lie in seedN/answers/ beside runs.jsonl. Graded again are "correct" and "score".
What was measured on answers that are not stored stays: "valid", "curve", "sampled".
"""

import json
import sys
from pathlib import Path

from data.console import Parser, exit_code, folder_path
from data.files import only_run, write_lines
from data.reading import read_json
from rubrics import grade, is_right
from study import tables
from study.jobs import answers_path, test_questions
from study.read import read_runs


def regrade(out: Path) -> tuple[int, int]:
    """Grade the answers of all lines of runs.jsonl again.

    Returns how many lines were graded and how many have no stored answers and stay as they were.
    Raises ValueError for answers that do not fit the test questions.
    """
    path = out / "runs.jsonl"
    lines = [line for by_seed in read_runs(path).values() for line in by_seed.values()]
    sets, graded = {}, 0
    for line in lines:
        if "answers" not in line:  # a run that tunes has none
            continue
        seed_folder = out / f"seed{line['seed']}"
        if seed_folder not in sets:
            sets[seed_folder] = test_questions(seed_folder)
        stored = answers_path(seed_folder, line["answers"])
        answers = read_json(stored)
        for name, examples in sets[seed_folder].items():
            texts = answers.get(name)
            if not isinstance(texts, list) or len(texts) != len(examples):
                raise ValueError(f"{stored}: {name}: expected {len(examples)} answers")
            pairs = list(zip(examples, texts))
            line["correct"][name] = "".join("01"[is_right(e, text)] for e, text in pairs)
            line["score"][name] = sum(grade(e, text) for e, text in pairs) / len(pairs)
        graded += 1
    write_lines(path, (json.dumps(line) for line in lines))
    return graded, len(lines) - graded


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = Parser(__doc__, prog="regrade.py")
    parser.add_argument(
        "--out", type=folder_path, default=Path("out/study"), help="default out/study"
    )
    args = parser.parse_args(arguments)

    def action() -> None:
        with only_run(args.out):
            graded, left = regrade(args.out)
        left_out = f"{left} have no stored answers and stay as they were"
        print(f"regrade: {graded} runs graded again, {left_out}")

    code = exit_code("regrade.py", action, "the same command begins again")
    return code or tables.main(["--runs", str(args.out / "runs.jsonl"), "--out", str(args.out)])


if __name__ == "__main__":
    sys.exit(main())
