"""What the study's runs say: tables, paired intervals, pictures.

    python -m study.tables             # prints the tables; writes study/results/
    python -m study.tables --readme    # also puts them between the markers in study/README.md

study/results/ gets the pictures and results.json. Accuracies are shares from 0 to 1 in
results.json, percent in tables and pictures.
"""

import argparse
import json
import os
import sys
from pathlib import Path

from study.read import Runs, read_runs
from study.sections import Report

HERE = Path(__file__).resolve().parent
RESULTS, README = HERE / "results", HERE / "README.md"
START, END = "<!-- study -->", "<!-- /study -->"


def first_line(runs: Runs, command: str) -> str:
    """How many runs on which machines, and the command that makes this text.

    A run of the grid that is also a row of a table counts once.
    """
    rows = [row for run in runs.values() for row in run.values()]
    trained = set()
    for row in rows:
        if row["steps"]:
            trained.add((row["seed"], row["lr"], json.dumps(row["flags"], sort_keys=True)))
    machines = "; ".join(sorted({row["machine"] for row in rows}))
    return f"{len(trained)} runs, trained on {machines}. This part is made by `{command}`."


def around(readme: Path) -> tuple[str, str]:
    """The README up to the end of the first marker, and from the second marker on.

    Raises ValueError unless there is one of each, in this order.
    """
    text = readme.read_bytes().decode("utf-8")
    start, end = text.find(START), text.find(END)
    if text.count(START) != 1 or text.count(END) != 1 or end < start:
        expected = f"expected one line {START} and after it one line {END}"
        raise ValueError(f"{readme}: markers: {expected}")
    return text[: start + len(START)], text[end:]


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all, and keep the line ends of the text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(text.encode("utf-8"))
    os.replace(temporary, path)


def make(runs_file: Path, out: Path, readme: Path | None) -> str:
    """Write pictures and results.json to `out`, fill in the README if given, return the text.

    Raises ValueError, before anything is written, for runs or a README that are not as expected.
    """
    runs = read_runs(runs_file)
    folder = os.path.relpath(out, (readme or README).parent)
    report = Report(runs, Path(folder).as_posix())
    flag = "" if runs_file == RESULTS / "runs.jsonl" else f" --runs {runs_file.as_posix()}"
    command = f"python -m study.tables{flag} --readme"
    text = "\n\n".join([first_line(runs, command), *report.parts])
    if readme:
        before, after = around(readme)
    for name, picture in report.pictures.items():
        write(out / name, picture)
    numbers = json.dumps(report.numbers, ensure_ascii=False, indent=1, allow_nan=False)
    write(out / "results.json", numbers + "\n")
    if readme:
        write(readme, f"{before}\n\n{text}\n\n{after}")
    return text


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code, 2 for input that is not as expected."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--runs",
        type=Path,
        default=RESULTS / "runs.jsonl",
        metavar="FILE",
        help="the finished runs",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=RESULTS,
        metavar="DIR",
        help="folder for the pictures and results.json",
    )
    parser.add_argument(
        "--readme",
        type=Path,
        nargs="?",
        const=README,
        metavar="FILE",
        help="also fill in this file (default: study/README.md)",
    )
    args = parser.parse_args(arguments)
    try:
        text = make(args.runs, args.out, args.readme)
    except (ValueError, OSError) as error:
        print(f"tables.py: {error}", file=sys.stderr)
        return 2
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
