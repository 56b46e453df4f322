"""Rubrics: scores by hand, prompts, the two parsers, the machine grader, and the loader on hand-made odd rows."""

import json
import re
from fractions import Fraction

import pytest

from data.grammar import canonical, correct, final_answer
from data.load import load_examples
from rubrics import (
    GENERIC,
    TEACHER_CONTEXTS,
    Criterion,
    Example,
    Rubric,
    grade,
    key_relations,
    parse_rubric,
    prompt,
    satisfied,
    teacher_prompt,
)

FORCE = Rubric((
    Criterion("Key", "Essential: uses force = mass × acceleration", 5, "states force = mass × acceleration"),
    Criterion("Numbers", "Important: puts in the given numbers", 3, "shows 3 kg; 4 m/s²"),
    Criterion("Unit", "Important: gives the force in N", 3, "unit N"),
    Criterion("Form", "Optional: ends with the answer", 1, "answer-line"),
    Criterion("Wrong law", "Pitfall: divides by the acceleration", -2, "avoids mass ÷ acceleration"),
))
GOOD = "force = mass × acceleration = 3 kg × 4 m/s² = 12 N\nAnswer: 12 N"


def weighted(*weights):
    return Rubric(tuple(Criterion("", f"criterion {i}", w) for i, w in enumerate(weights)))


# ---------------------------------------------------------------------------------------------------- the records
def test_rar_score_is_the_worked_example_of_the_method():
    rubric = weighted(5, 5, 4, 4, 3, 3, -1)
    assert rubric.score([True, True, True, True, True, False, True]) == pytest.approx(22 / 25)
    assert rubric.score([True] * 7) == 1 and rubric.score([False] * 7) == 0
    assert rubric.score([False] * 6 + [True]) == pytest.approx(1 / 25)  # a pitfall avoided counts with its |weight|


def test_healthbench_score_by_hand():
    rubric = weighted(5, 3, -4, -6)
    # A verdict says "good": the first pitfall is present, the second avoided.
    assert rubric.score([True, False, False, True], "healthbench") == pytest.approx((5 - 4) / 8)
    assert rubric.score([True, True, True, True], "healthbench") == 1
    assert rubric.score([False, True, False, False], "healthbench") == pytest.approx((3 - 4 - 6) / 8)  # not clipped
    with pytest.raises(ValueError, match="positive weight"):
        weighted(-1, -2).score([True, True], "healthbench")


def test_score_refuses_a_wrong_count_and_an_unknown_rule():
    with pytest.raises(ValueError, match="2 criteria but 1"):
        weighted(1, 2).score([True])
    with pytest.raises(ValueError, match="unknown score rule"):
        weighted(1).score([True], "mean")


@pytest.mark.parametrize("description, weight, check, message", [
    ("", 1, "", "description"), ("  \n", 1, "", "description"), (None, 1, "", "description"),
    ("x", 0, "", "must not be 0"), ("x", 0.0, "", "must not be 0"), ("x", "5", "", "finite number"),
    ("x", True, "", "finite number"), ("x", None, "", "finite number"), ("x", float("nan"), "", "finite number"),
    ("x", float("-inf"), "", "finite number"), ("x", 1, "says hello", "unknown check"),
    ("x", 1, "states", "what it looks for"), ("x", 1, "states the law", "what it looks for"),
    ("x", 1, "avoids", "what it looks for"), ("x", 1, "shows ", "what it looks for"),
])
def test_criterion_refuses(description, weight, check, message):
    with pytest.raises(ValueError, match=message):
        Criterion("title", description, weight, check)


def test_an_empty_rubric_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        Rubric(())


@pytest.mark.parametrize("description, weight, category", [
    ("Optional: is short", 5, "Optional"), ("Pitfall: guesses", 2, "Pitfall"), ("is right", 4, "Essential"),
    ("is right", 3.9, "Important"), ("is right", 0.5, "Important"),
    ("is wrong", -9, "Pitfall"), ("Essential:is right", 1, "Important"),
    ("Quite Essential: x", 1, "Important"),
])
def test_category(description, weight, category):
    assert Criterion("", description, weight).category == category


# ---------------------------------------------------------------------------------------------------- the prompts
EXAMPLE = Example("q1", "What force?", "12 N", GOOD, FORCE)


@pytest.mark.parametrize("sees, names", [
    ("nothing", []), ("rubric", ["rubric"]), ("answer", ["answer"]), ("rubric+answer", ["rubric", "answer"]),
    ("solution", ["solution"]),
])
def test_teacher_prompt_is_the_students_with_what_it_sees_in_the_middle(sees, names):
    student = prompt("What force?")
    assert student == [("question", "What force?"), ("solve", "")]
    texts = {"rubric": GENERIC.text(), "answer": "12 N", "solution": GOOD}
    teacher = teacher_prompt(EXAMPLE, sees, GENERIC)  # the run's rubric is shown, not the example's own
    assert teacher == [student[0], *((name, texts[name]) for name in names), student[-1]]


def test_every_kind_of_teacher_is_tested_above():
    assert set(TEACHER_CONTEXTS) == {"nothing", "rubric", "answer", "rubric+answer", "solution"}


@pytest.mark.parametrize("sees, lacks", [
    ("rubric", "rubric"), ("answer", "answer"), ("rubric+answer", "rubric"), ("solution", "solution")])
def test_missing_context_raises(sees, lacks):
    with pytest.raises(ValueError, match=f"q2: the teacher should see its {lacks}"):
        teacher_prompt(Example("q2", "What?"), sees, None)


def test_rubric_plus_answer_needs_the_answer_too():
    with pytest.raises(ValueError, match="its answer"):
        teacher_prompt(Example("q2", "What?"), "rubric+answer", FORCE)
    assert teacher_prompt(Example("q2", "What?"), "nothing", None) == prompt("What?")


def test_stage_one_prompts_end_alike():
    student, teacher = prompt("Why?", task="write_rubric"), prompt("Why?", rubric=FORCE, task="write_rubric")
    assert student == [("question", "Why?"), ("write_rubric", "")]
    assert teacher == [("question", "Why?"), ("rubric", FORCE.text()), ("write_rubric", "")]


# ---------------------------------------------------------------------------------------- parsing a sampled rubric
def test_text_is_one_criterion_a_line_and_parses_back():
    assert FORCE.text().split("\n")[0] == "5 Essential: uses force = mass × acceleration"
    assert FORCE.text().split("\n")[4] == "-2 Pitfall: divides by the acceleration"
    for rubric in (FORCE, GENERIC, Rubric((Criterion("", "Essential: half", 2.5),))):
        parsed = parse_rubric("\n" + rubric.text().replace("\n", " \r\n") + "\n")
        assert [(c.weight, c.description) for c in parsed.criteria] == [
            (c.weight, c.description) for c in rubric.criteria]
        assert parsed.text() == rubric.text()
        assert [repr(c.weight) for c in parsed.criteria] == [repr(c.weight) for c in rubric.criteria]  # 5, not 5.0
        assert [c.title for c in parsed.criteria] == [c.category for c in rubric.criteria]


@pytest.mark.parametrize("text, message", [
    ("", "line 1"),
    ("Here is the rubric:\n5 Essential: uses a = b", "line 1"),
    ("5 Essential: uses a = b\n\n3 Important: unit", "line 2"),
    ("5 Essential: uses a = b\n3 Impor", "line 2"),
    ("5 Essential: uses a = b\n3 Important:", "line 2"),
    ("5 Essential: uses a = b\n3 Important:  ", "line 2"),
    ("5 Essential:  uses a = b", "line 1"),
    ("5 essential: uses a = b", "line 1"),
    ("Essential: uses a = b", "line 1"),
    ("+5 Essential: uses a = b", "line 1"),
    ("5 Essential: uses a = b\n2 Pitfall: guesses", "line 2: weight 2 does not fit Pitfall"),
    ("5 Essential: uses a = b\n-1 Optional: short", "line 2: weight -1 does not fit Optional"),
    ("0 Essential: uses a = b", "must not be 0"),
    ("9" * 400 + " Essential: uses a = b", "finite number"),
    ("3 Important: unit\n-1 Pitfall: guesses", "no Essential"),
    ("\n".join(["1 Essential: again"] * 26), "26 criteria"),
])
def test_parse_rubric_refuses(text, message):
    with pytest.raises(ValueError, match=message):
        parse_rubric(text)


def test_25_criteria_are_accepted():
    assert len(parse_rubric("\n".join(["1 Essential: again"] * 25)).criteria) == 25


# ------------------------------------------------------------------------------------------------------- relations
@pytest.mark.parametrize("one, other", [
    ("a = b × c", "a = c × b"), ("a = b + c", "a = c + b"), ("a = ½ × m × v²", "a = v² × m × ½"),
    ("a = b × c ÷ d", "a = c ÷ d × b"), ("a = b ÷ c ÷ d", "a = b ÷ d ÷ c"), ("a = b − c − d", "a = b − d − c"),
    ("a = b − c + d", "a = d + b − c"), (" net force = mass × rate ", "net force = rate × mass"),
    ("v = √(2 × E ÷ m)", "v = √(2 × E ÷ m)"), ("v = √a × b", "v = b × √a"), ("a = b  ×  c", "a = c × b"),
    ("a = b  ÷  c", "a = b ÷ c"),
])
def test_canonical_is_equal_up_to_order(one, other):
    assert canonical(one) is not None and canonical(one) == canonical(other)


def test_canonical_tells_other_relations_apart():
    relations = ["a = b × c", "a = b ÷ c", "a = c ÷ b", "a = b + c", "a = b − c", "a = c − b", "a = b", "b = a × c",
                 "a = b² × c", "a = b × c²", "a = ½ × b × c", "a = 2 × b × c", "a = √(b × c)", "a = √(b ÷ c)",
                 "a = b × c ÷ d", "a = b ÷ c ÷ d", "a = b × b × c", "a = (b + c) × d", "a = b + c × d",
                 "a = √(b × c × d)", "a = c × √(b × d)", "a = e ÷ (b × c × d)", "a = e × c ÷ (b × d)", "a = √b × c"]
    assert len({canonical(relation) for relation in relations}) == len(relations)


@pytest.mark.parametrize("text", ["", "force", "a = ", " = b", "a=b", "Answer: 12 N", "a ="])
def test_canonical_of_what_is_no_relation(text):
    assert canonical(text) is None


def test_key_relations_come_from_essential_criteria_only():
    rubric = Rubric((
        Criterion("", "Essential: uses a = c × b", 5), Criterion("", "Essential: states that d = e + f", 5),
        Criterion("", "Essential: starts from g = h", 4), Criterion("", "Essential: is based on i = j ÷ k", 4),
        Criterion("", "Important: uses l = m × n", 3), Criterion("", "Essential: reaches o = p", 4),
        Criterion("", "Essential: uses common sense", 4),
    ))
    expected = {canonical(r) for r in ("a = b × c", "d = f + e", "g = h", "i = j ÷ k")}
    assert key_relations(rubric) == expected and key_relations(GENERIC) == set()


# ---------------------------------------------------------------------------------------------- the machine grader
@pytest.mark.parametrize("text, expected", [
    ("Answer: 12 N", (12, "N")), ("so\n Answer: -2.50 m/s² \n", (Fraction(-5, 2), "m/s²")),
    ("Answer: 1/3 times", (Fraction(1, 3), "times")), ("Answer: 7", (7, "")), ("Answer: 3  kg m ", (3, "kg m")),
    ("Answer: 1 N\nAnswer: 2 N\nthat is all", (2, "N")), ("Answer: 12 N\nAnswer: many", (12, "N")),
    ("", None), ("12 N", None), ("Answer:12 N", None), ("Answer: N", None), ("The Answer: 12 N", None),
    ("Answer: 12N", None), ("Answer: 1.5/3 N", None), ("Answer: 1/0 N", None), ("Answer: 1/ N", None),
    ("Answer: 1. N", None), ("Answer: 1e5 N", None), ("Answer: " + "9" * 5000 + " N", None), ("answer: 12 N", None),
])
def test_final_answer(text, expected):
    assert final_answer(text) == expected


def test_correct_compares_value_and_unit():
    assert correct(GOOD, "12 N") and correct("Answer: 12.0 N", "12 N") and correct("Answer: 2/6 times", "1/3 times")
    assert not correct("Answer: 13 N", "12 N") and not correct("Answer: 12 J", "12 N")
    assert not correct("Answer: 12", "12 N") and not correct("12 N", "12 N") and not correct("", "12 N")
    assert not correct("Answer: (c)", "(c)") and not correct("", "")  # no number: never correct, None == None is not


@pytest.mark.parametrize("check, met, missed", [
    ("states force = mass × acceleration", ["force = acceleration × mass", "First:\n force = mass × acceleration = 12"],
     ["force = mass + acceleration", "force = mass ÷ acceleration", "so force = mass × acceleration", "", "12 = force",
      "force = 12 N = mass × acceleration"]),
    ("states v = √(2 × E ÷ m)", ["v = √(2 × E ÷ m) = √(4 m²/s²) = 2 m/s"], ["v = √(E ÷ m)", "v = 2 × E ÷ m"]),
    ("states E = ½ × m × v²", ["E = m × v² × ½ = 8 J"], ["E = m × v²", "E = ½ × m × v"]),
    ("states d = a − b", ["d = a − b = 3"], ["d = b − a", "d = a + b", "d = a ÷ b"]),
    ("avoids mass ÷ acceleration", ["", "mass × acceleration"], ["force = mass ÷ acceleration"]),
    ("shows 3 kg; 4 m/s²", ["4 m/s² × 3 kg"], ["3 kg", "4 m/s²", "", "3 kg; 4 m/s"]),
    ("unit N", ["Answer: 9 N"], ["Answer: 12 N·m", "Answer: 12", "12 N", ""]),
    ("unit ", ["Answer: 9"], ["Answer: 9 N", "9", ""]),
    ("answer-line", ["x\nAnswer: 1/2 N\n", "x\n  Answer: 12 N"], ["Answer: 12 N\nso there", "x", "", "Answer: many"]),
])
def test_satisfied(check, met, missed):
    criterion = Criterion("", "Essential: x", 1, check)
    assert [text for text in met if not satisfied(criterion, text)] == []
    assert [text for text in missed if satisfied(criterion, text)] == []


def test_a_criterion_without_a_check_cannot_be_graded():
    with pytest.raises(ValueError, match="no check"):
        satisfied(GENERIC.criteria[0], GOOD)


@pytest.mark.parametrize("completion, rar, healthbench", [
    (GOOD, 1, 1),
    ("force = acceleration × mass = 4 m/s² × 3 kg = 12 J\nAnswer: 12 J", 11 / 14, 9 / 12),
    ("force = mass ÷ acceleration = 3 kg ÷ 4 m/s²\nAnswer: 3/4 N", 7 / 14, 5 / 12),
    ("mass ÷ acceleration", 0, -2 / 12),
    ("", 2 / 14, 0),
])
def test_grade(completion, rar, healthbench):
    assert grade(FORCE, completion) == pytest.approx(rar)
    assert grade(FORCE, completion, "healthbench") == pytest.approx(healthbench)


# ------------------------------------------------------------------------------------ the loader: the known schemas
RUBRIC = [{"title": "Law", "description": "Essential Criteria: Names Ohm's law.", "weight": 5},
          {"title": "Guess", "description": "Pitfall Criteria: Does not guess.", "weight": -1}]
TEXT = "5 Essential: Names Ohm's law.\n-1 Pitfall: Does not guess."


def load(tmp_path, *rows, name="rows.jsonl"):
    path = tmp_path / name
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return load_examples(path)


def load_one(tmp_path, row):
    examples, report = load(tmp_path, row)
    assert len(examples) == report.kept == 1 and not report.dropped
    return examples[0], report


def rar(question="Which law?", rubric=RUBRIC, **more):
    return {"question": question, "reference_answer": "Ohm's", "question_source": "me", "rubric": rubric, **more}


def test_our_own_form_comes_back_as_it_was(tmp_path):
    bare = Example("q2", "Why?", meta={"law": "none", "numbers": [1, 2]})
    examples, report = load(tmp_path, EXAMPLE.to_json(), bare.to_json())
    assert examples == [EXAMPLE, bare] and not report.notes
    assert "force = mass × acceleration" in EXAMPLE.to_json()  # readable, not \u00d7


def test_rar(tmp_path):
    example, report = load_one(tmp_path, rar(rubric_list=["a", "b"], rubric_count=2))
    assert (example.id, example.question, example.answer) == ("rows:1", "Which law?", "Ohm's")
    assert example.rubric.text() == TEXT and example.rubric.criteria[0].title == "Law" and example.meta == {}
    assert parse_rubric(TEXT) and not report.notes


def test_rubrichub_rl(tmp_path):
    rubrics = [{"criterion": "Names Ohm's\n\n  law.", "points": 12, "tags": {"function": "llm", "parameters": ""}},
               {"criterion": "Is short.", "points": 1, "tags": {"parameters": None}}]
    row = {"prompt": [{"role": "user", "content": "Which law?"}], "ability": "science",
           "reward_model": {"ground_truth": "", "rubrics": rubrics, "style": "rubric"}}
    elsewhere = row | {"Rubrics": rubrics, "reward_model": {"ground_truth": "", "rubrics": None}}
    for form in (row, elsewhere):
        example, _ = load_one(tmp_path, form)
        assert (example.question, example.answer, example.solution) == ("Which law?", "", "")
        assert example.rubric.text() == "12 Essential: Names Ohm's law.\n1 Important: Is short."
        assert [(c.title, c.check) for c in example.rubric.criteria] == [("Essential", ""), ("Important", "")]
    row["reward_model"] = {"ground_truth": "Ohm's", "rubrics": rubrics}
    assert load_one(tmp_path, row)[0].answer == "Ohm's"


def test_rubrichub_sft(tmp_path):
    row = {"source": "x", "query": "Which law?", "answer": "It is Ohm's.",
           "rubrics": [{"criterion": "Ohm", "points": 9}],
           "meta": {"part": 2}}
    example, _ = load_one(tmp_path, row)
    assert (example.question, example.answer, example.solution) == ("Which law?", "It is Ohm's.", "It is Ohm's.")
    assert example.rubric.text() == "9 Essential: Ohm" and example.meta == {"part": 2}


def test_healthbench(tmp_path):
    row = {"prompt_id": "h-7", "prompt": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"},
                                          {"role": "assistant", "content": ""}, {"content": "It hurts"}],
           "rubrics": [{"criterion": "Asks where", "points": 5, "tags": ["level:example"]},
                       {"criterion": "Prescribes drugs", "points": -10, "tags": []}], "ideal_completions_data": None}
    example, report = load_one(tmp_path, row)
    assert example.id == "h-7" and example.question == "System: Be kind.\n\nUser: Hi\n\nUser: It hurts"
    assert example.rubric.text() == "5 Essential: Asks where\n-10 Pitfall: Prescribes drugs" and not report.notes
    row["ideal_completions_data"] = {"ideal_completion": "Where does it hurt?", "ideal_completions_group": "g"}
    assert load_one(tmp_path, row)[0].solution == "Where does it hurt?"


def test_researchqa_has_no_weights(tmp_path):
    row = {"id": 17, "query": "What is known?",
           "rubric": [{"rubric_item": "Cites it", "type": "Citation"}, {"rubric_item": "Compares", "type": None}]}
    example, report = load_one(tmp_path, row)
    assert example.id == "17" and (example.answer, example.solution) == ("", "")
    assert example.rubric.text() == "1 Important: Cites it\n1 Important: Compares"
    assert [c.title for c in example.rubric.criteria] == ["Citation", "Important"]
    assert report.notes == {"criteria without a weight": 2, "rubrics that parse_rubric would refuse": 1}


@pytest.mark.parametrize("given, expected", [
    (0, "0"), ("0", "0"), (" (c) ", "(c)"), ("6.02 × 10^23", "6.02 × 10^23"), (2.5, "2.5"), (False, "false"),
    ("$\\frac{1}{2}$", "$\\frac{1}{2}$"), ("\\\\frac", "\\\\frac"), ("<|eos|>", "<|eos|>"),
])
@pytest.mark.parametrize("name", ["answer", "reference_answer"])
def test_plain_answers_stay_as_they_are(tmp_path, name, given, expected):
    example, _ = load_one(tmp_path, {"question": "<|eos|> What is \\(x\\)?\nAnd y?", name: given})
    assert (example.answer, example.solution, example.rubric) == (expected, "", None)
    assert example.question == "<|eos|> What is \\(x\\)?\nAnd y?"  # text of a special token, LaTeX and lines stay


@pytest.mark.parametrize("labels, key, expected", [
    ("ABCDE", "B", "two"), ("ABCDE", "E", "five"), ("12345", "2", "two"), ("12345", 3, "three"), ("ABCDE", "4", "four"),
    ("12345", "A", "one"),
])
def test_multiple_choice_with_an_answer_key(tmp_path, labels, key, expected):
    choices = {"text": ["one", "two", "three", "four", "five"], "label": list(labels)}
    example, _ = load_one(tmp_path, {"id": "m", "question": "How many?", "choices": choices, "answerKey": key})
    assert example.answer == expected
    assert example.question.split("\n")[:3] == ["How many?", f"{labels[0]}) one", f"{labels[1]}) two"]
    assert len(example.question.split("\n")) == 6


def test_multiple_choice_with_distractors(tmp_path):
    row = {"question": "What falls?", "distractor1": "snow", "distractor2": "air", "distractor3": "light",
           "correct_answer": "rain", "support": "Rain falls."}
    example, _ = load_one(tmp_path, row)
    assert example.question == "What falls?\nA) air\nB) light\nC) rain\nD) snow"
    assert (example.answer, example.solution) == ("rain", "Rain falls.")
    example, _ = load_one(tmp_path, {"question": "What falls?", "distractor1": "air", "correct_answer": "rain"})
    assert example.question == "What falls?\nA) air\nB) rain"


def test_rows_of_several_schemas_may_be_mixed_and_blank_lines_are_skipped(tmp_path):
    examples, report = load(tmp_path, "\ufeff" + json.dumps(rar()), "", {"question": "1 + 1?", "answer": 2}, "  ")
    assert [(e.id, e.answer) for e in examples] == [("rows:1", "Ohm's"), ("rows:3", "2")]
    assert report.kept == 2 and str(report) == f"kept 2 of 2 rows of {tmp_path / 'rows.jsonl'}"


# ------------------------------------------------------------------------------------------ the loader: odd rubrics
@pytest.mark.parametrize("description, weight, line", [
    ("Essential: x", 5, "5 Essential: x"), ("Important Criteria: x", 3, "3 Important: x"),
    ("Optional Criterion:x", 1, "1 Optional: x"), ("Negative Criteria: x", -2, "-2 Pitfall: x"),
    ("ESSENTIAL CRITERIA : x", 4, "4 Essential: x"), ("x", 4, "4 Essential: x"), ("x", 1, "1 Important: x"),
    ("x", -1, "-1 Pitfall: x"), ("x\n y\r\n\tz", 4.5, "4.5 Essential: x y z"), ("x", "5", "5 Essential: x"),
    ("x", 5.0, "5 Essential: x"), ("Optional: x", None, "1 Optional: x"), ("x", "", "1 Important: x"),
    ("Pitfall Criteria: x", None, "-1 Pitfall: x"), ("Negative: x", None, "-1 Pitfall: x"),
    ("Pitfall: x", 2, "2 Pitfall: x"), ("Essential: x", -2, "-2 Essential: x"),  # disagreement stays as written
    ("Importantly: x", 5, "5 Essential: Importantly: x"),
])
def test_one_criterion_becomes_one_line(tmp_path, description, weight, line):
    example, report = load_one(tmp_path, rar(rubric=[{"title": "t", "description": description, "weight": weight},
                                                     {"title": "k", "description": "Essential: key", "weight": 5}]))
    assert example.rubric.text() == line + "\n5 Essential: key"
    assert report.notes["criteria without a weight"] == (weight in (None, ""))
    assert report.notes["rubrics that parse_rubric would refuse"] == (line in ("2 Pitfall: x", "-2 Essential: x"))


def test_criteria_that_say_nothing_are_left_out(tmp_path):
    odd = [{"description": "no effect", "weight": 0.0}, {"description": "no effect", "weight": "0"},
           {"description": " ", "weight": 3}, {"description": "Essential Criteria:", "weight": 3}, {"weight": 2}]
    example, report = load_one(tmp_path, rar(rubric=RUBRIC + odd))
    assert example.rubric.text() == TEXT
    assert report.notes == {"criteria left out, without text or of weight 0": 5}


def test_a_criterion_may_be_a_bare_string_and_a_foreign_check_is_not_run(tmp_path):
    example, _ = load_one(tmp_path, rar(rubric=["Essential: x", {"description": "y", "weight": 5, "check": "rm -rf"}]))
    assert example.rubric.text() == "1 Essential: x\n5 Essential: y"
    assert [c.check for c in example.rubric.criteria] == ["", ""]


def test_more_than_25_criteria_are_kept_for_reading(tmp_path):
    example, report = load_one(tmp_path, rar(rubric=[{"criterion": f"point {i}", "points": 5} for i in range(42)]))
    assert len(example.rubric.criteria) == 42 and report.notes == {"rubrics that parse_rubric would refuse": 1}


@pytest.mark.parametrize("text", [
    json.dumps(RUBRIC),
    "Here is the rubric [1], as asked:\n```json\n" + json.dumps(RUBRIC, indent=2) + "\n```\nGood luck [2].",
    '["notes"] [{"step": 1}] ' + json.dumps(RUBRIC),
    json.dumps({"rubric": RUBRIC}),
    json.dumps([{"criterion": c["description"], "points": c["weight"]} for c in RUBRIC]),
    json.dumps([{"rubric_item": c["description"], "points": c["weight"]} for c in RUBRIC]),
    json.dumps(RUBRIC).replace("Ohm's law.", "Ohm's\nlaw."),  # a raw line break inside a string
])
def test_a_rubric_given_as_json_text(tmp_path, text):
    example, report = load_one(tmp_path, rar(rubric=text))
    assert example.rubric.text() == TEXT and not report.notes


def test_bad_escapes_are_mended(tmp_path):
    text = r'[{"description": "Essential: \(x\) is \frac{1}{2} \\alpha \"so\" \u00b2", "weight": 5}]'
    example, report = load_one(tmp_path, rar(rubric=text))
    assert example.rubric.text() == r'5 Essential: \(x\) is \frac{1}{2} \alpha "so" ²'
    assert report.notes == {"rubrics with bad escapes mended": 1}


@pytest.mark.parametrize("row, reason", [
    (rar(""), "empty question"), (rar("  \n"), "empty question"), (rar(None), "empty question"),
    ({"text": "x"}, "empty question"), ({"prompt": [], "rubrics": RUBRIC}, "empty question"),
    ({"prompt": ["x", {"role": "user", "content": None}], "rubrics": RUBRIC}, "empty question"),
    *(({"question": "x", "answer": "y", field: None}, "no rubric") for field in (
        "rubric", "rubrics", "Rubrics", "rubric_list", "rubric_count", "question_source", "reward_model", "prompt",
        "query")),
    (rar(id=["x"]), "id is not text"), (rar(solution=["x"]), "solution is not text"),
    ({"prompt": {"x": 1}, "rubrics": RUBRIC}, "prompt is not text"),
    ({"prompt": [{"role": "user", "content": ["x"]}], "rubrics": RUBRIC}, "prompt is not text"),
    ({"prompt": [{"role": ["user"], "content": "x"}], "rubrics": RUBRIC}, "role is not text"),
    ({"question": "x", "choices": {"text": ["a"], "label": ["A"]}, "answerKey": ["A"]}, "answerKey is not text"),
    ({"question": "x", "choices": {"text": [["a"]], "label": ["A"]}, "answerKey": "A"}, "choices is not text"),
    ({"question": "x", "distractor1": ["a"], "correct_answer": "A"}, "choices is not text"),
    ({"question": "x", "choices": {"text": "a", "label": ["A"]}, "answerKey": "A"},
     "choices are not {text: [...], label: [...]}"),
    ({"question": "x", "choices": {"text": ["a"], "label": "A"}, "answerKey": "A"},
     "choices are not {text: [...], label: [...]}"),
    (rar(["x"]), "question is not text"), (rar(reference_answer={"a": 1}), "answer is not text"),
    (rar(rubric=None), "no rubric"), (rar(rubric=[]), "no rubric"), (rar(rubric=""), "no rubric"),
    ({"question": "x", "reference_answer": "y", "question_source": "z"}, "no rubric"),
    ({"prompt": [{"role": "user", "content": "x"}], "reward_model": {"rubrics": []}}, "no rubric"),
    ({"prompt": "x", "reward_model": None}, "no rubric"), ({"query": "x", "answer": "y"}, "no rubric"),
    ({"question": "x", "answer": ""}, "neither rubric nor answer"), ({"question": "x"}, "neither rubric nor answer"),
    (rar(rubric="I cannot help with that [1]."), "rubric is not a JSON array of criteria"),
    (rar(rubric=json.dumps(RUBRIC)[:-2]), "rubric is not a JSON array of criteria"),  # cut off
    (rar(rubric='[{"step": 1}]'), "rubric is not a JSON array of criteria"),
    (rar(rubric='[{"a":' * 5000), "rubric is not a JSON array of criteria"),
    (rar(rubric={"a": 1}), "rubric is not a list"), (rar(rubric=7), "rubric is not a list"),
    (rar(rubric=[[1]]), "a criterion is not an object"), (rar(rubric=[RUBRIC[0], 3]), "a criterion is not an object"),
    (rar(rubric=[{"description": "x", "weight": 0}]), "no usable criterion"),
    (rar(rubric=[{"description": ["x"], "weight": 1}]), "criterion is not text"),
    *((rar(rubric=[{"description": "x", "weight": weight}]), "a criterion's weight or check is not valid")
      for weight in ("high", True, float("nan"), float("inf"), [1], 10 ** 400)),
    (json.loads(EXAMPLE.to_json().replace("states", "dances")), "a criterion's weight or check is not valid"),
    ({"question": "x", "choices": {"text": ["a"], "label": ["A"]}, "answerKey": "B"}, "answerKey names no choice"),
    ({"question": "x", "choices": {"text": ["a"], "label": ["A"]}, "answerKey": ""}, "answerKey names no choice"),
    ({"question": "x", "choices": {"text": [""], "label": ["A"]}, "answerKey": "A"}, "answerKey names no choice"),
    ({"question": "x", "choices": {"text": ["a", "b"], "label": ["A"]}, "answerKey": "A"},
     "choices are not {text: [...], label: [...]}"),
    ({"question": "x", "choices": ["a"], "answerKey": "A"}, "choices are not {text: [...], label: [...]}"),
    ({"question": "x", "distractor1": "y", "correct_answer": ""}, "neither rubric nor answer"),
])
def test_an_odd_row_is_dropped_and_counted(tmp_path, row, reason):
    examples, report = load(tmp_path, row, {"id": "good", "question": "1 + 1?", "answer": "2"})
    assert [e.id for e in examples] == ["good"] and report.dropped == {reason: 1} and not report.notes


def test_the_first_of_equal_questions_stays_and_the_report_reads_well(tmp_path):
    weightless = [{"description": "Essential: x"}, {"description": "y"}]
    rows = [rar(reference_answer="first"), rar(" Which law? ", weightless, reference_answer="second"), rar(),
            rar("Other?", weightless), rar(""), {"question": "Which law?", "answer": "third"}]
    examples, report = load(tmp_path, *rows)
    assert [(e.id, e.answer) for e in examples] == [("rows:1", "first"), ("rows:4", "Ohm's")]
    assert str(report) == (f"kept 2 of 6 rows of {tmp_path / 'rows.jsonl'}; dropped: 3 duplicate question, "
                           "1 empty question\nin the kept rows: 2 criteria without a weight")


def test_a_question_with_other_choices_is_another_question(tmp_path):
    def row(*texts):
        return {"question": "Which?", "choices": {"text": texts, "label": ["A", "B"]}, "answerKey": "A"}
    assert load(tmp_path, row("a", "b"), row("c", "d"), row("a", "b"))[1].dropped == {"duplicate question": 1}


def test_half_a_surrogate_pair_does_not_reach_the_text(tmp_path):
    example, _ = load_one(tmp_path, '{"question": "a \\ud83d b \\ud83d\\ude00", "answer": "x"}')
    assert example.question == "a ? b \U0001f600" and example.to_json().encode("utf-8")


# ------------------------------------------------------------------------------------------ the loader: broken files
GOOD_LINE = b'{"question": "1 + 1?", "answer": "2"}\n'


@pytest.mark.parametrize("content, message", [
    (GOOD_LINE + b"question,answer\n", ":2: line: expected a JSON object in UTF-8: Expecting value: column 1"),
    (GOOD_LINE + b'{"question": "cut o', ":2: line: expected a JSON object in UTF-8: Unterminated string"),
    (b"\n\n[1, 2]\n" + GOOD_LINE, ":3: line: expected a JSON object in UTF-8: got list"),
    (b"7\n", ":1: line: expected a JSON object in UTF-8: got int"),
    (GOOD_LINE * 2 + b'{"question": "caf\xe9", "answer": "2"}\n' + GOOD_LINE, ":3: line: .* can't decode byte 0xe9"),
    (GOOD_LINE + b"[" * 100_000, ":2: line: expected a JSON object in UTF-8: "),
    (b"", ":0: row: expected at least one usable row, but kept 0 of 0 rows"),
    (b" \n\n", ":2: row: expected at least one usable row, but kept 0 of 0 rows"),
    (b'{"question": ""}\n{"a": 1}\n', ":2: row: expected at least one usable row, .*; dropped: 2 empty question"),
])
def test_a_broken_file_raises_one_line_that_says_where(tmp_path, content, message):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="^" + re.escape(str(path)) + message) as error:
        load_examples(path)
    assert "\n" not in str(error.value) and type(error.value) is ValueError


def test_a_file_that_cannot_be_read(tmp_path):
    for path in (tmp_path / "missing.jsonl", tmp_path):
        with pytest.raises(ValueError, match=f"^{re.escape(str(path))}:0: file: expected a file that can be read: "):
            load_examples(path)
