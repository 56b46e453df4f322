"""The laws: units, forms and values that agree, scenes that read well, chains that fit."""

import random
import re
from collections import Counter, defaultdict
from fractions import Fraction
from math import isclose

import pytest

from data.chains import CHAINS
from data.laws import BY_NAME, FIELDS, LAWS
from data.problems import (
    SMALLER,
    chain_tuples,
    comparison,
    key_of,
    split_of,
    split_tuples,
    tuples,
    units_of,
)
from data.relations import forms
from oracle import evaluate, function, si, words


def test_the_oracle_by_hand():
    assert (
        evaluate("½ × 4 kg × (3 m/s)²") == 18
        and evaluate("√(2 × 16 J ÷ 8 kg)") == 2
        and evaluate("√(32 ÷ 8)") == 2
    )
    assert (
        evaluate("12 mm/(°C·day) × 2 °C·day") == 24
        and evaluate("1 ÷ (1/4)²") == 16
        and evaluate("√49") == 7
    )
    assert (
        evaluate("8 per h") == 8
        and evaluate("9 m²/m² − 2 g/(m²·h)") == 7
        and evaluate("1/3") == Fraction(1, 3)
    )
    assert (
        function("a × b² ÷ a c", ["a", "b", "a c"])(
            {"a": Fraction(3), "b": Fraction(2), "a c": Fraction(6)}
        )
        == 2
    )


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
    assert set(solved) == set(names) and len(values) >= 20
    solved_functions = {
        t: function(form.relation.split(" = ")[1], names) for t, form in solved.items()
    }
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
    for v in tuples(
        BY_NAME["mark and recapture"]
    ):  # no more recaptured than caught, no fewer animals than were seen
        marked, caught, again = v["first catch"], v["second catch"], v["recapture count"]
        assert again <= min(marked, caught) and v["population estimate"] >= marked + caught - again
    assert all(
        v["initial volume"] != v["final volume"] for v in tuples(BY_NAME["Boyle's law"])
    )  # its volume changes
    for law, name, low, high in (
        ("tidal range", "high tide level", 4, 20),
        ("tidal range", "low tide level", 2, 8),
        ("geothermal gradient", "depth", 1, 5),
        ("river discharge", "flow speed", 2, 4),
        ("impulse", "impulse", 4, 18),
        ("heat of solution", "heat of solution", 10, 30),
        ("molar mass", "molar mass", 40, 120),
        ("vascular resistance", "pressure drop", 70, 120),
        ("vascular resistance", "blood flow", 4, 10),
        ("vascular resistance", "vascular resistance", 8, 20),
        ("Fick principle", "cardiac output", 4, 8),
        ("magnification", "image length", 4, 30),
        ("humidity", "absolute humidity", 5, 12),
        ("Ohm's law", "voltage", 4, 60),
        ("Fick principle", "oxygen uptake", 150, 400),
    ):
        assert all(low <= v[name] <= high for v in tuples(BY_NAME[law])), (law, name)
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


def test_what_cannot_change_in_a_scene_is_not_compared():
    fixed = {
        "Hooke's law": "stiffness",
        "Henry's law": "Henry solubility",
        "freezing-point depression": "cryoscopic constant",
        "first-order rate": "rate constant",
        "wave speed": "wave speed",
        "map scale": "map scale",
        "Boyle's law": "initial pressure",
        "momentum": "mass",
        "Newton's second law": "mass",
        "torque": "lever arm",
    }
    for law in LAWS:
        assert set(law.varies) <= set(units_of(law)) and len(law.varies) != 1
        seen, factors = Counter(), set()
        for seed in range(100):
            if p := comparison(law, law.scenes[0], random.Random(seed)):
                seen.update((p.target, p.change[0]))
                factors.add(p.change[1])
        assert fixed.get(law.name) not in seen
        if law.name in ("ventilation", "Fick principle", "vascular resistance"):  # of a body
            assert factors == {2, Fraction(1, 2)}
        if "+" not in law.relation and "−" not in law.relation:
            assert set(seen) == set(law.varies or units_of(law)), law.name


def test_an_extra_quantity_is_no_part_of_its_law():
    for law in LAWS:
        assert not any(law.extra in name or name in law.extra for name in units_of(law))


def test_scenes_are_sentences_and_the_held_out_one_is_new_in_known_words():
    training = [scene for law in LAWS for scene in law.scenes[:-1]] + [
        c.scene for c in CHAINS if not c.hard
    ]
    known = set().union(*map(words, (scene for law in LAWS for scene in law.scenes[:-1])))
    for law in LAWS:
        assert len(law.scenes) == len(set(law.scenes)) == 4
        assert law.scenes[-1] not in training
        assert words(law.scenes[-1]) <= known, (law.name, words(law.scenes[-1]) - known)
    for scene in training + [law.scenes[-1] for law in LAWS] + [c.scene for c in CHAINS]:
        assert re.fullmatch(r"[A-Z][^.]*[a-z]\.", scene) and "  " not in scene, scene
        assert not re.search(r"\b[Aa] [aeiouAEIOU]|\b[Aa]n (?!RNA)[^aeiouAEIOU]", scene), scene


def test_pairs_of_the_hard_set_are_joined_in_no_order_in_training():
    pairs = defaultdict(set)
    for chain in CHAINS:
        pairs[chain.new, chain.hard].add(frozenset((chain.first, chain.second)))
    assert {key: len(laws) for key, laws in pairs.items()} == {
        (False, False): 43,
        (False, True): 10,
        (True, False): 18,
        (True, True): 10,
    }
    for new in (False, True):
        assert not pairs[new, True] & pairs[new, False]
    assert len({chain.name for chain in CHAINS}) == len(CHAINS) > 280


def test_hard_chains_of_each_field_have_many_questions():
    for new in (False, True):
        for hard in (False, True):
            asked = Counter()
            for chain in CHAINS:
                if (chain.new, chain.hard) == (new, hard):
                    field = BY_NAME[chain.second].field
                    asked[field] += len(chain_tuples(chain, "test"))
            assert set(asked) == set(FIELDS) and min(asked.values()) >= 100
            assert sum(asked.values()) > 1000


@pytest.mark.parametrize("chain", CHAINS, ids=lambda chain: chain.name)
def test_chains_join_quantities_of_one_kind(chain):
    first, second = BY_NAME[chain.first], BY_NAME[chain.second]
    assert chain.link in units_of(first) and {chain.as_, chain.target} <= set(units_of(second))
    assert chain.target != chain.as_ and units_of(first)[chain.link] == units_of(second)[chain.as_]
    assert chain_tuples(chain, "test") and chain_tuples(chain, "train")
    for a, b in chain_tuples(chain, "test"):
        assert a[chain.link] == b[chain.as_]
        assert "train" not in (split_of(key_of(first, a)), split_of(key_of(second, b)))
