"""Exact arithmetic with forms like 'm × v²' and with units, written apart from data/."""

import random
import re
from collections import Counter
from fractions import Fraction
from math import isclose, isqrt

from data.generate import example
from data.grammar import final_answer
from data.invented import invented
from data.problems import SMALLER, draw
from data.questions import KINDS

UNIT = r"(?:per )?[A-Za-zµΩ°][A-Za-zµΩ°²³·/]*(?:\([^()]*\))?"


def root(x):
    assert x.denominator == 1 and isqrt(int(x)) ** 2 == x, f"√{x} does not come out even"
    return Fraction(isqrt(int(x)))


def python(text: str) -> str:
    """An expression of the project's notation, without its units, as Python."""
    number = rf"(½|\d+(?:/\d+)?)(?: {UNIT})?"
    text = re.sub(number, lambda m: f"F('{m[1].replace('½', '1/2')}')", text)
    text = re.sub(r"√(F\('\d+'\))", r"root(\1)", text).replace("√", "root")
    return text.replace("²", "**2").replace("×", "*").replace("÷", "/").replace("−", "-")


def evaluate(text: str) -> Fraction:
    return eval(python(text), {"F": Fraction, "root": root})


def function(expression: str, names) -> object:
    """The right-hand side of a relation as a function of {name: value}."""
    longest_first = sorted(names, key=len, reverse=True)  # "heat capacity" before "heat"
    pattern = "|".join(map(re.escape, longest_first))
    code = python(re.sub(pattern, lambda m: f"v[<{m[0]}>]", expression))
    code = code.replace("<", "'").replace(">", "'")
    return eval(f"lambda v: {code}", {"F": Fraction, "root": root})


DIMENSIONS = {  # symbol: (size in SI, {base unit: power})
    "m": (1, {"m": 1}),
    "g": (1e-3, {"kg": 1}),
    "s": (1, {"s": 1}),
    "A": (1, {"A": 1}),
    "K": (1, {"K": 1}),
    "°C": (1, {"K": 1}),  # the laws use differences of temperature only
    "mol": (1, {"mol": 1}),
    "min": (60, {"s": 1}),
    "h": (3600, {"s": 1}),
    "day": (86400, {"s": 1}),
    "year": (31557600, {"s": 1}),
    "years": (31557600, {"s": 1}),
    "L": (1e-3, {"m": 3}),
    "Hz": (1, {"s": -1}),
    "N": (1, {"kg": 1, "m": 1, "s": -2}),
    "J": (1, {"kg": 1, "m": 2, "s": -2}),
    "W": (1, {"kg": 1, "m": 2, "s": -3}),
    "Pa": (1, {"kg": 1, "m": -1, "s": -2}),
    "bar": (1e5, {"kg": 1, "m": -1, "s": -2}),
    "mmHg": (133.322, {"kg": 1, "m": -1, "s": -2}),
    "C": (1, {"A": 1, "s": 1}),
    "V": (1, {"kg": 1, "m": 2, "s": -3, "A": -1}),
    "Ω": (1, {"kg": 1, "m": 2, "s": -3, "A": -2}),
    "F": (1, {"kg": -1, "m": -2, "s": 4, "A": 2}),
    "animals": (1, {"animal": 1}),
    "kb": (1, {"nt": 1}),
    "breath": (1, {"breath": 1}),
    "breaths": (1, {"breath": 1}),
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


def words(sentence):
    """Its words, in lower case."""
    return set(re.findall(r"[\w'-]+", sentence.lower()))


def draws(count, seed=0):
    """Problems of every kind, split and phrasing, invented ones too, with the example made from
    each."""
    rng = random.Random(seed)
    for i in range(count):
        kind, part = KINDS[i % len(KINDS)], i // len(KINDS) % 3
        held_out = part == 2
        if i % 5 == 4:
            p, held_out = invented(kind, rng), False
        else:
            new, split = rng.random() < 0.5, ("train", "valid", "test")[part]
            p = draw(kind, new, split, rng, held_out=held_out)
        yield p, example(p, rng, str(i), held_out=held_out)


def true_steps(p, text):
    """How many numbers stand in a worked solution.

    Asserts that the numbers of one line are equal, and that the last is the answer. Where a datum
    is missing, no number may stand there.
    """
    lines, segments = text.split("\n"), 0
    if p.kind == "missing":
        assert lines[1:] == [
            f"the {p.missing} is not given",
            f"Answer: cannot be told, the {p.missing} is missing",
        ]
        assert not re.search(r"(?<![\w½])\d", lines[0].replace("2 × ", "").replace("÷ 2", ""))
        return 0
    for line in lines[:-1]:
        name, *rest = line.split(" = ")
        if p.converted and name == p.converted and len(rest) == 2:
            sizes = []  # "depth = 2000 m = 2 km" is true with its units
            for part in rest:
                size, _ = si(part.split(" ", 1)[1])
                sizes.append(evaluate(part) * Fraction(size).limit_denominator(10**12))
            assert isclose(*sizes, rel_tol=1e-9), line
            continue
        numeric = []
        for part in rest:
            if not re.search(r"[a-z]", re.sub(rf"\d(?: {UNIT})?", "", part)):
                numeric.append(part)
        values = {evaluate(part) for part in numeric}
        assert len(values) <= 1, line
        segments += len(numeric)
    given = final_answer(text)
    value, unit = given.value, given.unit
    assert lines[-1].startswith("Answer: ") and evaluate(lines[-2].split(" = ")[-1]) == value
    wanted = p.units[p.target]
    if p.converted == p.target:
        wanted, _ = SMALLER[wanted]
    assert unit == ("times" if p.kind == "comparison" else wanted)
    return segments
