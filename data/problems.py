"""Problems about the laws: what a question asks, before `generate.py` says it in words.

In order: the values that quantities may take, their split, the `Problem` record, and `draw`, which
makes a problem about real laws. All chance comes from the `random.Random` that the caller passes.
"""

import hashlib
import random
import re
from collections import defaultdict
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from itertools import product

from data.chains import CHAINS, Chain
from data.laws import BY_NAME, EXTRAS, FIELDS, LAWS, Law
from data.relations import Form, forms, is_workable

DEFAULT_VALUES = tuple(range(2, 13))  # of a quantity for which the law names no others

# {unit: (smaller unit, how many make one)}; conversion questions state values in the smaller unit.
SMALLER = {
    "kg": ("g", 1000),
    "m": ("cm", 100),
    "A": ("mA", 1000),
    "V": ("mV", 1000),
    "J": ("mJ", 1000),
    "L": ("mL", 1000),
    "mol": ("mmol", 1000),
    "kJ": ("J", 1000),
    "g": ("mg", 1000),
    "km": ("m", 1000),
    "cm": ("mm", 10),
    "min": ("s", 60),
    "h": ("min", 60),
    "bar": ("mbar", 1000),
    "µF": ("nF", 1000),
    "mg": ("µg", 1000),
    "mmol": ("µmol", 1000),
    "kPa": ("Pa", 1000),
    "kN": ("N", 1000),
    "ms": ("µs", 1000),
}


# ------------------------------------------------------------------------- the values of quantities
def names_of(law: Law) -> list[str]:
    """The law's quantities, in the order in which the relation is written."""
    return list(forms(law.relation))


def units_of(law: Law) -> dict[str, str]:
    """The unit of each quantity: {name: unit}."""
    return dict(zip(names_of(law), law.units))


def free_values(law: Law) -> tuple[list[str], list[tuple[int, ...]]]:
    """The quantities that may be drawn freely, and the values of each.

    The one quantity that is left out follows from them.
    """
    names = names_of(law)
    form = forms(law.relation)[names[0]]
    is_difference = bool(form.signs) and form.signs[1][0] < 0
    if is_difference:  # y = a − b: draw y and b, so that no value is negative
        free = [names[0], names[2]]
    else:
        free = names[1:]
    return free, [law.values.get(name, DEFAULT_VALUES) for name in free]


def complete(law: Law, numbers: dict[str, int]) -> dict[str, int] | None:
    """Values for all quantities of a law, from values for all but one.

    None if the missing value is not workable, or the law cannot be worked for some target.
    """
    solved, names = forms(law.relation), names_of(law)
    missing = next(name for name in names if name not in numbers)
    result = solved[missing].value(numbers)
    if not is_workable(result):
        return None
    is_quotient = bool(solved[missing].under)  # it should look like the drawn values
    if result not in law.values.get(missing, DEFAULT_VALUES if is_quotient else (result,)):
        return None
    if is_quotient and result == numbers[names[1]]:  # something cancels
        return None
    values = numbers | {missing: int(result)}
    for target, form in solved.items():
        if form.value(values) != values[target] or form.steps(values) is None:
            return None
    return {name: values[name] for name in names}


@lru_cache(maxsize=None)
def tuples(law: Law) -> tuple[dict[str, int], ...]:
    """Every set of values that questions about the law draw from."""
    free, choices = free_values(law)
    found = []
    for numbers in product(*choices):
        values = complete(law, dict(zip(free, numbers)))
        if values:
            found.append(values)
    return tuple(found)


# ---------------------------------------------------------------------------------------- the split
def key_of(law: Law, values: dict[str, int]) -> str:
    """A law and its values as text, such as "weight: weight=6, mass=2, gravitational field strength=3"."""
    return f"{law.name}: " + ", ".join(f"{name}={values[name]}" for name in names_of(law))


def split_of(key: str) -> str:
    """The split of a key: train (70%), valid (10%) or test (20%). It is the same in every run."""
    bucket = hashlib.sha256(key.encode()).digest()[0]
    if bucket < 51:
        return "test"
    return "valid" if bucket < 77 else "train"


@lru_cache(maxsize=None)
def split_tuples(law: Law, split: str) -> tuple[dict[str, int], ...]:
    """The law's sets of values that belong to a split."""
    return tuple(values for values in tuples(law) if split_of(key_of(law, values)) == split)


@lru_cache(maxsize=None)
def chain_tuples(chain: Chain, split: str) -> tuple[tuple[dict, dict], ...]:
    """Every pair of values, for the chain's first and second law, that belongs to a split.

    The shared quantities have equal values. A pair of two training steps is for "train", two
    validation steps are for "valid", and a test step with a test or validation step is for "test".
    A pair of a training step and another is never used, so no step of a test question was trained.
    """
    first, second = BY_NAME[chain.first], BY_NAME[chain.second]
    by_link = defaultdict(list)
    for values in tuples(second):
        by_link[values[chain.as_]].append(values)

    found = []
    for a in tuples(first):
        for b in by_link.get(a[chain.link], ()):
            shared = [name for name in b if name in a and name != chain.as_]
            if any(a[name] != b[name] for name in shared):
                continue
            splits = {split_of(key_of(first, a)), split_of(key_of(second, b))}
            if splits == {split} or (split == "test" and splits == {"test", "valid"}):
                found.append((a, b))
    return tuple(found)


# -------------------------------------------------------------------------------------- the problem
@dataclass(frozen=True)
class Problem:
    """What a question asks, before it is said in words."""

    kind: str  # one-step, conversion, comparison, two-step, extra or missing
    law: str  # name of the law or chain
    field: str
    new: bool  # whether the law, or a law of the chain, is new
    scene: str
    forms: tuple[Form, ...]  # one for each step
    values: dict[str, int]  # of every quantity, in its unit; empty for a comparison
    units: dict[str, str]
    given: tuple[str, ...]  # the quantities that the question states, in the order of its text
    keys: tuple[str, ...]  # for each step the law and its numbers; decides the split
    converted: str = ""  # conversion: the quantity that is stated, or asked for, in a smaller unit
    names_unit: bool = False  # whether the question says in which unit it wants the answer
    extra: str = ""  # extra: the quantity in `given` that is not needed
    missing: str = ""  # missing: the quantity that is needed and not in `given`
    change: tuple[str, Fraction] = ("", Fraction(1))  # comparison: (quantity, its factor)

    @property
    def target(self) -> str:
        """The quantity that the question asks for."""
        return self.forms[-1].target

    def factor(self) -> Fraction:
        """The answer to a comparison: the factor by which the target changes."""
        changed, factor = self.change
        form = replace(self.forms[0], coefficient="")
        factors = {name: factor if name == changed else Fraction(1) for name in form.names}
        return form.value(factors)

    def measure(self, name: str) -> str:
        """The value of a quantity with its unit: "12 N"."""
        return f"{self.values[name]} {self.units[name]}"

    def stated(self, name: str) -> str:
        """The value in the unit of the question: "12 km", or "12000 m" for what is converted."""
        if name != self.converted:
            return self.measure(name)
        unit, factor = SMALLER[self.units[name]]
        return f"{self.values[name] * factor} {unit}"


NAMES_UNIT_SHARE = 0.1  # of the one-step questions: they say in which unit they want the answer


def one_step(
    law: Law, values: dict[str, int], scene: str, rng: random.Random, *, convert: bool = False
) -> Problem | None:
    """A one-step problem, or with `convert` a conversion; None if no unit can be converted.

    A conversion states a quantity in a smaller unit, or asks for the target in one.
    """
    units, solved = units_of(law), forms(law.relation)
    form = solved[rng.choice(list(solved))]
    given = rng.sample(form.names, len(form.names))
    converted, names_unit = "", False
    if convert:
        can_be = [name for name in form.names if units[name] in SMALLER]
        if units[form.target] in SMALLER and (not can_be or rng.random() < 0.5):
            can_be, names_unit = [form.target], True
        if not can_be:
            return None
        converted = rng.choice(can_be)
    elif not re.match("per |animals$|m²/m²", units[form.target]):  # nobody says "in per s"
        names_unit = rng.random() < NAMES_UNIT_SHARE
    return Problem(
        kind="conversion" if convert else "one-step",
        law=law.name,
        field=law.field,
        new=law.new,
        scene=scene,
        forms=(form,),
        values=values,
        units=units,
        given=tuple(given),
        keys=(key_of(law, values),),
        converted=converted,
        names_unit=names_unit,
    )


def with_extra(problem: Problem, extra: str, unit: str, value: int, rng: random.Random) -> Problem:
    """The one-step problem with a quantity that is stated and not needed."""
    given = list(problem.given)
    given.insert(rng.randint(0, len(given)), extra)
    return replace(
        problem,
        kind="extra",
        given=tuple(given),
        values=problem.values | {extra: value},
        units=problem.units | {extra: unit},
        extra=extra,
    )


def with_missing(problem: Problem, rng: random.Random) -> Problem:
    """The one-step problem without one of its data. Its key holds what the question still states."""
    p, missing = problem, rng.choice(problem.given)
    given = tuple(name for name in p.given if name != missing)
    stated = ", ".join(f"{name}={p.values[name]}" for name in sorted(given))
    key = f"{p.law}: {p.target} without {missing}, {stated}"
    return replace(p, kind="missing", given=given, keys=(key,), missing=missing, names_unit=False)


FACTORS = (*map(Fraction, range(2, 7)), *(Fraction(1, n) for n in range(2, 7)))


def comparison(law: Law, scene: str, rng: random.Random) -> Problem | None:
    """A problem that asks by what factor one quantity changes when another does.

    Both are among those that the law's scenes let vary. None for laws that are sums.
    """
    varies = law.varies or tuple(forms(law.relation))
    solved = [
        form
        for form in forms(law.relation).values()
        if not form.root and not form.signs and form.target in varies
    ]
    if not solved:
        return None
    form = rng.choice(solved)
    factor = rng.choice([f for f in FACTORS if max(f, 1 / f) <= law.most_change])
    changed = rng.choice([name for name in form.names if name in varies])
    return Problem(
        kind="comparison",
        law=law.name,
        field=law.field,
        new=law.new,
        scene=scene,
        forms=(form,),
        values={},
        units=units_of(law),
        given=form.names,
        keys=(f"{law.name}: {form.target} when {changed} × {factor}",),
        change=(changed, factor),
    )


def two_step(
    chain: Chain, first: Law, second: Law, values: tuple[dict, dict], rng: random.Random
) -> Problem:
    """A two-step problem: `first` solved for the link, then `second` solved for the chain's target.

    `values` holds the values of the first and of the second law. The link has its name from
    `second` in both steps.
    """
    steps = (
        replace(forms(first.relation)[chain.link], target=chain.as_),
        forms(second.relation)[chain.target],
    )
    given = list(steps[0].names)
    given += [name for name in steps[1].names if name != chain.as_ and name not in given]
    rng.shuffle(given)
    return Problem(
        kind="two-step",
        law=chain.name,
        field=second.field,
        new=first.new or second.new,
        scene=chain.scene,
        forms=steps,
        values=values[0] | values[1],
        units=units_of(first) | units_of(second),
        given=tuple(given),
        keys=(key_of(first, values[0]), key_of(second, values[1])),
    )


# --------------------------------------------------------------------------------------------- draw
def draw(
    kind: str, new: bool, split: str, rng: random.Random, *, held_out: bool = False
) -> Problem:
    """A problem of this kind about a known or a new law, with values of this split.

    The field is drawn first, so that each has the same share of the questions. With `held_out`, the
    scene (for two-step problems: the pair of laws) is one that only the hard test set has.
    """
    field = rng.choice(FIELDS)
    while True:
        if kind == "two-step":
            problem = _draw_two_step(field, new, split, rng, held_out)
        else:
            law = rng.choice([law for law in LAWS if law.new == new and law.field == field])
            scene = law.scenes[-1] if held_out else rng.choice(law.scenes[:-1])
            problem = _draw_one_law(kind, law, scene, split, rng)
        if problem:
            return problem


def _draw_one_law(
    kind: str, law: Law, scene: str, split: str, rng: random.Random
) -> Problem | None:
    """A problem about one law; None if there is none of this kind, or it is of another split."""
    if kind == "comparison":
        problem = comparison(law, scene, rng)
        return problem if problem and split_of(problem.keys[0]) == split else None
    if kind == "missing":  # no numbers are put in, so the split goes by what is stated
        problem = with_missing(one_step(law, rng.choice(tuples(law)), scene, rng), rng)
        return problem if split_of(problem.keys[0]) == split else None
    values = rng.choice(split_tuples(law, split))
    problem = one_step(law, values, scene, rng, convert=kind == "conversion")
    if kind == "extra":
        unit, choices = _unit_and_values(law.extra)
        return with_extra(problem, law.extra, unit, rng.choice(choices), rng)
    return problem


@lru_cache(maxsize=None)
def _unit_and_values(name: str) -> tuple[str, tuple[int, ...]]:
    """The unit of a quantity and the values that it may take."""
    if name in EXTRAS:
        return EXTRAS[name]
    law = next(law for law in LAWS if name in units_of(law))
    return units_of(law)[name], law.values.get(name, DEFAULT_VALUES)


@lru_cache(maxsize=None)
def _chains(field: str, new: bool, hard: bool) -> tuple[Chain, ...]:
    return tuple(c for c in CHAINS if (c.field, c.new, c.hard) == (field, new, hard))


def _draw_two_step(
    field: str, new: bool, split: str, rng: random.Random, held_out: bool
) -> Problem | None:
    """A two-step problem about a chain drawn by chance; None if the chain has no values here."""
    chain = rng.choice(_chains(field, new, held_out))
    pairs = chain_tuples(chain, split)
    if not pairs:
        return None
    return two_step(chain, BY_NAME[chain.first], BY_NAME[chain.second], rng.choice(pairs), rng)
