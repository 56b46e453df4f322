"""Rubrics: scores by hand, prompts, the two parsers, the machine grader."""

from dataclasses import replace
from fractions import Fraction

import pytest

from data.grammar import canonical, correct, final_answer
from examples import EXAMPLE, FORCE, GOOD
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


def weighted(*weights):
    return Rubric(tuple(Criterion("", f"criterion {i}", w) for i, w in enumerate(weights)))


def test_rar_score_is_the_worked_example_of_the_method():
    rubric = weighted(5, 5, 4, 4, 3, 3, -1)
    assert rubric.score([True, True, True, True, True, False, True]) == pytest.approx(22 / 25)
    assert rubric.score([True] * 7) == 1 and rubric.score([False] * 7) == 0
    assert rubric.score([False] * 6 + [True]) == pytest.approx(
        1 / 25
    )  # a pitfall avoided counts with its |weight|


def test_healthbench_score_by_hand():
    rubric = weighted(5, 3, -4, -6)
    # A verdict says "good": the first pitfall is present, the second avoided.
    assert rubric.score([True, False, False, True], "healthbench") == pytest.approx((5 - 4) / 8)
    assert rubric.score([True, True, True, True], "healthbench") == 1
    assert rubric.score([False, True, False, False], "healthbench") == pytest.approx(
        (3 - 4 - 6) / 8
    )  # not clipped
    with pytest.raises(ValueError, match="positive weight"):
        weighted(-1, -2).score([True, True], "healthbench")


def test_score_refuses_a_wrong_count_and_an_unknown_rule():
    with pytest.raises(ValueError, match="2 criteria but 1"):
        weighted(1, 2).score([True])
    with pytest.raises(ValueError, match="unknown score rule"):
        weighted(1).score([True], "mean")


@pytest.mark.parametrize(
    "description, weight, check, message",
    [
        ("", 1, "", "description"),
        ("  \n", 1, "", "description"),
        (None, 1, "", "description"),
        ("x", 0, "", "must not be 0"),
        ("x", 0.0, "", "must not be 0"),
        ("x", "5", "", "finite number"),
        ("x", True, "", "finite number"),
        ("x", None, "", "finite number"),
        ("x", float("nan"), "", "finite number"),
        ("x", float("-inf"), "", "finite number"),
        ("x", 1, "says hello", "unknown check"),
        ("x", 1, "states", "what it looks for"),
        ("x", 1, "states the law", "what it looks for"),
        ("x", 1, "avoids", "what it looks for"),
        ("x", 1, "shows ", "what it looks for"),
    ],
)
def test_criterion_refuses(description, weight, check, message):
    with pytest.raises(ValueError, match=message):
        Criterion("title", description, weight, check)


def test_an_empty_rubric_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        Rubric(())


@pytest.mark.parametrize(
    "description, weight, category",
    [
        ("Optional: is short", 5, "Optional"),
        ("Pitfall: guesses", 2, "Pitfall"),
        ("is right", 4, "Essential"),
        ("is right", 3.9, "Important"),
        ("is right", 0.5, "Important"),
        ("is wrong", -9, "Pitfall"),
        ("Essential:is right", 1, "Important"),
        ("Quite Essential: x", 1, "Important"),
    ],
)
def test_category(description, weight, category):
    assert Criterion("", description, weight).category == category


@pytest.mark.parametrize(
    "sees, names",
    [
        ("nothing", []),
        ("rubric", ["rubric"]),
        ("answer", ["answer"]),
        ("rubric+answer", ["rubric", "answer"]),
        ("solution", ["solution"]),
        ("hint", ["hint"]),
    ],
)
def test_teacher_prompt_is_the_students_with_what_it_sees_in_the_middle(sees, names):
    student = prompt("What force?")
    assert student == [("question", "What force?"), ("solve", "")]
    texts = {"rubric": GENERIC.text(), "answer": "12 N", "solution": GOOD}
    texts["hint"] = "A critic says: the unit is wrong."
    example = replace(EXAMPLE, hint=texts["hint"])
    # The run's rubric is shown, not the example's own.
    teacher = teacher_prompt(example, sees, GENERIC)
    assert teacher == [student[0], *((name, texts[name]) for name in names), student[-1]]


def test_every_kind_of_teacher_is_tested_above():
    tested = {"nothing", "rubric", "answer", "rubric+answer", "solution", "hint"}
    assert set(TEACHER_CONTEXTS) == tested


@pytest.mark.parametrize(
    "sees, lacks",
    [
        ("rubric", "rubric"),
        ("answer", "answer"),
        ("rubric+answer", "rubric"),
        ("solution", "solution"),
    ],
)
def test_missing_context_raises(sees, lacks):
    with pytest.raises(ValueError, match=f"q2: the teacher should see its {lacks}"):
        teacher_prompt(Example("q2", "What?"), sees, None)


def test_rubric_plus_answer_needs_the_answer_too():
    with pytest.raises(ValueError, match="its answer"):
        teacher_prompt(Example("q2", "What?"), "rubric+answer", FORCE)
    assert teacher_prompt(Example("q2", "What?"), "nothing", None) == prompt("What?")


def test_stage_one_prompts_end_alike():
    student, teacher = (
        prompt("Why?", task="write_rubric"),
        prompt("Why?", rubric=FORCE, task="write_rubric"),
    )
    assert student == [("question", "Why?"), ("write_rubric", "")]
    assert teacher == [("question", "Why?"), ("rubric", FORCE.text()), ("write_rubric", "")]


def test_text_is_one_criterion_a_line_and_parses_back():
    assert FORCE.text().split("\n")[0] == "5 Essential: uses force = mass × acceleration"
    assert FORCE.text().split("\n")[4] == "-2 Pitfall: divides by the acceleration"
    for rubric in (FORCE, GENERIC, Rubric((Criterion("", "Essential: half", 2.5),))):
        parsed = parse_rubric("\n" + rubric.text().replace("\n", " \r\n") + "\n")
        assert [(c.weight, c.description) for c in parsed.criteria] == [
            (c.weight, c.description) for c in rubric.criteria
        ]
        assert parsed.text() == rubric.text()
        assert [repr(c.weight) for c in parsed.criteria] == [
            repr(c.weight) for c in rubric.criteria
        ]  # 5, not 5.0
        assert [c.title for c in parsed.criteria] == [c.category for c in rubric.criteria]


@pytest.mark.parametrize(
    "text, message",
    [
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
    ],
)
def test_parse_rubric_refuses(text, message):
    with pytest.raises(ValueError, match=message):
        parse_rubric(text)


def test_25_criteria_are_accepted():
    assert len(parse_rubric("\n".join(["1 Essential: again"] * 25)).criteria) == 25


@pytest.mark.parametrize(
    "one, other",
    [
        ("a = b × c", "a = c × b"),
        ("a = b + c", "a = c + b"),
        ("a = ½ × m × v²", "a = v² × m × ½"),
        ("a = b × c ÷ d", "a = c ÷ d × b"),
        ("a = b ÷ c ÷ d", "a = b ÷ d ÷ c"),
        ("a = b − c − d", "a = b − d − c"),
        ("a = b − c + d", "a = d + b − c"),
        (" net force = mass × rate ", "net force = rate × mass"),
        ("v = √(2 × E ÷ m)", "v = √(2 × E ÷ m)"),
        ("v = √a × b", "v = b × √a"),
        ("a = b  ×  c", "a = c × b"),
        ("a = b  ÷  c", "a = b ÷ c"),
    ],
)
def test_canonical_is_equal_up_to_order(one, other):
    assert canonical(one) is not None and canonical(one) == canonical(other)


def test_canonical_tells_other_relations_apart():
    relations = [
        "a = b × c",
        "a = b ÷ c",
        "a = c ÷ b",
        "a = b + c",
        "a = b − c",
        "a = c − b",
        "a = b",
        "b = a × c",
        "a = b² × c",
        "a = b × c²",
        "a = ½ × b × c",
        "a = 2 × b × c",
        "a = √(b × c)",
        "a = √(b ÷ c)",
        "a = b × c ÷ d",
        "a = b ÷ c ÷ d",
        "a = b × b × c",
        "a = (b + c) × d",
        "a = b + c × d",
        "a = √(b × c × d)",
        "a = c × √(b × d)",
        "a = e ÷ (b × c × d)",
        "a = e × c ÷ (b × d)",
        "a = √b × c",
    ]
    assert len({canonical(relation) for relation in relations}) == len(relations)


@pytest.mark.parametrize("text", ["", "force", "a = ", " = b", "a=b", "Answer: 12 N", "a ="])
def test_canonical_of_what_is_no_relation(text):
    assert canonical(text) is None


def test_key_relations_come_from_essential_criteria_only():
    rubric = Rubric(
        (
            Criterion("", "Essential: uses a = c × b", 5),
            Criterion("", "Essential: states that d = e + f", 5),
            Criterion("", "Essential: starts from g = h", 4),
            Criterion("", "Essential: is based on i = j ÷ k", 4),
            Criterion("", "Important: uses l = m × n", 3),
            Criterion("", "Essential: reaches o = p", 4),
            Criterion("", "Essential: uses common sense", 4),
        )
    )
    expected = {canonical(r) for r in ("a = b × c", "d = f + e", "g = h", "i = j ÷ k")}
    assert key_relations(rubric) == expected and key_relations(GENERIC) == set()


@pytest.mark.parametrize(
    "text, expected",
    [
        ("Answer: 12 N", (12, "N")),
        ("so\n Answer: -2.50 m/s² \n", (Fraction(-5, 2), "m/s²")),
        ("Answer: 1/3 times", (Fraction(1, 3), "times")),
        ("Answer: 7", (7, "")),
        ("Answer: 3  kg m ", (3, "kg m")),
        ("Answer: 1 N\nAnswer: 2 N\nthat is all", (2, "N")),
        ("Answer: 12 N\nAnswer: many", None),
        ("Answer: 1.5/3 N", None),
        ("Answer: " + "9" * 5000 + " N", None),
        ("Answer: 1" + "0" * 5000 + "/3 N", None),
        ("Answer: 2e999 N", (2 * 10**999, "N")),
    ],
)
def test_final_answer(text, expected):
    given = final_answer(text)
    assert (given and (given.value, given.unit)) == expected


def test_without_a_number_nothing_is_correct():
    assert not correct("Answer: (c)", "(c)") and not correct("", "") and not correct("Answer:", "")


def test_a_criterion_without_a_check_cannot_be_graded():
    with pytest.raises(ValueError, match="no check"):
        satisfied(GENERIC.criteria[0], GOOD)


@pytest.mark.parametrize(
    "completion, rar, healthbench",
    [
        (GOOD, 1, 1),
        (GOOD.replace("Answer: 12", "Answer: 13"), 14 / 19, 12 / 17),
        ("force = acceleration × mass = 4 m/s² × 3 kg = 12 J\nAnswer: 12 J", 11 / 19, 9 / 17),
        ("force = mass ÷ acceleration = 3 kg ÷ 4 m/s²\nAnswer: 3/4 N", 7 / 19, 5 / 17),
        ("mass ÷ acceleration", 0, -2 / 17),
        ("", 2 / 19, 0),
    ],
)
def test_grade(completion, rar, healthbench):
    assert grade(EXAMPLE, completion) == pytest.approx(rar)
    assert grade(EXAMPLE, completion, "healthbench") == pytest.approx(healthbench)


def test_an_answer_that_is_no_quantity_is_left_to_the_rubric():
    for answer in ("", "(c)", "it doubles"):
        assert grade(replace(EXAMPLE, answer=answer), "") == pytest.approx(2 / 14)


def test_no_model_reads_the_criterion_of_the_answer():
    grade(EXAMPLE, GOOD)
    read = str([teacher_prompt(EXAMPLE, context, FORCE) for context in ("nothing", "rubric")])
    assert "12 N" not in read and "final answer" not in read
    assert "12 N" not in str(EXAMPLE.rubric)
