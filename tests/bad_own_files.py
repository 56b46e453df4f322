"""The bad inputs that are files of one's own: questions, a rubric to explain, a study's runs."""

import json
from collections.abc import Iterator
from pathlib import Path

from bad_files import ANY, JSON, ROWS, Case, Mutator, second_row
from study.read import EVERY_LINE, GRID, GROUPS, TRAINED
from study_rows import everything, save
from tiny import FLAGS

CRITERION = {"title": "t", "description": "Essential: uses a = b × c", "weight": 5}


def question(number: int, **fields) -> dict:
    """A row that every method can learn from."""
    row = {"id": f"own-{number}", "question": f"What is the force on body {number}?"}
    row |= {"answer": f"{number} N", "solution": f"a = b × c = {number} N\nAnswer: {number} N"}
    return row | {"rubric": [CRITERION], "meta": {}} | fields


def text(*rows: object) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def beside(name: str, content: bytes | None) -> Mutator:
    """A file of one's own in the folder of the run; None: a folder of that name."""

    def make(run: Path) -> None:
        path = run / name
        path.mkdir() if content is None else path.write_bytes(content)
        for made in ("stage1.pt", "stage2.pt", "rubrics.jsonl"):
            (run / made).unlink(missing_ok=True)

    return make


TEN = [question(number) for number in range(10)]
ANYWHERE = {  # files of which no stage can learn
    "empty": b"",
    "white space": b"\n \n",
    "a folder": None,
    "noise": bytes(range(256)) * 3,
    "no JSON": b"What is the force?\n",
    "cut": text(*TEN)[:-20],
    "a list": b"[1, 2]\n",
    "a number": b"7\n",
    "null": b"null\n",
    "not UTF-8": text(TEN[0]) + b'{"question": "\xff"}\n',
    "UTF-16": "\n".join(map(json.dumps, TEN)).encode("utf-16"),
    "deep": b"[" * 100_000 + b"\n",
    "no questions": text({"answer": "4 N"}, {"answer": "5 N"}),
    "empty questions": text(question(1, question=" ")),
    "questions that are lists": text(question(1, question=["a"])),
    "rubrics that are numbers": text(question(1, rubric=7)),
    "rubrics without text": text(question(1, rubric=[{"weight": 5}])),
    "weights that are no numbers": text(question(1, rubric=[CRITERION | {"weight": "much"}])),
    "weights of infinity": text(question(1, rubric=[CRITERION | {"weight": 1e999}])),
    "checks that cannot run": text(question(1, rubric=[CRITERION | {"check": "guess it"}])),
    "neither rubric nor answer": text({"question": "Why?"}),
    "answers that are objects": text(question(1, answer={"value": 4})),
    "a line of many": text(*TEN) + b"{\n",
}
NOT_FOR = {  # (words of stage II, rows that lack what they need)
    "sft without solutions": (["--method", "sft"], [question(n, solution="") for n in range(9)]),
    "grpo without answers": (["--method", "grpo"], [question(n, answer="") for n in range(9)]),
    "grpo-rubric without rubrics": (
        ["--method", "grpo-rubric"],
        [question(n, rubric=[]) for n in range(9)],
    ),
    "grpo-rubric without checks": (["--method", "grpo-rubric"], TEN),
    "opsd without solutions": (["--method", "opsd"], [question(n, solution="") for n in range(9)]),
    "reference without rubrics": (
        ["--rubrics", "reference"],
        [question(n, rubric=[]) for n in range(9)],
    ),
    "shuffled with one question": (["--rubrics", "shuffled"], TEN[:1]),
    "noisy without relations": (
        ["--rubrics", "noisy"],
        [question(n, rubric=[CRITERION | {"description": "Essential: is kind"}]) for n in range(9)],
    ),
    "corrupted without steps": (["--corrupted", "1"], [question(n, solution="x") for n in range(9)]),
    "answer without answers": (
        ["--teacher-context", "answer", "--rubrics", "reference"],
        [question(n, answer="") for n in range(9)],
    ),
    "too long": (["--rubrics", "reference"], [question(1, question="why? " * 500)]),
}  # fmt: skip


def question_cases() -> Iterator[Case]:
    flags = ["--out", "{run}", *FLAGS, "--group-size", "2", "--data", "{run}/own.jsonl"]
    for name, content in ANYWHERE.items():
        for words in (["stage1"], ["stage2", "--rubrics", "reference"]):
            spoil = beside("own.jsonl", content)
            yield Case("own questions", name, "rcsd.py", [*words, *flags], ["own.jsonl"], spoil)
    no_rubric = text(question(1, rubric=[]))
    for name, content in (
        ("no rubrics", no_rubric),
        ("too long", text(question(1, question="why? " * 500))),
    ):
        spoil = beside("own.jsonl", content)
        words = ["stage1", *flags, "--rubrics", "learned"]
        yield Case("own questions", name, "rcsd.py", words, [], spoil)
    for name, (words, rows) in NOT_FOR.items():
        spoil = beside("own.jsonl", text(*rows))
        yield Case("own questions", name, "rcsd.py", ["stage2", *flags, *words], [], spoil)
    words = ["stage1", "--out", "{run}", *FLAGS, "--data", "{new}"]
    yield Case("own questions", "missing", "rcsd.py", words, ["{new}"], beside("own.jsonl", b""))


RUBRICS = {
    "empty": b"",
    "white space": b"\n\n",
    "noise": bytes(range(256)) * 3,
    "not UTF-8": b"5 Essential: uses \xff",
    "UTF-16": "5 Essential: uses a = b".encode("utf-16"),
    "words": b"Be good and kind.\n",
    "no weight": "Essential: uses a = b × c".encode(),
    "no category": b"5 uses a\n",
    "an unknown category": b"5 Central: uses a\n",
    "a weight of 0": b"0 Essential: uses a\n",
    "a weight of nan": b"nan Essential: uses a\n",
    "a weight of infinity": b"inf Essential: uses a\n",
    "a positive pitfall": b"5 Essential: uses a\n3 Pitfall: is wrong\n",
    "a negative Essential": b"-5 Essential: uses a\n",
    "no Essential": b"3 Important: uses a\n",
    "no words": b"5 Essential:\n",
    "an empty line": b"5 Essential: uses a\n\n3 Important: gives b\n",
    "too many lines": b"5 Essential: uses a\n" * 40,
    "too long": b"5 Essential: uses " + b"a very long word " * 400,
    "a bad last line": b"5 Essential: uses a\nand so on\n",
    "JSON that is cut": text(question(1))[:-9],
    "JSON of nothing": b"{}",
    "JSON without a rubric": text({"question": "Why?", "answer": "4 N"}),
    "JSON of other questions": text(TEN[0], TEN[1]),
    "JSON with a bad weight": text(question(1, rubric=[CRITERION | {"weight": []}])),
}


def rubric_cases() -> Iterator[Case]:
    words = ["explain", "--out", "{run}", *FLAGS, "--rubric", "{run}/mine.txt"]
    for name, content in RUBRICS.items():

        def make(run: Path, content: bytes = content) -> None:
            (run / "mine.txt").write_bytes(content)

        asked = [*words, "--question", "What is the force on the sledge?"]
        yield Case("own rubric", name, "evaluate.py", asked, [""], make)
        if name == "too long":
            yield Case("own rubric", "no question", "evaluate.py", words, ["--question"], make)


# ---------------------------------------------------------------------------------- a study's runs
BAD = {"a text": "7", "a list": [1], "an object": {"x": [1]}, "negative": -1, "missing": None}
FINE = {  # what is right for a field, or is read over
    ("run", "a text"), ("machine", "a text"), ("flags", "an object"), ("seed", "negative"),
    ("valid_new", "missing"), ("valid_known", "missing"), ("sampled", "missing"),
    ("stage1", "missing"),
    ("lr", "an object of"),
}  # fmt: skip


def study_cases() -> Iterator[Case]:
    def runs(change: Mutator) -> Mutator:
        def make(run: Path) -> None:
            save(run / "runs.jsonl", everything()[:6])
            change(run / "runs.jsonl")

        return make

    commands = [
        ("tables.py", ["--runs", "{run}/runs.jsonl", "--out", "{new}"]),
        ("sweep.py", ["--out", "{run}", "--workers", "1"]),
    ]
    spoils = ANY | ROWS | {name: JSON[name] for name in ("[]", "null", "a number", "not UTF-8")}
    spoils |= {"a bad score": second_row(score=dict.fromkeys(GROUPS, 2))}
    spoils |= {"bad answers": second_row(correct=dict.fromkeys(GROUPS, "012"))}
    spoils |= {"a bad curve": second_row(curve=[[1, 2]])}
    spoils |= {"a group is missing": second_row(length=dict.fromkeys(GROUPS[1:], 1))}
    spoils |= {"bad clips": second_row(train={"clipped": "often"})}
    for program, words in commands:
        for name, spoil in spoils.items():
            if program == "sweep.py" and name in ("empty", "cut", "null"):
                continue  # a new study; a line that was cut, without an end, is dropped
            yield Case("runs.jsonl", name, program, words, ["runs.jsonl"], runs(spoil))
    for field in {**EVERY_LINE, **GRID, **TRAINED}:
        for name, value in BAD.items():
            if (field, name) not in FINE:
                spoil = runs(second_row(**{field: value}))
                named = ["runs.jsonl:2", field]
                yield Case("runs.jsonl", f"{field} {name}", *commands[0], named, spoil)
    markers = {
        "no markers": b"# Study\n",
        "one marker": b"<!-- study -->\n",
        "the wrong order": b"<!-- /study -->\n<!-- study -->\n",
        "three markers": b"<!-- study -->\n<!-- study -->\n<!-- /study -->\n",
        "not UTF-8": b"<!-- study -->\xff<!-- /study -->\n",
    }
    for name, content in markers.items():
        for program, mark in (("tables.py", b"study"), ("bench.py", b"bench")):

            def make(run: Path, content: bytes = content.replace(b"study", mark)) -> None:
                (run / "page.md").write_bytes(content)
                save(run / "runs.jsonl", everything()[:6])

            words = ["--readme", "{run}/page.md"]
            if program == "tables.py":
                words += ["--runs", "{run}/runs.jsonl", "--out", "{new}"]
            yield Case("page to fill in", name, program, words, ["page.md"], make)


def own_file_cases() -> Iterator[Case]:
    yield from question_cases()
    yield from rubric_cases()
    yield from study_cases()
