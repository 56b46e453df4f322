"""What the study's runs say: tables, paired intervals, pictures.

    python -m study.tables             # prints the tables; writes study/results/
    python -m study.tables --readme    # also puts them between the markers in study/README.md

The first lines say which runs are missing. study/results/ gets the pictures and results.json.
Accuracies are shares from 0 to 1 in results.json, percent in tables and pictures.
"""

import json
import os
import sys
from html import escape
from pathlib import Path

from data.console import Parser, exit_code, file_path, folder_path
from data.files import replacing
from data.reading import read_text
from study.read import Runs, is_grid, read_runs
from study.runs import FULL, QUICK, Plan
from study.sections import Report

HERE = Path(__file__).resolve().parent
RESULTS, README = HERE / "results", HERE / "README.md"
START, END = "<!-- study -->", "<!-- /study -->"


def first_line(runs: Runs, command: str) -> str:
    """How many runs on which machines, and the command that makes this text."""
    rows = [row for run in runs.values() for row in run.values()]
    trained = sum(bool(row["steps"]) for row in rows)
    grid = sum(len(rows) for name, rows in runs.items() if is_grid(name))
    machines = escape("; ".join(sorted({row["machine"] for row in rows})), quote=False)
    tuning = f" ({grid} of them to choose learning rates)" if grid else ""
    return f"{trained} runs{tuning}, trained on {machines}. This part is made by `{command}`."


def missing(runs: Runs, plan: Plan) -> str:
    """The runs of a plan that are not finished, in words; "" if all are."""
    said = []
    for run in plan.runs:
        seeds = [str(seed) for seed in run.seeds if seed not in runs.get(run.name, {})]
        if seeds:
            word = "seeds" if len(seeds) > 1 else "seed"
            said.append(f"{run.name} ({word} {', '.join(seeds)})")
    return f"The study is not finished. Missing: {'; '.join(said)}." if said else ""


def around(readme: Path) -> tuple[str, str]:
    """The README up to the end of the first marker, and from the second marker on.

    Raises ValueError unless there is one of each, in this order.
    """
    text = read_text(readme)
    start, end = text.find(START), text.find(END)
    if text.count(START) != 1 or text.count(END) != 1 or end < start:
        expected = f"expected one line {START} and after it one line {END}"
        raise ValueError(f"{readme}: markers: {expected}")
    return text[: start + len(START)], text[end:]


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all, and keep the line ends of the text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(text.encode("utf-8"))


def make(runs_file: Path, out: Path, readme: Path | None, plan: Plan = FULL) -> str:
    """Write pictures and results.json to `out`, fill in the README if given, return the text.

    Raises ValueError, before anything is written, for runs or a README that are not as expected.
    """
    before, after = around(readme) if readme else ("", "")
    runs = read_runs(runs_file)
    folder = os.path.relpath(out, (readme or README).parent)
    report = Report(runs, Path(folder).as_posix())
    flag = "" if runs_file == RESULTS / "runs.jsonl" else f" --runs {runs_file.as_posix()}"
    command = f"python -m study.tables{flag} --readme"
    head = [first_line(runs, command), missing(runs, plan)]
    text = "\n\n".join([*filter(None, head), *report.parts])
    for name, picture in report.pictures.items():
        write(out / name, picture)
    numbers = json.dumps(report.numbers, ensure_ascii=False, indent=1, allow_nan=False)
    write(out / "results.json", numbers + "\n")
    if readme:
        write(readme, f"{before}\n\n{text}\n\n{after}")
    return text


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code, 2 for input that is not as expected."""
    parser = Parser(__doc__, prog="tables.py")
    parser.add_argument(
        "--runs",
        type=file_path,
        default=RESULTS / "runs.jsonl",
        metavar="FILE",
        help="the finished runs",
    )
    parser.add_argument(
        "--out",
        type=folder_path,
        default=RESULTS,
        metavar="DIR",
        help="folder for the pictures and results.json",
    )
    parser.add_argument(
        "--readme",
        type=file_path,
        nargs="?",
        const=README,
        metavar="FILE",
        help="also fill in this file (default: study/README.md)",
    )
    parser.add_argument("--quick", action="store_true", help="the runs are of the quick study")
    args = parser.parse_args(arguments)
    plan = QUICK if args.quick else FULL
    return exit_code("tables.py", lambda: print(make(args.runs, args.out, args.readme, plan)))


if __name__ == "__main__":
    sys.exit(main())
