"""Look for test questions in the training data by text alone, without the generator's keys.

    python -m tests.leaks        # three seeds; prints counts, exit code 1 if anything was found

A calculation leaks if a training text works out its law with its numbers, for whatever target, or
asks for its target from its numbers. A question that asks why leaks if a training question has its
quantities, directions, conditions and kind, in whatever words.
"""

import re
import sys
from collections import Counter

from data.chains import CHAINS
from data.laws import LAWS
from data.prepare import corpus_of
from data.problems import units_of
from data.questions import exposures, questions

NAMES = sorted({name for law in LAWS for name in units_of(law)}, key=len, reverse=True)
FACT = re.compile(rf"(?<![\w-])({'|'.join(map(re.escape, NAMES))}) (?:is|=) (\d+ ?[^\s,.]*)")
ASKED = re.compile(r"(?:What is|Find|Calculate) the ([^.?]+?)(?: in [^\s.?]+)?[.?]")
OTHER_NAMES = {}  # a quantity that two laws call by two names
for chain in CHAINS:
    OTHER_NAMES.setdefault(chain.link, set()).add(chain.as_)
    OTHER_NAMES.setdefault(chain.as_, set()).add(chain.link)


# --------------------------------------------------------------------------------- the calculations
def worked(text):
    """Marks of each line of working: names with numbers, in every name that a quantity has.

    "force = mass × acceleration = 3 kg × 4 m/s² = 12 N" is {force 12, mass 3, acceleration 4}.
    """
    found, lines = set(), text.split("\n")
    for line, after in zip(lines, [*lines[1:], ""]):
        sides = line.split(" = ")
        if len(sides) == 2 and after.count(": ") > 1:  # a comparison: relation, then the factors
            found.add((line, after))
        if len(sides) < 4 or not re.search(r"[×÷+−]", sides[1]):
            continue
        names = [sides[0], *re.findall(r"[^×÷+−½²√()]+", sides[1])]
        numbers = [sides[-1], *re.findall(r"[^×÷+−½²√()]+", sides[2])]
        names = [name.strip() for name in names if name.strip()]
        numbers = [m[0] for n in numbers if (m := re.match(r"\s*\d[\d,]*", n))]
        if len(names) != len(numbers):
            continue
        pairs = [(name, number.strip()) for name, number in zip(names, numbers)]
        found.add(frozenset(pairs))
        for i, (name, number) in enumerate(pairs):
            for other in OTHER_NAMES.get(name, ()):
                found.add(frozenset([*pairs[:i], (other, number), *pairs[i + 1 :]]))
    return found


def asked(text):
    """What a calculation states and asks: (facts, target); None without both."""
    facts, target = FACT.findall(text), ASKED.search(text)
    return (frozenset(facts), target[1]) if facts and target else None


# ------------------------------------------------------------------------ the questions that ask why
DOES = "(rises|falls|stays the same)"
OPTION = re.compile(
    r"[:;] the ([^;:]+?) (rises|falls), so the ([^;:]+?) (?:rises|falls|stays the same) \([A-D]\)"
)
MORE = (
    r"differ only in the (?P<q>[^.?]+?) and its effects; the [^.?;]+? is (?P<d>\w+) in [AB]\.",
    r"(?:or|in|In) [^.?]+? [AB] the (?P<q>[^.?;]+?) is (?P<d>greater|lower) than (?:for|in) ",
    r", A and B, that differ only in the [^.?]+? and its effects, [AB] is the one with the (?P<d>greater|lower) (?P<q>[^.?]+?)\.",
)
MOST = r"which has the greater ([^.?]+?), and|in which is the ([^.?]+?) greater|which of them has the greater ([^.?]+?)\."
WANTED = r"The ([^.?]+?) should (rise|fall)\.|aim is for the ([^.?]+?) to (rise|fall)\.|wants the ([^.?]+?) to (rise|fall)\."
CAUSE = r"how must the ([^.?]+?) change|which way must the ([^.?]+?) change\?|how the ([^.?]+?) must change"
LAST = r"what happens to the ([^.?]+?), and|how does the ([^.?]+?) change\?|how the ([^.?]+?) will change\."
CHANGE = re.compile(rf"\bthe ([^.,?;]+?) {DOES}(?= and the |\.)", re.I)


def why(text):
    """What a question asks, whatever its words: (kind, quantities and directions, conditions).

    None for a calculation.
    """
    if not (scene := re.search(r"Given: (.+?)\.", text)):
        return None
    given, rest = frozenset(scene[1].split("; ")), text.replace(scene[0], "")

    def one(pattern):
        match = re.search(pattern, rest, re.I)
        return tuple(part for part in match.groups() if part) if match else ()

    if options := OPTION.findall(rest):
        cause, does, effect = Counter(options).most_common(1)[0][0]
        return "choice", cause, does, effect, given
    if last := one(MOST):
        match = next(m for pattern in MORE if (m := re.search(pattern, rest)))
        return "more", match["q"], match["d"], last, given
    if wanted := one(WANTED):
        return "cause", one(CAUSE), wanted, given
    if last := one(LAST):
        return "effect", frozenset(CHANGE.findall(rest.replace("The ", "the "))), last, given
    return None


# ------------------------------------------------------------------------------------------ the search
def found_in(tests, training):
    """Test questions that training texts have: {what: [question]}, and the marks that were compared.

    `training` are pairs (question, solution).
    """
    lines, facts, whys, texts = set(), set(), set(), set()
    for text, solution in training:
        texts.add(text)
        lines |= worked(solution)
        if mark := why(text):
            whys.add(mark)
        elif mark := asked(text):
            facts.add(mark)
    found = {"question": [], "working": [], "numbers": [], "why": []}
    for e in tests:
        mark = why(e.question)
        for what, leaks in (
            ("question", e.question in texts),
            ("working", not mark and worked(e.solution) & lines),
            ("numbers", not mark and asked(e.question) in facts),
            ("why", mark in whys),
        ):
            if leaks:
                found[what].append(e.question)
    return found, {"working": len(lines), "numbers": len(facts), "why": len(whys)}


def search(seed, rows, count, exposed, test_count, share=0.45):
    """Draw the sets of a run and search: what `found_in` returns."""
    shares = dict(explanation_share=share)
    tests = questions("test_known", test_count, "test", seed, new_share=0, **shares)
    tests += questions("test_new", test_count, "test", seed, new_share=1, **shares)
    tests += questions(
        "test_hard", 2 * test_count, "test", seed, new_share=0.5, hard=True, **shares
    )
    trained = questions("stage1", count, "train", seed, new_share=0.8, **shares)
    trained += questions("stage2", count, "train", seed, new_share=0.8, **shares)
    trained += exposures(exposed, share, seed)
    pairs = [(e.question, e.solution) for e in trained]
    for sections in corpus_of(seed, rows, exposed, 0.03, share):
        by_name = dict(sections)
        pairs.append((by_name["question"], by_name.get("solve", "")))
        pairs += [(by_name["question"], by_name["solution"])] if "solution" in by_name else []
    return found_in(tests, pairs)


def main():
    leaks = 0
    for seed in range(3):
        found, compared = search(seed, 20_000, 1600, 1500, 400)
        counts = ", ".join(f"{what} {len(rows)}" for what, rows in found.items())
        marks = ", ".join(f"{what} {count:,}" for what, count in compared.items())
        print(f"seed {seed}: leaks: {counts}; compared with: {marks}", flush=True)
        for what, rows in found.items():
            leaks += len(rows)
            for text in rows[:3]:
                print(f"  {what}: {text}")
    return 1 if leaks else 0


if __name__ == "__main__":
    sys.exit(main())
