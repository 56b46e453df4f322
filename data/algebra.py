"""Relations as algebra: "force = mass × acceleration" is "mass = force ÷ acceleration".

An expression is read into a sum of products. Two relations are the same law if one can be solved
into the other. `canonical` in grammar.py compares relations as they are written.
"""

import re
from collections import Counter
from fractions import Fraction
from functools import lru_cache
from itertools import product

# An expression as a sum: {((name, power), ...): coefficient}. "½ × m × v² ÷ t" is
# {(("m", 1), ("v", 2), ("÷t", 1)): ½}: what stands below the line is marked, and nothing cancels.
Terms = dict[tuple[tuple[str, int], ...], Fraction]

_WORDS = (  # (what people write, the sign that the data has)
    (re.compile(r"\b[Tt]he "), ""),
    (re.compile(r" times "), " × "),
    (re.compile(r" divided by "), " ÷ "),
    (re.compile(r" plus "), " + "),
    (re.compile(r" minus "), " − "),
    (re.compile(r" (?:is|equals) "), " = "),
    (re.compile(r"(?<=[\w²³)]) x (?=[\w(√])"), " × "),
    (re.compile(r"[*·]"), "×"),
    (re.compile(r"/"), "÷"),
    (re.compile(r"(?<![^\W\d_])-|-(?![^\W\d_])"), "−"),  # a hyphen stands between letters
    (re.compile(r"½"), "(1÷2)"),
    (re.compile(r"([²³])"), lambda match: "^" + str("  ²³".index(match[1]))),
)
_MARKS = re.compile(r"\s*(?:(\d+(?:\.\d+)?)|([^\W\d_][\w'-]*(?: +[^\W\d_][\w'-]*)*)|(\^[23])|(.))")
MOST_TERMS, MOST_BRACKETS = 32, 10  # of an expression that is read; nobody writes longer ones


def in_signs(text: str) -> str:
    """The text with the signs × ÷ + − = for words and ASCII, without articles."""
    for pattern, sign in _WORDS:
        text = pattern.sub(sign, text)
    return text


def _product(one: Terms, other: Terms) -> Terms:
    made = {}
    for (a, x), (b, y) in product(one.items(), other.items()):
        powers = Counter(dict(a))
        for name, power in b:
            powers[name] += power
        key = tuple(sorted((name, power) for name, power in powers.items() if power))
        made[key] = made.get(key, 0) + x * y
    return _without_zeros(made)


def _sum(one: Terms, other: Terms, sign: int = 1) -> Terms:
    made = dict(one)
    for key, x in other.items():
        made[key] = made.get(key, 0) + sign * x
    return _without_zeros(made)


def _without_zeros(terms: Terms) -> Terms:
    if len(terms) > MOST_TERMS:
        raise ValueError("expression: too long")
    return {key: x for key, x in terms.items() if x}


def _inverse(terms: Terms) -> Terms:
    if len(terms) != 1:
        raise ValueError("expression: divided by a sum or by 0")
    ((key, x),) = terms.items()
    turned = ((name[1:] if name[0] == "÷" else "÷" + name, power) for name, power in key)
    return {tuple(sorted(turned)): 1 / x}


def _cancelled(terms: Terms) -> Terms:
    """The same with negative powers for what stands below the line."""
    made = {(): Fraction(0)}
    for key, x in terms.items():
        powers = Counter()
        for name, power in key:
            powers[name.removeprefix("÷")] += -power if name[0] == "÷" else power
        factors = tuple(sorted((name, power) for name, power in powers.items() if power))
        made[factors] = made.get(factors, 0) + x
    return _without_zeros(made)


class Reader:
    """Reads an expression from left to right. Raises ValueError for what is not one."""

    def __init__(self, text: str):
        self.marks = [m for m in _MARKS.finditer(text.strip())]
        if text.count("(") > MOST_BRACKETS:
            raise ValueError("expression: too many brackets")
        self.place = 0

    def next_is(self, signs: str) -> bool:
        """Whether one of these signs comes next."""
        return self.place < len(self.marks) and (self.marks[self.place][4] or " ") in signs

    def sign(self) -> str:
        self.place += 1
        return self.marks[self.place - 1][4]

    def sum(self) -> Terms:
        total = {}
        sign = self.sign() if self.next_is("+−") else "+"
        while True:
            total = _sum(total, self.product(), 1 if sign == "+" else -1)
            if not self.next_is("+−"):
                return total
            sign = self.sign()

    def product(self) -> Terms:
        result = self.factor()
        while self.next_is("×÷"):
            sign, factor = self.sign(), self.factor()
            result = _product(result, factor if sign == "×" else _inverse(factor))
        return result

    def factor(self) -> Terms:
        if self.place == len(self.marks):
            raise ValueError("expression: ends too early")
        mark = self.marks[self.place]
        self.place += 1
        if mark[1]:
            factor = {(): Fraction(mark[1])} if Fraction(mark[1]) else {}
        elif mark[2]:  # "Mass" opens a line, but "E" and "e" may be two quantities
            words = [word.lower() if len(word) > 1 else word for word in mark[2].split()]
            factor = {((" ".join(words), 1),): Fraction(1)}
        elif mark[4] == "(":
            factor = self.sum()
            if not self.next_is(")"):
                raise ValueError("expression: a bracket stays open")
            self.place += 1
        else:
            raise ValueError(f"expression: unexpected {mark[0]!r}")
        if self.place < len(self.marks) and (power := self.marks[self.place][3]):
            self.place += 1
            base = factor
            for _ in range(int(power[1]) - 1):
                factor = _product(factor, base)
        return factor


@lru_cache(maxsize=4096)
def terms_of(expression: str) -> Terms | None:
    """The expression as it is written, after `in_signs`; None if it is none."""
    try:
        reader = Reader(expression)
        terms = reader.sum()
        return terms if reader.place == len(reader.marks) else None
    except ValueError:
        return None


@lru_cache(maxsize=4096)
def law(left: str, right: str) -> Terms | None:
    """What is equal for "a = b × c" and the same law solved for b or c; None if no relation.

    It is left − right, multiplied such that no power is negative. Takes the sides after `in_signs`;
    a root is read where it is a whole side.
    """
    if left.startswith("√"):
        left, right = right, left
    squared = right.startswith("√")
    one, other = terms_of(left), terms_of(right[1:] if squared else right)
    if one is None or other is None:
        return None
    try:
        one, other = _cancelled(one), _cancelled(other)
        terms = _sum(_product(one, one) if squared else one, other, -1)
    except ValueError:
        return None
    names = {name for key in terms for name, _ in key}
    lowest = {name: min(dict(key).get(name, 0) for key in terms) for name in names}
    if len(terms) < 2:
        return None
    lift = tuple(sorted((name, -power) for name, power in lowest.items() if power))
    terms = _product(terms, {lift: Fraction(1)})
    first = terms[min(terms)]
    return {key: x / first for key, x in terms.items()}
