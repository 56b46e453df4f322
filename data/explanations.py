"""Questions that ask why: causes and effects in words, with solution and rubric.

In order: the problem, its question, its solution, its rubric. A problem is one of KINDS:

    effect      what happens to the last quantity of a path when the first rises or falls
    held        the same when the first stays as it is
    two causes  what happens when two causes of one effect change, perhaps against each other
    cause       how the first quantity must change so that the last one rises or falls
    more        two things differ in the first quantity: which has more of the last
    choice      which of four statements is right
"""

import random
from dataclasses import dataclass, replace

from data.generate import draw_pattern
from data.laws import FIELDS
from data.links import Link
from data.paths import (
    MOST_LINKS,
    Path,
    invented_path,
    joins_a_real_pair,
    paths_of,
    split_of,
    split_of_key,
    twin_links,
)
from data.statements import COMPARED, FALLS, RISES, STAYS, UNKNOWN, VERB, statement
from rubrics import SAYS, Criterion, Example, Rubric

KINDS = ("effect", "held", "two causes", "cause", "more", "choice")
KIND_SHARES = (0.4, 0.08, 0.1, 0.16, 0.16, 0.1)
CORPUS_KIND_SHARES = (0.3, 0.08, 0.1, 0.17, 0.15, 0.2)  # twice as many choices
LENGTH_SHARES = (0.4, 0.35, 0.25)  # of paths of one, two and three links
UNSEEN_SHARE = 0.8  # of the hard set: an unseen path; the others have an unseen wording
# fmt: off
# Parts of conditions that say in which state a thing is, and that name no cause.
STATES = (
    "soil drier than the optimum", "soil colder than the optimum", "soil already too acid",
    "well-aired soil", "nitrogen-rich litter", "nitrogen-poor soil", "phosphorus-poor soil",
    "thin soil", "dim light", "uphill run", "plain water", "loose sediment on the bed",
    "easily broken bed rock", "fine bank material", "wide shallow channel", "by day",
    "free rolling downhill", "all salt dissolved", "not yet saturated",
    "water the only impurity", "dilute solution", "weak monoprotic acids", "oxide resists acid",
)
# fmt: on
NAMES = ("A", "B")  # the two things of "more"


# ------------------------------------------------------------------------------------- the problem
@dataclass(frozen=True)
class Explanation:
    """A problem about the causes and effects of one path, or of two links with one effect."""

    kind: str
    paths: tuple[Path, ...]
    does: tuple[int, ...]
    """What the first quantity of each path does: RISES, FALLS or STAYS."""
    options: tuple[str, ...] = ()
    """The four statements of a choice."""
    place: str = ""
    """Of "more": the thing with the greater or lower first quantity."""

    @property
    def path(self) -> Path:
        return self.paths[0]

    @property
    def field(self) -> str:
        return self.path.links[0].field

    @property
    def name(self) -> str:
        return " and ".join(path.name for path in self.paths)

    @property
    def new(self) -> bool:
        """Whether it needs a new link."""
        return any(path.new for path in self.paths)

    @property
    def unseen(self) -> bool:
        """Whether no training question has its path."""
        return any(split_of(path) == "hard" for path in self.paths)

    @property
    def keys(self) -> tuple[str, ...]:
        """What it asks, whatever the words: its paths in either order, kind and directions."""
        asked = sorted((path.name, does) for path, does in zip(self.paths, self.does))
        names, directions = zip(*asked)
        return (f"{' and '.join(names)}:{self.kind}:{','.join(map(str, directions))}",)

    @property
    def ends(self) -> tuple[int, ...]:
        """What the last quantity does by each path."""
        return tuple(does * path.sign for does, path in zip(self.does, self.paths))

    target, converted = "", ""  # as a Problem has them: its keys tell all


def _draw_kind(rng: random.Random, kind_shares: tuple[float, ...]) -> tuple[str, int]:
    """A kind, and the number of links of its path."""
    kind = rng.choices(KINDS, kind_shares)[0]
    length = rng.choices(range(1, MOST_LINKS + 1), LENGTH_SHARES)[0]
    if kind in ("two causes", "choice"):
        length = 1
    return kind, length


def explanation(
    new: bool,
    split: str,
    rng: random.Random,
    kind_shares: tuple[float, ...] = KIND_SHARES,
    *,
    hard: bool = False,
) -> Explanation:
    """A problem about real links for a split: "train", "valid" or "test"; `new`: with a new link.

    With `hard`, UNSEEN_SHARE of the draws have a path of two or three links that no training
    question has; so has a third of the split "valid", from other paths.
    """
    unseen = UNSEEN_SHARE if hard else 1 / 3 if split == "valid" else 0
    unseen = rng.random() < unseen
    while True:
        kind, length = _draw_kind(rng, kind_shares)
        field, source = rng.choice(FIELDS), "train"
        if unseen:
            source = "hard" if hard else "valid"
            if length == 1:
                continue
        elif hard and kind in ("choice", "more"):
            continue  # the order of their parts leaves them no unseen wording
        if kind == "two causes":
            pairs = [p for p in twin_links(field) if (p[0].new or p[1].new) == new]
            if not pairs:
                continue
            paths = tuple(Path((link,)) for link in rng.sample(rng.choice(pairs), 2))
        else:
            found = paths_of(field, new, length, source)
            if not found:
                continue
            paths = (rng.choice(found),)
            if kind == "more" and len({link.thing for link in paths[0].links}) > 1:
                continue
        problem = _posed(kind, paths, rng)
        if source != "train" or split_of_key(problem.keys[0]) == split:
            return problem


def invented_explanation(
    rng: random.Random, kind_shares: tuple[float, ...] = KIND_SHARES
) -> Explanation:
    """A problem about links that hold nowhere."""
    kind, length = _draw_kind(rng, kind_shares)
    if kind == "two causes":
        first, other = invented_path(1, rng), invented_path(2, rng).links[0]
        second = Path((replace(other, effect=first.links[0].effect),))
        names = [second.links[0].cause, first.links[0].cause, first.links[0].effect]
        if len(set(names)) < 3 or joins_a_real_pair(names):
            return invented_explanation(rng, kind_shares)
        return _posed(kind, (first, second), rng)
    return _posed(kind, (invented_path(length, rng),), rng)


def _posed(kind: str, paths: tuple[Path, ...], rng: random.Random) -> Explanation:
    """The problem with its directions and whatever else its kind needs."""
    does = tuple(STAYS if kind == "held" else rng.choice((RISES, FALLS)) for _ in paths)
    problem = Explanation(kind, paths, does)
    if kind == "more":
        return replace(problem, place=rng.choice(NAMES))
    if kind == "choice":
        return replace(problem, options=_options(problem, rng))
    return problem


def _options(p: Explanation, rng: random.Random) -> tuple[str, ...]:
    """Four statements: the effect rises, falls, stays the same, cannot be told."""
    link, does = p.path.links[0], p.does[0]
    options = [statement(link.cause, does, link.effect, then) for then in (RISES, FALLS, STAYS)]
    cause = f"the {link.cause} {VERB[does]}"
    options.append(f"{cause}, and what the {link.effect} then does cannot be told")
    rng.shuffle(options)
    return tuple(options)


# ------------------------------------------------------------------------------------ the question
def question(p: Explanation, order: tuple[str, ...], fact: int, ask: int) -> str:
    """The problem in words: the facts, what stays the same and what is asked, in this order.

    `order` is a permutation of ("scene", "facts", "ask"); `fact` and `ask` are wordings from 0 to 2.
    """
    first, last = p.path.links[0].cause, p.path.links[-1].effect
    given = list(dict.fromkeys(link.condition for path in p.paths for link in path.links))
    if p.kind == "two causes":  # the condition of a link may hold the other cause
        parts = dict.fromkeys(part for condition in given for part in condition.split(", "))
        given = [part for part in parts if part in STATES]
    given = [text for text in given if not any(text != other and text in other for other in given)]
    may_differ = any(text.endswith("may differ") for text in given)
    if p.kind == "two causes" or (p.kind == "held" and not may_differ):
        given.append("all else as before")
    said = {"scene": f"given: {'; '.join(given)}."}
    if p.kind == "choice":
        listed = "; ".join(f"{text} ({name})" for name, text in zip("ABCD", p.options))
        said["facts"] = f"statements: {listed}."
        said["ask"] = (
            "which statement is right?",
            "which of the statements holds?",
            "find the right statement.",
        )[ask]
        order = tuple(part for part in order if part != "facts") + ("facts",)
    elif p.kind == "more":
        thing, other = p.path.links[0].thing, NAMES[p.place == "A"]
        more = "greater" if p.does[0] == RISES else "lower"
        where = "in" if thing in ("meadow", "valley") else "for"
        said["facts"] = (
            f"{thing}s A and B differ only in the {first} and its effects; the {first} is {more} in {p.place}.",
            f"{where} {thing} {p.place} the {first} is {more} than {where} {thing} {other}, and they differ in nothing else but its effects.",
            f"of two {thing}s, A and B, that differ only in the {first} and its effects, {p.place} is the one with the {more} {first}.",
        )[fact]
        said["ask"] = (
            f"which has the greater {last}, and why?",
            f"in which is the {last} greater? Explain.",
            f"explain which of them has the greater {last}.",
        )[ask]
    elif p.kind == "cause":
        said["facts"] = (
            f"the {last} {'should rise' if p.ends[0] == RISES else 'should fall'}.",
            f"the aim is for the {last} to {'rise' if p.ends[0] == RISES else 'fall'}.",
            f"somebody wants the {last} to {'rise' if p.ends[0] == RISES else 'fall'}.",
        )[fact]
        said["ask"] = (
            f"how must the {first} change, and why?",
            f"in which way must the {first} change? Explain.",
            f"explain how the {first} must change.",
        )[ask]
    else:
        changes = " and ".join(
            f"the {path.links[0].cause} {VERB[does]}" for path, does in zip(p.paths, p.does)
        )
        said["facts"] = (f"{changes}.", f"suppose that {changes}.", f"imagine that {changes}.")[
            fact
        ]
        said["ask"] = (
            f"what happens to the {last}, and why?",
            f"how does the {last} change? Explain.",
            f"explain how the {last} will change.",
        )[ask]
    if p.kind == "more":  # A and B are named before they are asked about
        order = tuple(part for part in order if part != "ask") + ("ask",)
    sentences = [said[part] for part in order]
    return " ".join(sentence[0].upper() + sentence[1:] for sentence in sentences)


# ------------------------------------------------------------------------------------ the solution
def steps(p: Explanation) -> list[tuple[Link, int, int]]:
    """The links as they are needed, each with what its cause and its effect do.

    Who asks for a cause goes from the aim back to it.
    """
    found = []
    for path, does in zip(p.paths, p.does):
        for link in path.links:
            found.append((link, does, does * link.sign))
            does *= link.sign
    return found[::-1] if p.kind == "cause" else found


def lines(p: Explanation) -> list[str]:
    """One statement for each link."""
    found = [stated(p, *step) for step in steps(p)]
    return [f"in {p.place}, {text}" for text in found] if p.kind == "more" else found


def stated(p: Explanation, link: Link, does: int, then: int) -> str:
    """A link in the words of the problem's solution and rubric."""
    if p.kind == "cause":
        return f"the {link.effect} {VERB[then]} when the {link.cause} {VERB[does]}"
    return statement(link.cause, does, link.effect, then, COMPARED if p.kind == "more" else VERB)


def answer(p: Explanation) -> str:
    """The reference answer: "it falls", "it must rise", "it cannot be told", "A"."""
    if p.kind == "choice":
        return "ABCD"[p.options.index(lines(p)[0])]
    if p.kind == "more":
        return p.place if p.ends[0] == RISES else NAMES[p.place == "A"]
    if p.kind == "cause":
        return "it must rise" if p.does[0] == RISES else "it must fall"
    return f"it {VERB[p.ends[0]]}" if len(set(p.ends)) == 1 else UNKNOWN


def solution(p: Explanation) -> str:
    """One line for each link, that of a choice with its letter, then the line "Answer: ..."."""
    steps = [f"{line} ({answer(p)})" for line in lines(p)] if p.kind == "choice" else lines(p)
    return "\n".join([*steps, f"Answer: {answer(p)}"])


def mistaken_explanation(
    p: Explanation, wrong: dict[str, float], rng: random.Random
) -> Explanation:
    """The problem as somebody solves it who takes some links for their opposites.

    `wrong` has, by the cause and effect of a link, the chance that it is turned round.
    """

    def believed(path: Path) -> Path:
        return Path(
            tuple(
                replace(link, sign=-link.sign) if rng.random() < wrong.get(link.name, 0) else link
                for link in path.links
            )
        )

    if p.kind == "cause":  # what is asked for stays: the last quantity's direction
        turned = believed(p.path)
        return replace(p, paths=(turned,), does=(p.ends[0] * turned.sign,))
    return replace(p, paths=tuple(believed(path) for path in p.paths))


# -------------------------------------------------------------------------------------- the rubric
def rubric(p: Explanation, rng: random.Random) -> Rubric:
    """A rubric of 3 to 7 weighted criteria: first the links, each Essential; never the answer.

    Every call draws anew which optional criteria appear, their order, wording and weights.
    """
    criteria = []
    for step in steps(p):
        text = f"Essential: {rng.choice(SAYS)}{stated(p, *step)}"
        criteria.append(Criterion("Link", text, rng.choice((4, 5)), f"states {stated(p, *step)}"))
    last = p.path.links[-1].effect
    others = [
        Criterion(
            "Aim", f"Important: says what the {last} does", rng.choice((2, 3)), f"shows {last}"
        )
    ]
    middle = [link.effect for link in p.path.links[:-1]]
    if middle and rng.random() < 0.5:
        text = f"Important: goes by way of the {' and the '.join(middle)}"
        others.append(Criterion("Way", text, 2, f"shows {'; '.join(middle)}"))
    if rng.random() < 0.6:
        text = "Optional: ends with the answer on a line of its own"
        others.append(Criterion("Form", text, 1, "answer-line"))
    link, does, then = rng.choice(steps(p))
    if then != STAYS and (len(criteria) + len(others) < 3 or rng.random() < 0.5):
        turned = stated(p, link, does, -then)
        text = f"Pitfall: does not say that {turned}"
        others.append(Criterion("Sign", text, rng.choice((-1, -2)), f"avoids {turned}"))
    if len(criteria) + len(others) < 3:
        text = "Optional: ends with the answer on a line of its own"
        others.append(Criterion("Form", text, 1, "answer-line"))
    if rng.random() < 0.3:
        rng.shuffle(others)
    return Rubric((*criteria, *others))


def example(p: Explanation, rng: random.Random, id: str, *, held_out: bool = False) -> Example:
    """A row of the data. `held_out`: with an unseen combination of links or an unseen wording."""
    pattern = draw_pattern(rng, held_out and not p.unseen)
    meta = {
        "kind": p.kind,
        "law": p.name,
        "field": p.field,
        "new": p.new,
        "keys": list(p.keys),
        "phrasing": "unseen" if held_out else "seen",
        "combination": "unseen" if p.unseen else "seen",
    }
    return Example(id, question(p, *pattern), answer(p), solution(p), rubric(p, rng), meta)
