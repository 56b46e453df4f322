"""Which questions train, validate and test; what a right choice and a valid rubric are."""

import json
from pathlib import Path

import pytest

from data.load import load_examples
from data.needs import with_needs
from data.split import held_out_questions, training_questions, validation_questions
from rubrics import Criterion, Example, Rubric, can_check, form_of, is_right, parse_rubric
from trainer.settings import Settings


def write(path, numbers):
    rows = [{"question": f"What is {i}?", "answer": str(i)} for i in numbers]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return str(path)


def parts(out, settings):
    train = training_questions("stage2", out, settings)
    found = (train, validation_questions(out, settings), held_out_questions(settings))
    return [{e.question for e in part} for part in found]


def test_every_question_has_one_place_and_keeps_it(tmp_path):
    settings = Settings(data=write(tmp_path / "a.jsonl", range(300)))
    train, valid, test = parts(tmp_path, settings)
    assert not train & valid and not train & test and not valid & test
    assert len(train | valid | test) == 300
    assert 15 <= len(valid) <= 50 and 15 <= len(test) <= 50  # a tenth each, by chance
    more = Settings(data=write(tmp_path / "b.jsonl", reversed(range(-200, 400))))
    for old, new in zip((train, valid, test), parts(tmp_path, more)):
        assert old <= new
    assert parts(tmp_path, Settings(data=settings.data, held_out=0))[1:] == [set(), set()]


def test_the_questions_of_a_test_file_are_not_trained_on(tmp_path):
    data, test = write(tmp_path / "a.jsonl", range(50)), write(tmp_path / "t.jsonl", range(40, 60))
    settings = Settings(data=data, eval_data=test)
    train, valid, tested = parts(tmp_path, settings)
    assert tested == {f"What is {i}?" for i in range(40, 60)}
    assert not (train | valid) & tested and len(train | valid) == 40


CHOICE = {"question": "Which?", "choices": {"text": ["iron", "gold"], "label": ["A", "B"]}}


@pytest.mark.parametrize(
    "text, right",
    [
        ("Gold is heavier.\nAnswer: B", True),
        ("**Answer: B**", True),
        ("The answer is (B).", True),
        ("Answer: b) gold", True),
        ("gold", True),
        ("Answer: gold", True),
        ("Answer: A", False),
        ("The answer is B because it is dense", True),
        ("Answer: B gold", True),
        ("Answer: b", True),
        ("Answer: a bar of gold", False),
        ("Answer: B. No, answer: A", False),
        ("iron", False),
        ("B is wrong", False),
        ("", False),
    ],
)
def test_a_choice_is_told_by_its_letter_or_its_text(text, right, tmp_path):
    path = tmp_path / "c.jsonl"
    path.write_text(json.dumps(CHOICE | {"answerKey": "B"}), encoding="utf-8")
    (example,) = load_examples(path)[0]
    assert can_check(example) and is_right(example, text) == right


def test_a_free_text_cannot_be_checked_and_gsm8k_can(tmp_path):
    assert not can_check(Example("1", "Why?", "because of gravity"))
    path = tmp_path / "g.jsonl"
    row = {"question": "How many?", "answer": "3 and 4\nmake 7\n#### 7"}
    path.write_text(json.dumps(row), encoding="utf-8")
    (example,) = load_examples(path)[0]
    assert (example.answer, example.solution) == ("7", "3 and 4\nmake 7")
    assert is_right(example, "So there are 7.\nAnswer: 7")


def rubric(*criteria):
    return Rubric(tuple(Criterion("", text, weight) for text, weight in criteria))


def test_a_rubric_written_like_the_references_is_valid():
    """By hand: each reference breaks one of the strict rules, and so is the rule without it."""
    strict = rubric(("Essential: a", 5))
    many = rubric(*[("Essential: a", 5)] * 30)
    plain = rubric(("Important: a", 1))
    odd = rubric(("Essential: a", 5), ("Pitfall: b", 2))
    for reference in (many, plain, odd):
        with pytest.raises(ValueError):
            parse_rubric(reference.text())
        with pytest.raises(ValueError):
            parse_rubric(reference.text(), form_of([strict]))
        assert parse_rubric(reference.text(), form_of([strict, reference])).criteria
    with pytest.raises(ValueError, match="at most 30"):
        parse_rubric("\n".join(["5 Essential: a"] * 31), form_of([many]))


@pytest.mark.parametrize(
    "choices, key, right, wrong",
    [  # texts that open like a label
        (["a mountain range", "a plain"], "A", "Answer: a mountain range", "Answer: a plain"),
        (["a mountain range", "a plain"], "B", "Answer: a plain", "Answer: a mountain range"),
        (["I ate.", "A dog"], "B", "answer: **A dog**", "Answer: A cat"),
        (["7 liters", "1 liter"], "A", "Answer: 7 liters", "Answer: 1 liter"),
        (["gold", "gas"], "B", "Answer: A gas", "Answer: A bar"),
        (["0.5 m", "5 m"], "A", "Answer: 0.5 m", "Answer: 5 m"),
    ],
)
def test_a_choice_whose_text_opens_like_a_label(choices, key, right, wrong, tmp_path):
    path = tmp_path / "c.jsonl"
    row = {"question": "Which?", "choices": {"text": choices, "label": ["A", "B"]}}
    path.write_text(json.dumps(row | {"answerKey": key}), encoding="utf-8")
    (example,) = load_examples(path)[0]
    assert can_check(example) and is_right(example, right) and not is_right(example, wrong)
    assert is_right(example, f"Answer: {key}") and is_right(
        example, f"({key}) fits: answer ({key})"
    )


def test_questions_that_lack_what_is_needed_are_left_out_and_counted(capsys):
    some = [Example("1", "a", "4 N"), Example("2", "b", "so"), Example("3", "c", solution="x")]
    settings = Settings(data="f.jsonl")
    assert with_needs(some, {"an answer to check": "--method grpo"}, Path(), settings) == some[:1]
    assert "left out 2 of 3 questions" in capsys.readouterr().out
    assert with_needs(some, {}, Path(), settings) == some and not capsys.readouterr().out
    with pytest.raises(ValueError) as error:
        with_needs(some[1:], {"a solution": "--method opsd", "an answer": "--x"}, Path(), settings)
    assert str(error.value) == (
        "f.jsonl: --x needs an answer, and no question has one; "
        "of 1 questions 1 have a solution (--method sft)"
    )


def test_an_answer_that_can_never_count_as_right_cannot_be_checked():
    """A quantity behind the last line break was read as the answer, but no answer ever matched it."""
    assert not can_check(
        Example("1", "Why?", "P = 364 Pa.\n\nGiven that r = 0.15 mm\nAnswer: 3 Pa")
    )
