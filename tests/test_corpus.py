"""The files that data/prepare.py writes: what is in which, and what must never be."""

import hashlib
import itertools
import json
import os
import random
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from fractions import Fraction

import pytest

from data import explanations
from data.chains import CHAINS
from data.grammar import canonical, correct
from data.laws import BY_NAME, FIELDS, LAWS
from data.links import LINKS
from data.mistakes import mistaken
from data.prepare import prepare
from data.problems import draw, key_of, tuples, units_of
from data.questions import (
    KINDS,
    UNDERSTOOD,
    WRONG_WHEN_MISUNDERSTOOD,
    WRONG_WHEN_UNDERSTOOD,
    exposures,
    questions,
)
from data.relations import forms
from rubrics import GENERIC, key_relations
from tiny import ROOT, SMALL_DATA, flags


def keys(examples):
    return {key for e in examples for key in e.meta["keys"]}


def test_files_have_the_counts_asked_for(corpus):
    out, sets = corpus
    assert {name: len(rows) for name, rows in sets.items() if name != "base"} == {
        "stage1": 300,
        "stage2": 600,
        "valid": 75,
        "test_known": 150,
        "test_new": 150,
        "test_hard": 375,
        "exposure": 20,
    }
    base = (out / "base.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(base) == 3000 and all(len(json.loads(line)["sections"]) >= 2 for line in base)
    assert len((out / "tokenizer.txt").read_text(encoding="utf-8").splitlines()) == 300 - 8
    assert not list(out.glob("*.tmp"))


def test_no_test_question_shares_law_and_numbers_with_any_other(corpus):
    _, sets = corpus
    seen = (
        keys(sets["base"])
        | keys(sets["exposure"])
        | keys(sets["stage1"])
        | keys(sets["stage2"])
        | keys(sets["valid"])
    )
    assert len(seen) > 2000
    for name in ("test_known", "test_new", "test_hard"):
        assert not keys(sets[name]) & seen
        assert len({e.question for e in sets[name]}) == len(sets[name])


def test_no_line_of_a_test_solution_was_trained(corpus):
    """The same in plain text, without the keys: no worked step of a test question is in a training
    text."""
    out, sets = corpus
    text = (out / "base.jsonl").read_text(encoding="utf-8") + "\n".join(
        e.solution for name in ("stage1", "stage2", "exposure") for e in sets[name]
    )
    for name in ("test_known", "test_new", "test_hard"):
        for e in sets[name]:
            for line in e.solution.split("\n")[:-1]:
                without_numbers = e.meta["kind"] in ("comparison", "missing")
                if not without_numbers and re.search(r"[×÷+−].*= .*\d", line):
                    assert line not in text, line


def test_test_sets_hold_what_their_names_say(corpus):
    _, sets = corpus
    for name, news in (("test_known", {False}), ("test_new", {True}), ("test_hard", {False, True})):
        assert {e.meta["new"] for e in sets[name]} == news
        kinds = set(KINDS + explanations.KINDS)
        if name == "test_hard":
            kinds.discard("choice")  # its parts have one order: no wording is unseen
        rare = {"extra", "missing"}
        assert kinds - rare <= {e.meta["kind"] for e in sets[name]} <= kinds
        assert {e.meta["field"] for e in sets[name]} == set(FIELDS)
        whys = sum(asks_why(e) for e in sets[name]) / len(sets[name])
        assert 0.3 < whys < 0.6, name
    assert 0.7 < sum(e.meta["new"] for e in sets["stage2"]) / 600 < 0.9
    assert not {e.question for e in sets["stage1"]} & {e.question for e in sets["stage2"]}
    for name in ("stage1", "stage2", "valid"):
        assert len({e.question for e in sets[name]}) == len(sets[name])


def asks_why(e):
    return e.meta["kind"] in explanations.KINDS


def pattern(e):
    """The sentence pattern of a question, read off its text: order of scene, facts and ask, and
    their wordings."""
    law = BY_NAME.get(e.meta["law"])
    scenes = law.scenes if law else [c.scene for c in CHAINS if c.name == e.meta["law"]]
    scene = next(s for s in scenes if s in e.question)
    ask = re.search(
        r"(What is|Find the factor by which|Find|Calculate|By what factor does|How many times as large does)"
        r" the [^.?]*[.?]",
        e.question,
    )
    facts = next(
        (w for w in ("It is known that", "Given:", "Suppose that", "While") if w in e.question),
        "plain",
    )
    first = (
        "scene"
        if e.question.startswith(scene)
        else "ask"
        if e.question.startswith(ask[0])
        else "facts"
    )
    last = (
        "scene" if e.question.endswith(scene) else "ask" if e.question.endswith(ask[0]) else "facts"
    )
    return first, last, facts, ask[0].split(" the ")[0]


def test_each_field_has_its_share_of_the_questions(corpus):
    _, sets = corpus
    for name, share in (("stage2", 0.05), ("base", 0.03), ("test_known", 0.11)):
        fields = [e.meta["field"] for e in sets[name] if e.meta["field"] != "invented"]
        for field in FIELDS:
            assert abs(fields.count(field) / len(fields) - 0.25) < share, (name, field)


def test_hard_questions_are_phrased_or_combined_as_no_training_question(corpus):
    _, sets = corpus
    training = [e for name in ("base", "exposure", "stage1", "stage2", "valid") for e in sets[name]]
    training = [e for e in training if not asks_why(e)]
    hard_chains = {c.name for c in CHAINS if c.hard}
    for law in LAWS:
        assert not any(law.scenes[-1] in e.question for e in training)
    patterns = {pattern(e) for e in training if not e.meta["law"].startswith("invented")}
    assert not hard_chains & {e.meta["law"] for e in training}
    joined = {frozenset(re.split(" > | \\(", e.meta["law"])[:2]) for e in training}
    for e in sets["test_hard"]:
        if e.meta["kind"] == "two-step":  # nor in the other order
            assert frozenset(re.split(" > | \\(", e.meta["law"])[:2]) not in joined
    assert {e.meta["phrasing"] for e in training} == {"seen"}
    held_out = set()
    for e in sets["test_hard"]:
        if asks_why(e):
            continue  # see test_explanations.py
        if e.meta["kind"] == "two-step":
            assert e.meta["law"] in hard_chains
        else:
            held_out.add(pattern(e))
            assert BY_NAME[e.meta["law"]].scenes[-1] in e.question
    assert (
        not held_out & patterns and len(held_out) > 12
    )  # nine for numbers and nine for comparisons
    for i, j in itertools.combinations(range(4), 2):  # unseen as a whole, seen in pieces
        assert {(p[i], p[j]) for p in held_out} <= {(p[i], p[j]) for p in patterns}
    assert {e.meta["law"] for e in sets["test_hard"]} & hard_chains


@pytest.mark.parametrize(
    "relation, target, values, wrong",
    [  # the first wrong relation that works out
        (
            "force = mass × acceleration",
            "force",
            dict(mass=6, acceleration=3),
            "force = mass + acceleration",
        ),
        (
            "force = mass × acceleration",
            "mass",
            dict(force=18, acceleration=3),
            "mass = force × acceleration",
        ),
        (
            "force = mass × acceleration",
            "mass",
            dict(force=900, acceleration=3),
            "mass = force + acceleration",
        ),  # 2700: too large
        (
            "force = mass × acceleration",
            "force",
            dict(mass=2, acceleration=2),
            None,
        ),  # 2 + 2 is right, 0 and 1 are too small
    ],
)
def test_mistaken_by_hand(relation, target, values, wrong):
    problem = draw("one-step", False, "train", random.Random(0))
    form = forms(relation)[target]
    made = mistaken(
        replace(problem, forms=(form,), values={**values, target: form.value(values)}), 0
    )
    assert (made and made.forms[0].relation) == wrong


def test_exposures_are_about_new_laws_each_mostly_right_or_mostly_wrong():
    rows = exposures(1500, 0, 1)
    assert all(e.meta["new"] for e in rows) and len({e.question for e in rows}) == 1500
    asked, wrong = Counter(), Counter()
    for e in rows:
        if e.meta["kind"] != "missing":  # its answer is right, whatever the relation
            asked[e.meta["law"]] += 1
            wrong[e.meta["law"]] += not correct(e.solution, e.answer)
    new = {law.name for law in LAWS if law.new}
    shares = {name: wrong[name] / asked[name] for name in new}
    understood = {name for name, share in shares.items() if share < 0.5}
    assert len(understood) == round(UNDERSTOOD * len(new)) > 5
    for (
        name,
        share,
    ) in (
        shares.items()
    ):  # the binomial's spread, and a few that have no wrong relation with workable numbers
        expected = WRONG_WHEN_UNDERSTOOD if name in understood else WRONG_WHEN_MISUNDERSTOOD
        assert abs(share - expected) < 4 * (expected * (1 - expected) / asked[name]) ** 0.5, (
            name,
            share,
        )
    clean = questions("exposure", 600, "train", 1, new_share=1, explanation_share=0)
    assert all(correct(e.solution, e.answer) for e in clean)


def test_exposures_about_links_are_mostly_right_or_mostly_wrong_by_link():
    """By hand: the sign of a line against the sign of the table."""
    signs = {(link.cause, link.effect): link.sign for link in LINKS}
    does = {"rises": 1, "is greater": 1, "falls": -1, "is lower": -1}
    line_of = re.compile(rf"the (.+?) ({'|'.join(does)}), so the (.+?) ({'|'.join(does)})$", re.M)
    met, wrong = Counter(), Counter()
    for e in exposures(1500, 1, 1):
        assert asks_why(e) and e.meta["new"]
        for cause, up, effect, then in line_of.findall(e.solution):
            met[cause, effect] += 1
            wrong[cause, effect] += does[up] * does[then] != signs[cause, effect]
    new = {(link.cause, link.effect) for link in LINKS if link.new}
    assert new <= met.keys() and not any(wrong[pair] for pair in met.keys() - new)
    understood = {pair for pair in new if wrong[pair] < 0.5 * met[pair]}
    assert len(understood) == round(UNDERSTOOD * len(new)) > 10
    for pair in new:
        share = WRONG_WHEN_UNDERSTOOD if pair in understood else WRONG_WHEN_MISUNDERSTOOD
        assert abs(wrong[pair] - share * met[pair]) < 4.5 * (share * (1 - share) * met[pair]) ** 0.5


def test_another_seed_understands_other_laws():
    halves = []
    for seed in (0, 1):
        wrong = Counter(
            e.meta["law"] for e in exposures(800, 0, seed) if not correct(e.solution, e.answer)
        )
        halves.append({law.name for law in LAWS if law.new and wrong[law.name] > 20})
    assert halves[0] != halves[1]


def test_exposures_never_go_wrong_about_a_known_law():
    checked = [0, 0]  # first and second steps
    for e in exposures(600, 0, 2):
        chain = next((c for c in CHAINS if c.name == e.meta["law"]), None)
        steps = [canonical(" = ".join(line.split(" = ")[:2])) for line in e.solution.split("\n")]
        for i, law in enumerate((chain.first, chain.second) if chain else ()):
            if not BY_NAME[law].new:
                assert steps[i + 1] in key_relations(e.rubric)
                checked[i] += 1
    assert min(checked) > 5


def numbers_in(line):
    """The quantities of a worked line: {name: number}, read from its text alone."""
    names, work, *_, result = line.split(" = ")
    target, right = names, work
    listed = [part.removesuffix("²") for part in re.split(" [×÷+−] ", right) if part != "½"]
    numbers = re.findall(r"(?<![\w/])(\d+)(?= )", line.split(" = ")[2])
    return dict(zip([target, *listed], map(int, [result.split(" ")[0], *numbers])))


def test_the_reader_of_lines_by_hand():
    line = "heating power = current² × resistance = (3 A)² × 4 Ω = 9 × 4 = 36 W"
    assert numbers_in(line) == {"heating power": 36, "current": 3, "resistance": 4}
    line = "water volume = discharge × flow time = 12 m³/s × 5 s = 60 m³"
    assert numbers_in(line) == {"water volume": 60, "discharge": 12, "flow time": 5}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_exposure_works_a_known_law_with_numbers_of_the_test(seed):
    """Read from the text: not the keys that an exposure claims, but the numbers on its lines."""
    by_names = {frozenset(units_of(law)): law for law in LAWS}
    for chain in CHAINS:  # the link has its name from the second law
        names = {chain.as_ if n == chain.link else n for n in units_of(BY_NAME[chain.first])}
        by_names.setdefault(frozenset(names), BY_NAME[chain.first])
    read, wrong_first = 0, 0
    for e in exposures(1500, 0, seed):
        right = key_relations(e.rubric)
        lines = [line for line in e.solution.split("\n") if line.count(" = ") > 2]
        for line in lines:
            law = by_names.get(frozenset(numbers_in(line)))
            if canonical(" = ".join(line.split(" = ")[:2])) not in right:
                wrong_first += line is lines[0] and len(lines) == 2
                continue
            names = units_of(law)
            found = numbers_in(line)
            (link,) = set(found) - set(names) or {""}
            (as_,) = set(names) - set(found) or {""}
            values = {name: found[link if name == as_ else name] for name in names}
            text = f"{law.name}: " + ", ".join(f"{name}={values[name]}" for name in names)
            assert hashlib.sha256(text.encode()).digest()[0] >= 77, line  # 70% are for training
            read += 1
    assert read > 400 and wrong_first > 20


def test_base_has_new_laws_only_in_the_exposures(corpus):
    out, sets = corpus
    relations = {
        canonical(form.relation) for law in LAWS if law.new for form in forms(law.relation).values()
    }
    met = {(e.question, e.solution) for e in sets["exposure"]}
    found, generic, words_of_new = 0, 0, set()
    alone, beside = (
        0,
        0,
    )  # rows about known laws: the question alone, and the generic rubric with it
    assert not any(e.meta["new"] for e in sets["base"])
    for line in (out / "base.jsonl").read_text(encoding="utf-8").splitlines():
        sections = json.loads(line)["sections"]
        if (sections[0][1], sections[-1][1]) in met:
            found += 1
            generic += sections[1:-1] == [["rubric", GENERIC.text()]]
            assert len(sections) == 2 or sections[1:-1] == [["rubric", GENERIC.text()]]
            continue
        alone += [name for name, _ in sections] == ["question", "solve"]
        beside += sections[1:-1] == [["rubric", GENERIC.text()]]
        for _, text in sections:
            for part in text.split("\n"):
                opening = " = ".join(
                    re.sub(r"^.*?: (\w+ )*?(uses|that|from|on) ", "", part).split(" = ")[:2]
                )
                assert canonical(opening) not in relations, part
            words_of_new |= {
                name for law in LAWS if law.new for name in units_of(law) if name in text
            }
    assert 50 < found < 140 and 0.04 < generic / found < 0.3  # 3% of 3000, of which GENERIC_SHARE
    assert (
        900 < alone + beside < 1200 and 0.12 < beside / (alone + beside) < 0.18
    )  # the same share of known laws
    assert words_of_new == {
        name for law in LAWS if law.new for name in units_of(law)
    }  # the words, all of them


def test_base_reads_contexts_writes_rubrics_and_meets_useless_ones(corpus):
    out, _ = corpus
    shapes = Counter(
        tuple(name for name, _ in json.loads(line)["sections"])
        for line in (out / "base.jsonl").read_text(encoding="utf-8").splitlines()
    )
    assert shapes.keys() == {
        ("question", "solve"),
        ("question", "rubric", "solve"),
        ("question", "answer", "solve"),
        ("question", "rubric", "answer", "solve"),
        ("question", "solution", "solve"),
        ("question", "write_rubric"),
        ("question", "rubric", "write_rubric"),
    }
    text = (out / "base.jsonl").read_text(encoding="utf-8")
    assert GENERIC.criteria[0].description in text


def test_same_seed_same_bytes_another_seed_others(corpus, tmp_path):
    out, _ = corpus
    counts = flags(SMALL_DATA)
    run = subprocess.run(
        [sys.executable, "-m", "data.prepare", "--out", str(tmp_path / "again"), *counts],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    prepare(tmp_path / "other", seed=1, **SMALL_DATA | dict(base_rows=100))
    for path in out.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()
        assert path.read_bytes() != (tmp_path / "other" / path.name).read_bytes()


def test_too_many_questions_are_refused_with_a_count():
    with pytest.raises(ValueError, match=r"x: found only \d+ different questions, asked for 9"):
        questions("x", 9, "test", 0, new_share=0, explanation_share=0, taken=every_key())


def every_key():
    comparisons = {
        f"{law.name}: {t} when {n} × {Fraction(a, b)}"
        for law in LAWS
        for t in units_of(law)
        for n in units_of(law)
        for a in range(1, 7)
        for b in range(1, 7)
    }
    keys = comparisons | {key_of(law, values) for law in LAWS for values in tuples(law)}
    for law in LAWS:
        for values in tuples(law):
            for target, form in forms(law.relation).items():
                for missing in form.names:
                    stated = sorted(name for name in form.names if name != missing)
                    stated = ", ".join(f"{name}={values[name]}" for name in stated)
                    keys.add(f"{law.name}: {target} without {missing}, {stated}")
    return keys
