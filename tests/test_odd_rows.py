"""Rows and files that the loader drops or refuses, each with its reason."""

import json
import re

import pytest

from data.load import load_examples, main
from examples import EXAMPLE, RUBRIC, load, rar


@pytest.mark.parametrize(
    "row, reason",
    [
        (rar(""), "empty question"),
        (rar("  \n"), "empty question"),
        (rar(None), "empty question"),
        ({"text": "x"}, "empty question"),
        ({"prompt": [], "rubrics": RUBRIC}, "empty question"),
        ({"prompt": ["x", {"role": "user", "content": None}], "rubrics": RUBRIC}, "empty question"),
        *(
            ({"question": "x", "answer": "y", field: None}, "no rubric")
            for field in (
                "rubric",
                "rubrics",
                "Rubrics",
                "rubric_list",
                "rubric_count",
                "question_source",
                "reward_model",
                "prompt",
                "query",
            )
        ),
        (rar(id=["x"]), "id is not text"),
        (rar(solution=["x"]), "solution is not text"),
        ({"prompt": {"x": 1}, "rubrics": RUBRIC}, "prompt is not text"),
        ({"prompt": [{"role": "user", "content": ["x"]}], "rubrics": RUBRIC}, "prompt is not text"),
        ({"prompt": [{"role": ["user"], "content": "x"}], "rubrics": RUBRIC}, "role is not text"),
        (
            {"question": "x", "choices": {"text": ["a"], "label": ["A"]}, "answerKey": ["A"]},
            "answerKey is not text",
        ),
        (
            {"question": "x", "choices": {"text": [["a"]], "label": ["A"]}, "answerKey": "A"},
            "choices is not text",
        ),
        ({"question": "x", "distractor1": ["a"], "correct_answer": "A"}, "choices is not text"),
        (
            {"question": "x", "choices": {"text": "a", "label": ["A"]}, "answerKey": "A"},
            "choices are not {text: [...], label: [...]}",
        ),
        (
            {"question": "x", "choices": {"text": ["a"], "label": "A"}, "answerKey": "A"},
            "choices are not {text: [...], label: [...]}",
        ),
        (rar(["x"]), "question is not text"),
        (rar(reference_answer={"a": 1}), "answer is not text"),
        (rar(rubric=None), "no rubric"),
        (rar(rubric=[]), "no rubric"),
        (rar(rubric=""), "no rubric"),
        ({"question": "x", "reference_answer": "y", "question_source": "z"}, "no rubric"),
        (
            {"prompt": [{"role": "user", "content": "x"}], "reward_model": {"rubrics": []}},
            "no rubric",
        ),
        ({"prompt": "x", "reward_model": None}, "no rubric"),
        ({"query": "x", "answer": "y"}, "no rubric"),
        ({"question": "x", "answer": ""}, "neither rubric nor answer"),
        ({"question": "x"}, "neither rubric nor answer"),
        (rar(rubric="I cannot help with that [1]."), "rubric is not a JSON array of criteria"),
        (rar(rubric=json.dumps(RUBRIC)[:-2]), "rubric is not a JSON array of criteria"),  # cut off
        (rar(rubric='[{"step": 1}]'), "rubric is not a JSON array of criteria"),
        (rar(rubric='[{"a":' * 5000), "rubric is not a JSON array of criteria"),
        (rar(rubric={"a": 1}), "rubric is not a list"),
        (rar(rubric=7), "rubric is not a list"),
        (rar(rubric=[[1]]), "a criterion is not an object"),
        (rar(rubric=[RUBRIC[0], 3]), "a criterion is not an object"),
        (rar(rubric=[{"description": "x", "weight": 0}]), "no usable criterion"),
        (rar(rubric=[{"description": ["x"], "weight": 1}]), "criterion is not text"),
        *(
            (
                rar(rubric=[{"description": "x", "weight": weight}]),
                "a criterion's weight or check is not valid",
            )
            for weight in ("high", True, "nan", float("inf"), [1], 10**400)
        ),
        (
            json.loads(EXAMPLE.to_json().replace("states", "dances")),
            "a criterion's weight or check is not valid",
        ),
        (
            {"question": "x", "choices": {"text": ["a"], "label": ["A"]}, "answerKey": "B"},
            "answerKey names no choice",
        ),
        (
            {"question": "x", "choices": {"text": ["a"], "label": ["A"]}, "answerKey": ""},
            "answerKey names no choice",
        ),
        (
            {"question": "x", "choices": {"text": [""], "label": ["A"]}, "answerKey": "A"},
            "answerKey names no choice",
        ),
        (
            {"question": "x", "choices": {"text": ["a", "b"], "label": ["A"]}, "answerKey": "A"},
            "choices are not {text: [...], label: [...]}",
        ),
        (
            {"question": "x", "choices": ["a"], "answerKey": "A"},
            "choices are not {text: [...], label: [...]}",
        ),
        ({"question": "x", "distractor1": "y", "correct_answer": ""}, "neither rubric nor answer"),
        *(
            ({"question": "x", "choices": choices, "answer": answer}, "answer names no choice")
            for choices, answer in (
                (["a", "b"], 2),
                (["a", "b"], -1),
                (["a", "b"], True),
                (["a", "b"], "c"),
                (["a", "b"], None),
                ([], 0),
                (["a", ""], 1),
                ([f"{i}" for i in range(27)], 3),
            )
        ),
        ({"question": "x", "choices": [["a"]], "answer": 0}, "choices is not text"),
        ('{"question": "x", "answer": "1", "answer": "2"}', "a key given twice"),
        ('{"question": "x", "answer": 1e999}', "answer is not a finite number"),
        ({"question": "x", "answer": float("-inf")}, "answer is not a finite number"),
        ({"question": "x", "answer": float("nan")}, "neither rubric nor answer"),
    ],
)
def test_an_odd_row_is_dropped_and_counted(tmp_path, row, reason):
    examples, report = load(tmp_path, row, {"id": "good", "question": "1 + 1?", "answer": "2"})
    assert (
        [e.id for e in examples] == ["good"] and report.dropped == {reason: 1} and not report.notes
    )


def test_the_first_of_equal_questions_stays_and_the_report_reads_well(tmp_path):
    weightless = [{"description": "Essential: x"}, {"description": "y"}]
    rows = [
        rar(reference_answer="first"),
        rar(" Which law? ", weightless, reference_answer="second"),
        rar(),
        rar("Other?", weightless),
        rar(""),
        {"question": "Which law?", "answer": "third"},
    ]
    examples, report = load(tmp_path, *rows)
    assert [(e.id, e.answer) for e in examples] == [("rows:1", "first"), ("rows:4", "Ohm's")]
    assert str(report) == (
        f"kept 2 of 6 rows of {tmp_path / 'rows.jsonl'}; dropped: 3 duplicate question "
        "(lines 2-3, 6), 1 empty question (line 5)\n"
        "in the kept rows: 2 criteria without a weight (line 4)"
    )


def test_a_question_with_other_choices_is_another_question(tmp_path):
    def row(*texts):
        return {
            "question": "Which?",
            "choices": {"text": texts, "label": ["A", "B"]},
            "answerKey": "A",
        }

    assert load(tmp_path, row("a", "b"), row("c", "d"), row("a", "b"))[1].dropped == {
        "duplicate question": 1
    }


GOOD_LINE = b'{"question": "1 + 1?", "answer": "2"}\n'


@pytest.mark.parametrize(
    "content, message",
    [
        (
            GOOD_LINE + b"question,answer\n",
            ":2: line: expected a JSON object in UTF-8: Expecting value: column 1",
        ),
        (
            GOOD_LINE + b'{"question": "cut o',
            ":2: line: expected a JSON object in UTF-8: Unterminated string",
        ),
        (b"\n\n[1, 2]\n" + GOOD_LINE, ":3: line: expected a JSON object in UTF-8: got list"),
        (b"7\n", ":1: line: expected a JSON object in UTF-8: got int"),
        (
            GOOD_LINE * 2 + b'{"question": "caf\xe9", "answer": "2"}\n' + GOOD_LINE,
            ":3: line: .* can't decode byte 0xe9",
        ),
        (GOOD_LINE + b"[" * 100_000, ":2: line: expected a JSON object in UTF-8: "),
        (b"", ":0: row: expected at least one usable row, but kept 0 of 0 rows"),
        (b" \n\n", ":2: row: expected at least one usable row, but kept 0 of 0 rows"),
        (
            b'{"question": ""}\n{"a": 1}\n',
            ":2: row: expected at least one usable row, .*; dropped: 2 empty question",
        ),
    ],
)
def test_a_broken_file_raises_one_line_that_says_where(tmp_path, content, message):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="^" + re.escape(str(path)) + message) as error:
        load_examples(path)
    assert "\n" not in str(error.value) and type(error.value) is ValueError


def test_a_file_that_cannot_be_read(tmp_path):
    for path in (tmp_path / "missing.jsonl", tmp_path):
        with pytest.raises(
            ValueError, match=f"^{re.escape(str(path))}:0: file: expected a file that can be read: "
        ):
            load_examples(path)


def test_every_line_that_is_dropped_or_odd_can_be_had_by_its_number(tmp_path, capsys):
    rows = [{"question": f"{i} + 1?", "answer": str(i + 1)} for i in range(40)]
    for i in (0, 3, 4, 5, 9, 15, 21, 30):
        rows[i] = {"question": ""}
    rows[2]["rubric"] = ["Essential: adds"]
    report = load(tmp_path, *rows)[1]
    assert report.lines == {
        "empty question": [1, 4, 5, 6, 10, 16, 22, 31],
        "criteria without a weight": [3],
    }
    path = tmp_path / "rows.jsonl"
    assert str(report) == (
        f"kept 32 of 40 rows of {path}; dropped: 8 empty question (lines 1, 4-6, 10, 16, 22, ...)\n"
        "in the kept rows: 1 criteria without a weight (line 3)\n"
        f"all line numbers: python -m data.load {path}"
    )
    main([str(path)])
    assert capsys.readouterr().out == (
        f"kept 32 of 40 rows of {path}\n"
        "dropped: 8 empty question: lines 1, 4-6, 10, 16, 22, 31\n"
        "in the kept rows: 1 criteria without a weight: line 3\n"
    )


@pytest.mark.parametrize(
    "content, out, error",
    [
        ('{"question": ""}\n' * 9, "dropped: 9 empty question: lines 1-9", "no row can be used"),
        ("", "kept 0 of 0 rows", "no row can be used"),
        ("[1]\n", "", ":1: line: expected a JSON object in UTF-8: got list"),
        (None, "", ":0: file: expected a file that can be read: No such file or directory"),
    ],
)
def test_the_command_says_why_a_file_cannot_be_used(tmp_path, capsys, content, out, error):
    path = tmp_path / "rows.jsonl"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SystemExit) as stop:
        main([str(path)])
    said = capsys.readouterr()
    assert stop.value.code == 2 and out in said.out and error in said.err
    assert said.err.count("\n") == 1 and said.err.startswith(f"data.load: {path}:")


def test_no_two_rows_have_one_id(tmp_path):
    """Rows without an id are called after their line, which another row may have taken for its id."""
    ids = ["c:3", "c:4-2", None, "c:3", "c:4", "c:5", None]
    rows = [{"id": id, "question": f"{i}?", "answer": "1"} for i, id in enumerate(ids)]
    examples, report = load(tmp_path, *rows, name="c.jsonl")
    assert [e.question for e in examples] == [f"{i}?" for i in range(7)]
    wanted = ["c:3", "c:4-2", "c:3-2", "c:4-3", "c:4", "c:5", "c:7"]
    assert [e.id for e in examples] == wanted
    assert report.lines == {"ids given twice, replaced": [4]}
