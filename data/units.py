"""Quantities as people write them, compared by value: "4 m", "4.0m" and "400 cm" are the same.

The table has the units of the data (laws.py) and of its conversions (problems.py). Any other word is
a unit of its own, equal only to itself.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import product

UNITS = {  # symbol: (size, in these units); an empty text: a unit of its own, or a pure number
    **dict.fromkeys(("m", "s", "kg", "A", "K", "mol"), (1, "")),
    # A year is no whole number of days, and mmHg no exact number of pascals: units of their own.
    **dict.fromkeys(("animal", "breath", "kb", "year", "mmHg"), (1, "")),
    "times": (1, ""),
    "g": (Fraction(1, 1000), "kg"),
    "min": (60, "s"),
    "h": (60, "min"),
    "day": (24, "h"),
    "L": (Fraction(1, 1000), "m³"),
    "°C": (1, "K"),  # the laws have differences of temperature only
    "Hz": (1, "1/s"),
    "N": (1, "kg·m/s²"),
    "J": (1, "N·m"),
    "W": (1, "J/s"),
    "Pa": (1, "N/m²"),
    "bar": (100_000, "Pa"),
    "C": (1, "A·s"),
    "V": (1, "W/A"),
    "Ω": (1, "V/A"),
    "F": (1, "C/V"),
    "l": (1, "L"),
    **{word + "s": (1, word) for word in ("animal", "breath", "year", "day")},
}
NAMES = {  # in full, in the plural, and with these prefixes
    **{"metre": "m", "meter": "m", "second": "s", "minute": "min", "hour": "h", "gram": "g"},
    **{"newton": "N", "joule": "J", "watt": "W", "pascal": "Pa", "hertz": "Hz", "litre": "L"},
    **{"liter": "L", "ampere": "A", "amp": "A", "volt": "V", "ohm": "Ω", "coulomb": "C"},
    **{"farad": "F", "kelvin": "K", "mole": "mol"},
}
NAMED_PREFIXES = {"": "", "kilo": "k", "centi": "c", "milli": "m", "micro": "µ", "nano": "n"}
for (long, short), (name, symbol) in product(NAMED_PREFIXES.items(), NAMES.items()):
    UNITS |= {long + name: (1, short + symbol), long + name + "s": (1, short + symbol)}
PREFIXES = {"G": 9, "M": 6, "k": 3, "d": -1, "c": -2, "m": -3, "µ": -6, "n": -9}  # powers of ten
PREFIXED = set("m s g A K mol L l Hz N J W Pa bar C V Ω F".split())

Unit = tuple[Fraction, tuple[tuple[str, int], ...]]  # (size, powers of units of their own)

# Greek mu, the ohm sign, minus and dash, three kinds of spaces, two kinds of dots: one sign each.
_PLAIN = str.maketrans("μ\u2126−–\u00a0\u2009\u202f⋅∙", "µΩ--   ··")
_SUPERSCRIPTS = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
_VULGAR = {"½": "1/2", "⅓": "1/3", "⅔": "2/3", "¼": "1/4", "¾": "3/4", "⅕": "1/5", "⅙": "1/6"}
_TEX = (  # (what LaTeX writes, what it means)
    (re.compile(r"\\(?:text|mathrm|mathbf|boxed)\s*\{([^{}]*)\}"), r"\1"),
    (re.compile(r"\\d?frac\{([^{}]*)\}\{([^{}]*)\}"), r"\1/\2"),
    (re.compile(r"\\times"), "×"),
    (re.compile(r"\\cdot"), "·"),
    (re.compile(r"\\[,;: !]"), " "),
)


def plain(text: str) -> str:
    """The text with one way to write each sign, without bold type and LaTeX."""
    text = text.translate(_PLAIN).replace("**", "").replace("__", "").replace("$", "")
    if "\\" in text:
        for _ in range(3):  # a box around a text in mathematics mode
            for pattern, meaning in _TEX:
                text = pattern.sub(meaning, text)
    return text


# -------------------------------------------------------------------------------------------- units
_POWER = r"(?:\^\{?(-?\d)\}?|(\d)|(⁻?[¹²³⁴]))?"
_SYMBOL = r"[A-Za-zµΩ°%]+"
_TOKEN = re.compile(rf"\s*(?:({_SYMBOL}){_POWER}|([·*/()]))")


def _powers(text: str) -> Counter | None:
    """The symbols of a unit with their powers; None if the text is not a unit."""
    text = re.sub(r"^(?:per |1/)", "/", text.strip()).replace(" per ", "/")
    powers, place = Counter(), 0
    signs, sign = [1], 1  # of each open bracket; of the next factor
    while place < len(text):
        token = _TOKEN.match(text, place)
        if not token:
            return None
        place = token.end()
        symbol, mark = token[1], token[5]
        if symbol:
            power = token[2] or token[3] or (token[4] or "1").translate(_SUPERSCRIPTS)
            powers[symbol] += int(power) * sign * signs[-1]
            sign = 1
        elif mark == "/":
            sign = -1
        elif mark == "(":
            signs.append(signs[-1] * sign)
            sign = 1
        elif mark == ")":
            if len(signs) == 1:
                return None
            signs.pop()
    if len(signs) > 1 or sign < 0:
        return None
    if " " in text and any(_symbol(name) == (1, ((name, 1),)) for name in powers.keys() - UNITS):
        return Counter([text]) if text.count(" ") < 3 else None  # words, such as "light years"
    return powers


def _in_base(powers: Iterable[tuple[str, int]]) -> Unit:
    """The unit that is the product of these."""
    size, base = Fraction(1), Counter()
    for symbol, power in powers:
        one, parts = _symbol(symbol)
        size *= one**power
        for name, p in parts:
            base[name] += p * power
    return size, tuple(sorted((name, p) for name, p in base.items() if p))


@lru_cache(maxsize=4096)
def parse_unit(text: str) -> Unit | None:
    """The size and the powers of a unit, equal for equal units; None if the text is not a unit.

    Read from the left: "a/b·c" has c above the line, "a/(b·c)" below it. "" is a pure number.
    """
    powers = _powers(text)
    return None if powers is None else _in_base(powers.items())


@lru_cache(maxsize=4096)
def _symbol(symbol: str) -> Unit:
    """A unit without power or product, such as "kg"."""
    if symbol == "times":
        return Fraction(1), ()
    if symbol in UNITS:
        size, text = UNITS[symbol]
        one, powers = parse_unit(text) if text else (1, ((symbol, 1),))
        return Fraction(size) * one, powers
    prefix, rest = symbol[0], symbol[1:]
    if prefix in PREFIXES and rest in PREFIXED:
        size, powers = _symbol(rest)
        return size * Fraction(10) ** PREFIXES[prefix], powers
    return Fraction(1), ((symbol, 1),)


# --------------------------------------------------------------------------------------- quantities
@dataclass(frozen=True)
class Quantity:
    """A number with a unit, and how the number was written."""

    value: Fraction
    unit: str
    """As it was written; "" for a pure number."""
    digits: int = 0
    """Significant digits of a decimal number; 0 for a fraction."""
    places: int = 0
    """Its digits after the point, powers of ten counted."""


_DECIMAL = r"[+-]?(?:\d{1,3}(?:[, ]\d{3})+(?![\d,])|\d+)(?:\.\d+)?"
_TEN = r"(?:\s?[×x*·]\s?10(?:\^\{?([+-]?\d{1,3})\}?|([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]{1,3}))|[eE]([+-]?\d{1,3}))?"
_NUMBER = rf"([+-]?\d+\s?/\s?\d+|{_DECIMAL}{_TEN}|[{''.join(_VULGAR)}])"
_QUANTITY = re.compile(rf"{_NUMBER}(?:\.\.\.|…)?\s*([^\d].*)?")
_FACTOR = rf"{_SYMBOL}(?:\^-?\d|\d|⁻?[¹²³⁴])?"  # a unit in running text has no space
_PRODUCT = rf"{_FACTOR}(?:[·*/]{_FACTOR}|/?\({_FACTOR}(?:[·*/]{_FACTOR})*\))*"
_IN_TEXT = re.compile(rf"(?<![\w.,/^]){_NUMBER}(?:\s?((?:per |1/|/)?{_PRODUCT}))?")


@lru_cache(maxsize=4096)
def _quantity(number: str, powers: tuple, unit: str) -> Quantity | None:
    """A quantity from its parts as text; None for 1/0 and for a number too long to read."""
    try:
        if "/" in number or number in _VULGAR:
            return Quantity(Fraction(_VULGAR.get(number, number).replace(" ", "")), unit)
        mantissa = re.match(_DECIMAL, number)[0].replace(",", "").replace(" ", "")
        ten = int(next((p for p in powers if p), "0").translate(_SUPERSCRIPTS))
        digits = mantissa.lstrip("+-").replace(".", "").lstrip("0")
        places = len(mantissa.partition(".")[2]) - ten
        return Quantity(Fraction(mantissa) * Fraction(10) ** ten, unit, len(digits), places)
    except (ValueError, ZeroDivisionError):
        return None


def quantity(text: str) -> Quantity | None:
    """The quantity that a text consists of, such as "12 N" or "1.2 × 10³ N"; else None."""
    match = _QUANTITY.fullmatch(text.strip())
    if not match:
        return None
    unit = (match[5] or "").strip()
    return None if parse_unit(unit) is None else _quantity(match[1], match.groups()[1:4], unit)


def quantities(text: str) -> list[Quantity]:
    """Every quantity in a running text."""
    found = (_quantity(m[1], m.groups()[1:4], m[5] or "") for m in _IN_TEXT.finditer(text))
    return [q for q in found if q and parse_unit(q.unit) is not None]


def is_same_unit(one: str, other: str) -> bool:
    """Whether two units are one unit, in whatever spelling.

    "m/s²" and "m·s^-2" are, but not "m" and "cm", and not "g/L" and "kg/m³", which are equal.
    """
    return _spelled(one) == _spelled(other) is not None


def _spelled(text: str) -> Counter | None:
    """The powers of a unit's symbols, with the symbol for a name or plural."""
    powers, made = _powers(text), Counter()
    for symbol, power in powers.items() if powers is not None else ():
        size, short = UNITS.get(symbol, (0, ""))
        is_other_name = size == 1 and symbol.isalpha() and short.isalpha()
        made[short if is_other_name else symbol] += power
    del made["times"]
    return None if powers is None else Counter({name: p for name, p in made.items() if p})


def is_same(given: Quantity, wanted: Quantity) -> bool:
    """Whether `given` has the value of `wanted`, in whatever unit.

    A number that decimals can write must be exact. One that they cannot, such as 1/3, may be
    rounded or cut after at least three significant digits.
    """
    (size, powers), (wanted_size, wanted_powers) = parse_unit(given.unit), parse_unit(wanted.unit)
    if powers != wanted_powers:
        return False
    exact = wanted.value * wanted_size / size
    if given.value == exact:
        return True
    rest = exact.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    if rest == 1 or given.digits < 3:
        return False
    scale = Fraction(10) ** given.places
    scaled = abs(exact) * scale
    cut = scaled.numerator // scaled.denominator
    sign = 1 if exact > 0 else -1
    return given.value * scale * sign in (cut, round(scaled))
