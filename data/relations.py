"""Relations such as "force = mass × acceleration", solved for each of their quantities.

A `Form` is a relation solved for one quantity. A form can be written out, evaluated, and worked
step by step. `forms` makes all forms of a relation. This file does not know any law.

Numbers are whole and at most LARGEST, so that a small model can learn the results as a table.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import isqrt

SMALLEST, LARGEST = 2, 1440  # the bounds of a quantity's value

Factor = tuple[str, int]  # (quantity, its power: 1 or 2)


def is_workable(value: Fraction | None) -> bool:
    """Whether a value is a whole number between SMALLEST and LARGEST."""
    return value is not None and value.denominator == 1 and SMALLEST <= value <= LARGEST


@dataclass(frozen=True)
class Form:
    """A relation solved for `target`.

    A product (`signs` is empty): target = coefficient × over... ÷ under..., or the root of that.
    A sum (only `signs` is given): target = the sum of sign × quantity.
    """

    target: str
    over: tuple[Factor, ...] = ()
    under: tuple[Factor, ...] = ()
    coefficient: str = ""  # "", "½" or "2"
    root: bool = False
    signs: tuple[tuple[int, str], ...] = ()  # (+1 or −1, quantity)

    @property
    def names(self) -> tuple[str, ...]:
        """The quantities on the right-hand side, in the order in which they are written."""
        if self.signs:
            return tuple(name for _, name in self.signs)
        return tuple(name for name, _ in self.over + self.under)

    def expression(self, show: Callable[[str], str] = lambda name: name) -> str:
        """The right-hand side as text; `show` writes each quantity (default: its name)."""
        if self.signs:
            (_, first), *rest = self.signs
            text = show(first)
            for sign, name in rest:
                text += (" + " if sign > 0 else " − ") + show(name)
            return text

        def term(name: str, power: int) -> str:
            text = show(name)
            if power == 1:
                return text
            return f"({text})²" if text[0].isdigit() else f"{text}²"

        factors = [self.coefficient] if self.coefficient else []
        factors += [term(name, power) for name, power in self.over]
        text = " × ".join(factors)
        for name, power in self.under:
            text += " ÷ " + term(name, power)
        return f"√({text})" if self.root else text

    @property
    def relation(self) -> str:
        """The form as text: "mass = force ÷ acceleration"."""
        return f"{self.target} = {self.expression()}"

    def value(self, values: dict[str, int]) -> Fraction | None:
        """The exact value of the target; None if a root is not a whole number."""
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
        """The arithmetic between the numbers put in and the result: one string for each step.

        "½ × 4 kg × (3 m/s)²" is worked as ["½ × 4 × 9", "2 × 9"]; the result, 18, is not in the
        list. A sum, or a product of two quantities, has no step in between: []. None if a result
        on the way is not whole or is larger than LARGEST.
        """
        if self.signs:
            return []
        factors = []  # (operator, number); the first operator is not written
        if self.coefficient:
            factors.append(("×", Fraction(1, 2) if self.coefficient == "½" else 2))
        factors += [("×", values[name] ** power) for name, power in self.over]
        factors += [("÷", values[name] ** power) for name, power in self.under]
        numbers = [number for _, number in factors]
        operators = [operator for operator, _ in factors[1:]]
        has_square = any(power == 2 for _, power in self.over + self.under)

        shown = []
        while len(numbers) > 1:
            # The first text repeats the numbers put in, unless a square was worked out in it.
            if has_square or len(numbers) < len(factors):
                text = _number(numbers[0])
                for operator, number in zip(operators, numbers[1:]):
                    text += f" {operator} {_number(number)}"
                shown.append(f"√({text})" if self.root else text)
            if operators[0] == "×":
                result = Fraction(numbers[0] * numbers[1])
            else:
                result = Fraction(numbers[0]) / numbers[1]
            if result.denominator != 1 or result > LARGEST:
                return None
            numbers = [int(result)] + numbers[2:]
            operators = operators[1:]
        if self.root:
            shown.append(f"√{_number(numbers[0])}")
        return shown


def _number(x: int | Fraction) -> str:
    x = Fraction(x)
    if x == Fraction(1, 2):
        return "½"
    return str(x.numerator) if x.denominator == 1 else f"{x.numerator}/{x.denominator}"


@lru_cache(maxsize=4096)  # every real law, and the latest of the many invented ones
def forms(relation: str) -> dict[str, Form]:
    """The relation solved for each of its quantities: {target: Form}, in the order of its text.

    The first form is the relation as it is written.
    """
    target, right = relation.split(" = ")
    for operator in (" + ", " − "):
        if operator in right:
            first, _, second = right.partition(operator)
            return _solve_sum(target, first, operator.strip(), second)
    return _solve_product(target, right)


def _solve_sum(target: str, first: str, operator: str, second: str) -> dict[str, Form]:
    """The forms of "target = first + second" or "target = first − second"."""
    if operator == "+":
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


def _solve_product(target: str, right: str) -> dict[str, Form]:
    """The forms of "target = a × b ÷ c" or "target = ½ × a × b²"."""
    over_text, *under_names = right.split(" ÷ ")
    over_texts = over_text.split(" × ")
    coefficient = over_texts.pop(0) if over_texts[0] == "½" else ""
    over = tuple((text.rstrip("²"), 2 if text.endswith("²") else 1) for text in over_texts)
    under = tuple((name, 1) for name in under_names)
    inverse = "2" if coefficient == "½" else ""

    solved = {target: Form(target, over, under, coefficient)}
    for name, power in over:
        others = tuple(factor for factor in over if factor != (name, power))
        solved[name] = Form(name, ((target, 1),) + under, others, inverse, root=power == 2)
    for name, _ in under:
        solved[name] = Form(name, over, ((target, 1),), coefficient)
    return solved
