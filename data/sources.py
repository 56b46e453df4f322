"""What a teacher reads: reference, learned or corrupted rubrics, and corrupted solutions.

A corrupted solution has the right final answer and a wrong step. A rubric can be noisy (it states a
wrong relation or link), reduced (half of its criteria) or shuffled (another question's rubric).
"""

import random
from dataclasses import replace
from pathlib import Path

from data import reading
from data.statements import turned
from rubrics import GENERIC, Example, Rubric, key_relations, usable_rubric

# Swap every operation with its inverse: the result never is the right relation in other words.
_INVERSE = str.maketrans("×÷+−", "÷×−+")


def corrupted_solution(solution: str, rng: random.Random) -> str:
    """The solution with the same final answer and one wrong step.

    The step has the inverse operation in its relation and work, on every line that has them:
    "force = mass × acceleration = 3 kg × 4 m/s² = 12 N" becomes "force = mass ÷ acceleration =
    3 kg ÷ 4 m/s² = 12 N". A cause with its effect has the effect turned round. Raises ValueError if
    no line of the solution has a relation.
    """
    lines = solution.split("\n")
    factor_lines = [i for i, line in enumerate(lines) if line.startswith("factor = ")]
    wrong = list(lines)
    if factor_lines:  # a comparison: its relation, on the first line, and its work must agree
        wrong[0] = lines[0].translate(_INVERSE)
        wrong[factor_lines[0]] = _with_wrong_work(lines[factor_lines[0]])
    else:
        steps = [line.split(" = ")[0] for line in lines if _with_wrong_work(line) != line]
        for step in rng.sample(sorted(set(steps)), min(1, len(steps))):
            # A relation may stand on two lines, which must agree.
            wrong = [_with_wrong_work(x) if x.split(" = ")[0] == step else x for x in lines]
    if wrong == lines:
        raise ValueError(
            "solution: expected a line with a relation, such as 'a = b × c = 12', "
            f"got {solution[:60]!r}"
        )
    return "\n".join(wrong)


def _with_wrong_work(line: str) -> str:
    """The line with every operation replaced by its inverse, and the same result.

    In a line about a cause and its effect, the effect is turned round.
    """
    if turned(line) != line:
        return turned(line)
    if line.count(" = ") == 1:  # a relation alone: a datum is missing, or two steps begin with it
        return line.translate(_INVERSE)
    work, equals, result = line.rpartition(" = ")
    return work.translate(_INVERSE) + equals + result


def noisy_rubric(rubric: Rubric, rng: random.Random) -> Rubric:
    """The rubric with one wrong key relation or link: it is inverted, in the check too.

    Raises ValueError if no criterion of the rubric states a relation.
    """
    keys = [c for c in rubric.criteria if key_relations(Rubric((c,)))]
    if not keys:
        raise ValueError(
            "rubric: expected a criterion that states a relation, "
            "such as 'Essential: uses a = b × c'"
        )
    key = rng.choice(keys)
    texts = key.description, key.check
    if turned(key.description) != key.description:
        description, check = map(turned, texts)
    else:
        description, check = (text.translate(_INVERSE) for text in texts)
    wrong = replace(key, description=description, check=check)
    return Rubric(tuple(wrong if c is key else c for c in rubric.criteria))


def reduced_rubric(rubric: Rubric, rng: random.Random) -> Rubric:
    """The rubric with half of its criteria, drawn by chance: two of five, but at least one."""
    count = len(rubric.criteria)
    stay = set(rng.sample(range(count), max(1, count // 2)))
    return Rubric(tuple(c for i, c in enumerate(rubric.criteria) if i in stay))


def shuffled_rubrics(examples: list[Example], rng: random.Random) -> list[Rubric]:
    """For each example the rubric of another example.

    Raises ValueError for fewer than two examples.
    """
    if len(examples) < 2:
        raise ValueError(f"shuffled rubrics: expected at least 2 questions, got {len(examples)}")
    order = rng.sample(range(len(examples)), len(examples))
    # Each example takes the rubric of the next in a circle, so none keeps its own.
    other = dict(zip(order, order[1:] + order[:1]))
    return [examples[other[i]].rubric for i in range(len(examples))]


CORRUPTIONS = ("solution", "noisy", "reduced", "shuffled")


def corrupt(examples: list[Example], what: str, rate: float, seed: int) -> list[Example]:
    """The examples with a share of their solutions or rubrics corrupted.

    `what` is one of CORRUPTIONS, `rate` the share (0 to 1). Only the id and the seed decide whether
    an example is chosen, so a higher rate adds examples and keeps those of a lower rate. Raises
    ValueError for another `what`, a rate out of range, or an example that cannot be corrupted.
    """
    if what not in CORRUPTIONS:
        raise ValueError(f"corrupt: expected one of {', '.join(CORRUPTIONS)}, got {what!r}")
    if not 0 <= rate <= 1:
        raise ValueError(f"corrupt: expected a rate from 0 to 1, got {rate}")
    shuffled = []
    if what == "shuffled":
        shuffled = shuffled_rubrics(examples, random.Random(f"shuffled {seed}"))
    made = []
    for i, e in enumerate(examples):
        rng = random.Random(f"{what} {seed} {e.id}")
        if rng.random() >= rate:
            made.append(e)
        elif what == "solution":
            made.append(replace(e, solution=corrupted_solution(e.solution, rng)))
        elif what == "noisy":
            made.append(replace(e, rubric=noisy_rubric(e.rubric, rng)))
        elif what == "reduced":
            made.append(replace(e, rubric=reduced_rubric(e.rubric, rng)))
        else:
            made.append(replace(e, rubric=shuffled[i]))
    return made


RUBRICS = ("learned", "reference", "generic", "noisy", "reduced", "shuffled")


def choose_rubrics(
    source: str,
    examples: list[Example],
    learned: Path,
    rate: float,
    seed: int,
    writer: str | None = None,
) -> dict[str, Rubric]:
    """The rubrics that the teacher of stage II sees: {question id: rubric}.

    `source` is one of RUBRICS. `learned` is the file that stage I wrote and `writer` the digest of
    its model, if that is known. `rate` and `seed` go to `corrupt`.
    Raises ValueError if a question has no such rubric.
    """
    if source == "generic":
        return {e.id: GENERIC for e in examples}
    if source == "learned":
        return learned_rubrics(learned, examples, writer)
    without = [e.id for e in examples if not e.rubric]
    if without:
        raise ValueError(
            f"--rubrics {source}: question {without[0]} and {len(without) - 1} more have no "
            "reference rubric"
        )
    if source != "reference":  # noisy, reduced, shuffled
        examples = corrupt(examples, source, rate, seed)
    return {e.id: e.rubric for e in examples}


def learned_rubrics(
    path: Path, examples: list[Example], writer: str | None = None
) -> dict[str, Rubric]:
    """The rubrics that stage I wrote: {question id: rubric}. They are found by the question's text.

    An invalid one becomes GENERIC. Raises ValueError if the file is missing, lacks a question, is
    not by this `writer`, or has no valid rubric for any of the questions.
    """
    if not path.exists():
        raise ValueError(
            f"{path}: no learned rubrics; run stage1 first, or pass --rubrics reference"
        )
    rubrics, problems = {}, {}
    for row in read_rows(path):
        if writer is not None and row.get("writer") != writer:
            raise ValueError(f"{path} was not written by the stage1.pt beside it: run stage1 again")
        try:
            rubrics[row["question"]] = usable_rubric(row)
        except ValueError as error:
            raise ValueError(f"{path}: rubric of {row['id']}: {error}; run stage1 again") from None
        problems[row["question"]] = row["problem"]
    missing = [e.id for e in examples if e.question not in rubrics]
    if missing:
        raise ValueError(
            f"{path}: no rubric for question {missing[0]} and {len(missing) - 1} more; "
            "run stage1 on this data"
        )
    if examples and all(problems[e.question] for e in examples):
        raise ValueError(
            f"{path}: none of the {len(examples)} learned rubrics is valid (the first: "
            f"{problems[examples[0].question]}), so nothing is left to teach; train stage 0 and "
            "stage I for more steps, or pass --rubrics reference"
        )
    return {e.id: rubrics[e.question] for e in examples}


def describe_rubrics(source: str, rubrics: dict[str, Rubric]) -> str:
    """In words: `source`, and how many learned ones had to be replaced."""
    replaced = sum(rubric is GENERIC for rubric in rubrics.values())
    if source != "learned" or not replaced:
        return f"{len(rubrics)} {source}"
    return f"{len(rubrics) - replaced} learned, {replaced} invalid and replaced by the generic one"


TEXT = (reading.is_text, "a text; run stage1 again")
WRITTEN = dict.fromkeys(("id", "question", "text", "problem"), TEXT)


def read_rows(path: Path) -> list[dict]:
    """The rows of a file that stage I wrote. Raises ValueError with file, line and field."""
    return reading.read_rows(path, WRITTEN)


def rubrics_file_matches(path: Path, examples: list[Example], writer: str) -> bool:
    """Whether a file of rubrics is whole, by this writer, and for these questions in their order."""
    try:
        rows = read_rows(path)
    except ValueError:
        return False
    asked = [row["question"] for row in rows] == [e.question for e in examples]
    return asked and all(row.get("writer") == writer for row in rows)
