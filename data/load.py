"""The loader: questions and rubrics from public data sets, in any of several schemas.

    python -m data.load FILE     # what is kept, what is dropped and why, with every line number
    python -m data.load FILE --model DIR     # what of it fits a model, and three rows as it sees them

examples, report = load_examples("questions.jsonl")
"""

import csv
import io
import json
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

from data.console import Parser, exit_code, file_path, open_console
from data.escapes import mend_escapes
from data.reading import Check, check_fields, is_name
from data.schemas import Odd, example_of
from rubrics import Example

SHOWN = 5  # line numbers that a report shows for each reason


@dataclass
class Report:
    """What became of the rows of a file; str() gives the text that a user reads."""

    path: str
    kept: int = 0
    dropped: Counter = field(default_factory=Counter)  # {reason: rows}
    notes: Counter = field(default_factory=Counter)  # {what is odd in the kept rows: how often}
    lines: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    """The numbers of the lines that each reason and each note is about."""
    fields: list[str] = field(default_factory=list)  # of the last row that was dropped

    def __str__(self):
        text = f"kept {self.kept} of {self.kept + self.dropped.total()} rows of {self.path}"
        if self.dropped:
            text += "; dropped: " + self._listing(self.dropped)
        if self.notes:
            text += "\nin the kept rows: " + self._listing(self.notes)
        if "..." in text:
            text += f"\nall line numbers: python -m data.load {self.path}"
        return text

    def _listing(self, counts: Counter) -> str:
        said = []
        for what, n in counts.most_common():
            said.append(f"{n} {what} ({_line_numbers(self.lines[what], SHOWN)})")
        return ", ".join(said)

    def in_full(self) -> str:
        """The same with the number of every line, one reason or note a line."""
        said = [f"kept {self.kept} of {self.kept + self.dropped.total()} rows of {self.path}"]
        for what, n in self.dropped.most_common():
            said.append(f"dropped: {n} {what}: {_line_numbers(self.lines[what])}")
        for what, n in self.notes.most_common():
            said.append(f"in the kept rows: {n} {what}: {_line_numbers(self.lines[what])}")
        return "\n".join(said)

    def drop(self, reason: str, number: int) -> None:
        """Count a line that is not used."""
        self.dropped[reason] += 1
        self.lines[reason].append(number)

    def keep(self, notes: Counter, number: int) -> None:
        """Count a line that is used, with what is odd in it."""
        self.kept += 1
        self.notes += notes
        for what in notes:
            self.lines[what].append(number)


def _line_numbers(numbers: list[int], most: int | None = None) -> str:
    """Line numbers in words, such as "lines 3, 7-9"; with `most`, the first ones."""
    runs = []  # [first, last] of neighbours
    for n in numbers:
        if runs and n == runs[-1][1] + 1:
            runs[-1][1] = n
        else:
            runs.append([n, n])
    said = [f"{first}-{last}" if last > first else f"{first}" for first, last in runs[:most]]
    more = ["..."] if most and len(runs) > most else []
    return f"line{'s' * (len(numbers) > 1)} {', '.join(said + more)}"


def load_examples(path: str | Path) -> tuple[list[Example], Report]:
    """The usable questions of a file, and a report of what was dropped.

    JSON Lines, a JSON array, or CSV with the names of the fields in its first line.

    The rows may have any of these schemas, also mixed:

    this project's    what Example.to_json writes; the only schema with checks
    RaR               question, reference_answer, rubric: [{title, description, weight}]
    RubricHub, RL     prompt: [{role, content}],
                      reward_model: {ground_truth, rubrics: [{criterion, points}]}
    RubricHub, SFT    query, answer, rubrics; the answer is a full reply, so also the solution
    HealthBench       prompt, rubrics: [{criterion, points}],
                      ideal_completions_data, whose reply is the solution
    ResearchQA        query, rubric: [{rubric_item, type}]
    plain QA          question, answer or reference_answer
    multiple choice   question, choices: {text, label}, answerKey; or
                      question, distractor1..3, correct_answer, support (the solution).
                      The choices join the question; the answer is the text of the right choice

    An example takes the id of its row, else "file stem:line"; all ids differ. LaTeX whose
    backslashes were not doubled is mended (see escapes.py). The report counts the rows that are
    dropped because they are odd or repeat a question. Raises ValueError("file:line: field: what was
    expected") for a line that is not a JSON object, for a file that is unreadable or empty, and for
    a file without any usable row.
    """
    examples, report, last = _read(path)
    if not examples:
        said = str(report).partition("\n")[0]
        if report.fields:
            said += (
                f" (its fields: {', '.join(report.fields)[:200]}; data/README.md has the schemas)"
            )
        raise ValueError(f"{path}:{last}: row: expected at least one usable row, but {said}")
    return examples, report


def _read(path: str | Path) -> tuple[list[Example], Report, int]:
    """What load_examples returns, even if it is nothing, and the number of the last line."""
    examples, report = {}, Report(str(path))  # {line number: example}
    questions, number = set(), 0
    try:
        with open(path, "rb") as file:  # bytes, so that a bad byte is blamed on its own line
            for number, line in _lines(path, file):
                notes, row = Counter(), None
                try:
                    row = _json_object(line, f"{path}:{number}", notes)
                    if row is None:
                        continue
                    example = example_of(row, notes)
                    if example.question in questions:
                        raise Odd("duplicate question")
                except Odd as odd:
                    report.drop(str(odd), number)
                    if row:
                        report.fields = sorted(row)
                    continue
                questions.add(example.question)
                examples[number] = example
                report.keep(notes, number)
    except OSError as error:
        raise ValueError(
            f"{path}:0: file: expected a file that can be read: {error.strerror}"
        ) from None
    return _with_different_ids(examples, report), report, number


def _lines(path: str | Path, file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """(number, JSON object) for each row of JSON Lines, a JSON array or, by its name, a CSV file.

    Raises ValueError for a parquet file, with the line that converts it, and for a CSV file that
    cannot be read.
    """
    start = file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()
    file.seek(0)
    if start.startswith(b"PAR1"):
        convert = "pandas.read_parquet(FILE).to_json('rows.jsonl', orient='records', lines=True)"
        raise ValueError(f"{path}:1: file: expected JSON Lines, got parquet: {convert}")
    rows = None
    try:
        if start.startswith(b"["):
            rows = _array(file.read())
            file.seek(0)
        elif str(path).lower().endswith(".csv"):
            rows = list(csv.DictReader(io.StringIO(file.read().decode("utf-8-sig")), strict=True))
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path}:1: file: expected rows in UTF-8: {error}") from None
    if rows is None:
        yield from enumerate(file, 1)
        return
    for number, row in enumerate(rows, 1):
        yield number, json.dumps(row).encode()


def _array(data: bytes) -> list[dict] | None:
    """The objects of a JSON array; None if it is no such array: then it is read by lines."""
    try:
        rows = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None
    is_rows = isinstance(rows, list) and rows and all(isinstance(row, dict) for row in rows)
    return rows if is_rows else None


def _with_different_ids(examples: dict[int, Example], report: Report) -> list[Example]:
    """The examples, by line number, with an id each: rubrics are handed on by id, so ids differ.

    The first row that gives an id keeps it. The others are called "file stem:line", with a number
    behind it if that is the id of another row.
    """
    taken, owners = set(), set()
    for number, e in examples.items():
        if e.id and e.id not in taken:
            taken.add(e.id)
            owners.add(number)
    made = []
    for number, e in examples.items():
        if number not in owners:
            if e.id:
                report.notes["ids given twice, replaced"] += 1
                report.lines["ids given twice, replaced"].append(number)
            default = free = f"{Path(report.path).stem}:{number}"
            n = 2
            while free in taken:
                free, n = f"{default}-{n}", n + 1
            taken.add(free)
            e = replace(e, id=free)
        made.append(e)
    return made


def _json_object(line: bytes, place: str, notes: Counter) -> dict | None:
    """The JSON object in a line, with its LaTeX mended; None if the line is blank.

    Raises ValueError, which names the place, if the line holds anything else, and Odd if the object
    gives a key two values.
    """
    try:
        text = line.decode("utf-8").strip().removeprefix("\ufeff").strip()
        if not text:
            return None
        # NaN is what a data frame writes for nothing; json makes Infinity a number.
        row = json.loads(
            mend_escapes(text, notes),
            object_pairs_hook=_without_repeats,
            parse_constant=lambda name: None if name == "NaN" else float(name),
        )
        if not isinstance(row, dict):
            raise ValueError(f"got {type(row).__name__}")
    except (ValueError, RecursionError) as error:
        reason = str(error).replace("line 1 ", "")
        raise ValueError(f"{place}: line: expected a JSON object in UTF-8: {reason}") from None
    if re.search(r"\\u[dD][89a-fA-F]", text) and _has_half_pair(row):
        notes["halves of a surrogate pair, replaced by ?"] += 1
    return row


def _without_repeats(pairs: list[tuple]) -> dict:
    """An object of a line. Raises Odd if it gives a key two values."""
    found = {}
    for key, value in pairs:
        if key in found and found[key] != value:
            raise Odd("a key given twice")
        found[key] = value
    return found


def _has_half_pair(row: dict) -> bool:
    """Whether a text of the row has a character that UTF-8 cannot write."""
    try:
        json.dumps(row, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


def read_questions(path: str | Path, verbose: bool) -> list[Example]:
    """The questions of a data file; with `verbose`, print the report of load_examples."""
    examples, report = load_examples(path)
    if verbose:
        print(report)
    return examples


META: dict[str, Check] = {
    "new": (lambda value: isinstance(value, bool), "true or false"),
    "phrasing": (is_name, "seen or unseen"),
    "kind": (is_name, "the kind of question"),
}


def read_tests(path: Path) -> list[Example]:
    """The questions of a test set.

    Raises ValueError, which names file, question and field, if one cannot be graded.
    """
    examples = load_examples(path)[0]
    for e in examples:
        place = f"{path}: question {e.id}"
        check_fields(e.meta, META, f"{place}: meta")
        if not e.rubric or not e.answer:
            raise ValueError(f"{place}: expected an answer and a rubric, as the test sets have")
    return examples


# --------------------------------------------------------------------------------- the command line
def main(argv: list[str] | None = None) -> None:
    """Say what the loader makes of a file. Exits with code 2 and one line if it is no data file."""
    parser = Parser(prog="data.load", description=main.__doc__.partition(".")[0] + ".")
    parser.add_argument(
        "file", type=file_path, help="JSON Lines, in one of the schemas of data/README.md"
    )
    parser.add_argument(
        "--model",
        metavar="DIR",
        help="also say what of it fits this model, and show three rows as the model will see them; "
        "flags of rcsd.py may follow, such as --max-seq-len 2048",
    )
    open_console()
    args, more = parser.parse_known_args(argv)
    if more and not args.model:
        parser.error(f"unrecognized arguments: {' '.join(more)}")
    try:
        report = _read(args.file)[1]
    except ValueError as error:
        parser.exit(2, f"data.load: {error}\n")
    sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    print(report.in_full())
    if not report.kept:
        parser.exit(2, f"data.load: {args.file}: no row can be used\n")
    if args.model:
        from pretrained.align import preview  # needs torch, which the loader alone does not

        flags = ["--model", args.model, "--data", str(args.file), *more]
        if code := exit_code("data.load", lambda: preview(flags)):
            sys.exit(code)


if __name__ == "__main__":
    main()
