"""A problem in words: the question in English, the answer, the worked solution and the rubric."""

import random
from dataclasses import replace
from fractions import Fraction
from itertools import permutations

from data.problems import Problem
from data.relations import Form
from rubrics import VERBS, Criterion, Example, Rubric


# ------------------------------------------------------------------- the question, in plain English
def _listing(parts: list[str]) -> str:
    """The parts in one phrase: "a, b and c"."""
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


ORDERS = tuple(permutations(("scene", "facts", "ask")))


def draw_pattern(rng: random.Random, held_out: bool) -> tuple[tuple[str, ...], int, int]:
    """A sentence pattern: (order of the three parts, wording of the facts, wording of the ask).

    The wordings are numbers from 0 to 2. Of the 54 patterns 45 are for training. The other nine are
    held out: training has each order, each wording and each pair of them, but never all three.
    """
    while True:
        order, facts, ask = rng.randrange(6), rng.randrange(3), rng.randrange(3)
        if ((order + facts + ask) % 6 == 0) == held_out:
            return ORDERS[order], facts, ask


def question(problem: Problem, rng: random.Random, *, held_out: bool = False) -> str:
    """The problem in words.

    `held_out` draws a pattern that no training question has, except for two-step problems, where
    the combination of laws is held out instead.
    """
    p, target = problem, problem.target
    order, facts, ask = draw_pattern(rng, held_out and p.kind != "two-step")
    if p.kind == "comparison":
        event, rest = _change(p, rng)
        parts = {
            "facts": (
                f"{event} while {rest}.",
                f"suppose that {event} while {rest}.",
                f"while {rest}, {event}.",
            ),
            "ask": (
                f"by what factor does the {target} change?",
                f"find the factor by which the {target} changes.",
                f"how many times as large does the {target} become?",
            ),
        }
    else:
        sentence = _listing([f"the {name} is {p.stated(name)}" for name in p.given])
        table = ", ".join(f"{name} = {p.stated(name)}" for name in p.given)
        asked = f"{target} in {answer_unit(p)}" if p.names_unit else target
        parts = {
            "facts": (f"{sentence}.", f"it is known that {sentence}.", f"given: {table}."),
            "ask": (f"what is the {asked}?", f"find the {asked}.", f"calculate the {asked}."),
        }
    said = {"scene": p.scene, "facts": parts["facts"][facts], "ask": parts["ask"][ask]}
    sentences = [said[part] for part in order]
    return " ".join(sentence[0].upper() + sentence[1:] for sentence in sentences)


def _change(p: Problem, rng: random.Random) -> tuple[str, str]:
    """The facts of a comparison: ("the mass is doubled", "the force stays the same")."""
    changed, factor = p.change
    if factor == 2 and rng.random() < 0.5:
        change = "doubled"
    elif factor == Fraction(1, 2) and rng.random() < 0.5:
        change = "halved"
    elif factor > 1:
        change = f"made {factor} times as large"
    else:
        change = f"divided by {factor.denominator}"
    others = [f"the {name}" for name in p.given if name != changed]
    singular, plural = rng.choice(
        (("does not change", "do not change"), ("stays the same", "stay the same"))
    )
    rest = f"{_listing(others)} {singular if len(others) == 1 else plural}"
    return f"the {changed} is {change}", rest


# ------------------------------------------------------------------------------------- the solution
def answer(problem: Problem) -> str:
    """The reference answer: "12 N", "1/3 times" for a comparison, or which datum is missing."""
    if problem.kind == "comparison":
        return f"{_fraction(problem.factor())} times"
    if problem.kind == "missing":
        return f"cannot be told, the {problem.missing} is missing"
    return problem.stated(problem.target)


def answer_unit(problem: Problem) -> str:
    """The unit in which the answer is wanted: "km", or "m" if the question asks for it."""
    return problem.stated(problem.target).split(" ", 1)[1]


def _fraction(x: Fraction) -> str:
    return str(x.numerator) if x.denominator == 1 else f"{x.numerator}/{x.denominator}"


def solution(problem: Problem) -> str:
    """The worked solution: a line for each step, then the line "Answer: ...".

    Before two steps stands the law of what is asked for; a conversion has a line of its own.
    """
    p = problem
    if p.kind == "comparison":
        lines = _comparison_lines(p)
    elif p.kind == "missing":
        lines = [p.forms[0].relation, f"the {p.missing} is not given"]
    else:
        lines = []
        if p.converted in p.given:
            lines.append(f"{p.converted} = {p.stated(p.converted)} = {p.measure(p.converted)}")
        if (
            p.kind == "two-step"
        ):  # the law of what is asked for comes first: it says what else is needed
            lines.append(p.forms[-1].relation)
        for form in p.forms:
            sides = [form.relation, form.expression(p.measure), *form.steps(p.values)]
            lines.append(" = ".join([*sides, p.measure(form.target)]))
        if p.converted == p.target:
            lines.append(f"{p.target} = {p.measure(p.target)} = {p.stated(p.target)}")
    return "\n".join([*lines, f"Answer: {answer(p)}"])


def _comparison_lines(p: Problem) -> list[str]:
    """The relation, the factor of each quantity, and the factor of the target worked from these."""
    form = p.forms[0]
    changed, factor = p.change

    def factor_in_relation(name: str) -> str:
        if name != changed:
            return "1"
        return f"({_fraction(factor)})" if factor < 1 else _fraction(factor)

    changes = [f"{name}: {_fraction(factor) if name == changed else 1}" for name in form.names]
    work = replace(form, coefficient="").expression(factor_in_relation)
    return [form.relation, ", ".join(changes), f"factor = {work} = {_fraction(p.factor())}"]


# --------------------------------------------------------------------------------------- the rubric
def _wrong_operation(form: Form, rng: random.Random) -> tuple[str, str]:
    """A mistake: (what a careless solver does, the text that shows it)."""
    if form.signs:
        a, b = rng.sample(form.names, 2)
        return f"multiply {a} by {b}", f"{a} × {b}"
    if form.under:
        a, b = form.over[0][0], form.under[0][0]
        return rng.choice(
            ((f"multiply {a} by {b}", f"{a} × {b}"), (f"divide {b} by {a}", f"{b} ÷ {a}"))
        )
    a, b = rng.sample(form.names, 2)
    return rng.choice(((f"divide {a} by {b}", f"{a} ÷ {b}"), (f"add {a} to {b}", f"{b} + {a}")))


def rubric(problem: Problem, rng: random.Random) -> Rubric:
    """A rubric of 3 to 7 weighted criteria, each with a check.

    The key criteria come first and state the relations; no criterion states the answer. Every call
    draws anew which optional criteria appear, their order, wording and weights, as two experts
    would write two rubrics for one question.
    """
    p = problem
    keys = []
    for form in reversed(p.forms):  # what is asked for comes first
        text = f"Essential: {rng.choice(VERBS)}{form.relation}"
        keys.append(Criterion("Relation", text, rng.choice((4, 5)), f"states {form.relation}"))
    others, optional = _important_criteria(p, rng), _optional_criteria(p, rng)
    fewest = max(1, 3 - len(keys) - len(others))
    others += rng.sample(optional, rng.randint(fewest, len(optional)))
    if rng.random() < 0.5:
        rng.shuffle(others)
    return Rubric((*keys, *others))


def _in(unit: str) -> str:
    """ "in N", or "per h": nobody says "in per h"."""
    return unit if unit.startswith("per ") else f"in {unit}"


def _important_criteria(p: Problem, rng: random.Random) -> list[Criterion]:
    """The criteria, besides the relations, that every rubric for this problem has."""
    if p.kind == "missing":
        text = f"Important: says that the {p.missing} is missing"
        return [
            Criterion("Missing", text, rng.choice((3, 4)), f"shows {p.missing} is missing"),
            Criterion("Guess", "Pitfall: does not guess a value", rng.choice((-1, -2)), "no-value"),
        ]
    if p.kind == "comparison":
        criteria = [Criterion("Unit", "Important: says by what factor it changes", 3, "unit times")]
    else:
        unit = answer_unit(p)
        text = f"Important: gives the answer {_in(unit)}"
        criteria = [Criterion("Unit", text, 3, f"unit {unit}")]
    if p.converted == p.target:
        text = f"Important: converts the {p.target} to {answer_unit(p)}"
        check = f"shows = {p.stated(p.target)}"
        criteria.append(Criterion("Conversion", text, rng.choice((2, 3)), check))
    elif p.converted:
        text = f"Important: converts {p.stated(p.converted)} to {p.units[p.converted]}"
        check = f"shows = {p.measure(p.converted)}"
        criteria.append(Criterion("Conversion", text, rng.choice((2, 3)), check))
    if p.extra:
        text = f"Pitfall: does not use the {p.extra}"
        criteria.append(Criterion("Extra", text, rng.choice((-1, -2)), f"avoids {p.extra}"))
    if p.kind == "two-step":
        link = p.forms[0].target
        text = f"Important: finds the {link} {_in(p.units[link])} first"
        criteria.append(Criterion("Order", text, 2, f"shows = {p.measure(link)}"))
    return criteria


def _optional_criteria(p: Problem, rng: random.Random) -> list[Criterion]:
    """The criteria from which a rubric takes some: values put in, form, and a pitfall."""
    criteria = []
    if p.kind in ("one-step", "conversion", "extra"):
        needed = [name for name in p.given if name != p.extra]
        text = f"Important: puts in {_listing([p.measure(name) for name in needed])}"
        check = "shows " + "; ".join(p.measure(name) for name in p.forms[0].names)
        criteria.append(Criterion("Values", text, 2, check))
    text = "Optional: ends with the answer on a line of its own"
    criteria.append(Criterion("Form", text, 1, "answer-line"))

    does, shows = _wrong_operation(p.forms[-1], rng)
    # One name may start with another: "pressure ÷ heat" occurs in "pressure ÷ heating power". The
    # grader reads whole names, a person may not.
    while shows in solution(p):
        does, shows = _wrong_operation(p.forms[-1], rng)
    text = f"Pitfall: does not {does}"
    criteria.append(Criterion("Wrong operation", text, rng.choice((-1, -2)), f"avoids {shows}"))
    return criteria


def example(problem: Problem, rng: random.Random, id: str, *, held_out: bool = False) -> Example:
    """A row of the data: the problem in words with its answer, solution and reference rubric."""
    p = problem
    meta = {
        "kind": p.kind,
        "law": p.law,
        "field": p.field,
        "new": p.new,
        "keys": list(p.keys),
        "phrasing": "unseen" if held_out else "seen",
    }
    return Example(
        id, question(p, rng, held_out=held_out), answer(p), solution(p), rubric(p, rng), meta
    )
