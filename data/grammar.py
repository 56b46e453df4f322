"""The grammar of solutions: relations ("a = b × c") and the answer line ("Answer: 12 N")."""

import re
from fractions import Fraction


def canonical(relation: str) -> tuple | None:
    """A value that is equal for relations that differ only in order, as "a = b × c", "a = c × b".

    None if the text is not a relation. Factors or summands are sorted on one level only: a right
    side with brackets, or a product within a sum, counts as it is written.
    """
    left, _, right = (side.strip() for side in relation.partition(" = "))
    if not left or not right:
        return None
    if "(" in right:  # sorting could move a bracket away from its partner
        return left, right
    operator, inverse = "+−" if re.search(" [+−] ", right) else "×÷"
    # The split gives "", operator, term, operator, term, ...
    _, *parts = re.split(f" ([{operator}{inverse}]) ", f" {operator} {right}")
    terms = {operator: [], inverse: []}
    for sign, term in zip(parts[::2], parts[1::2]):
        terms[sign].append(term.strip())
    return left, operator, tuple(sorted(terms[operator])), tuple(sorted(terms[inverse]))


_ANSWER = re.compile(r"Answer: (-?\d+(?:\.\d+|/\d+)?)(?: (.*))?")


def answer_line(line: str) -> re.Match | None:
    """The match of a line "Answer: NUMBER UNIT" (groups 1 and 2), or None."""
    return _ANSWER.fullmatch(line.strip())


def final_answer(text: str) -> tuple[Fraction, str] | None:
    """The value and unit in the last line such as "Answer: 12 N", or None."""
    for line in reversed(text.split("\n")):
        if match := answer_line(line):
            try:
                return Fraction(match[1]), (match[2] or "").strip()
            except (ZeroDivisionError, ValueError):  # "1/0", or more digits than Python converts
                return None
    return None


def correct(completion: str, answer: str) -> bool:
    """Whether the completion's final answer has the value and unit of `answer` ("12 N").

    False if `answer` is not a number with or without a unit.
    """
    given = final_answer(completion)
    return given is not None and given == final_answer("Answer: " + answer)
