"""Questions, solutions, rubrics and mistakes of every kind of problem, against exact arithmetic."""

import random
import re
from collections import Counter
from fractions import Fraction
from math import isclose

import pytest

import data.invented as invented_module
from data.chains import CHAINS
from data.generate import example, question, solution
from data.grammar import canonical, correct, final_answer
from data.invented import invented, invented_law
from data.laws import BY_NAME, LAWS, Law
from data.mistakes import mistaken, wrong_forms
from data.prepare import KINDS
from data.problems import SMALLER, comparison, draw, one_step, tuples, units_of
from data.relations import forms
from data.sources import corrupted_solution
from oracle import function, true_steps
from rubrics import grade, key_relations


def test_every_line_of_every_solution_is_true(many):
    assert sum(true_steps(p, e.solution) for p, e in many) > 12_000
    assert all(
        e.solution.endswith(f"\nAnswer: {e.answer}") and correct(e.solution, e.answer)
        for _, e in many
    )


def test_a_mistaken_solution_is_cleanly_worked_from_one_wrong_relation(many):
    made = Counter()
    for p, e in many:
        new = [
            i
            for i, key in enumerate(p.keys)
            if (law := BY_NAME.get(key.partition(":")[0])) and law.new
        ]
        for step in new:
            if (wrong := mistaken(p, step)) is None:
                made["none"] += 1
                continue
            text = solution(wrong)
            made["sum" if any(form.signs for form in wrong.forms) else "product"] += 1
            if p.kind == "missing":
                assert true_steps(p, text) == 0 and correct(text, e.answer)
                assert grade(e, text) < 1
            else:
                assert true_steps(p, text) and not correct(text, e.answer)
            right = [canonical(form.relation) for form in p.forms]
            assert [canonical(form.relation) not in right for form in wrong.forms] == [
                i == step for i in range(len(right))
            ]
            for form, other in zip(p.forms, wrong.forms):
                assert form.target == other.target and sorted(form.names) == sorted(other.names)
            assert question(wrong, random.Random(1)) == question(p, random.Random(1))
    # None: no workable numbers, or only ones that would make a later step a test question's.
    assert made["none"] < 150 and made["product"] > 400 and made["sum"] > 400


@pytest.mark.parametrize(
    "right, wrong",
    [
        (
            "force = mass × acceleration",
            [
                "force = mass + acceleration",
                "force = mass − acceleration",
                "force = mass ÷ acceleration",
                "force = acceleration ÷ mass",
            ],
        ),
        (
            "mass = force ÷ acceleration",
            [
                "mass = force × acceleration",
                "mass = acceleration ÷ force",
                "mass = force + acceleration",
                "mass = force − acceleration",
            ],
        ),
    ],
)
def test_wrong_forms_by_hand(right, wrong):
    assert [form.relation for form in wrong_forms(forms(right)[right.split(" = ")[0]])] == wrong


def test_solutions_state_the_law_and_only_the_law(many):
    """The relation on each line, solved back for the law's own target, is the law: checked with
    numbers."""
    for p, e in many:
        if p.kind == "comparison" or "invented" in p.law:
            continue
        chain = next((c for c in CHAINS if c.name == p.law), None)
        laws = [BY_NAME[chain.first], BY_NAME[chain.second]] if chain else [BY_NAME[p.law]]
        steps = [line for line in e.solution.split("\n")[:-1] if re.search("[×÷+−]", line)]
        if chain:  # the last law comes first, without numbers
            assert steps[2].startswith(f"{steps.pop(0)} = ")
        assert len(steps) == len(laws)
        for law, line in zip(laws, steps):
            relation = " = ".join(line.split(" = ")[:2])
            if chain and law is laws[0]:  # the link has its name from the second law
                relation = relation.replace(f"{chain.as_} = ", f"{chain.link} = ")
            target = relation.split(" = ")[0]
            assert canonical(relation) == canonical(forms(law.relation)[target].relation)


def test_the_reference_solution_meets_every_criterion_and_a_wrong_one_does_not(many):
    rng = random.Random(3)
    for p, e in many:
        assert grade(e, e.solution) == 1, e
        wrong = corrupted_solution(e.solution, rng)
        assert correct(wrong, e.answer) and grade(e, wrong) < 1, wrong
        if p.kind == "missing":
            guess = re.sub("Answer: .*", f"Answer: 6 {p.units[p.target]}", e.solution)
            assert not correct(guess, e.answer) and grade(e, guess) < 0.6
            other = e.solution.replace(f"the {p.missing}", "the colour")
            assert not correct(other, e.answer) and grade(e, other) < 1
            continue
        no_unit = re.sub(r"(Answer: [\d/]+).*", r"\1", e.solution)
        needs_unit = p.kind != "comparison" and p.units[p.target] != "m²/m²"
        assert correct(no_unit, e.answer) == (not needs_unit)
        assert (grade(e, no_unit) < 1) == needs_unit


def test_rubrics_have_3_to_7_criteria_an_essential_relation_and_never_the_answer(many):
    sizes = Counter()
    for p, e in many:
        sizes[len(e.rubric.criteria)] += 1
        assert all(c.check and c.description.startswith(c.category) for c in e.rubric.criteria)
        assert key_relations(e.rubric) == {canonical(form.relation) for form in p.forms}
        assert all((c.weight < 0) == (c.category == "Pitfall") for c in e.rubric.criteria)
        stated = (
            {p.stated(name) for name in p.given} | {p.measure(name) for name in p.given}
            if p.values
            else set()
        )
        if e.answer not in stated:
            assert not re.search(
                rf"(?<![\d/]){re.escape(e.answer)}(?![\w/·²³(])", e.rubric.text()
            ), e
    assert set(sizes) <= set(range(3, 8)) and len(sizes) >= 4


def test_questions_state_the_givens_and_read_as_sentences(many):
    for p, e in many:
        text = e.question
        assert p.scene in text and p.target in text and "  " not in text and text[-1] in ".?"
        for sentence in re.split(r"(?<=[.?]) ", text):
            assert re.fullmatch(r"[A-Z].*[\w²³)°][.?]", sentence), sentence
        for name in p.given if p.values else ():
            assert re.search(
                rf"\b{re.escape(name)} (is|=) {re.escape(p.stated(name))}(?![\w/·²³(])", text
            ), (name, text)
        assert p.target not in p.given and p.missing not in p.given
        if p.extra:
            assert p.extra in p.given and p.extra not in e.solution
            used = e.solution.replace("Answer", f"{p.extra} = {p.stated(p.extra)}\nAnswer")
            assert grade(e, used) < 1
        if p.names_unit:
            unit = e.answer.split(" ", 1)[1]
            assert re.search(rf"\b{re.escape(p.target)} in {re.escape(unit)}[.?]", text)
        if p.converted:
            unit, factor = SMALLER[p.units[p.converted]]
            assert p.stated(p.converted) == f"{p.values[p.converted] * factor} {unit}"


def test_each_law_has_three_phrasings_and_others_held_out():
    for law in LAWS:
        problem, rng = (
            one_step(law, tuples(law)[0], law.scenes[0], random.Random(0)),
            random.Random(1),
        )
        seen = {question(problem, rng) for _ in range(60)}
        unseen = {question(problem, rng, held_out=True) for _ in range(60)}
        assert len(seen) >= 3 and len(unseen) >= 3 and not seen & unseen


def test_a_rubric_names_the_unit_as_people_say_it(many):
    said = [c.description for _, e in many for c in e.rubric.criteria]
    assert "Important: gives the answer per h" in said
    assert "Important: gives the answer in N" in said
    assert not any("in per " in text for text in said)


def test_comparisons_by_plugging_in_numbers():
    """Solve f(..., x × target, ...) = f(...) for x by bisection, with f the relation as the table
    writes it."""
    rng, checked = random.Random(5), 0
    for _ in range(800):
        law = rng.choice(LAWS)
        p = comparison(law, law.scenes[0], rng)
        if p is None:
            assert " + " in law.relation or " − " in law.relation
            continue
        left, right = law.relation.split(" = ")
        f, (changed, factor) = function(right, units_of(law)), p.change
        before = {name: float(rng.randint(2, 9)) for name in units_of(law)}
        before[left] = float(f(before))
        after = before | {changed: before[changed] * float(factor)}

        def gap(x):  # right side minus left side when the target is x times what it was
            now = after | {p.target: before[p.target] * x}
            return f(now) - now[left]

        low, high = 1e-4, 1e4
        rises = gap(low) < 0
        for _ in range(200):
            middle = (low * high) ** 0.5
            low, high = (middle, high) if (gap(middle) < 0) == rises else (low, middle)
        given = final_answer(solution(p))
        assert given.unit == "times" and isclose(low, given.value, rel_tol=1e-9), (
            p.law,
            p.target,
            p.change,
        )
        text = question(p, rng)
        said = {
            2: ("doubled", "made 2 times as large"),
            Fraction(1, 2): ("halved", "divided by 2"),
        }.get(
            factor,
            (
                f"made {factor} times as large"
                if factor > 1
                else f"divided by {factor.denominator}",
            ),
        )
        assert any(f"he {changed} is {words}" in text for words in said) and re.search(
            r"\bwhile the ", text, re.I
        ), text
        assert all(
            f"the {name}" in text for name in p.given if name != changed
        )  # which are those that stay the same
        checked += 1
    assert checked > 500


def test_invented_problems_are_well_formed():
    rng, real, real_names = random.Random(9), {frozenset(units_of(law)) for law in LAWS}, 0
    for _ in range(2000):
        law = invented_law(rng)
        assert frozenset(units_of(law)) not in real and len(law.units) == len(units_of(law))
        if "+" in law.relation or "−" in law.relation:
            assert len(set(law.units)) == 1  # only like units are added
        real_names += any(name in units_of(other) for other in LAWS for name in units_of(law))
    assert 1200 < real_names < 1600
    kinds = Counter(invented(kind, rng).kind for kind in KINDS for _ in range(20))
    assert set(kinds.values()) == {20} and set(kinds) == set(KINDS)


def test_kinds_of_real_laws_are_what_their_names_say():
    rng, asked = random.Random(4), Counter()
    for kind in KINDS:
        for i in range(200):
            p = draw(kind, i % 2 == 0, "train", rng)
            asked[p.converted == p.target, p.converted in p.given, bool(p.converted)] += 1
            needed = set(p.forms[0].names)
            assert p.kind == kind and bool(p.converted) == (kind == "conversion")
            if kind == "extra":
                assert set(p.given) - needed == {p.extra} and len(p.given) == len(needed) + 1
            if kind == "missing":
                assert needed - set(p.given) == {p.missing} and len(p.given) == len(needed) - 1
    to_smaller, from_smaller = asked[True, False, True], asked[False, True, True]
    assert to_smaller + from_smaller == 200 and min(to_smaller, from_smaller) > 50


def test_no_invented_law_is_a_real_one(monkeypatch):
    monkeypatch.setattr(invented_module, "_REAL_NAMES", ["acceleration", "force", "mass", "speed"])
    drawn = [frozenset(units_of(invented_law(random.Random(seed)))) for seed in range(200)]
    assert {"force", "mass", "speed"} in drawn and {"force", "mass", "acceleration"} not in drawn


def test_no_pitfall_is_in_the_reference_solution_by_the_accident_of_a_longer_name():
    law = Law(
        "x",
        "physics",
        "heat = a × pressure × heating power",
        ("J", "m", "N", "s"),
        ("A pump runs.",),
        "nowhere",
    )
    values, rng = dict(zip(units_of(law), (24, 2, 3, 4))), random.Random(0)
    for _ in range(300):
        problem = one_step(law, values, law.scenes[0], rng)
        e = example(problem, rng, "")
        assert grade(e, e.solution) == 1
