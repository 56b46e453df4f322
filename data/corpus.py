"""The corpus of stage 0: rows that teach to solve, to read a rubric, and to write one."""

import random
from collections.abc import Iterator

from data import explanations
from data.explanations import invented_explanation
from data.invented import invented
from data.questions import CORPUS_KIND_SHARES, draw_kind, draw_problem, words_of
from rubrics import GENERIC, Example, Rubric, Sections, prompt

# The tasks of stage 0: solve problems about known laws, read a context about invented laws, write
# rubrics. New laws only occur in the exposures, which replace a share of the rows.
# fmt: off
MIX = (  # (task, share of the rows)
    ("known", 0.35),          # question, sometimes with the generic rubric -> solution; known laws
    ("read", 0.33),           # question + one of CONTEXTS -> solution; invented laws
    ("informed", 0.04),       # question + rubric -> solution; known laws
    ("uninformative", 0.03),  # question + rubric without key criteria -> solution; known laws
    ("write", 0.14),          # question -> rubric; known laws
    ("rewrite", 0.11),        # question + rubric -> the rubric in other words; known and invented
)
# fmt: on
CONTEXTS = (("rubric", 0.7), ("rubric+answer", 0.1), ("solution", 0.1), ("answer", 0.1))
TELLING = ("Relation", "Link", "Sign")  # titles of criteria that say how to solve a question
REWRITE_INVENTED = 0.6  # share of the "rewrite" rows that are about invented laws

# The share of "known" rows and of exposures that show the generic rubric. The share is the same, or
# the rubric would tell whether a law is known or new.
GENERIC_SHARE = 0.15


def corpus(
    count: int, exposed: list[Example], exposure_share: float, explanation_share: float, seed: int
) -> Iterator[Sections]:
    """Yield `count` rows of stage 0: lists of (section, text), the completion last.

    A share of the rows, `exposure_share` (0 to 1), are solved questions from `exposed`; MIX has the
    tasks of the others. `explanation_share` (0 to 1) of these ask why, the others calculate.
    """
    rng = random.Random(f"base {seed}")
    tasks, shares = zip(*MIX)
    for _ in range(count):
        if rng.random() < exposure_share:
            exposure = rng.choice(exposed)
            yield _row(_prompt_without_context(exposure, rng), exposure)
            continue
        task = rng.choices(tasks, shares)[0]
        if task == "read" or (task == "rewrite" and rng.random() < REWRITE_INVENTED):
            if rng.random() < explanation_share:
                problem = invented_explanation(rng, explanations.CORPUS_KIND_SHARES)
            else:
                problem = invented(draw_kind(rng, CORPUS_KIND_SHARES), rng)
        else:
            problem = draw_problem(False, "train", rng, explanation_share, for_corpus=True)
        words = words_of(problem)
        e = words.example(problem, rng, "")
        if task == "known":
            sections = _prompt_without_context(e, rng)
        elif task == "read":
            sections = _prompt_with_context(e, rng)
        elif task == "informed":
            sections = prompt(e.question, rubric=e.rubric)
        elif task == "uninformative":
            rest = tuple(c for c in e.rubric.criteria if c.title not in TELLING)
            sections = prompt(e.question, rubric=Rubric(rest))
        elif task == "write":
            sections = prompt(e.question, task="write_rubric")
        else:  # rewrite
            sections = prompt(e.question, rubric=words.rubric(problem, rng), task="write_rubric")
        yield _row(sections, e)


def _prompt_without_context(e: Example, rng: random.Random) -> Sections:
    """The prompt that asks for a solution, with the generic rubric in a GENERIC_SHARE of cases."""
    return prompt(e.question, rubric=GENERIC if rng.random() < GENERIC_SHARE else None)


def _prompt_with_context(e: Example, rng: random.Random) -> Sections:
    """The prompt that asks for a solution, with one of CONTEXTS beside the question."""
    names, shares = zip(*CONTEXTS)
    context = rng.choices(names, shares)[0]
    return prompt(
        e.question,
        rubric=e.rubric if context in ("rubric", "rubric+answer") else None,
        answer=e.answer if context in ("answer", "rubric+answer") else "",
        solution=e.solution if context == "solution" else "",
    )


def _row(sections: Sections, e: Example) -> Sections:
    """The prompt with its completion, a rubric or a solution, as text of the last section."""
    task, _ = sections[-1]
    return sections[:-1] + [(task, e.rubric.text() if task == "write_rubric" else e.solution)]
