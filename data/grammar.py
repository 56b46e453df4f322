"""The grammar of solutions: relations ("a = b × c") and the answer line ("Answer: 12 N").

What a text states, uses, shows and answers is read here; units.py reads its quantities and
algebra.py its relations. Cases with their verdicts stand in grader_cases.md.
"""

import re
from functools import lru_cache

from data.algebra import Terms, in_signs, law, terms_of
from data.statements import ANSWERS, answered, claims_of, claims_too
from data.units import Quantity, is_same, is_same_unit, plain, quantities, quantity


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


# ------------------------------------------------------------------------------------------ the answer
_NAMED = r"(?:the |my )?(?:final )?answer\b"
_COLON = re.compile(r"\banswer(?: is)?\s*[:=]", re.I)  # wherever it stands, an answer follows
_OPENING = re.compile(
    rf"[\s#>*_`-]*(?:(?:so|thus|hence|then|therefore),? )?{_NAMED}(?: is\b)?\s*[:=]?", re.I
)
_DENIED = re.compile(r"\b(?:wrong|incorrect|not (?:the|my|an))\s*$", re.I)
_TAKEN_BACK = re.compile(
    r"\b(?:wait|wrong|incorrect|mistaken?|error|sorry|correction|actually|instead|oops|i mean)\b"
    r"|\bno[,.!]|\bnot (?:right|correct|true|the answer|[\d-])|\bshould (?:be|have)\b",
    re.I,
)
_AROUND = " \t.,;!*_`\"'…≈"  # what may stand around an answer


def _value(text: str) -> Quantity | None:
    """The quantity that a text gives as the answer, such as "12 N" or "force = 12 N".

    None if it gives none, or two that differ.
    """
    sides = re.split(r"=|\bis\b", plain(text))
    given = [quantity(side.strip(_AROUND)) for side in sides]
    if not given[-1] or any(other and not is_same(given[-1], other) for other in given[:-1]):
        return None
    return given[-1]


def answer_line(line: str) -> Quantity | None:
    """The quantity of a line "Answer: NUMBER UNIT" with nothing else on it, or None."""
    line = plain(line)
    match = _OPENING.match(line)
    return _value(line[match.end() :]) if match else None


def final_answer(text: str) -> Quantity | None:
    """The quantity in the last answer of a text, such as "Answer: 12 N".

    None if there is no answer, if the last one is no quantity, or if what stands behind takes it
    back, in words or with another quantity.
    """
    behind = []
    for line in reversed(text.split("\n")):
        line = plain(line)
        marks = list(_COLON.finditer(line))
        if marks or answer_line(line):
            given = _value(line[marks[-1].end() :]) if marks else answer_line(line)
            if marks and _DENIED.search(line[: marks[-1].start()]):
                return None
            if marks and not line[marks[-1].end() :].strip(_AROUND) and behind:
                given = _value(behind.pop())  # on the next line
            others = filter(None, (quantity(other.strip(_AROUND)) for other in behind))
            if not given or any(not is_same(given, other) for other in others):
                return None
            return None if any(_TAKEN_BACK.search(other) for other in behind) else given
        if line.strip():
            behind.append(line)
    return None


_UNTOLD = re.compile(r"\b(?:can't|can ?not|could not) be \w+|not enough|impossible", re.I)
_LACKING = re.compile(r" (?:is|was) (?:missing|unknown|not (?:given|known|stated))\b", re.I)
_BEFORE_NAME = re.compile(r"[,;:.]|\b(?:because|since|as|the)\b", re.I)


def missing_datum(text: str) -> str | None:
    """What the last answer says to be missing: "mass" for "cannot be told, the mass is missing"."""
    lines = [plain(line) for line in text.split("\n") if line.strip()]
    for i, line in reversed(list(enumerate(lines))):
        if match := _OPENING.match(line):
            said = line[match.end() :]
            lacking = _LACKING.search(said)
            if not _UNTOLD.search(said) or not lacking:
                return None
            if any(_TAKEN_BACK.search(other) for other in lines[i + 1 :]):
                return None
            return _BEFORE_NAME.split(said[: lacking.start()])[-1].strip().lower()
    return None


def correct(completion: str, answer: str) -> bool:
    """Whether the completion's final answer has the value of `answer` ("12 N"), in whatever unit.

    For "cannot be told, the mass is missing": whether it says so, in whatever words. For one of
    ANSWERS: whether the last answer is this one. False if `answer` is none of these.
    """
    if answer.lower() in ANSWERS:
        return answered(completion) == answer.lower()
    given, wanted = final_answer(completion), _value(answer)
    if wanted is None:
        datum = missing_datum(f"Answer: {answer}")
        return datum is not None and missing_datum(completion) == datum
    return given is not None and is_same(given, wanted)


def has_unit(completion: str, unit: str) -> bool:
    """Whether the completion's final answer is given in this unit, in whatever spelling."""
    given = final_answer(completion)
    return given is not None and is_same_unit(given.unit, plain(unit))


# ---------------------------------------------------------------------- what the lines of a text say
_NUMBERING = re.compile(r"^\s*(?:[-•#>]|\d+[.)])\s+")
_OPENERS = re.compile(
    r"^(?:(?:so|then|thus|hence|therefore|and|or|we (?:use|have)|us(?:e|ing)),? )+", re.I
)


def _signs(line: str) -> str:
    """A line in the signs of the data, without its numbering and full stop."""
    text = plain(line.replace("−", " − ")).strip(" `")
    return in_signs(_NUMBERING.sub("", text)).rstrip(" .;,")


@lru_cache(maxsize=4096)
def _sides(line: str) -> tuple[str, ...]:
    """What a line says to be equal; what leads up to it, such as "Law:" or "so", is left out."""
    sides = [side.strip() for side in _signs(line).split("=")]
    sides[0] = _OPENERS.sub("", re.split("[:,]", sides[0])[-1].strip())
    return tuple(sides)


_DENIAL = re.compile(
    r"\b(?:not|never|don't|without|instead of|rather than|wrong|incorrect|false)\b", re.I
)
_CLAUSE = re.compile(r"[,;]| (?:so|where|because|since|and|with|which) ")


def states(text: str, relation: str) -> bool:
    """Whether a line opens with the relation, or with its law solved for another quantity.

    A cause with its effect ("the mass rises, so the weight rises") may be said in any words.
    """
    if claims_of(relation):
        return claims_too(text, relation)
    lines, wanted = text.split("\n"), canonical(relation)
    if any(canonical(" = ".join(line.split(" = ")[:2])) == wanted for line in lines):
        return True
    wanted = law(*_sides(relation)[:2])
    if wanted is None or not _may_have(text, wanted):
        return False
    for line in lines:
        sides = () if _DENIAL.search(line) else _sides(line)
        if len(sides) > 1 and law(sides[0], _CLAUSE.split(sides[1])[0].strip()) == wanted:
            return True
    return False


def _may_have(text: str, terms: Terms) -> bool:
    """Whether the names in an expression occur in a text, which is quicker than to read it."""
    words = " ".join(text.lower().split())
    return all(name.lower().strip("÷") in words for factors in terms for name, _ in factors)


def shows(text: str, wanted: str) -> bool:
    """Whether the quantities of "3 kg; 2 min" occur in the text, in whatever unit.

    "= 2 min": a side of an equation is this quantity, in this very unit. What is not a quantity is
    looked for as whole words.
    """
    text = plain(text)
    for part in wanted.split("; "):
        is_side = part.startswith("= ")
        found = quantity(plain(part.removeprefix("= ")))
        if found is None:
            if not re.search(rf"(?<!\w){re.escape(plain(part))}(?!\w)", text):
                return False
        elif is_side:
            sides = re.split(r"\n|=|\bis\b|[,;] ", text)
            given = [q for side in sides if (q := quantity(side.strip(_AROUND)))]
            if not any(is_same_unit(q.unit, found.unit) and is_same(q, found) for q in given):
                return False
        elif not any(is_same(q, found) for q in quantities(text)):
            return False
    return True


_PROSE = (  # (an operation in words, in signs)
    (re.compile(r"\bmultipl(?:y|ied|ying) (.+?) (?:by|with) ", re.I), r"\1 × "),
    (re.compile(r"\bdivid(?:e|ed|ing) (.+?) by ", re.I), r"\1 ÷ "),
    (re.compile(r"\badd(?:ed|ing)? (.+?) to ", re.I), r"\1 + "),
    (re.compile(r"\bsubtract(?:ed|ing)? (.+?) from (.+?)(?=[.,;:=]|$)", re.I), r"\2 − \1"),
)

# Words between which an expression may stand in a sentence; what follows a denial is not used.
_BETWEEN = re.compile(
    r"=|[,:;?!]|\.(?:\s|$)|\b(?:and|or|so|then|because|since|where|which|that|here|we|i|us(?:e|es|ing)|by"
    r"|with|from|gives?|have|to|in|for|as|if|but|therefore|thus|hence|now|take|calculate|find)\b",
    re.I,
)


def uses(text: str, wrong: str) -> bool:
    """Whether a line of the text uses an operation ("force × time") or a relation ("a = b × c").

    Anything else must not be shown. The operation may stand in a larger expression, its parts in any
    order. A name that is part of a longer name is another quantity.
    """
    if "=" in wrong or claims_of(wrong):
        return states(text, wrong)
    operation = terms_of(_signs(wrong)) if re.search("[×÷+−]", _signs(wrong)) else None
    if not operation:
        return shows(text, wrong)
    if not _may_have(text, operation):
        return False
    for line in text.split("\n"):
        line = _signs(line)
        for pattern, signs in _PROSE:
            line = pattern.sub(signs, line)
        for sentence in re.split(r"[.;!?](?:\s|$)", line):
            for part in _BETWEEN.split(_DENIAL.split(sentence)[0]):
                if _contains(part.strip(), operation):
                    return True
    return False


def _contains(expression: str, operation: Terms) -> bool:
    """Whether an expression has the operation in it, other factors and summands left aside.

    "a × c ÷ b" has "a ÷ b" in it, and "c + b − a" has "b − a".
    """
    terms = terms_of(expression)
    if terms is None:  # a bracket too many, or a number in the wrong place: look at its pieces
        pieces = re.split(r"[^\w\s'×÷+−^-]|\d+", expression)
        return len(pieces) > 1 and any(_contains(piece.strip(), operation) for piece in pieces)
    if len(operation) > 1:  # a sum
        return all(terms.get(key, 0) * x > 0 for key, x in operation.items())
    ((factors, _),) = operation.items()
    return any(all(name in dict(key) for name, _ in factors) for key in terms)


# The label of a choice: "B", "(b)", "2."; "a motor" and "7 liters" are texts, "B gold" is a label.
_LABEL = re.compile(
    r"answer(?: is)?:?\s*\(?(?:([A-Z0-9])(?=\s*$|\s*[):,]|\.(?!\d))"
    r"|(?-i:([B-HJ-Z]))(?=\s)|(?-i:(A))(?=\s+(?:because|since|as)\b))",
    re.IGNORECASE | re.MULTILINE,
)


def chosen(completion: str, answer: str) -> str | None:
    """`answer` if a completion's last line is that text; else the label that it names last, or None."""
    last = completion.strip().rpartition("\n")[2]
    last = re.sub(r"^\W*answer:", "", last, flags=re.IGNORECASE).strip(" .*")
    if last.casefold().removeprefix("a ") == answer.strip(" .*").casefold().removeprefix("a "):
        return answer  # also "A gas" for "gas"
    named = _LABEL.findall(completion.replace("*", ""))
    return max(named[-1]).upper() if named else None
