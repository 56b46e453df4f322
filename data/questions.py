"""Sets of different questions, and the solved ones about new laws and links that stage 0 sees."""

import random
from collections.abc import Set
from dataclasses import replace
from types import ModuleType

from data import explanations, generate
from data.explanations import Explanation, explanation, mistaken_explanation
from data.laws import LAWS
from data.links import LINKS
from data.mistakes import mistaken
from data.problems import Problem, draw
from rubrics import Example

KINDS = ("one-step", "conversion", "comparison", "two-step", "extra", "missing")
KIND_SHARES = (0.36, 0.14, 0.17, 0.25, 0.04, 0.04)
CORPUS_KIND_SHARES = (0.28, 0.12, 0.14, 0.38, 0.04, 0.04)  # two steps, the hardest kind, more often
HARD_KIND_SHARES = (0.08, 0.03, 0.05, 0.8, 0.02, 0.02)  # most test unseen combinations

# Stage 0 sees right and wrong solutions about each new law. A share of the new laws is understood:
# most of their solutions are right. The other laws are misunderstood: most solutions are wrong.
UNDERSTOOD = 0.4
WRONG_WHEN_UNDERSTOOD = 0.1  # share of wrong solutions
WRONG_WHEN_MISUNDERSTOOD = 0.9
MOST_MISSES = 5000  # draws in a row without a different question, before `questions` gives up


def draw_kind(rng: random.Random, kind_shares: tuple[float, ...]) -> str:
    """A kind of calculation, drawn with these shares."""
    return rng.choices(KINDS, kind_shares)[0]


def draw_problem(
    new: bool,
    split: str,
    rng: random.Random,
    explanation_share: float,
    *,
    hard: bool = False,
    for_corpus: bool = False,
) -> Problem | Explanation:
    """A problem about known or new laws or links; the share (0 to 1) asks why.

    For the corpus of stage 0 the kinds that are hard to learn are drawn more often.
    """
    if rng.random() < explanation_share:
        kind_shares = explanations.CORPUS_KIND_SHARES if for_corpus else explanations.KIND_SHARES
        return explanation(new, split, rng, kind_shares, hard=hard)
    kind_shares = HARD_KIND_SHARES if hard else CORPUS_KIND_SHARES if for_corpus else KIND_SHARES
    return draw(draw_kind(rng, kind_shares), new, split, rng, held_out=hard)


def words_of(problem: Problem | Explanation) -> ModuleType:
    """The module that puts a problem into words: its `example`, `solution` and `rubric`."""
    return explanations if isinstance(problem, Explanation) else generate


def questions(
    name: str,
    count: int,
    split: str,
    seed: int,
    *,
    new_share: float,
    explanation_share: float,
    hard: bool = False,
    taken: Set[str] = frozenset(),
    mistakes: dict[str, float] | None = None,
) -> list[Example]:
    """Draw `count` different questions of a split; `new_share` of them (0 to 1) need a new law.

    `hard` draws phrasings, pairs of laws and chains of links that no training question has. `taken`
    holds the questions and the keys (law and numbers) that may not occur. `mistakes` gives, for a
    law, the share of solutions (0 to 1) that are worked from a wrong relation; the answers and
    rubrics stay right. For two laws the larger share counts. Raises ValueError if 5000 draws in a row find
    nothing different.
    """
    rng = random.Random(f"{name} {seed}")
    found, seen, misses = [], set(), 0
    while len(found) < count:
        new = rng.random() < new_share
        problem = draw_problem(new, split, rng, explanation_share, hard=hard)
        e = words_of(problem).example(problem, rng, f"{name}-{len(found)}", held_out=hard)
        if mistakes:
            e = _maybe_mistaken(e, problem, mistakes, rng)
        # A test set asks for a target from the same numbers only once, in whatever words.
        mark = (problem.keys, problem.target, problem.converted) if split == "test" else e.question
        if mark not in seen and taken.isdisjoint((e.question, *problem.keys)):
            seen.add(mark)
            found.append(e)
            misses = 0
            continue
        misses += 1
        if misses == MOST_MISSES:
            raise ValueError(
                f"{name}: found only {len(found)} different questions, asked for {count}"
            )
    return found


def _maybe_mistaken(
    e: Example, problem: Problem | Explanation, mistakes: dict[str, float], rng: random.Random
) -> Example:
    """The example, or with the chance of its law or links the example with a mistaken solution."""
    if isinstance(problem, Explanation):
        return replace(
            e, solution=explanations.solution(mistaken_explanation(problem, mistakes, rng))
        )
    step, share = 0, 0.0  # the step that may be wrong; of two equal shares the later step
    for i, key in enumerate(problem.keys):
        law = key.partition(":")[0]
        if mistakes.get(law, 0) >= share:
            step, share = i, mistakes.get(law, 0)
    if share and rng.random() < share:
        wrong = mistaken(problem, step)
        if wrong:
            return replace(e, solution=generate.solution(wrong))
    return e


def exposures(count: int, explanation_share: float, seed: int) -> list[Example]:
    """The questions about new laws that stage 0 sees, solved from right and wrong relations.

    From them the student takes the words, the units and several ways to solve such questions. It
    believes the right relation for the understood laws and a wrong one for the others. So a reward
    has something to choose from, and a rubric has something to correct.
    """
    mistakes = {}
    for table in (LAWS, LINKS):
        new = [row.name for row in table if row.new]
        mistakes |= dict.fromkeys(new, WRONG_WHEN_MISUNDERSTOOD)
        for name in random.Random(f"understood {seed}").sample(new, round(UNDERSTOOD * len(new))):
            mistakes[name] = WRONG_WHEN_UNDERSTOOD
    shares = dict(new_share=1, explanation_share=explanation_share)
    return questions("exposure", count, "train", seed, **shares, mistakes=mistakes)
