"""Questions with rubrics: one of this project, rows as others write them, and their loading."""

import json

from data.load import load_examples
from rubrics import Criterion, Example, Rubric

FORCE = Rubric(
    (
        Criterion(
            "Key",
            "Essential: uses force = mass × acceleration",
            5,
            "states force = mass × acceleration",
        ),
        Criterion("Numbers", "Important: puts in the given numbers", 3, "shows 3 kg; 4 m/s²"),
        Criterion("Unit", "Important: gives the force in N", 3, "unit N"),
        Criterion("Form", "Optional: ends with the answer", 1, "answer-line"),
        Criterion(
            "Wrong law", "Pitfall: divides by the acceleration", -2, "avoids mass ÷ acceleration"
        ),
    )
)
GOOD = "force = mass × acceleration = 3 kg × 4 m/s² = 12 N\nAnswer: 12 N"


EXAMPLE = Example("q1", "What force?", "12 N", GOOD, FORCE)

RUBRIC = [
    {"title": "Law", "description": "Essential Criteria: Names Ohm's law.", "weight": 5},
    {"title": "Guess", "description": "Pitfall Criteria: Does not guess.", "weight": -1},
]
TEXT = "5 Essential: Names Ohm's law.\n-1 Pitfall: Does not guess."


def load(tmp_path, *rows, name="rows.jsonl"):
    path = tmp_path / name
    path.write_text(
        "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows),
        encoding="utf-8",
    )
    return load_examples(path)


def load_one(tmp_path, row):
    examples, report = load(tmp_path, row)
    assert len(examples) == report.kept == 1 and not report.dropped
    return examples[0], report


def rar(question="Which law?", rubric=RUBRIC, **more):
    return {
        "question": question,
        "reference_answer": "Ohm's",
        "question_source": "me",
        "rubric": rubric,
        **more,
    }
