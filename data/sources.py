"""What a teacher reads: solutions and rubrics as they are, learned, or corrupted on request.

A corrupted solution has the right final answer and a wrong step. A rubric can be noisy (a wrong
relation), reduced (half of its criteria) or shuffled (another question's).
"""

import json
import random
from dataclasses import replace
from pathlib import Path

from rubrics import GENERIC, Example, Rubric, key_relations, usable_rubric

_WRONG = str.maketrans(
    "×÷+−", "÷×−+"
)  # every operation turned round: never the right relation in other words


def corrupted_solution(solution: str, rng: random.Random) -> str:
    """The solution with the same final answer and one wrong step: a relation of it is turned round.

    "force = mass × acceleration = 3 kg × 4 m/s² = 12 N" becomes "force = mass ÷ acceleration = 3 kg
    ÷ 4 m/s² = 12 N". Raises ValueError if no line of the solution has a relation.
    """
    lines = solution.split("\n")

    def turned(line):  # all but its result
        work, equals, result = line.rpartition(" = ")
        return work.translate(_WRONG) + equals + result

    if factors := [i for i, line in enumerate(lines) if line.startswith("factor = ")]:
        wrong = {
            0: lines[0].translate(_WRONG),
            factors[0]: turned(lines[factors[0]]),
        }  # a comparison: both go together
    else:
        steps = [i for i, line in enumerate(lines) if turned(line) != line]
        wrong = {i: turned(lines[i]) for i in rng.sample(steps, min(1, len(steps)))}
    if not any(wrong[i] != lines[i] for i in wrong):
        raise ValueError(
            f"solution: expected a line with a relation, such as 'a = b × c = 12', got {solution[:60]!r}"
        )
    return "\n".join(wrong.get(i, line) for i, line in enumerate(lines))


def noisy_rubric(rubric: Rubric, rng: random.Random) -> Rubric:
    """The rubric with one of its key relations, and the check for it, turned round.

    Raises ValueError if no criterion of the rubric states a relation.
    """
    keys = [c for c in rubric.criteria if key_relations(Rubric((c,)))]
    if not keys:
        raise ValueError(
            "rubric: expected a criterion that states a relation, such as 'Essential: uses a = b × c'"
        )
    key = rng.choice(keys)
    wrong = replace(
        key, description=key.description.translate(_WRONG), check=key.check.translate(_WRONG)
    )
    return Rubric(tuple(wrong if c is key else c for c in rubric.criteria))


def reduced_rubric(rubric: Rubric, rng: random.Random) -> Rubric:
    """The rubric with half of its criteria, drawn by chance (of five two stay, of one that one)."""
    count = len(rubric.criteria)
    stay = set(rng.sample(range(count), max(1, count // 2)))
    return Rubric(tuple(c for i, c in enumerate(rubric.criteria) if i in stay))


def shuffled_rubrics(examples: list[Example], rng: random.Random) -> list[Rubric]:
    """For each example the rubric of another one. Raises ValueError for fewer than two examples."""
    if len(examples) < 2:
        raise ValueError(f"shuffled rubrics: expected at least 2 questions, got {len(examples)}")
    order = rng.sample(range(len(examples)), len(examples))
    other = dict(zip(order, order[1:] + order[:1]))  # a circle: nobody comes before himself
    return [examples[other[i]].rubric for i in range(len(examples))]


CORRUPTIONS = ("solution", "noisy", "reduced", "shuffled")


def corrupt(examples: list[Example], what: str, rate: float, seed: int) -> list[Example]:
    """The examples with this share (0 to 1) of their solutions or rubrics made corrupted; `what` is
    one of CORRUPTIONS.

    Whether an example is chosen depends on its id and the seed alone, so a higher rate only adds to
    a lower one's. Raises ValueError for another `what`, a rate out of range, or a chosen example
    that cannot be made so.
    """
    if what not in CORRUPTIONS:
        raise ValueError(f"corrupt: expected one of {', '.join(CORRUPTIONS)}, got {what!r}")
    if not 0 <= rate <= 1:
        raise ValueError(f"corrupt: expected a rate from 0 to 1, got {rate}")
    shuffled = what == "shuffled" and shuffled_rubrics(examples, random.Random(f"shuffled {seed}"))
    made = []
    for i, e in enumerate(examples):
        rng = random.Random(f"{what} {seed} {e.id}")
        if rng.random() >= rate:
            made.append(e)
        elif what == "solution":
            made.append(replace(e, solution=corrupted_solution(e.solution, rng)))
        elif what == "shuffled":
            made.append(replace(e, rubric=shuffled[i]))
        else:
            made.append(
                replace(
                    e, rubric=(noisy_rubric if what == "noisy" else reduced_rubric)(e.rubric, rng)
                )
            )
    return made


RUBRICS = ("learned", "reference", "generic", "noisy", "reduced", "shuffled")


def choose_rubrics(
    source: str, examples: list[Example], learned: Path, rate: float, seed: int
) -> dict[str, Rubric]:
    """The rubric that the stage II teacher sees, by question id.

    `source` is one of RUBRICS, `learned` the file that stage I wrote; `rate` and `seed` are those
    of `corrupt`.
    """
    if source == "generic":
        return {e.id: GENERIC for e in examples}
    if source == "learned":
        return learned_rubrics(learned, examples)
    if poor := [e.id for e in examples if not e.rubric]:
        raise ValueError(
            f"--rubrics {source}: question {poor[0]} and {len(poor) - 1} more have no reference "
            "rubric"
        )
    if source != "reference":  # noisy, reduced, shuffled
        examples = corrupt(examples, source, rate, seed)
    return {e.id: e.rubric for e in examples}


def learned_rubrics(path: Path, examples: list[Example]) -> dict[str, Rubric]:
    """What stage I wrote, by question id. Raises ValueError if it lacks a question."""
    if not path.exists():
        raise ValueError(
            f"{path}: no learned rubrics; run stage1 first, or pass --rubrics reference"
        )
    with open(path, encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    rubrics = {row["id"]: usable_rubric(row) for row in rows}
    if missing := [e.id for e in examples if e.id not in rubrics]:
        raise ValueError(
            f"{path}: no rubric for question {missing[0]} and {len(missing) - 1} more; "
            "run stage1 on this data"
        )
    return rubrics
