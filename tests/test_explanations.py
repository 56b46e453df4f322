"""Questions that ask why: the solution by an independent walk, the rubric, the held-out wordings."""

import random
import re
from collections import Counter
from dataclasses import replace
from functools import lru_cache

import pytest

from data import explanations
from data.explanations import (
    KINDS,
    example,
    explanation,
    invented_explanation,
    mistaken_explanation,
    question,
    solution,
)
from data.generate import ORDERS
from data.laws import FIELDS
from data.links import LINKS
from data.paths import Path, twin_links
from data.questions import exposures, questions
from rubrics import grade, has_answer, is_right, parse_rubric, satisfied

SIGN = {(link.field, link.cause, link.effect): link.sign for link in LINKS}
DOES = {"rises": 1, "falls": -1, "stays the same": 0}
COMPARED = {"is greater": 1, "is lower": -1}


@lru_cache
def drawn(count=1500):
    """(problem, its example) of all kinds, real and invented."""
    rng, found = random.Random(11), []
    for i in range(count):
        if i % 5 == 4:
            p, hard = invented_explanation(rng), False
        else:
            hard = i % 3 == 2
            split = "test" if hard else ("train", "valid")[i % 2]
            p = explanation(rng.random() < 0.5, split, rng, hard=hard)
        found.append((p, example(p, rng, str(i), held_out=hard)))
    return found


def link_of(cause, effect, sign, thing="valley"):
    base = next(link for link in LINKS if link.thing == thing)
    return replace(base, cause=cause, effect=effect, sign=sign, condition="same wind", new=False)


def by_hand(kind, *does, **more):
    """A problem about a > b (they go opposite ways) > c, or about a > c and b > c."""
    if kind == "two causes":
        paths = Path((link_of("a", "c", -1),)), Path((link_of("b", "c", 1),))
    elif kind == "choice":
        paths = (Path((link_of("a", "b", -1),)),)
    else:
        paths = (Path((link_of("a", "b", -1), link_of("b", "c", 1))),)
    return explanations.Explanation(kind, paths, does, **more)


OPTIONS = (
    "the a rises, so the b stays the same",
    "the a rises, so the b falls",
    "the a rises, so the b rises",
    "the a rises, and what the b then does cannot be told",
)


@pytest.mark.parametrize(
    "problem, text, expected",
    [
        (
            by_hand("effect", 1),
            "Given: same wind. The a rises. What happens to the c, and why?",
            "the a rises, so the b falls\nthe b falls, so the c falls\nAnswer: it falls",
        ),
        (
            by_hand("held", 0),
            "Given: same wind; all else as before. The a stays the same. What happens to the c, and why?",
            "the a stays the same, so the b stays the same\n"
            "the b stays the same, so the c stays the same\nAnswer: it stays the same",
        ),
        (
            by_hand("two causes", 1, 1),
            "Given: all else as before. The a rises and the b rises. What happens to the c, and why?",
            "the a rises, so the c falls\nthe b rises, so the c rises\nAnswer: it cannot be told",
        ),
        (
            by_hand("two causes", -1, 1),
            "Given: all else as before. The a falls and the b rises. What happens to the c, and why?",
            "the a falls, so the c rises\nthe b rises, so the c rises\nAnswer: it rises",
        ),
        (
            by_hand("cause", -1),
            "Given: same wind. The c should rise. How must the a change, and why?",
            "the c rises when the b rises\nthe b rises when the a falls\nAnswer: it must fall",
        ),
        (
            by_hand("more", -1, place="A"),
            "Given: same wind. Valleys A and B differ only in the a and its effects; the a is lower in A. "
            "Which has the greater c, and why?",
            "in A, the a is lower, so the b is greater\nin A, the b is greater, so the c is greater\n"
            "Answer: A",
        ),
        (
            by_hand("more", 1, place="B"),
            "Given: same wind. Valleys A and B differ only in the a and its effects; the a is greater in B. "
            "Which has the greater c, and why?",
            "in B, the a is greater, so the b is lower\nin B, the b is lower, so the c is lower\n"
            "Answer: A",
        ),
        (
            by_hand("choice", 1, options=OPTIONS),
            "Given: same wind. Which statement is right? Statements: the a rises, so the b stays the "
            "same (A); the a rises, so the b falls (B); the a rises, so the b rises (C); "
            "the a rises, and what the b then does cannot be told (D).",
            "the a rises, so the b falls (B)\nAnswer: B",
        ),
    ],
)
def test_each_kind_by_hand(problem, text, expected):
    assert question(problem, ("scene", "facts", "ask"), 0, 0) == text
    assert solution(problem) == expected


def test_states_are_parts_of_conditions_that_two_causes_can_have():
    pairs = [pair for field in FIELDS for pair in twin_links(field)]
    parts = {part for pair in pairs for link in pair for part in link.condition.split(", ")}
    assert set(explanations.STATES) <= parts
    names = {link.name: link for link in LINKS}
    causes = ("soil nitrate > grass growth", "soil temperature > grass growth")
    problem = explanations.Explanation(
        "two causes", tuple(Path((names[name],)) for name in causes), (1, 1)
    )
    assert question(problem, ("scene", "facts", "ask"), 0, 0).startswith(
        "Given: nitrogen-poor soil; soil colder than the optimum; all else as before. "
    )


def test_given_leaves_out_what_another_condition_says_and_what_it_denies():
    names = {link.name: link for link in LINKS}
    for links, given in (
        (
            ("activation energy > reaction rate",),
            "same reactants and temperature, catalyst may differ",
        ),
        (
            (
                "salt concentration > freezing-point depression",
                "freezing-point depression > freezing point",
            ),
            "same solvent and salt; all else as before",
        ),
    ):
        problem = explanations.Explanation("held", (Path(tuple(map(names.get, links))),), (0,))
        said = question(problem, ("scene", "facts", "ask"), 0, 0)
        assert said.startswith(f"Given: {given}. The ")


def walk(p):
    """The lines and the answer, from signs, quantities and directions alone."""
    lines, ends = [], []
    words = (
        {1: "is greater", -1: "is lower"} if p.kind == "more" else {v: k for k, v in DOES.items()}
    )
    for path, now in zip(p.paths, p.does):
        for link in path.links:
            sign = SIGN.get((link.field, link.cause, link.effect), link.sign)
            then = now if sign == 1 else -now
            before = f"in {p.place}, " if p.kind == "more" else ""
            cause, effect = f"the {link.cause} {words[now]}", f"the {link.effect} {words[then]}"
            if p.kind == "cause":  # back from the aim
                lines.insert(0, f"{effect} when {cause}")
            else:
                lines.append(f"{before}{cause}, so {effect}")
            now = then
        ends.append(now)
    if p.kind == "choice":
        return lines, "ABCD"[p.options.index(lines[0])]
    if p.kind == "more":
        return lines, p.place if ends[0] == 1 else {"A": "B", "B": "A"}[p.place]
    if p.kind == "cause":
        return lines, {1: "it must rise", -1: "it must fall"}[p.does[0]]
    if len(set(ends)) > 1:
        return lines, "it cannot be told"
    return lines, {1: "it rises", -1: "it falls", 0: "it stays the same"}[ends[0]]


def test_solutions_follow_from_the_table():
    kinds = Counter()
    for p, e in drawn():
        lines, answer = walk(p)
        if p.kind == "choice":  # the letter stands behind its statement
            lines = [f"{lines[0]} ({answer})"]
        assert e.solution == "\n".join([*lines, f"Answer: {answer}"]) and e.answer == answer
        kinds[p.kind, answer == "it cannot be told"] += 1
    assert {kind for kind, _ in kinds} == set(KINDS)
    assert {kind for kind, unknown in kinds if unknown} == {"two causes"}
    assert kinds["two causes", False] > 20 < kinds["two causes", True]


def test_the_question_says_what_is_known_and_not_what_is_asked():
    for p, e in drawn():
        first, last = p.path.links[0].cause, p.path.links[-1].effect
        assert first in e.question and last in e.question
        for path in p.paths:
            for link in path.links:
                said = "all else as before" if p.kind == "two causes" else link.condition
                assert said in e.question
        if p.kind != "choice":
            assert not any(line in e.question for line in e.solution.split("\n"))
        assert e.question[0].isupper() and "  " not in e.question


def test_references_meet_their_rubrics():
    for p, e in drawn():
        criteria = e.rubric.criteria
        assert all(satisfied(c, e.solution) for c in criteria), e
        assert is_right(e, e.solution) and has_answer(e, e.solution) and grade(e, e.solution) == 1
        assert 3 <= len(criteria) <= 7, e.rubric.text()
        links = [c for c in criteria if c.category == "Essential"]
        assert len(links) == sum(len(path.links) for path in p.paths)
        read = parse_rubric(e.rubric.text())
        assert [c.description for c in read.criteria] == [c.description for c in criteria]
        assert all("Answer:" not in c.description for c in criteria)


def test_the_answer_without_its_reasons_is_not_right():
    for _, e in drawn(400):
        assert has_answer(e, f"Answer: {e.answer}") and not is_right(e, f"Answer: {e.answer}")
        lines = e.solution.split("\n")
        assert not is_right(e, "\n".join(lines[1:]))  # a reason is missing
        assert not is_right(e, "\n".join(lines[:-1]))  # the answer is missing


def test_mistaken_solutions_are_not_right():
    rng, turned_round = random.Random(3), Counter()
    for p, e in drawn():
        wrong = {link.name: 1.0 for path in p.paths for link in path.links}
        made = solution(mistaken_explanation(p, wrong, rng))
        if p.kind == "held":  # nothing changes, whatever the signs are
            assert made == e.solution
            continue
        assert not is_right(e, made) and grade(e, made) < 1, made
        turned_round[p.kind] += 1
        if p.kind == "cause":  # what is wanted of the last quantity stays
            assert made.split(" when ")[0] == e.solution.split(" when ")[0]
        assert solution(mistaken_explanation(p, {}, rng)) == e.solution
    assert turned_round.keys() == set(KINDS) - {"held"}


def test_a_choice_has_one_right_option():
    said = re.compile(r"the (.+) (rises|falls), so the (.+) (rises|falls|stays the same)")
    untold = re.compile(r"the (.+) (rises|falls), and what the (.+) then does cannot be told")
    for p, e in drawn():
        if p.kind != "choice":
            continue
        right = []
        given = {(link.cause, link.effect): link.sign for link in p.path.links}
        signs = {(cause, effect): sign for (_, cause, effect), sign in SIGN.items()} | given
        for letter, text in zip("ABCD", p.options):
            assert f"{text} ({letter})" in e.question
            if match := said.fullmatch(text):
                cause, does, effect, then = match.groups()
                if DOES[then] == signs[cause, effect] * DOES[does]:
                    right.append(letter)
        assert right == [e.answer] and len(set(p.options)) == 4
        assert sum(untold.fullmatch(text) is not None for text in p.options) == 1


# ---------------------------------------------------------------------------------- held-out wordings
FACTS = (  # the wordings of the facts by kind, as in a question's text
    (("more", 0), r"s A and B differ only in "),
    (("more", 1), r", and they differ in nothing else but its effects\."),
    (("more", 2), r"Of two .+, A and B, "),
    (("cause", 0), r"The [^.]+ should (?:rise|fall)\."),
    (("cause", 1), r"The aim is for "),
    (("cause", 2), r"Somebody wants "),
    (("change", 1), r"Suppose that "),
    (("change", 2), r"Imagine that "),
    (("change", 0), r"(?:^|[.?] )The [^.?]+ (?:rises|falls|stays the same)[^.?]*\."),
)
ASKS = (
    (0, r", and why\?|Which statement is right\?"),
    (1, r"\? Explain\.|Which of the statements holds\?"),
    (2, r"Explain (?:which|how|what)|Find the right statement\."),
)


def pattern_of(text):
    """The wording of a question read off its text: the facts, the ask, the order of the parts."""
    facts, fact = next((m, name) for name, p in FACTS if (m := re.search(p, text)))
    ask, asked = next((m, name) for name, p in ASKS if (m := re.search(p, text)))
    places = {"scene": text.index("Given: "), "facts": facts.start(), "ask": ask.start()}
    return fact, asked, tuple(sorted(places, key=places.get))


def test_all_patterns_are_told_apart():
    for kind, does, more, count in (
        ("effect", 1, {}, 54),
        ("cause", 1, {}, 54),
        ("more", 1, dict(place="A"), 18),  # always asked behind its facts
    ):
        found = {
            pattern_of(question(by_hand(kind, does, **more), order, fact, ask))
            for order in ORDERS
            for fact in range(3)
            for ask in range(3)
        }
        assert len(found) == count


@pytest.mark.parametrize("seed", [0, 1])
def test_no_training_question_has_a_held_out_wording(seed):
    train = questions("stage2", 900, "train", seed, new_share=0.5, explanation_share=1)
    train += questions("valid", 200, "valid", seed, new_share=0.5, explanation_share=1)
    train += exposures(300, 1, seed)
    hard = questions("test_hard", 250, "test", seed, new_share=0.5, explanation_share=1, hard=True)
    seen = {pattern_of(e.question) for e in train if e.meta["kind"] != "choice"}
    held_out = [e for e in hard if e.meta["combination"] == "seen"]
    assert {e.meta["phrasing"] for e in hard} == {"unseen"}
    patterns = {pattern_of(e.question) for e in held_out}
    assert len(held_out) > 20 and len(patterns) > 8 and not patterns & seen
    for part in range(3):  # each part of it is known
        assert {pattern[part] for pattern in patterns} <= {pattern[part] for pattern in seen}
    along_unseen = {pattern_of(e.question) for e in hard if e.meta["combination"] == "unseen"}
    assert not along_unseen & patterns  # one thing is new at a time
