"""Invented laws, which hold nowhere, and problems about them (see the top of `laws.py`)."""

import random
from dataclasses import replace

from data.chains import Chain
from data.laws import LAWS, TENS, Law
from data.problems import (
    DEFAULT_VALUES,
    Problem,
    comparison,
    complete,
    free_values,
    names_of,
    one_step,
    two_step,
    units_of,
    with_extra,
    with_missing,
)

# fmt: off
SYLLABLES = (
    "bra", "cor", "dal", "fen", "gri", "hol", "jas", "kel", "lum", "mor",
    "nev", "pol", "quo", "ral", "sil", "tor", "ur", "vex", "wim", "zan",
)
# fmt: on
INVENTED_SCENES = (
    "A sample lies in a test chamber.",
    "A device is studied in a workshop.",
    "A model is built and tested.",
    "A new material is tested in a laboratory.",
    "A machine runs at a steady rate.",
)
SHAPES = (  # (relation, how often it is drawn)
    ("{} = {} × {}", 10),
    ("{} = {} × {} × {}", 1),
    ("{} = {} × {} ÷ {}", 1),
    ("{} = {} + {}", 1),
    ("{} = {} − {}", 1),
    ("{} = ½ × {} × {}²", 0.5),
    ("{} = {}² × {}", 0.5),
)
REAL_NAMES_SHARE = 0.7  # of the invented laws: the quantities have real names

_REAL_NAMES = sorted({name for law in LAWS for name in units_of(law)})
_REAL_UNITS = sorted({unit for law in LAWS for unit in law.units})
_REAL_LAWS = {frozenset(units_of(law)) for law in LAWS}


def invented_law(rng: random.Random) -> Law:
    """A made-up relation between real or made-up quantities, with units drawn by chance.

    Nothing but the context of a question tells this relation, so a model that solves such
    questions has learned to read. Real names occur here because otherwise the words of the new
    laws would be untrained, and the teacher could not read them. Units do not follow from names,
    or a rubric would have little left to teach. No invented law relates the quantities of a real
    one.
    """
    shape = rng.choices([shape for shape, _ in SHAPES], [weight for _, weight in SHAPES])[0]
    count = shape.count("{}")
    if rng.random() < REAL_NAMES_SHARE:
        names = rng.sample(_REAL_NAMES, count)
        scene = rng.choice(rng.choice(LAWS).scenes[:-1])
    else:
        names = ["".join(rng.sample(SYLLABLES, 2)) for _ in range(count)]
        scene = rng.choice(INVENTED_SCENES)
    if len(set(names)) < count or frozenset(names) in _REAL_LAWS:
        return invented_law(rng)
    values = _draw_choices(shape, names, rng)
    units = tuple(rng.choices(_REAL_UNITS, k=count))
    if " + " in shape or " − " in shape:  # only like quantities are added
        units = units[:1] * count
    return Law(
        name="invented",
        field="invented",
        relation=shape.format(*names),
        units=units,
        scenes=(scene, scene),
        source="nowhere",
        values=values,
    )


def _draw_choices(shape: str, names: list[str], rng: random.Random) -> dict[str, tuple[int, ...]]:
    """The values that each quantity may take, where they are not DEFAULT_VALUES."""
    few = tuple(rng.choice(DEFAULT_VALUES) for _ in range(3))  # drawn for every shape
    if "½" in shape:
        return {names[1]: tuple(range(2, 25, 2)), names[2]: (2, 3, 10)}
    if "²" in shape:
        return {names[1]: (2, 3, 10)}
    if len(names) == 4:
        return {name: few for name in names[1:]}
    if shape == SHAPES[0][0] and rng.random() < 0.1:
        return {names[2]: TENS}
    return {}


def invented(kind: str, rng: random.Random) -> Problem:
    """A problem about invented laws, of one of the kinds that `draw` knows."""
    while True:
        law = invented_law(rng)
        if kind == "comparison":
            problem = comparison(law, law.scenes[0], rng)
        else:
            values = _draw_values(law, rng)
            if values is None:
                continue
            if kind == "two-step":
                problem = _invented_chain(law, values, rng)
            else:
                problem = one_step(law, values, law.scenes[0], rng, convert=kind == "conversion")
            if kind == "extra":
                problem = _with_any_extra(problem, rng)
            elif kind == "missing":
                problem = with_missing(problem, rng)
        if problem:
            return problem


def _with_any_extra(problem: Problem, rng: random.Random) -> Problem:
    """The problem with any real quantity that is not needed, in any unit."""
    text = " ".join(problem.units)
    extra = rng.choice([name for name in _REAL_NAMES if name not in text])
    return with_extra(problem, extra, rng.choice(_REAL_UNITS), rng.choice(DEFAULT_VALUES), rng)


def _draw_values(law: Law, rng: random.Random) -> dict[str, int] | None:
    """A value for each quantity; None if the numbers drawn are not workable."""
    free, choices = free_values(law)
    return complete(law, {name: rng.choice(choice) for name, choice in zip(free, choices)})


def _invented_chain(first: Law, values: dict[str, int], rng: random.Random) -> Problem | None:
    """A two-step problem: `first`, then an invented law that shares one of its values.

    None if the two laws share a name, or if the second law's numbers are not workable.
    """
    link, second = rng.choice(names_of(first)), invented_law(rng)
    if set(names_of(first)) & set(names_of(second)):
        return None
    *_, as_ = free_values(second)[0]
    second = replace(second, values=second.values | {as_: (values[link],)})
    second_values = _draw_values(second, rng)
    if second_values is None:
        return None
    target = rng.choice([name for name in names_of(second) if name != as_])
    chain = Chain("invented", "invented", link, as_, target, first.scenes[0], False)
    return two_step(chain, first, second, (values, second_values), rng)
