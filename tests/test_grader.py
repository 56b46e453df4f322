"""The grader gives the verdict of data/grader_cases.md on each of its rows."""

import re
from collections import Counter
from math import isclose
from pathlib import Path

import pytest

from data.grammar import states, uses
from data.laws import LAWS
from data.problems import SMALLER, units_of
from data.units import is_same, quantity
from oracle import si
from rubrics import CHECKS, Criterion, satisfied

TABLE = Path(__file__).resolve().parent.parent / "data" / "grader_cases.md"
ROW = re.compile(r"\| (right|wrong) +\| `(.*?)` \| `(.*)` \| (.+) \|")
CASES = []
for line in TABLE.read_text(encoding="utf-8").splitlines():
    if line.startswith(("| right", "| wrong")):
        CASES.append(ROW.fullmatch(line).groups())


def test_the_table_has_every_check_with_right_and_wrong_forms():
    kinds = Counter((verdict, check.partition(" ")[0]) for verdict, check, _, _ in CASES)
    assert set(kinds) == {(verdict, kind) for verdict in ("right", "wrong") for kind in CHECKS}
    assert Counter(verdict for verdict, *_ in CASES).most_common()[-1][1] >= 60
    assert len({case[:3] for case in CASES}) == len(CASES)


@pytest.mark.parametrize("verdict, check, text, why", CASES)
def test_case(verdict, check, text, why):
    criterion = Criterion("", "Essential: x", 1, check)
    assert satisfied(criterion, text.replace("⏎", "\n")) == (verdict == "right"), why


def test_the_units_of_the_data_have_their_size_and_dimension():
    laws = {unit for law in LAWS for unit in law.units}
    smaller = {name for unit, (small, _) in SMALLER.items() for name in (unit, small)}
    own = ("year", "mmHg", "kb")  # no exact size in SI: see data/units.py
    units = sorted(unit for unit in laws | smaller if not any(word in unit for word in own))
    assert len(units) > 70
    for one in units:
        for other in units:
            (size, powers), (other_size, other_powers) = si(one), si(other)
            given, wanted = quantity(f"2 {one}"), quantity(f"2 {other}")
            equal = powers == other_powers and isclose(size, other_size, rel_tol=1e-9)
            assert is_same(given, wanted) == equal, (one, other)
    for unit, (small, count) in SMALLER.items():
        assert is_same(quantity(f"{3 * count} {small}"), quantity(f"3 {unit}"))
        assert not is_same(quantity(f"3 {small}"), quantity(f"3 {unit}"))


def test_no_quantity_of_the_laws_has_a_word_that_the_grader_takes_for_a_joint():
    names = {name for law in LAWS for name in units_of(law)}
    assert len(names) > 150
    for name in names:
        assert uses(f"so we multiply: {name} × time of day", f"{name} × time of day")
        assert not uses(f"x = net {name} × time of day", f"{name} × time of day")
        assert states(f"So the {name} = 2 × age", f"{name} = 2 × age")


@pytest.mark.parametrize(
    "text",
    [
        "9" * 100_000,
        "Answer: 1e999999999 N",
        "Answer: " + "1,000" * 20_000,
        "a = " + "(" * 5000 + "b" + ")" * 5000,
        "a = " + "(b + c) × " * 60 + "d",
        "a = " + " × ".join(f"(b{i} + c{i})" for i in range(40)),
        "a = " + "b × " * 20_000 + "c",
        "a = b" + "^3" * 1000,
        "a = 1 ÷ 0 × b",
        "a = b ÷ (c − c)",
        "a = √ b",
        "a = ",
        " = " * 1000,
        "Answer:" * 10_000,
        "N/" * 20_000,
        "3 " + "m·" * 20_000,
        "\\boxed{" * 1000,
        "x\x00 = \ud800",
    ],
    ids=range(18),
)
def test_odd_texts_are_graded_too(text):
    """None is met, none raises, none takes minutes."""
    lacking = "answer cannot be told, the mass is missing"
    checks = ("states a = b × c", "shows 3 kg", "unit N", "answer-line", "answer 12 N", lacking)
    for check in checks:
        assert not satisfied(Criterion("", "Essential: x", 1, check), text)
    assert satisfied(Criterion("", "Pitfall: x", -1, "avoids b ÷ e"), text)


@pytest.mark.parametrize("check", ["answer", "answer many", "states a", "shows ", "avoids "])
def test_a_check_must_say_what_it_looks_for(check):
    with pytest.raises(ValueError, match="does not say what it looks for"):
        Criterion("", "Essential: x", 1, check)
