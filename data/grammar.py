"""How this project's solutions are written: relations ("a = b × c") and the answer line ("Answer:
12 N").
"""

import re
from fractions import Fraction


def canonical(relation: str) -> tuple | None:
    """A relation up to the order of factors and summands: equal for "a = b × c" and "a = c × b".
    None if it is none.

    Only one level is sorted: a right side with brackets, and a product within a sum, count as they
    are written.
    """
    left, _, right = (side.strip() for side in relation.partition(" = "))
    if not left or not right:
        return None
    if "(" in right:  # pieces that cross a bracket must not be moved
        return left, right
    do, undo = "+−" if re.search(" [+−] ", right) else "×÷"
    terms = re.split(f" ([{do}{undo}]) ", f" {do} {right}")[
        1:
    ]  # operator, term, operator, term, ...
    done = sorted(term.strip() for op, term in zip(terms[::2], terms[1::2]) if op == do)
    undone = sorted(term.strip() for op, term in zip(terms[::2], terms[1::2]) if op == undo)
    return left, do, tuple(done), tuple(undone)


_ANSWER = re.compile(r"Answer: (-?\d+(?:\.\d+|/\d+)?)(?: (.*))?")


def answer_line(line: str) -> re.Match | None:
    """The line as "Answer: NUMBER UNIT" (groups 1 and 2), or None."""
    return _ANSWER.fullmatch(line.strip())


def final_answer(text: str) -> tuple[Fraction, str] | None:
    """(value, unit) of the last "Answer: 12 N" line, or None."""
    for line in reversed(text.split("\n")):
        if match := answer_line(line):
            try:
                return Fraction(match[1]), (match[2] or "").strip()
            except (ZeroDivisionError, ValueError):  # "1/0", or more digits than Python converts
                return None
    return None


def correct(completion: str, answer: str) -> bool:
    """Exact match of value and unit with the reference answer ("12 N"); False if that is not a
    number and a unit.
    """
    return final_answer(completion) is not None and final_answer(completion) == final_answer(
        "Answer: " + answer
    )
