"""Rubrics and solutions made worse on purpose: how, how often, by which seed."""

import random
from collections import Counter
from dataclasses import replace

import pytest

from data.grammar import canonical
from data.sources import (
    CORRUPTIONS,
    corrupt,
    corrupted_solution,
    noisy_rubric,
    reduced_rubric,
    shuffled_rubrics,
)
from rubrics import GENERIC, Criterion, Rubric, grade, has_answer, key_relations, satisfied

FORCE = "force = mass × acceleration = 3 kg × 4 m/s² = 12 N\nAnswer: 12 N"


def test_corrupted_solution_by_hand():
    rng = random.Random(0)
    assert (
        corrupted_solution(FORCE, rng)
        == "force = mass ÷ acceleration = 3 kg ÷ 4 m/s² = 12 N\nAnswer: 12 N"
    )
    assert (
        corrupted_solution("a = b ÷ c\nfactor = 1 ÷ 5 = 1/5\nAnswer: 1/5 times", rng)
        == "a = b × c\nfactor = 1 × 5 = 1/5\nAnswer: 1/5 times"
    )
    assert (
        corrupted_solution("m = 2000 g = 2 kg\na = b − m = 5 kg − 2 kg = 3 kg", rng)
        == "m = 2000 g = 2 kg\na = b + m = 5 kg + 2 kg = 3 kg"
    )
    cause = "the a rises, so the b falls\nAnswer: it falls"
    assert corrupted_solution(cause, rng) == cause.replace("b falls", "b rises")
    more = "in A, the a is greater, so the b is greater\nAnswer: A"
    assert corrupted_solution(more, rng) == more.replace("b is greater", "b is lower")
    held = "the a stays the same, so the b stays the same\nAnswer: it stays the same"
    assert corrupted_solution(held, rng) == held.replace("a stays the same", "a rises")
    two = "a = b × c = 2 × 3 = 6\nd = a × e = 6 × 2 = 12\nAnswer: 12 m"
    made = {corrupted_solution(two, rng) for _ in range(20)}
    assert made == {
        two.replace("b × c = 2 × 3", "b ÷ c = 2 ÷ 3"),
        two.replace("a × e = 6 × 2", "a ÷ e = 6 ÷ 2"),
    }
    stated = "d = a × e\n" + two  # two steps begin with the law of what is asked for
    assert {corrupted_solution(stated, rng) for _ in range(20)} == {
        stated.replace("b × c = 2 × 3", "b ÷ c = 2 ÷ 3"),
        stated.replace("a × e", "a ÷ e").replace("6 × 2", "6 ÷ 2"),
    }
    for text in ("", "It is 4.", "1 + 1\nAnswer: 2 m", "x = 3\nAnswer: 3 m"):
        with pytest.raises(ValueError, match="line with a relation"):
            corrupted_solution(text, rng)


def test_a_wrong_relation_is_never_the_right_one(many):
    rng = random.Random(2)
    for p, e in many:
        right = {canonical(form.relation) for form in p.forms}
        wrong = corrupted_solution(e.solution, rng)
        stated = {canonical(" = ".join(line.split(" = ")[:2])) for line in wrong.split("\n")}
        assert len(right & stated) == len(right) - 1
        noisy = noisy_rubric(e.rubric, rng)
        assert len(key_relations(noisy) & right) == len(right) - 1 and len(
            key_relations(noisy)
        ) == len(right)
        assert [c.weight for c in noisy.criteria] == [c.weight for c in e.rubric.criteria]
        assert grade(replace(e, rubric=noisy), e.solution) < 1
        key = next(c for c, old in zip(noisy.criteria, e.rubric.criteria) if c != old)
        assert canonical(key.check.removeprefix("states ")) in key_relations(
            noisy
        ) and not satisfied(key, e.solution)


def test_reduced_and_shuffled_rubrics(many):
    rng = random.Random(4)
    for _, e in many[:500]:
        less = reduced_rubric(e.rubric, rng).criteria
        assert len(less) == len(e.rubric.criteria) // 2
        assert [c for c in e.rubric.criteria if c in less] == list(less)  # in order
    one = Rubric(e.rubric.criteria[:1])
    assert reduced_rubric(one, rng) == one
    examples = [
        replace(e, rubric=Rubric((Criterion("", str(i), 1),))) for i, (_, e) in enumerate(many[:50])
    ]
    for _ in range(20):
        shuffled = shuffled_rubrics(examples, rng)
        assert all(got != e.rubric for got, e in zip(shuffled, examples))
        assert Counter(shuffled) == Counter(e.rubric for e in examples)
    with pytest.raises(ValueError, match="at least 2"):
        shuffled_rubrics(examples[:1], rng)
    with pytest.raises(ValueError, match="states a relation"):
        noisy_rubric(GENERIC, rng)


@pytest.mark.parametrize("what", CORRUPTIONS)
def test_corrupted_at_a_rate_and_seed(corpus, what):
    examples = corpus[1]["stage2"]

    def changed(rate, seed):
        new = corrupt(examples, what, rate, seed)
        assert new == corrupt(examples, what, rate, seed) and len(new) == len(examples)
        for a, b in zip(examples, new):  # nothing else moves
            assert replace(b, solution=a.solution, rubric=a.rubric) == a
            assert (a.rubric == b.rubric) if what == "solution" else (a.solution == b.solution)
        return {a.id for a, b in zip(examples, new) if a != b}

    assert changed(0, 0) == set() and len(changed(1, 0)) == len(examples)
    for a, b in zip(examples, corrupt(examples, what, 1, 0)):
        sizes = len(a.rubric.criteria), len(b.rubric.criteria)
        assert {
            "solution": grade(a, b.solution) < 1 and has_answer(a, b.solution),
            "noisy": key_relations(b.rubric) - key_relations(a.rubric) != set()
            and sizes[0] == sizes[1],
            "reduced": sizes[1] == sizes[0] // 2
            and set(b.rubric.criteria) < set(a.rubric.criteria),
            "shuffled": any(b.rubric == other.rubric for other in examples),
        }[what]
    some, more = changed(0.3, 0), changed(0.6, 0)
    assert 130 < len(some) < 230 and some < more and changed(0.3, 1) != some
    for bad in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="rate from 0 to 1"):
            corrupt(examples, what, bad, 0)


def test_corrupted_refuses_an_unknown_kind():
    with pytest.raises(ValueError, match="expected one of solution, noisy, reduced, shuffled"):
        corrupt([], "rubric", 0.3, 0)
