"""The loader of questions and rubrics from others: each schema, and what becomes of its text."""

import json

import pytest

from data.load import load_examples
from examples import EXAMPLE, RUBRIC, TEXT, load, load_one, rar
from rubrics import Example, parse_rubric


def test_our_own_form_comes_back_as_it_was(tmp_path):
    bare = Example("q2", "Why?", meta={"law": "none", "numbers": [1, 2]})
    examples, report = load(tmp_path, EXAMPLE.to_json(), bare.to_json())
    assert examples == [EXAMPLE, bare] and not report.notes
    assert "force = mass × acceleration" in EXAMPLE.to_json()  # readable, not \u00d7


def test_rar(tmp_path):
    example, report = load_one(tmp_path, rar(rubric_list=["a", "b"], rubric_count=2))
    assert (example.id, example.question, example.answer) == ("rows:1", "Which law?", "Ohm's")
    assert (
        example.rubric.text() == TEXT
        and example.rubric.criteria[0].title == "Law"
        and example.meta == {}
    )
    assert parse_rubric(TEXT) and not report.notes


def test_rubrichub_rl(tmp_path):
    rubrics = [
        {
            "criterion": "Names Ohm's\n\n  law.",
            "points": 12,
            "tags": {"function": "llm", "parameters": ""},
        },
        {"criterion": "Is short.", "points": 1, "tags": {"parameters": None}},
    ]
    row = {
        "prompt": [{"role": "user", "content": "Which law?"}],
        "ability": "science",
        "reward_model": {"ground_truth": "", "rubrics": rubrics, "style": "rubric"},
    }
    elsewhere = row | {"Rubrics": rubrics, "reward_model": {"ground_truth": "", "rubrics": None}}
    for form in (row, elsewhere):
        example, _ = load_one(tmp_path, form)
        assert (example.question, example.answer, example.solution) == ("Which law?", "", "")
        assert example.rubric.text() == "12 Essential: Names Ohm's law.\n1 Important: Is short."
        assert [(c.title, c.check) for c in example.rubric.criteria] == [
            ("Essential", ""),
            ("Important", ""),
        ]
    row["reward_model"] = {"ground_truth": "Ohm's", "rubrics": rubrics}
    assert load_one(tmp_path, row)[0].answer == "Ohm's"


@pytest.mark.parametrize(
    "text, parameters, expected",
    [
        ("paragraphs:number", {"num_paragraphs": 2.0, "keyword": None},
         "paragraphs:number (num paragraphs 2)"),
        ("Names these.", {"keywords": ["ice", "steam"], "relation": "at least", "letter": ""},
         'Names these. (keywords ["ice", "steam"], relation at least)'),
        ("The answer is right", '{"answer": "42"}', "The answer is right (answer 42)"),
        ("length:words", "at most 100", "length:words (at most 100)"),
        ("Has no comma in it.", None, "Has no comma in it."),
        ("punctuation:no_comma", {}, None),
        ("paragraphs:number", {"num_paragraphs": None}, None),
        ("paragraphs:number", 7, None),
    ],
)  # fmt: skip
def test_a_criterion_for_a_rule_is_read_with_its_parameters(tmp_path, text, parameters, expected):
    tags = {"function": "x", "verifier": "rule", "parameters": parameters}
    rubrics = [
        {"criterion": text, "points": 10, "tags": tags},
        {"criterion": "Is so.", "points": 1},
    ]
    row = {"prompt": "Which?", "reward_model": {"ground_truth": "", "rubrics": rubrics}}
    example, report = load_one(tmp_path, row)
    said = [c.description for c in example.rubric.criteria]
    kept = [f"Essential: {expected}"] if expected else []
    assert said == [*kept, "Important: Is so."]
    counted = [n for what, n in report.notes.items() if "for a rule" in what]
    assert counted == [1] and any("left out" in what for what in report.notes) == (not expected)


def test_rubrichub_sft(tmp_path):
    row = {
        "source": "x",
        "query": "Which law?",
        "answer": "It is Ohm's.",
        "rubrics": [{"criterion": "Ohm", "points": 9}],
        "meta": {"part": 2},
    }
    example, _ = load_one(tmp_path, row)
    assert (example.question, example.answer, example.solution) == (
        "Which law?",
        "It is Ohm's.",
        "It is Ohm's.",
    )
    assert example.rubric.text() == "9 Essential: Ohm" and example.meta == {"part": 2}


def test_healthbench(tmp_path):
    row = {
        "prompt_id": "h-7",
        "prompt": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": ""},
            {"content": "It hurts"},
        ],
        "rubrics": [
            {"criterion": "Asks where", "points": 5, "tags": ["level:example"]},
            {"criterion": "Prescribes drugs", "points": -10, "tags": []},
        ],
        "ideal_completions_data": None,
    }
    example, report = load_one(tmp_path, row)
    assert (
        example.id == "h-7" and example.question == "System: Be kind.\n\nUser: Hi\n\nUser: It hurts"
    )
    assert (
        example.rubric.text() == "5 Essential: Asks where\n-10 Pitfall: Prescribes drugs"
        and not report.notes
    )
    row["ideal_completions_data"] = {
        "ideal_completion": "Where does it hurt?",
        "ideal_completions_group": "g",
    }
    assert load_one(tmp_path, row)[0].solution == "Where does it hurt?"


def test_researchqa_has_no_weights(tmp_path):
    row = {
        "id": 17,
        "query": "What is known?",
        "rubric": [
            {"rubric_item": "Cites it", "type": "Citation"},
            {"rubric_item": "Compares", "type": None},
        ],
    }
    example, report = load_one(tmp_path, row)
    assert example.id == "17" and (example.answer, example.solution) == ("", "")
    assert example.rubric.text() == "3 Important: Cites it\n3 Important: Compares"
    assert [c.title for c in example.rubric.criteria] == ["Citation", "Important"]
    assert report.notes == {
        "criteria without a weight": 2,
        "rubrics that parse_rubric would refuse": 1,
    }


@pytest.mark.parametrize(
    "given, expected",
    [
        (0, "0"),
        ("0", "0"),
        (" (c) ", "(c)"),
        ("6.02 × 10^23", "6.02 × 10^23"),
        (2.5, "2.5"),
        (False, "false"),
        ("$\\frac{1}{2}$", "$\\frac{1}{2}$"),
        ("\\\\frac", "\\\\frac"),
        ("<|eos|>", "<|eos|>"),
    ],
)
@pytest.mark.parametrize("name", ["answer", "reference_answer"])
def test_plain_answers_stay_as_they_are(tmp_path, name, given, expected):
    example, _ = load_one(tmp_path, {"question": "<|eos|> What is \\(x\\)?\nAnd y?", name: given})
    assert (example.answer, example.solution, example.rubric) == (expected, "", None)
    assert (
        example.question == "<|eos|> What is \\(x\\)?\nAnd y?"
    )  # text of a special token, LaTeX and lines stay


@pytest.mark.parametrize(
    "labels, key, expected",
    [
        ("ABCDE", "B", "two"),
        ("ABCDE", "E", "five"),
        ("12345", "2", "two"),
        ("12345", 3, "three"),
        ("ABCDE", "4", "four"),
        ("12345", "A", "one"),
    ],
)
def test_multiple_choice_with_an_answer_key(tmp_path, labels, key, expected):
    choices = {"text": ["one", "two", "three", "four", "five"], "label": list(labels)}
    example, _ = load_one(
        tmp_path, {"id": "m", "question": "How many?", "choices": choices, "answerKey": key}
    )
    assert example.answer == expected
    assert example.question.split("\n")[:3] == [
        "How many?",
        f"{labels[0]}) one",
        f"{labels[1]}) two",
    ]
    assert len(example.question.split("\n")) == 6


def test_multiple_choice_with_distractors(tmp_path):
    row = {
        "question": "What falls?",
        "distractor1": "snow",
        "distractor2": "air",
        "distractor3": "light",
        "correct_answer": "rain",
        "support": "Rain falls.",
    }
    example, _ = load_one(tmp_path, row)
    assert example.question == "What falls?\nA) air\nB) light\nC) rain\nD) snow"
    assert (example.answer, example.solution) == ("rain", "Rain falls.")
    example, _ = load_one(
        tmp_path, {"question": "What falls?", "distractor1": "air", "correct_answer": "rain"}
    )
    assert example.question == "What falls?\nA) air\nB) rain"


def test_rows_of_several_schemas_may_be_mixed_and_blank_lines_are_skipped(tmp_path):
    examples, report = load(
        tmp_path, "\ufeff" + json.dumps(rar()), "", {"question": "1 + 1?", "answer": 2}, "  "
    )
    assert [(e.id, e.answer) for e in examples] == [("rows:1", "Ohm's"), ("rows:3", "2")]
    assert report.kept == 2 and str(report) == f"kept 2 of 2 rows of {tmp_path / 'rows.jsonl'}"


@pytest.mark.parametrize(
    "description, weight, line",
    [
        ("Essential: x", 5, "5 Essential: x"),
        ("Important Criteria: x", 3, "3 Important: x"),
        ("Optional Criterion:x", 1, "1 Optional: x"),
        ("Negative Criteria: x", -2, "-2 Pitfall: x"),
        ("ESSENTIAL CRITERIA : x", 4, "4 Essential: x"),
        ("x", 4, "4 Essential: x"),
        ("x", 1, "1 Important: x"),
        ("x", -1, "-1 Pitfall: x"),
        ("x\n y\r\n\tz", 4.5, "4.5 Essential: x y z"),
        ("x", "5", "5 Essential: x"),
        ("x", 5.0, "5 Essential: x"),
        ("Optional: x", None, "1 Optional: x"),
        ("x", "", "3 Important: x"),
        ("x", float("nan"), "3 Important: x"),
        ("Essential: x", None, "5 Essential: x"),
        ("Important Criteria: x", None, "3 Important: x"),
        ("Pitfall Criteria: x", None, "-1 Pitfall: x"),
        ("Negative: x", None, "-1 Pitfall: x"),
        ("Pitfall: x", 2, "2 Pitfall: x"),
        ("Essential: x", -2, "-2 Essential: x"),  # disagreement stays as written
        ("Importantly: x", 5, "5 Essential: Importantly: x"),
    ],
)
def test_one_criterion_becomes_one_line(tmp_path, description, weight, line):
    example, report = load_one(
        tmp_path,
        rar(
            rubric=[
                {"title": "t", "description": description, "weight": weight},
                {"title": "k", "description": "Essential: key", "weight": 5},
            ]
        ),
    )
    assert example.rubric.text() == line + "\n5 Essential: key"
    assert report.notes["criteria without a weight"] == (weight in (None, "") or weight != weight)
    assert report.notes["rubrics that parse_rubric would refuse"] == (
        line in ("2 Pitfall: x", "-2 Essential: x")
    )


def test_criteria_that_say_nothing_are_left_out(tmp_path):
    odd = [
        {"description": "no effect", "weight": 0.0},
        {"description": "no effect", "weight": "0"},
        {"description": " ", "weight": 3},
        {"description": "Essential Criteria:", "weight": 3},
        {"weight": 2},
    ]
    example, report = load_one(tmp_path, rar(rubric=RUBRIC + odd))
    assert example.rubric.text() == TEXT
    assert report.notes == {"criteria left out, without text or of weight 0": 5}


def test_a_criterion_may_be_a_bare_string_and_a_foreign_check_is_not_run(tmp_path):
    example, _ = load_one(
        tmp_path, rar(rubric=["Essential: x", {"description": "y", "weight": 5, "check": "rm -rf"}])
    )
    assert example.rubric.text() == "5 Essential: x\n5 Essential: y"
    assert [c.check for c in example.rubric.criteria] == ["", ""]


def test_more_than_25_criteria_are_kept_for_reading(tmp_path):
    example, report = load_one(
        tmp_path, rar(rubric=[{"criterion": f"point {i}", "points": 5} for i in range(42)])
    )
    assert len(example.rubric.criteria) == 42 and report.notes == {
        "rubrics that parse_rubric would refuse": 1
    }


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(RUBRIC),
        "Here is the rubric [1], as asked:\n```json\n"
        + json.dumps(RUBRIC, indent=2)
        + "\n```\nGood luck [2].",
        '["notes"] [{"step": 1}] ' + json.dumps(RUBRIC),
        json.dumps({"rubric": RUBRIC}),
        json.dumps([{"criterion": c["description"], "points": c["weight"]} for c in RUBRIC]),
        json.dumps([{"rubric_item": c["description"], "points": c["weight"]} for c in RUBRIC]),
        json.dumps(RUBRIC).replace("Ohm's law.", "Ohm's\nlaw."),  # a raw line break inside a string
    ],
)
def test_a_rubric_given_as_json_text(tmp_path, text):
    example, report = load_one(tmp_path, rar(rubric=text))
    assert example.rubric.text() == TEXT and not report.notes


def test_bad_escapes_are_mended(tmp_path):
    text = (
        r'[{"description": "Essential: \(x\) is \frac{1}{2} \\alpha \"so\" \u00b2", "weight": 5}]'
    )
    example, report = load_one(tmp_path, rar(rubric=text))
    assert example.rubric.text() == r'5 Essential: \(x\) is \frac{1}{2} \alpha "so" ²'
    assert report.notes == {"LaTeX backslashes put back": 3}


def test_half_a_surrogate_pair_does_not_reach_the_text(tmp_path):
    example, _ = load_one(tmp_path, '{"question": "a \\ud83d b \\ud83d\\ude00", "answer": "x"}')
    assert example.question == "a ? b \U0001f600" and example.to_json().encode("utf-8")


def test_half_a_surrogate_pair_is_counted(tmp_path):
    rows = [f'{{"question": "{i} {text}", "answer": "x"}}' for i, text in enumerate(
        ["\\ud83d", "\\ud83d\\ude00", "\\\\ud83d", "plain"]
    )]  # fmt: skip
    examples, report = load(tmp_path, *rows)
    assert [e.question for e in examples] == ["0 ?", "1 \U0001f600", "2 \\ud83d", "3 plain"]
    assert report.lines == {"halves of a surrogate pair, replaced by ?": [1]}


def test_marks_and_line_ends_of_other_systems(tmp_path):
    """A byte order mark on any line or alone, CRLF, blank lines, and breaks that JSON leaves bare."""
    bom, path = b"\xef\xbb\xbf", tmp_path / "rows.jsonl"
    row = '{{"question": "{}", "answer": "x"}}'
    odd = "a\u2028b\u2029c\x85d"
    path.write_bytes(
        bom + row.format("one").encode() + b"\r\n"
        + bom + b"\r\n"
        + bom + row.format("two").encode() + b"\r\n"
        + row.format(odd).encode() + b"\r\n\r\n \n"
    )  # fmt: skip
    examples, report = load_examples(path)
    assert [e.question for e in examples] == ["one", "two", odd]
    assert [e.id for e in examples] == ["rows:1", "rows:3", "rows:4"] and not report.notes


def test_numbers_that_are_none(tmp_path):
    rows = [
        '{"question": "a", "answer": NaN, "reference_answer": "b"}',
        '{"question": "c", "answer": ' + "9" * 4000 + "}",
        '{"question": "d", "answer": "1", "answer": "1"}',  # twice the same says nothing else
    ]
    examples, report = load(tmp_path, *rows)
    assert [e.answer for e in examples] == ["b", "9" * 4000, "1"] and not report.notes
    with pytest.raises(ValueError, match="rows.jsonl:1: line: expected a JSON object"):
        load(tmp_path, '{"question": "c", "answer": ' + "9" * 5000 + "}")


@pytest.mark.parametrize("answer, right", [(0, "air"), (2, "rain"), ("snow", "snow"), ("0", "0")])
def test_multiple_choice_with_an_index(tmp_path, answer, right):
    texts = ["air", "snow", "rain", "0"]
    row = {"question": "What falls?", "choices": texts, "answer": answer, "solution": "Look up."}
    example, _ = load_one(tmp_path, row)
    assert example.question == "What falls?\nA) air\nB) snow\nC) rain\nD) 0"
    assert (example.answer, example.solution) == (right, "Look up.")
