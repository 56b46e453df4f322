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
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


ORDERS = tuple(permutations(("scene", "facts", "ask")))


def frame(rng: random.Random, held_out: bool) -> tuple[tuple[str, ...], int, int]:
    """A sentence pattern: the order of its three parts, and which of three wordings the facts and
    the ask have.

    45 of the 54 patterns are for training. The other nine are held out: each order, each wording
    and each pair of them occurs in training, but never these three together.
    """
    while True:
        order, facts, ask = rng.randrange(6), rng.randrange(3), rng.randrange(3)
        if ((order + facts + ask) % 6 == 0) == held_out:
            return ORDERS[order], facts, ask


def question(problem: Problem, rng: random.Random, *, held_out=False) -> str:
    """Say the problem in words. `held_out` takes a pattern that no training question has (not for
    two-step problems: there the combination is what is held out).
    """
    p, target = problem, problem.target
    order, facts, ask = frame(rng, held_out and p.kind != "two-step")
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
        parts = {
            "facts": (f"{sentence}.", f"it is known that {sentence}.", f"given: {table}."),
            "ask": (f"what is the {target}?", f"find the {target}.", f"calculate the {target}."),
        }
    said = {"scene": p.scene, "facts": parts["facts"][facts], "ask": parts["ask"][ask]}
    return " ".join(said[part][0].upper() + said[part][1:] for part in order)


def _change(p: Problem, rng: random.Random) -> tuple[str, str]:
    """A comparison's facts: ("the mass is doubled", "the force stays the same")."""
    name, factor = p.change
    if factor > 1:
        change = (
            "doubled" if factor == 2 and rng.random() < 0.5 else f"made {factor} times as large"
        )
    else:
        change = (
            "halved"
            if factor.denominator == 2 and rng.random() < 0.5
            else f"divided by {factor.denominator}"
        )
    others = [f"the {n}" for n in p.given if n != name]
    one, more = rng.choice(
        (("does not change", "do not change"), ("stays the same", "stay the same"))
    )
    return f"the {name} is {change}", f"{_listing(others)} {one if len(others) == 1 else more}"


# ------------------------------------------------------------------------------------- the solution
def answer(problem: Problem) -> str:
    """The reference answer: "12 N", or "1/3 times" for a comparison."""
    if problem.kind == "comparison":
        return f"{_fraction(problem.factor())} times"
    return problem.measure(problem.target)


def _fraction(x: Fraction) -> str:
    return str(x.numerator) if x.denominator == 1 else f"{x.numerator}/{x.denominator}"


def solution(problem: Problem) -> str:
    """The worked solution, ending in the line "Answer: ..."; for two steps one line each."""
    p, lines = problem, []
    if p.kind == "comparison":
        form, (name, factor) = p.forms[0], p.change

        def show(n):
            return (
                "1" if n != name else f"({_fraction(factor)})" if factor < 1 else _fraction(factor)
            )

        bare = replace(form, coefficient="").expression(show)
        changes = ", ".join(f"{n}: {_fraction(factor) if n == name else 1}" for n in form.names)
        lines = [form.relation, changes, f"factor = {bare} = {_fraction(p.factor())}"]
    if p.converted:
        lines.append(f"{p.converted} = {p.stated(p.converted)} = {p.measure(p.converted)}")
    if p.kind != "comparison":
        for form in p.forms:
            lines.append(
                " = ".join(
                    [
                        form.relation,
                        form.expression(p.measure),
                        *form.steps(p.values),
                        p.measure(form.target),
                    ]
                )
            )
    return "\n".join(lines + [f"Answer: {answer(p)}"])


# --------------------------------------------------------------------------------------- the rubric
def _wrong_operation(form: Form, rng: random.Random) -> tuple[str, str]:
    """(what a careless solver does, the text that gives it away)."""
    names = form.names
    if form.signs:
        a, b = rng.sample(names, 2)
        return f"multiply {a} by {b}", f"{a} × {b}"
    if form.under:
        a, b = form.over[0][0], form.under[0][0]
        return rng.choice(
            ((f"multiply {a} by {b}", f"{a} × {b}"), (f"divide {b} by {a}", f"{b} ÷ {a}"))
        )
    a, b = rng.sample(names, 2)
    return rng.choice(((f"divide {a} by {b}", f"{a} ÷ {b}"), (f"add {a} to {b}", f"{b} + {a}")))


def rubric(problem: Problem, rng: random.Random) -> Rubric:
    """3 to 7 weighted criteria, each with a check. The key criteria state the relations; none
    states the answer.

    Which minor criteria appear, their order, wording and weight are drawn anew at every call, as
    two experts would write two rubrics for one question.
    """
    p = problem
    keys = [
        Criterion(
            "Relation",
            f"Essential: {rng.choice(VERBS)}{form.relation}",
            rng.choice((4, 5)),
            f"states {form.relation}",
        )
        for form in p.forms
    ]
    unit = "times" if p.kind == "comparison" else p.units[p.target]
    minor = [
        Criterion(
            "Unit",
            "Important: says by what factor it changes"
            if p.kind == "comparison"
            else f"Important: gives the answer in {unit}",
            3,
            f"unit {unit}",
        )
    ]
    if p.converted:
        minor.append(
            Criterion(
                "Conversion",
                f"Important: converts {p.stated(p.converted)} to {p.units[p.converted]}",
                rng.choice((2, 3)),
                f"shows = {p.measure(p.converted)}",
            )
        )
    if p.kind == "two-step":
        link = p.forms[0].target
        minor.append(
            Criterion(
                "Order",
                f"Important: finds the {link} in {p.units[link]} first",
                2,
                f"shows = {p.measure(link)}",
            )
        )
    extra = []
    if p.kind not in ("two-step", "comparison"):
        extra.append(
            Criterion(
                "Values",
                f"Important: puts in {_listing([p.stated(n) for n in p.given])}",
                2,
                "shows " + "; ".join([p.measure(name) for name in p.forms[0].names]),
            )
        )
    extra.append(
        Criterion("Form", "Optional: ends with the answer on a line of its own", 1, "answer-line")
    )
    does, shows = _wrong_operation(p.forms[-1], rng)
    while shows in solution(
        p
    ):  # one name may open another: "pressure ÷ heat" is in "pressure ÷ heating power"
        does, shows = _wrong_operation(p.forms[-1], rng)
    extra.append(
        Criterion(
            "Wrong operation", f"Pitfall: does not {does}", rng.choice((-1, -2)), f"avoids {shows}"
        )
    )
    room = max(1, 3 - len(keys) - len(minor))
    criteria = keys + minor + rng.sample(extra, rng.randint(room, len(extra)))
    if rng.random() < 0.5:
        rng.shuffle(criteria)
    return Rubric(tuple(criteria))


def example(problem: Problem, rng: random.Random, id: str, *, held_out=False) -> Example:
    """One row of the data: the problem in words with its answer, solution and reference rubric."""
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
