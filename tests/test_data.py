"""The laws, the generator and the files of a run: the science against independent oracles, the splits against leaks."""

import itertools
import json
import os
import random
import re
import subprocess
import sys
from collections import Counter, defaultdict
from dataclasses import fields, replace
from fractions import Fraction
from math import isclose, isqrt
from pathlib import Path

import pytest

import data.invented as invented_module
import data.prepare as prepare_module
from data.generate import example, question, rubric, solution
from data.grammar import canonical, correct, final_answer
from data.invented import invented, invented_law
from data.laws import BY_NAME, CHAINS, FIELDS, LAWS, Law
from data.load import load_examples
from data.mistakes import mistaken, wrong_forms
from data.prepare import (
    KINDS,
    UNDERSTOOD,
    USES,
    WRONG_WHEN_MISUNDERSTOOD,
    WRONG_WHEN_UNDERSTOOD,
    exposures,
    main,
    prepare,
    questions,
    sample,
    show,
)
from data.problems import (
    SMALLER,
    chain_tuples,
    comparison,
    draw,
    key_of,
    one_step,
    split_of,
    split_tuples,
    tuples,
    units_of,
)
from data.relations import forms
from data.sources import (
    CORRUPTIONS,
    corrupt,
    corrupted_solution,
    noisy_rubric,
    reduced_rubric,
    shuffled_rubrics,
)
from rubrics import GENERIC, Criterion, Rubric, grade, key_relations, satisfied

ROOT = Path(__file__).resolve().parent.parent
SMALL = dict(base_rows=3000, exposure_count=20, exposure_share=0.03, stage1_questions=300, stage2_questions=600,
             test_questions=150, vocab_size=300)


# ------------------------------------------------------------------------ two oracles of our own: numbers and units
UNIT = r"(?:per )?[A-Za-zµΩ°][A-Za-zµΩ°²³·/]*(?:\([^()]*\))?"


def root(x):
    assert x.denominator == 1 and isqrt(int(x)) ** 2 == x, f"√{x} does not come out even"
    return Fraction(isqrt(int(x)))


def python(text: str) -> str:
    """An expression of the project's notation, without its units, as Python."""
    text = re.sub(rf"(½|\d+(?:/\d+)?)(?: {UNIT})?", lambda m: f"F('{m[1].replace('½', '1/2')}')", text)
    text = re.sub(r"√(F\('\d+'\))", r"root(\1)", text).replace("√", "root")
    return text.replace("²", "**2").replace("×", "*").replace("÷", "/").replace("−", "-")


def evaluate(text: str) -> Fraction:
    return eval(python(text), {"F": Fraction, "root": root})


def function(expression: str, names) -> object:
    """The right-hand side of a relation as a function of {name: value}; longer names first ("heat capacity", "heat")."""
    pattern = "|".join(sorted(map(re.escape, names), key=len, reverse=True))
    code = python(re.sub(pattern, lambda m: f"v[<{m[0]}>]", expression)).replace("<", "'").replace(">", "'")
    return eval(f"lambda v: {code}", {"F": Fraction, "root": root})


def test_the_oracle_by_hand():
    assert evaluate("½ × 4 kg × (3 m/s)²") == 18 and evaluate("√(2 × 16 J ÷ 8 kg)") == 2 and evaluate("√(32 ÷ 8)") == 2
    assert evaluate("12 mm/(°C·day) × 2 °C·day") == 24 and evaluate("1 ÷ (1/4)²") == 16 and evaluate("√49") == 7
    assert evaluate("8 per h") == 8 and evaluate("9 m²/m² − 2 g/(m²·h)") == 7 and evaluate("1/3") == Fraction(1, 3)
    assert function("a × b² ÷ a c", ["a", "b", "a c"])({"a": Fraction(3), "b": Fraction(2), "a c": Fraction(6)}) == 2


DIMENSIONS = {  # symbol: (size in SI, {base unit: power})
    "m": (1, {"m": 1}), "g": (1e-3, {"kg": 1}), "s": (1, {"s": 1}), "A": (1, {"A": 1}), "K": (1, {"K": 1}),
    "°C": (1, {"K": 1}),  # the laws use differences of temperature only
    "mol": (1, {"mol": 1}), "min": (60, {"s": 1}), "h": (3600, {"s": 1}), "day": (86400, {"s": 1}),
    "year": (31557600, {"s": 1}), "years": (31557600, {"s": 1}), "L": (1e-3, {"m": 3}), "Hz": (1, {"s": -1}),
    "N": (1, {"kg": 1, "m": 1, "s": -2}), "J": (1, {"kg": 1, "m": 2, "s": -2}), "W": (1, {"kg": 1, "m": 2, "s": -3}),
    "Pa": (1, {"kg": 1, "m": -1, "s": -2}), "bar": (1e5, {"kg": 1, "m": -1, "s": -2}),
    "mmHg": (133.322, {"kg": 1, "m": -1, "s": -2}), "C": (1, {"A": 1, "s": 1}),
    "V": (1, {"kg": 1, "m": 2, "s": -3, "A": -1}), "Ω": (1, {"kg": 1, "m": 2, "s": -3, "A": -2}),
    "F": (1, {"kg": -1, "m": -2, "s": 4, "A": 2}), "animals": (1, {"animal": 1}), "kb": (1, {"nt": 1}),
    "breath": (1, {"breath": 1}), "breaths": (1, {"breath": 1}),
}
PREFIXES = {"k": 1e3, "c": 1e-2, "m": 1e-3, "µ": 1e-6, "n": 1e-9}


def si(unit: str) -> tuple[float, dict]:
    """A unit as its size in SI and its powers of the base units."""
    over, _, under = unit.removeprefix("per ").partition("/")
    if unit.startswith("per "):
        over, under = "", unit.removeprefix("per ")
    size, powers = 1.0, Counter()
    for text, sign in ((over, 1), (under.strip("()"), -1)):
        for symbol in filter(None, text.split("·")):
            power = {"²": 2, "³": 3}.get(symbol[-1], 1)
            symbol = symbol.rstrip("²³")
            prefix = symbol not in DIMENSIONS and PREFIXES[symbol[0]]
            one, dimension = DIMENSIONS[symbol[1:] if prefix else symbol]
            size *= ((prefix or 1) * one) ** (power * sign)
            for base, p in dimension.items():
                powers[base] += p * power * sign
    return size, {base: p for base, p in powers.items() if p}


# ------------------------------------------------------------------------------------------------- the table of laws
def test_enough_laws_of_each_field():
    assert len(LAWS) >= 60 and len(BY_NAME) == len(LAWS)
    assert {law.field for law in LAWS} == set(FIELDS) and len(FIELDS) == 4
    for field in FIELDS:
        assert sum(law.field == field for law in LAWS) >= 15
        assert sum(law.field == field and law.new for law in LAWS) == 4
    assert len({law.relation for law in LAWS}) == len(LAWS)
    assert all(law.source for law in LAWS)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_units_agree_on_both_sides_with_no_hidden_factor(law):
    form, units = next(iter(forms(law.relation).values())), units_of(law)
    assert len(law.units) == len(units) == len(form.names) + 1
    size, powers = si(units[form.target])
    if form.signs:
        assert all(units[name] == units[form.target] for name in form.names)
        return
    right, right_powers = 1.0, Counter()
    for sign, factors in ((1, form.over), (-1, form.under)):
        for name, power in factors:
            one, dimension = si(units[name])
            right *= one ** (sign * power)
            for base, p in dimension.items():
                right_powers[base] += sign * power * p
    assert powers == {base: p for base, p in right_powers.items() if p}
    assert isclose(size, right, rel_tol=1e-9)


def test_smaller_units_are_that_much_smaller():
    for unit, (smaller, count) in SMALLER.items():
        (one, dimension), (other, other_dimension) = si(unit), si(smaller)
        assert dimension == other_dimension and isclose(one, count * other)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_every_form_of_every_law_holds_for_every_tuple(law):
    solved, names = forms(law.relation), list(units_of(law))
    target, right = law.relation.split(" = ")
    as_written, values = function(right, names), tuples(law)
    assert set(solved) == set(names) and len(values) >= 30
    solved_functions = {t: function(form.relation.split(" = ")[1], names) for t, form in solved.items()}
    for v in values:
        v = {name: Fraction(x) for name, x in v.items()}
        assert as_written(v) == v[target]
        for t, form in solved.items():
            assert form.value(v) == solved_functions[t](v) == v[t]
        assert all(x.denominator == 1 and 2 <= x <= 1440 for x in v.values())
    for split in ("train", "valid", "test"):
        assert split_tuples(law, split)
    assert sum(len(split_tuples(law, split)) for split in ("train", "valid", "test")) == len(values)


def test_values_that_a_scene_could_not_have_do_not_occur():
    for v in tuples(BY_NAME["mark and recapture"]):  # no more recaptured than caught, no fewer animals than were seen
        marked, caught, again = v["first catch"], v["second catch"], v["recapture count"]
        assert again <= min(marked, caught) and v["population estimate"] >= marked + caught - again
    assert all(v["initial volume"] != v["final volume"] for v in tuples(BY_NAME["Boyle's law"]))  # its volume changes
    assert max(v["high water"] for v in tuples(BY_NAME["tidal range"])) <= 24
    for law in LAWS:
        for name, allowed in law.values.items():
            assert name in units_of(law) and {v[name] for v in tuples(law)} <= set(allowed)


def test_every_quantity_has_one_unit_and_is_singular():
    seen = defaultdict(set)
    for law in LAWS:
        for name, unit in units_of(law).items():
            seen[name].add(unit)
            assert not re.search(r"[^s]s$", name), f"{name} would need 'are'"
    assert all(len(units) == 1 for units in seen.values())


def words(sentence):
    return set(re.findall(r"[\w'-]+", sentence.lower()))


def test_scenes_are_sentences_and_the_held_out_one_is_new_in_known_words():
    training = [scene for law in LAWS for scene in law.scenes[:-1]] + [c.scene for c in CHAINS if not c.hard]
    known = set().union(*map(words, (scene for law in LAWS for scene in law.scenes[:-1])))
    for law in LAWS:
        assert len(law.scenes) == len(set(law.scenes)) == 4
        assert law.scenes[-1] not in training
        assert words(law.scenes[-1]) <= known, (law.name, words(law.scenes[-1]) - known)
    for scene in training + [law.scenes[-1] for law in LAWS] + [c.scene for c in CHAINS]:
        assert re.fullmatch(r"[A-Z][^.]*[a-z]\.", scene) and "  " not in scene, scene
        assert not re.search(r"\b[Aa] [aeiouAEIOU]|\b[Aa]n (?!RNA)[^aeiouAEIOU]", scene), scene


@pytest.mark.parametrize("chain", CHAINS, ids=lambda chain: chain.name)
def test_chains_join_quantities_of_one_kind(chain):
    first, second = BY_NAME[chain.first], BY_NAME[chain.second]
    assert chain.link in units_of(first) and {chain.as_, chain.target} <= set(units_of(second))
    assert chain.target != chain.as_ and units_of(first)[chain.link] == units_of(second)[chain.as_]
    assert chain_tuples(chain, "test") and chain_tuples(chain, "train")
    for a, b in chain_tuples(chain, "test"):
        assert a[chain.link] == b[chain.as_]
        assert "train" not in (split_of(key_of(first, a)), split_of(key_of(second, b)))


# ------------------------------------------------------------------------------- questions, solutions, rubrics at large
def draws(count, seed=0):
    """Problems of every kind, split and phrasing, invented ones too, with the example made from each."""
    rng = random.Random(seed)
    for i in range(count):
        held_out = i % 3 == 2
        if i % 5 == 4:
            p, held_out = invented(KINDS[i % 4], rng), False
        else:
            p = draw(KINDS[i % 4], rng.random() < 0.5, ("train", "valid", "test")[i % 3], rng, held_out=held_out)
        yield p, example(p, rng, str(i), held_out=held_out)


@pytest.fixture(scope="module")
def many():
    return list(draws(6000))


def true_steps(p, text):
    """How many numbers stand in a worked solution; asserts that those of one line are equal, and the last the answer."""
    lines, segments = text.split("\n"), 0
    for line in lines[:-1]:
        name, *rest = line.split(" = ")
        numeric = [part for part in rest if not re.search(r"[a-z]", re.sub(rf"\d(?: {UNIT})?", "", part))]
        if p.converted and name == p.converted and len(rest) == 2:  # "depth = 2000 m = 2 km": true with its units
            sizes = [evaluate(part) * Fraction(si(part.split(" ", 1)[1])[0]).limit_denominator(10**12) for part in rest]
            assert isclose(*sizes, rel_tol=1e-9), line
            continue
        values = {evaluate(part) for part in numeric}
        assert len(values) <= 1, line
        segments += len(numeric)
    value, unit = final_answer(text)
    assert lines[-1].startswith("Answer: ") and evaluate(lines[-2].split(" = ")[-1]) == value
    assert unit == ("times" if p.kind == "comparison" else p.units[p.target])
    return segments


def test_every_line_of_every_solution_is_true(many):
    assert sum(true_steps(p, e.solution) for p, e in many) > 12_000
    assert all(e.solution.endswith(f"\nAnswer: {e.answer}") and correct(e.solution, e.answer) for _, e in many)


def test_a_mistaken_solution_is_cleanly_worked_from_one_wrong_relation(many):
    made = Counter()
    for p, e in many:
        new = [i for i, key in enumerate(p.keys) if (law := BY_NAME.get(key.partition(":")[0])) and law.new]
        for step in new:
            if (wrong := mistaken(p, step)) is None:
                made["none"] += 1
                continue
            text = solution(wrong)
            made["sum" if any(form.signs for form in wrong.forms) else "product"] += 1
            assert true_steps(p, text) and not correct(text, e.answer)
            right = [canonical(form.relation) for form in p.forms]
            assert [canonical(form.relation) not in right for form in wrong.forms] == [i == step for i in range(len(right))]
            for form, other in zip(p.forms, wrong.forms):
                assert form.target == other.target and sorted(form.names) == sorted(other.names)
            assert question(wrong, random.Random(1)) == question(p, random.Random(1))
    assert made["none"] < 50 and made["product"] > 400 and made["sum"] > 400


@pytest.mark.parametrize("right, wrong", [
    ("force = mass × acceleration", ["force = mass + acceleration", "force = mass − acceleration",
                                     "force = mass ÷ acceleration", "force = acceleration ÷ mass"]),
    ("mass = force ÷ acceleration", ["mass = force × acceleration", "mass = acceleration ÷ force",
                                     "mass = force + acceleration", "mass = force − acceleration"]),
])
def test_wrong_forms_by_hand(right, wrong):
    assert [form.relation for form in wrong_forms(forms(right)[right.split(" = ")[0]])] == wrong


def test_solutions_state_the_law_and_only_the_law(many):
    """The relation on each line, solved back for the law's own target, is the law: checked with numbers."""
    for p, e in many:
        if p.kind == "comparison" or "invented" in p.law:
            continue
        chain = next((c for c in CHAINS if c.name == p.law), None)
        laws = [BY_NAME[chain.first], BY_NAME[chain.second]] if chain else [BY_NAME[p.law]]
        steps = [line for line in e.solution.split("\n")[:-1] if re.search("[×÷+−]", line)]
        assert len(steps) == len(laws)
        for law, line in zip(laws, steps):
            relation = " = ".join(line.split(" = ")[:2])
            if chain and law is laws[1] and chain.link != chain.as_:
                relation = re.sub(rf"\b{re.escape(chain.link)}\b", chain.as_, relation)
            target = relation.split(" = ")[0]
            assert canonical(relation) == canonical(forms(law.relation)[target].relation)


def test_the_reference_solution_meets_every_criterion_and_a_wrong_one_does_not(many):
    rng = random.Random(3)
    for _, e in many:
        assert grade(e.rubric, e.solution) == 1, e
        wrong = corrupted_solution(e.solution, rng)
        assert correct(wrong, e.answer) and grade(e.rubric, wrong) < 1, wrong
        no_unit = re.sub(r"(Answer: [\d/]+).*", r"\1", e.solution)
        assert not correct(no_unit, e.answer) and grade(e.rubric, no_unit) < 1


def test_rubrics_have_3_to_7_criteria_an_essential_relation_and_never_the_answer(many):
    sizes = Counter()
    for p, e in many:
        sizes[len(e.rubric.criteria)] += 1
        assert all(c.check and c.description.startswith(c.category) for c in e.rubric.criteria)
        assert key_relations(e.rubric) == {canonical(form.relation) for form in p.forms}
        assert all((c.weight < 0) == (c.category == "Pitfall") for c in e.rubric.criteria)
        stated = {p.stated(name) for name in p.given} | {p.measure(name) for name in p.given} if p.values else set()
        if e.answer not in stated:
            assert not re.search(rf"(?<![\d/]){re.escape(e.answer)}(?![\w/·²³(])", e.rubric.text()), e
    assert set(sizes) <= set(range(3, 8)) and len(sizes) >= 4


def test_questions_state_the_givens_and_read_as_sentences(many):
    for p, e in many:
        text = e.question
        assert p.scene in text and p.target in text and "  " not in text and text[-1] in ".?"
        for sentence in re.split(r"(?<=[.?]) ", text):
            assert re.fullmatch(r"[A-Z].*[\w²³)°][.?]", sentence), sentence
        for name in p.given if p.values else ():
            assert re.search(rf"\b{re.escape(name)} (is|=) {re.escape(p.stated(name))}(?![\w/·²³(])", text), (name, text)
        assert p.target not in p.given
        if p.converted:
            unit, factor = SMALLER[p.units[p.converted]]
            assert p.stated(p.converted) == f"{p.values[p.converted] * factor} {unit}"


def test_each_law_has_three_phrasings_and_others_held_out():
    for law in LAWS:
        problem, rng = one_step(law, tuples(law)[0], law.scenes[0], random.Random(0)), random.Random(1)
        seen = {question(problem, rng) for _ in range(60)}
        unseen = {question(problem, rng, held_out=True) for _ in range(60)}
        assert len(seen) >= 3 and len(unseen) >= 3 and not seen & unseen


def test_comparisons_by_plugging_in_numbers():
    """Solve f(..., x × target, ...) = f(...) for x by bisection, with f the relation as the table writes it."""
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
        value, unit = final_answer(solution(p))
        assert unit == "times" and isclose(low, value, rel_tol=1e-9), (p.law, p.target, p.change)
        text = question(p, rng)
        said = {2: ("doubled", "made 2 times as large"), Fraction(1, 2): ("halved", "divided by 2")}.get(
            factor, (f"made {factor} times as large" if factor > 1 else f"divided by {factor.denominator}",))
        assert any(f"he {changed} is {words}" in text for words in said) and re.search(r"\bwhile the ", text, re.I), text
        assert all(f"the {name}" in text for name in p.given if name != changed)  # which are those that stay the same
        checked += 1
    assert checked > 500


def test_invented_problems_are_well_formed():
    rng, real, real_names = random.Random(9), {frozenset(units_of(law)) for law in LAWS}, 0
    for _ in range(2000):
        law = invented_law(rng)
        assert frozenset(units_of(law)) not in real and len(law.units) == len(units_of(law))
        real_names += any(name in units_of(other) for other in LAWS for name in units_of(law))
    assert 1200 < real_names < 1600
    kinds = Counter(invented(KINDS[i % 4], rng).kind for i in range(80))
    assert set(kinds.values()) == {20} and set(kinds) == set(KINDS)


def test_no_invented_law_is_a_real_one(monkeypatch):
    monkeypatch.setattr(invented_module, "_REAL_NAMES", ["acceleration", "force", "mass", "speed"])
    drawn = [frozenset(units_of(invented_law(random.Random(seed)))) for seed in range(200)]
    assert {"force", "mass", "speed"} in drawn and {"force", "mass", "acceleration"} not in drawn


def test_no_pitfall_is_in_the_reference_solution_by_the_accident_of_a_longer_name():
    law = Law("x", "physics", "heat = a × pressure × heating power", ("J", "m", "N", "s"), ("A pump runs.",), "nowhere")
    values, rng = dict(zip(units_of(law), (24, 2, 3, 4))), random.Random(0)
    for _ in range(300):
        problem = one_step(law, values, law.scenes[0], rng)
        assert grade(rubric(problem, rng), solution(problem)) == 1


# ------------------------------------------------------------------------------------------------ the files, and leaks
@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A small run's files, its sets loaded, and every example behind base.jsonl, in order."""
    out, rows = tmp_path_factory.mktemp("data"), []
    with pytest.MonkeyPatch.context() as patch:
        def recording(problem, rng, id, **options):
            e = example(problem, rng, id, **options)
            rows.append(e)
            return e
        patch.setattr(prepare_module, "example", recording)
        prepare(out, seed=0, **SMALL)
    sets = {path.stem: load_examples(path) for path in out.glob("*.jsonl") if path.stem != "base"}
    assert all(report.kept == len(examples) and not report.dropped for examples, report in sets.values())
    sets = {name: examples for name, (examples, _) in sets.items()}
    sets["exposure"] = exposures(SMALL["exposure_count"], 0)
    sets["base"] = [e for e in rows if e.id == ""]
    return out, sets


def keys(examples):
    return {key for e in examples for key in e.meta["keys"]}


def test_files_have_the_counts_asked_for(made):
    out, sets = made
    assert {name: len(rows) for name, rows in sets.items() if name != "base"} == {
        "stage1": 300, "stage2": 600, "valid": 75, "test_known": 150, "test_new": 150, "test_hard": 150, "exposure": 20}
    base = (out / "base.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(base) == 3000 and all(len(json.loads(line)["sections"]) >= 2 for line in base)
    assert len((out / "tokenizer.txt").read_text(encoding="utf-8").splitlines()) == 300 - 8
    assert not list(out.glob("*.tmp"))


def test_no_test_question_shares_law_and_numbers_with_any_other(made):
    _, sets = made
    seen = keys(sets["base"]) | keys(sets["exposure"]) | keys(sets["stage1"]) | keys(sets["stage2"]) | keys(sets["valid"])
    assert len(seen) > 2000
    for name in ("test_known", "test_new", "test_hard"):
        assert not keys(sets[name]) & seen
        assert len({e.question for e in sets[name]}) == len(sets[name])


def test_no_line_of_a_test_solution_was_trained(made):
    """The same in plain text, without the keys: no worked step of a test question is in a training text."""
    out, sets = made
    text = (out / "base.jsonl").read_text(encoding="utf-8") + "\n".join(
        e.solution for name in ("stage1", "stage2", "exposure") for e in sets[name])
    for name in ("test_known", "test_new", "test_hard"):
        for e in sets[name]:
            for line in e.solution.split("\n")[:-1]:
                if e.meta["kind"] != "comparison" and re.search("[×÷+−]", line):
                    assert line not in text, line


def test_test_sets_hold_what_their_names_say(made):
    _, sets = made
    for name, news in (("test_known", {False}), ("test_new", {True}), ("test_hard", {False, True})):
        assert {e.meta["new"] for e in sets[name]} == news
        assert {e.meta["kind"] for e in sets[name]} == set(KINDS) and {e.meta["field"] for e in sets[name]} == set(FIELDS)
    assert 0.7 < sum(e.meta["new"] for e in sets["stage2"]) / 600 < 0.9
    assert not {e.question for e in sets["stage1"]} & {e.question for e in sets["stage2"]}
    for name in ("stage1", "stage2", "valid"):
        assert len({e.question for e in sets[name]}) == len(sets[name])


def pattern(e):
    """The sentence pattern of a question, read off its text: order of scene, facts and ask, and their wordings."""
    law = BY_NAME.get(e.meta["law"])
    scenes = law.scenes if law else [c.scene for c in CHAINS if c.name == e.meta["law"]]
    scene = next(s for s in scenes if s in e.question)
    ask = re.search(r"(What is|Find the factor by which|Find|Calculate|By what factor does|How many times as large does)"
                    r" the [^.?]*[.?]", e.question)
    facts = next((w for w in ("It is known that", "Given:", "Suppose that", "While") if w in e.question), "plain")
    first = "scene" if e.question.startswith(scene) else "ask" if e.question.startswith(ask[0]) else "facts"
    last = "scene" if e.question.endswith(scene) else "ask" if e.question.endswith(ask[0]) else "facts"
    return first, last, facts, ask[0].split(" the ")[0]


def test_hard_questions_are_phrased_or_combined_as_no_training_question(made):
    _, sets = made
    training = [e for name in ("base", "exposure", "stage1", "stage2", "valid") for e in sets[name]]
    hard_chains = {c.name for c in CHAINS if c.hard}
    for law in LAWS:
        assert not any(law.scenes[-1] in e.question for e in training)
    patterns = {pattern(e) for e in training if not e.meta["law"].startswith("invented")}
    assert not hard_chains & {e.meta["law"] for e in training}
    assert {e.meta["phrasing"] for e in training} == {"seen"}
    held_out = set()
    for e in sets["test_hard"]:
        if e.meta["kind"] == "two-step":
            assert e.meta["law"] in hard_chains
        else:
            held_out.add(pattern(e))
            assert BY_NAME[e.meta["law"]].scenes[-1] in e.question
    assert not held_out & patterns and len(held_out) > 12  # nine for numbers and nine for comparisons
    for i, j in itertools.combinations(range(4), 2):  # unseen as a whole, seen in pieces
        assert {(p[i], p[j]) for p in held_out} <= {(p[i], p[j]) for p in patterns}
    assert {e.meta["law"] for e in sets["test_hard"]} & hard_chains


@pytest.mark.parametrize("relation, target, values, wrong", [  # the first wrong relation that works out
    ("force = mass × acceleration", "force", dict(mass=6, acceleration=3), "force = mass + acceleration"),
    ("force = mass × acceleration", "mass", dict(force=18, acceleration=3), "mass = force × acceleration"),
    ("force = mass × acceleration", "mass", dict(force=900, acceleration=3), "mass = force + acceleration"),  # 2700: too large
    ("force = mass × acceleration", "force", dict(mass=2, acceleration=2), None),  # 2 + 2 is right, 0 and 1 are too small
])
def test_mistaken_by_hand(relation, target, values, wrong):
    problem = draw("one-step", False, "train", random.Random(0))
    form = forms(relation)[target]
    made = mistaken(replace(problem, forms=(form,), values={**values, target: form.value(values)}), 0)
    assert (made and made.forms[0].relation) == wrong


def test_exposures_are_about_new_laws_each_mostly_right_or_mostly_wrong():
    rows = exposures(1500, 1)
    assert all(e.meta["new"] for e in rows) and len({e.question for e in rows}) == 1500
    asked, wrong = Counter(), Counter()
    for e in rows:
        asked[e.meta["law"]] += 1
        wrong[e.meta["law"]] += not correct(e.solution, e.answer)
    new = {law.name for law in LAWS if law.new}
    shares = {name: wrong[name] / asked[name] for name in new}
    understood = {name for name, share in shares.items() if share < 0.5}
    assert len(understood) == round(UNDERSTOOD * len(new)) == 6
    for name, share in shares.items():  # the binomial's spread, and a few that have no wrong relation with workable numbers
        expected = WRONG_WHEN_UNDERSTOOD if name in understood else WRONG_WHEN_MISUNDERSTOOD
        assert abs(share - expected) < 4 * (expected * (1 - expected) / asked[name]) ** 0.5, (name, share)
    clean = questions("exposure", 600, "train", 1, new_share=1)
    assert all(correct(e.solution, e.answer) for e in clean)


def test_another_seed_understands_other_laws():
    halves = []
    for seed in (0, 1):
        wrong = Counter(e.meta["law"] for e in exposures(800, seed) if not correct(e.solution, e.answer))
        halves.append({law.name for law in LAWS if law.new and wrong[law.name] > 20})
    assert halves[0] != halves[1]


def test_exposures_never_go_wrong_about_a_known_law():
    checked = [0, 0]  # first and second steps
    for e in exposures(600, 2):
        chain = next((c for c in CHAINS if c.name == e.meta["law"]), None)
        steps = [canonical(" = ".join(line.split(" = ")[:2])) for line in e.solution.split("\n")]
        for i, law in enumerate((chain.first, chain.second) if chain else ()):
            if not BY_NAME[law].new:
                assert steps[i] in key_relations(e.rubric)
                checked[i] += 1
    assert min(checked) > 5


def test_base_has_new_laws_only_in_the_exposures(made):
    out, sets = made
    relations = {canonical(form.relation) for law in LAWS if law.new for form in forms(law.relation).values()}
    met = {(e.question, e.solution) for e in sets["exposure"]}
    found, generic, words_of_new = 0, 0, set()
    alone, beside = 0, 0  # rows about known laws: the question alone, and the generic rubric with it
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
                opening = " = ".join(re.sub(r"^.*?: (\w+ )*?(uses|that|from|on) ", "", part).split(" = ")[:2])
                assert canonical(opening) not in relations, part
            words_of_new |= {name for law in LAWS if law.new for name in units_of(law) if name in text}
    assert 50 < found < 140 and 0.04 < generic / found < 0.3  # 3% of 3000, of which GENERIC_SHARE
    assert 900 < alone + beside < 1200 and 0.12 < beside / (alone + beside) < 0.18  # the same share of known laws
    assert words_of_new == {name for law in LAWS if law.new for name in units_of(law)}  # the words, all of them


def test_base_reads_contexts_writes_rubrics_and_meets_useless_ones(made):
    out, _ = made
    shapes = Counter(tuple(name for name, _ in json.loads(line)["sections"])
                     for line in (out / "base.jsonl").read_text(encoding="utf-8").splitlines())
    assert shapes.keys() == {("question", "solve"), ("question", "rubric", "solve"), ("question", "answer", "solve"),
                             ("question", "rubric", "answer", "solve"), ("question", "solution", "solve"),
                             ("question", "write_rubric"), ("question", "rubric", "write_rubric")}
    text = (out / "base.jsonl").read_text(encoding="utf-8")
    assert GENERIC.criteria[0].description in text


def test_same_seed_same_bytes_another_seed_others(made, tmp_path):
    out, _ = made
    counts = [x for name, value in SMALL.items() for x in ("--" + name.replace("_", "-"), str(value))]
    run = subprocess.run([sys.executable, "-m", "data.prepare", "--out", str(tmp_path / "again"), *counts], cwd=ROOT,
                         env={**os.environ, "PYTHONHASHSEED": "7"}, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    prepare(tmp_path / "other", seed=1, **SMALL | dict(base_rows=100))
    for path in out.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()
        assert path.read_bytes() != (tmp_path / "other" / path.name).read_bytes()


def test_too_many_questions_are_refused_with_a_count():
    with pytest.raises(ValueError, match=r"x: found only \d+ different questions, asked for 9"):
        questions("x", 9, "test", 0, new_share=0, taken=every_key())


def every_key():
    comparisons = {f"{law.name}: {t} when {n} × {Fraction(a, b)}" for law in LAWS for t in units_of(law)
                   for n in units_of(law) for a in range(1, 7) for b in range(1, 7)}
    return comparisons | {key_of(law, values) for law in LAWS for values in tuples(law)}


# ------------------------------------------------------------------------------------------------- corrupted versions
FORCE = "force = mass × acceleration = 3 kg × 4 m/s² = 12 N\nAnswer: 12 N"


def test_corrupted_solution_by_hand():
    rng = random.Random(0)
    assert corrupted_solution(FORCE, rng) == "force = mass ÷ acceleration = 3 kg ÷ 4 m/s² = 12 N\nAnswer: 12 N"
    assert corrupted_solution("a = b ÷ c\nfactor = 1 ÷ 5 = 1/5\nAnswer: 1/5 times", rng) == \
        "a = b × c\nfactor = 1 × 5 = 1/5\nAnswer: 1/5 times"
    assert corrupted_solution("m = 2000 g = 2 kg\na = b − m = 5 kg − 2 kg = 3 kg", rng) == \
        "m = 2000 g = 2 kg\na = b + m = 5 kg + 2 kg = 3 kg"
    two = "a = b × c = 2 × 3 = 6\nd = a × e = 6 × 2 = 12\nAnswer: 12 m"
    made = {corrupted_solution(two, rng) for _ in range(20)}
    assert made == {two.replace("b × c = 2 × 3", "b ÷ c = 2 ÷ 3"), two.replace("a × e = 6 × 2", "a ÷ e = 6 ÷ 2")}
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
        assert len(key_relations(noisy) & right) == len(right) - 1 and len(key_relations(noisy)) == len(right)
        assert [c.weight for c in noisy.criteria] == [c.weight for c in e.rubric.criteria]
        assert grade(noisy, e.solution) < 1
        key = next(c for c, old in zip(noisy.criteria, e.rubric.criteria) if c != old)
        assert canonical(key.check.removeprefix("states ")) in key_relations(noisy) and not satisfied(key, e.solution)


def test_reduced_and_shuffled_rubrics(many):
    rng = random.Random(4)
    for _, e in many[:500]:
        less = reduced_rubric(e.rubric, rng).criteria
        assert len(less) == len(e.rubric.criteria) // 2
        assert [c for c in e.rubric.criteria if c in less] == list(less)  # in order
    one = Rubric(e.rubric.criteria[:1])
    assert reduced_rubric(one, rng) == one
    examples = [replace(e, rubric=Rubric((Criterion("", str(i), 1),))) for i, (_, e) in enumerate(many[:50])]
    for _ in range(20):
        shuffled = shuffled_rubrics(examples, rng)
        assert all(got != e.rubric for got, e in zip(shuffled, examples))
        assert Counter(shuffled) == Counter(e.rubric for e in examples)
    with pytest.raises(ValueError, match="at least 2"):
        shuffled_rubrics(examples[:1], rng)
    with pytest.raises(ValueError, match="states a relation"):
        noisy_rubric(GENERIC, rng)


@pytest.mark.parametrize("what", CORRUPTIONS)
def test_corrupted_at_a_rate_and_seed(made, what):
    examples = made[1]["stage2"]

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
        assert {"solution": grade(a.rubric, b.solution) < 1 and correct(b.solution, a.answer),
                "noisy": key_relations(b.rubric) - key_relations(a.rubric) != set() and sizes[0] == sizes[1],
                "reduced": sizes[1] == sizes[0] // 2 and set(b.rubric.criteria) < set(a.rubric.criteria),
                "shuffled": any(b.rubric == other.rubric for other in examples)}[what]
    some, more = changed(0.3, 0), changed(0.6, 0)
    assert 130 < len(some) < 230 and some < more and changed(0.3, 1) != some
    for bad in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="rate from 0 to 1"):
            corrupt(examples, what, bad, 0)


def test_corrupted_refuses_an_unknown_kind():
    with pytest.raises(ValueError, match="expected one of solution, noisy, reduced, shuffled"):
        corrupt([], "rubric", 0.3, 0)


# ------------------------------------------------------------------------------------------------------ to be read
def test_sample_is_what_its_command_prints():
    committed = (ROOT / "data" / "sample.md").read_text(encoding="utf-8")
    command = re.search(r"`python (-m data\.prepare --show 40 --seed \d+)`", committed[:200])
    run = subprocess.run([sys.executable, *command[1].split()], cwd=ROOT, capture_output=True, encoding="utf-8",
                         env={**os.environ, "PYTHONHASHSEED": "3"})
    assert run.returncode == 0 and run.stdout == committed


def test_sample_shows_every_kind_use_and_field():
    rows = sample(40, 0)
    assert {(use, e.meta["kind"]) for use, e in rows} == {(use[0], kind) for use in USES for kind in KINDS}
    assert {e.meta["field"] for _, e in rows} == {*FIELDS, "invented"} and {e.meta["new"] for _, e in rows} == {True, False}
    text = show(rows, "python")
    for use, e in rows:
        for part in (e.question, e.answer, *e.solution.split("\n"), use, *(c.description for c in e.rubric.criteria)):
            assert part in text
        assert all(f"| `{c.check}` |" in text for c in e.rubric.criteria)
        if e.meta["law"] in BY_NAME:
            assert BY_NAME[e.meta["law"]].source in text


@pytest.mark.parametrize("flags, message", [
    ("--show 0", "argument --show: expected a number of at least 1, got 0"), ("--show x", "invalid int value"),
    ("", "--show --out is required"), ("--show 2 --out x", "not allowed with"), ("--out {file}", "File exists"),
    ("--out {file}/x", "Not a directory"), ("--out {dir} --base-rows -1", "argument --base-rows: expected a number"),
    ("--out {dir} --vocab-size 90", "vocab_size: expected at least 264"),
    ("--out {dir} --exposure-share 1.5", "argument --exposure-share: expected a number from 0 to 1, got 1.5"),
])
def test_command_line_errors_are_one_line_and_code_2(flags, message, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as stop:
        main(flags.format(file=tmp_path / "file", dir=tmp_path / "dir").split())
    said = capsys.readouterr()
    assert stop.value.code == 2 and message in said.err and said.err.count("\n") == 1 and not said.out
    assert not (tmp_path / "dir").exists()


def test_command_line_defaults_are_the_cpu_preset(monkeypatch, tmp_path):
    settings = pytest.importorskip("trainer.settings").Settings()
    called = {}
    monkeypatch.setattr(prepare_module, "prepare", lambda out, **args: called.update(args))
    main(["--out", str(tmp_path)])
    assert called == {f.name: getattr(settings, f.name) for f in fields(settings) if f.metadata["stage"] == "data"}


def test_data_needs_no_torch():
    code = "import sys, data.prepare, rubrics; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
