"""Problems from the table of laws: what is asked, before `generate.py` says it in words.

In order: solve a relation for any of its quantities, find workable numbers, split them into
training and test, draw a problem, invent laws. Everything that is random draws from a
`random.Random` that the caller hands in. Numbers are whole, and every product or quotient of a
solution stays within what a small model can learn as a table.
"""

import hashlib
import random
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from itertools import product
from math import isqrt

from data.laws import BY_NAME, CHAINS, LAWS, TENS, Chain, Law

SMALLER = {  # unit -> (smaller unit, how many of it): what a conversion question states instead
    "kg": ("g", 1000),
    "m": ("cm", 100),
    "A": ("mA", 1000),
    "V": ("mV", 1000),
    "N": ("mN", 1000),
    "J": ("mJ", 1000),
    "W": ("mW", 1000),
    "L": ("mL", 1000),
    "mol": ("mmol", 1000),
    "kJ": ("J", 1000),
    "g": ("mg", 1000),
    "km": ("m", 1000),
    "cm": ("mm", 10),
    "mm": ("µm", 1000),
    "min": ("s", 60),
    "h": ("min", 60),
    "s": ("ms", 1000),
    "bar": ("mbar", 1000),
    "µF": ("nF", 1000),
    "mg": ("µg", 1000),
    "Hz": ("mHz", 1000),
    "Ω": ("mΩ", 1000),
    "mmol": ("µmol", 1000),
    "kPa": ("Pa", 1000),
    "kN": ("N", 1000),
    "ms": ("µs", 1000),
}


# -------------------------------------------------------------------------------- relations, solved
@dataclass(frozen=True)
class Form:
    """A relation solved for `target`.

    Product form: target = coefficient × over... ÷ under..., each with a power of 1 or 2, under a
    root if `root`. Sum form (`signs` not empty): target = sum of sign × quantity.
    """

    target: str
    over: tuple[tuple[str, int], ...] = ()
    under: tuple[tuple[str, int], ...] = ()
    coefficient: str = ""  # "", "½" or "2"
    root: bool = False
    signs: tuple[tuple[int, str], ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for _, name in self.signs) or tuple(
            name for name, _ in self.over + self.under
        )

    def expression(self, show=lambda name: name) -> str:
        """The right-hand side, with each quantity written by `show`."""
        if self.signs:
            (_, first), *rest = self.signs
            return show(first) + "".join(
                (" + " if s > 0 else " − ") + show(name) for s, name in rest
            )

        def term(name, power):
            text = show(name)
            return text if power == 1 else f"({text})²" if text[0].isdigit() else text + "²"

        over = ([self.coefficient] if self.coefficient else []) + [term(*f) for f in self.over]
        text = " × ".join(over) + "".join(" ÷ " + term(*f) for f in self.under)
        return f"√({text})" if self.root else text

    @property
    def relation(self) -> str:
        return f"{self.target} = {self.expression()}"

    def value(self, values: dict[str, int]) -> Fraction | None:
        """The target's exact value; None where a root does not come out even."""
        if self.signs:
            return Fraction(sum(sign * values[name] for sign, name in self.signs))
        result = Fraction({"": 1, "½": Fraction(1, 2), "2": 2}[self.coefficient])
        for name, power in self.over:
            result *= Fraction(values[name]) ** power
        for name, power in self.under:
            result /= Fraction(values[name]) ** power
        if self.root:
            root = isqrt(int(result))
            return Fraction(root) if result == root * root else None
        return result

    def steps(self, values: dict[str, int]) -> list[str] | None:
        """The bare arithmetic after the numbers are put in, one operation a step, without the last
        result. None if a step is no whole number or a factor is too large for the times table.
        """
        if self.signs:
            return []
        half = {"½": [Fraction(1, 2)], "2": [2], "": []}[self.coefficient]
        terms = [("×", h) for h in half] + [("×", values[n] ** p) for n, p in self.over]
        terms += [("÷", values[n] ** p) for n, p in self.under]
        squared = any(p == 2 for _, p in self.over + self.under)
        numbers, shown = [n for _, n in terms], []
        ops = [op for op, _ in terms][1:]
        while True:
            text = " ".join(x for pair in zip([""] + ops, map(_number, numbers)) for x in pair if x)
            if squared or len(numbers) < len(terms) or (self.root and len(numbers) == 1):
                if len(numbers) > 1 or self.root:
                    shown.append(
                        f"√({text})"
                        if self.root and len(numbers) > 1
                        else f"√{text}"
                        if self.root
                        else text
                    )
            if len(numbers) == 1:
                return shown
            result = numbers[0] * numbers[1] if ops[0] == "×" else Fraction(numbers[0]) / numbers[1]
            if Fraction(result).denominator != 1 or result > 1440:
                return None
            numbers, ops = [int(result)] + numbers[2:], ops[1:]


def _number(x) -> str:
    x = Fraction(x)
    return (
        "½"
        if x == Fraction(1, 2)
        else str(x.numerator)
        if x.denominator == 1
        else f"{x.numerator}/{x.denominator}"
    )


@lru_cache(maxsize=4096)  # every real law, and the latest of the many invented ones
def forms(relation: str) -> dict[str, Form]:
    """A relation solved for each of its quantities: {target: Form}. The first key is the relation
    as written.
    """
    target, right = relation.split(" = ")
    if " + " in right or " − " in right:
        first, sign, second = right.partition(" + ") if " + " in right else right.partition(" − ")
        if sign == " + ":
            return {
                target: Form(target, signs=((1, first), (1, second))),
                first: Form(first, signs=((1, target), (-1, second))),
                second: Form(second, signs=((1, target), (-1, first))),
            }
        return {
            target: Form(target, signs=((1, first), (-1, second))),
            first: Form(first, signs=((1, target), (1, second))),
            second: Form(second, signs=((1, first), (-1, target))),
        }
    over_text, *under = right.split(" ÷ ")
    over = over_text.split(" × ")
    coefficient = over.pop(0) if over[0] == "½" else ""
    over = tuple((name.rstrip("²"), 2 if name.endswith("²") else 1) for name in over)
    under = tuple((name, 1) for name in under)
    inverse = {"½": "2", "": ""}[coefficient]
    solved = {target: Form(target, over, under, coefficient)}
    for factor in over:
        rest = tuple(f for f in over if f != factor)
        solved[factor[0]] = Form(
            factor[0], ((target, 1),) + under, rest, inverse, root=factor[1] == 2
        )
    for factor in under:
        solved[factor[0]] = Form(factor[0], over, ((target, 1),), coefficient)
    return solved


def units_of(law: Law) -> dict[str, str]:
    return dict(zip(_names(law), law.units))


def _names(law: Law) -> list[str]:
    """Quantities in the order in which the relation is written."""
    target, right = law.relation.split(" = ")
    parts = right.replace(" − ", " × ").replace(" + ", " × ").replace(" ÷ ", " × ").split(" × ")
    return [target] + [p.rstrip("²") for p in parts if p != "½"]


def free_values(law: Law) -> tuple[list[str], list[tuple[int, ...]]]:
    """The quantities that may be drawn freely, with their values; the one that is left follows from
    them.
    """
    names, form = _names(law), forms(law.relation)[_names(law)[0]]
    free = names[1:]
    if form.signs and form.signs[1][0] < 0:  # y = a − b: draw y and b, so that nothing is negative
        free = [names[0], names[2]]
    default = tuple(range(2, 13))
    return free, [law.values.get(name, default) for name in free]


def complete(law: Law, numbers: dict[str, int]) -> dict[str, int] | None:
    """Add the quantity that is left. None where it is not a whole number or some target's
    arithmetic is too hard.
    """
    solved, names = forms(law.relation), _names(law)
    left = next(name for name in names if name not in numbers)
    result = solved[left].value(numbers)
    if result is None or result.denominator != 1 or not 2 <= result <= 1440:
        return None
    if solved[left].under and (
        result not in law.values.get(left, range(2, 13)) or result == numbers[names[1]]
    ):
        return None  # what a division gives should be as plausible as the rest, and no factor should cancel (Boyle)
    values = numbers | {left: int(result)}
    workable = all(
        f.value(values) == values[t] and f.steps(values) is not None for t, f in solved.items()
    )
    return {name: values[name] for name in names} if workable else None


@lru_cache(maxsize=None)
def tuples(law: Law) -> tuple[dict[str, int], ...]:
    """Every set of values that the law's questions draw from."""
    free, choices = free_values(law)
    found = (complete(law, dict(zip(free, numbers))) for numbers in product(*choices))
    return tuple(values for values in found if values)


def split_of(key: str) -> str:
    """ "train", "valid" or "test" (70, 10, 20%) for a key that names a law and its numbers, the
    same in every run.
    """
    bucket = hashlib.sha256(key.encode()).digest()[0]
    return "test" if bucket < 51 else "valid" if bucket < 77 else "train"


def key_of(law: Law, values: dict) -> str:
    return f"{law.name}: " + ", ".join(f"{name}={values[name]}" for name in _names(law))


# -------------------------------------------------------------------------------------- the problem
@dataclass(frozen=True)
class Problem:
    """What a question asks, before it is said in words."""

    kind: str  # one-step, conversion, comparison or two-step
    law: str  # name of the law or chain
    field: str
    new: bool  # whether a new law is needed
    scene: str
    forms: tuple[Form, ...]  # one, or two for a chain
    values: dict[str, int]  # every quantity's value, in its unit (comparison: empty)
    units: dict[str, str]
    given: tuple[str, ...]
    keys: tuple[str, ...]  # law and numbers; decides the split
    converted: str = ""  # conversion: the quantity that is stated in a smaller unit
    change: tuple[str, Fraction] = ("", Fraction(1))  # comparison: (quantity, its factor)

    @property
    def target(self) -> str:
        return self.forms[-1].target

    def factor(self) -> Fraction:
        """A comparison's answer: by what factor the target changes."""
        name, factor = self.change
        form = replace(self.forms[0], coefficient="")
        return form.value({n: factor if n == name else Fraction(1) for n in form.names})

    def measure(self, name: str) -> str:
        return f"{self.values[name]} {self.units[name]}"

    def stated(self, name: str) -> str:
        """The value as the question states it."""
        if name != self.converted:
            return self.measure(name)
        unit, factor = SMALLER[self.units[name]]
        return f"{self.values[name] * factor} {unit}"


def one_step(
    law: Law, values: dict[str, int], scene: str, rng: random.Random, *, convert=False
) -> Problem | None:
    """A one-step or conversion problem. None where a conversion finds no unit to convert."""
    units, solved = units_of(law), forms(law.relation)
    targets = [
        t for t in solved if not convert or any(units[n] in SMALLER for n in solved if n != t)
    ]
    if not targets:
        return None
    form = solved[rng.choice(targets)]
    given = rng.sample(form.names, len(form.names))
    converted = rng.choice([name for name in given if units[name] in SMALLER]) if convert else ""
    return Problem(
        "conversion" if convert else "one-step",
        law.name,
        law.field,
        law.new,
        scene,
        (form,),
        values,
        units,
        tuple(given),
        (key_of(law, values),),
        converted,
    )


FACTORS = tuple(Fraction(k) for k in (2, 3, 4, 5, 6)) + tuple(
    Fraction(1, k) for k in (2, 3, 4, 5, 6)
)


def comparison(law: Law, scene: str, rng: random.Random) -> Problem | None:
    """By what factor does one quantity change when another does? None for laws that are sums."""
    solved = [form for form in forms(law.relation).values() if not form.root and not form.signs]
    if not solved:
        return None
    form, factor = rng.choice(solved), rng.choice(FACTORS)
    changed = rng.choice(form.names)
    key = f"{law.name}: {form.target} when {changed} × {factor}"
    return Problem(
        "comparison",
        law.name,
        law.field,
        law.new,
        scene,
        (form,),
        {},
        units_of(law),
        form.names,
        (key,),
        change=(changed, factor),
    )


def two_step(
    chain: Chain, first: Law, second: Law, values: tuple[dict, dict], rng: random.Random
) -> Problem:
    """`first` solved for the shared quantity, then `second`, in which it keeps its name from
    `first`.
    """
    name = {n: chain.link if n == chain.as_ else n for n in _names(second)}
    form = forms(second.relation)[chain.target]
    forms_ = (
        forms(first.relation)[chain.link],
        replace(
            form,
            over=tuple((name[n], p) for n, p in form.over),
            under=tuple((name[n], p) for n, p in form.under),
            signs=tuple((s, name[n]) for s, n in form.signs),
        ),
    )
    given = list(
        dict.fromkeys(forms_[0].names + tuple(n for n in forms_[1].names if n != chain.link))
    )
    rng.shuffle(given)
    units = {name[n]: unit for n, unit in units_of(second).items()} | units_of(first)
    joined = {name[n]: value for n, value in values[1].items()} | values[0]
    keys = (key_of(first, values[0]), key_of(second, values[1]))
    return Problem(
        "two-step",
        chain.name,
        second.field,
        first.new or second.new,
        chain.scene,
        forms_,
        joined,
        units,
        tuple(given),
        keys,
    )


@lru_cache(maxsize=None)
def split_tuples(law: Law, split: str) -> tuple[dict[str, int], ...]:
    return tuple(values for values in tuples(law) if split_of(key_of(law, values)) == split)


@lru_cache(maxsize=None)
def chain_tuples(chain: Chain, split: str) -> tuple[tuple[dict, dict], ...]:
    """Every pair of values, for the first and the second law, that fit together and belong to the
    split: both to "train", or neither of them ("valid" if both are, else "test"), so that no step
    of a test question was trained.
    """
    by_link = {}
    for values in tuples(BY_NAME[chain.second]):
        by_link.setdefault(values[chain.as_], []).append(values)
    found = []
    for a in tuples(BY_NAME[chain.first]):
        for b in by_link.get(a[chain.link], ()):
            if any(a.get(name, value) != value for name, value in b.items() if name != chain.as_):
                continue
            splits = {
                split_of(key_of(BY_NAME[chain.first], a)),
                split_of(key_of(BY_NAME[chain.second], b)),
            }
            if splits == {split} or (split == "test" and splits == {"test", "valid"}):
                found.append((a, b))
    return tuple(found)


def draw(kind: str, new: bool, split: str, rng: random.Random, *, held_out=False) -> Problem:
    """A problem of this kind about a known or a new law. `held_out` takes the phrasings, or for
    two-step problems the combinations, that only the hard test set has.
    """
    while True:
        if kind == "two-step":
            chain = rng.choice([c for c in CHAINS if c.new == new and c.hard == held_out])
            if pairs := chain_tuples(chain, split):
                return two_step(
                    chain, BY_NAME[chain.first], BY_NAME[chain.second], rng.choice(pairs), rng
                )
            continue
        law = rng.choice([law for law in LAWS if law.new == new])
        scene = law.scenes[-1] if held_out else rng.choice(law.scenes[:-1])
        if kind == "comparison":
            problem = comparison(law, scene, rng)
            if problem and split_of(problem.keys[0]) == split:
                return problem
        elif problem := one_step(
            law, rng.choice(split_tuples(law, split)), scene, rng, convert=kind == "conversion"
        ):
            return problem


# ----------------------------------------------------------------------------------- misconceptions
def wrong_forms(form: Form) -> list[Form]:
    """A product or quotient of two quantities joined by the other operations, the likeliest mistake
    first.
    """
    (a, _), (b, _) = first, second = form.over + form.under
    sums = [Form(form.target, signs=((1, a), (sign, b))) for sign in (1, -1)]
    turned = Form(form.target, (second,), (first,))
    if form.under:
        return [Form(form.target, (first, second)), turned, *sums]
    return [*sums, Form(form.target, (first,), (second,)), turned]


def mistaken(problem: Problem, step: int) -> Problem | None:
    """The problem as one solves it who holds a wrong relation in this step (from 0), about a law of
    two factors: the first of `wrong_forms` that has workable numbers and another answer. Cleanly
    worked. None if none has.

    So + stands for × and × for ÷; a comparison, where a sum has no factor, has a quotient for a
    product.
    """
    for wrong in wrong_forms(problem.forms[step]):
        made = replace(
            problem,
            forms=problem.forms[:step] + (wrong,) + problem.forms[step + 1 :],
            values=dict(problem.values),
        )
        if problem.kind == "comparison":
            if not wrong.signs and made.factor() != problem.factor():
                return made
        elif (
            all(_works_out(f, made.values) for f in made.forms)
            and made.values[made.target] != problem.values[problem.target]
        ):
            return made
    return None


def _works_out(form: Form, values: dict[str, int]) -> bool:
    """Puts the target's value into `values`; False where a number on the way is not workable."""
    value = form.value(values)
    if (
        value is None
        or value.denominator != 1
        or not 2 <= value <= 1440
        or form.steps(values) is None
    ):
        return False
    values[form.target] = int(value)
    return True


# -------------------------------------------------------------------------------- the invented laws
SYLLABLES = (
    "bra",
    "cor",
    "dal",
    "fen",
    "gri",
    "hol",
    "jas",
    "kel",
    "lum",
    "mor",
    "nev",
    "pol",
    "quo",
    "ral",
    "sil",
    "tor",
    "ur",
    "vex",
    "wim",
    "zan",
)
INVENTED_SCENES = (
    "A sample lies in a test chamber.",
    "A device is studied in a workshop.",
    "A model is built and tested.",
    "A new material is tested in a laboratory.",
    "A machine runs at a steady rate.",
)
SHAPES = (  # relation, share
    ("{} = {} × {}", 10),
    ("{} = {} × {} × {}", 1),
    ("{} = {} × {} ÷ {}", 1),
    ("{} = {} + {}", 1),
    ("{} = {} − {}", 1),
    ("{} = ½ × {} × {}²", 0.5),
    ("{} = {}² × {}", 0.5),
)
_REAL_NAMES = sorted({name for law in LAWS for name in units_of(law)})
_REAL_UNITS = sorted({unit for law in LAWS for unit in law.units})
_REAL_LAWS = {frozenset(units_of(law)) for law in LAWS}


def invented_law(rng: random.Random) -> Law:
    """A law that holds nowhere: made-up quantities, or real ones joined by a made-up relation.

    Only its context tells what the relation is, so whoever solves such problems must have learned
    to read. Real names have to appear here, or the words of the new laws would be untrained (and
    their teacher blind). Units are drawn anew: a name must not give away its unit, or the rubric
    would have little left to teach.
    """
    shape = rng.choices([s for s, _ in SHAPES], [w for _, w in SHAPES])[0]
    count = shape.count("{}")
    if rng.random() < 0.7:
        names, scene = rng.sample(_REAL_NAMES, count), rng.choice(rng.choice(LAWS).scenes[:-1])
    else:
        names, scene = (
            ["".join(rng.sample(SYLLABLES, 2)) for _ in range(count)],
            rng.choice(INVENTED_SCENES),
        )
    if len(set(names)) < count or frozenset(names) in _REAL_LAWS:
        return invented_law(rng)
    small = tuple(rng.choice(range(2, 13)) for _ in range(3))
    values = {name: small for name in names[1:]} if count == 4 else {}
    if "½" in shape:
        values = {names[1]: tuple(range(2, 25, 2)), names[2]: (2, 3, 10)}
    elif "²" in shape:
        values = {names[1]: (2, 3, 10)}
    elif shape == SHAPES[0][0] and rng.random() < 0.1:
        values = {names[2]: TENS}
    units = tuple(rng.choices(_REAL_UNITS, k=count))
    return Law(
        "invented",
        "invented",
        shape.format(*names),
        units,
        (scene, scene),
        "nowhere",
        values=values,
    )


def invented(kind: str, rng: random.Random) -> Problem:
    """A problem about invented laws, of the kinds that `draw` knows."""
    while True:
        law = invented_law(rng)
        if kind == "comparison":
            problem = comparison(law, law.scenes[0], rng)
        elif (values := _draw_values(law, rng)) is None:
            continue
        elif kind == "two-step":
            problem = _invented_chain(law, values, rng)
        else:
            problem = one_step(law, values, law.scenes[0], rng, convert=kind == "conversion")
        if problem:
            return problem


def _draw_values(law: Law, rng: random.Random) -> dict[str, int] | None:
    free, choices = free_values(law)
    return complete(law, {name: rng.choice(choice) for name, choice in zip(free, choices)})


def _invented_chain(first: Law, values: dict[str, int], rng: random.Random) -> Problem | None:
    """Go on from `first` with a second invented law that has one of its values; None where the
    numbers do not fit.
    """
    link, second = rng.choice(_names(first)), invented_law(rng)
    if set(_names(first)) & set(_names(second)):
        return None
    *free, as_ = free_values(second)[0]
    second = replace(second, values=second.values | {as_: (values[link],)})
    if (more := _draw_values(second, rng)) is None:
        return None
    target = rng.choice([name for name in _names(second) if name != as_])
    chain = Chain("invented", "invented", link, as_, target, first.scenes[0], False)
    return two_step(chain, first, second, (values, more), rng)
