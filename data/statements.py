"""Statements of cause and effect: "the cloud cover rises, so the sunlight falls", and their answers.

A statement is written in one way (`statement`) and read in many (`claims`): "when the cloud cover
increases, the sunlight decreases", "the sunlight falls because the cloud cover rises". A claim is
the same whichever way the cause goes: "the cloud cover falls, so the sunlight rises" claims it too.
"""

import re
from functools import lru_cache

RISES, FALLS, STAYS = 1, -1, 0  # what a quantity does
HELD = 2  # of a claim: its effect stays when its cause does
VERB = {RISES: "rises", FALLS: "falls", STAYS: "stays the same"}
COMPARED = {RISES: "is greater", FALLS: "is lower", STAYS: "is the same"}

UNKNOWN = "it cannot be told"
ANSWERS = (  # every final answer that is no quantity
    *("it rises", "it falls", "it stays the same", UNKNOWN, "it must rise", "it must fall"),
    *"abcd",
)

# (cause, effect, +1: it follows the cause, −1: it goes the other way, 0: it has no effect, or HELD)
Claim = tuple[str, str, int]


def statement(cause: str, does: int, effect: str, then: int, verb: dict[int, str] = VERB) -> str:
    """ "the cloud cover rises, so the sunlight falls"."""
    return f"the {cause} {verb[does]}, so the {effect} {verb[then]}"


_UP = r"rises?|rising|increases?|increasing|grows?|goes up|go up|is (?:greater|higher|larger|more)"
_DOWN = (
    r"falls?|falling|decreases?|decreasing|drops?|shrinks?|goes down|go down"
    r"|is (?:lower|smaller|less)"
)
_SAME = (
    r"stays? (?:the same|constant|unchanged)|remains? (?:the same|constant|unchanged)"
    r"|(?:does|do) not change|is the same|is unchanged"
)
_DOES = re.compile(
    rf"\b(?:also |then |is |are )*(?:(?P<up>{_UP})|(?P<down>{_DOWN})|(?P<same>{_SAME}))\b", re.I
)
_JOINED = re.compile(r",? (?:so(?: that)?|therefore|thus|hence|which means that|and so) ", re.I)
_WHEN = re.compile(r"\b(?:when|if|as|because|since|while) ", re.I)
_DENIED = re.compile(r"\b(?:not true|wrong|false|incorrect|does not mean)\b", re.I)
_BEFORE = re.compile(r"^\W*(?:\d+[.)] |[A-D][.):] )?(?:in (?:\w+ )?[A-B\d], )?", re.I)
_LETTER = re.compile(r" \([A-D]\)\W*$", re.I)  # of a choice, behind its statement


def _change(text: str) -> tuple[str, int] | None:
    """What a clause says: (quantity, what it does), or None."""
    text = _BEFORE.sub("", text.strip()).strip(" .,;")
    found = list(_DOES.finditer(text))
    match = found[-1] if found else None  # the last verb: a quantity may be called "rising air"
    if match is None or text[match.end() :].strip(" .,;"):
        return None
    name = re.sub(
        r"^(?:then |also )?(?:the |a |an )?", "", text[: match.start()].strip(), flags=re.I
    )
    does = RISES if match["up"] else FALLS if match["down"] else STAYS
    return (name.lower(), does) if name else None


def _claim(cause: tuple[str, int], effect: tuple[str, int]) -> Claim | None:
    """The claim of two changes. A cause that does nothing claims only that its effect stays too."""
    (x, does), (y, then) = cause, effect
    if does == STAYS:
        return (x, y, HELD) if then == STAYS else None
    return (x, y, does * then)


def _clauses(line: str) -> list[tuple[str, str]]:
    """Pairs (cause, effect) of a line's clauses, in whatever order it says them."""
    parts = _JOINED.split(line)
    if len(parts) > 1:  # "x rises, so y falls, so z rises"
        parts[0] = _WHEN.sub("", parts[0])
        return list(zip(parts, parts[1:]))
    when = _WHEN.search(line)
    if not when:
        return []
    if line[: when.start()].strip(" ,"):  # "y falls when x rises"
        return [(line[when.end() :], line[: when.start()])]
    cause, comma, effect = line[when.end() :].partition(", ")  # "when x rises, y falls"
    return [(cause, effect)] if comma else []


@lru_cache(maxsize=4096)
def claims_of(line: str) -> frozenset[Claim]:
    """What one line claims."""
    if _DENIED.search(line):
        return frozenset()
    found = set()
    line = _LETTER.sub("", line.strip())
    for cause, effect in _clauses(re.sub(r"^\W*(?:so|then|thus),? ", "", line, flags=re.I)):
        changes = _change(cause), _change(effect)
        if all(changes) and (claim := _claim(*changes)):
            found.add(claim)
    return frozenset(found)


def claims(text: str) -> set[Claim]:
    """All claims of a text about causes and effects."""
    return {claim for line in text.split("\n") for claim in claims_of(line)}


def claims_too(text: str, wanted: str) -> bool:
    """Whether a text claims all that the statement `wanted` does, and nowhere the contrary."""
    found = claims(text)
    for x, y, sign in claims_of(wanted):
        others = {other for a, b, other in found if (a, b) == (x, y)}
        if sign not in others or (sign != HELD and others - {sign, HELD}):
            return False
    return True


_OPPOSITE = {
    verbs[does]: verbs[-does if does else RISES]
    for verbs in (VERB, COMPARED)
    for does in (RISES, FALLS, STAYS)
}
_ENDS = re.compile(rf"\b({'|'.join(_OPPOSITE)})$")


def turned(line: str) -> str:
    """The line with its effect turned round; for an effect that stays with its cause, the cause.

    It takes "X, so Y", as the data writes it, and "Y when X"; another line stays as it is.
    """
    if not claims_of(line):
        return line
    joint = ", so " if ", so " in line else " when "
    said = _LETTER.sub("", line)
    parts = said.split(joint)
    held = all(part.endswith((VERB[STAYS], COMPARED[STAYS])) for part in parts)
    place = -1 if (joint == ", so ") != held else 0
    parts[place] = _ENDS.sub(lambda match: _OPPOSITE[match[1]], parts[place])
    return joint.join(parts) + line[len(said) :]


_ANSWER = re.compile(r"(?:final )?answer(?: is)?:?\s*", re.I)


def answered(text: str) -> str | None:
    """What the last line "Answer: ..." of a text says, without its marks; None if there is none."""
    for line in reversed(text.strip().split("\n")):
        if match := _ANSWER.match(line.strip(" *#")):
            return line.strip(" *#")[match.end() :].strip(" .*()").lower()
    return None
