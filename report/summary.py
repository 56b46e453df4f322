"""A run in one sentence: what the student could do before and after, and what it forgot.

All is net: a student that forgets two answers and finds one more has lost one.
"""

from report.curves import spread

SUBJECTS = ("laws", "links")


def measured(run: dict, model: str, groups: list[str]) -> float | None:
    """Right answers to the questions of the groups, in %; None if results.json has none of them."""
    counts = {g: run["questions"].get(g, 0) for g in groups}
    if not sum(counts.values()):
        return None
    right = sum(run["accuracy"][model][g] * n for g, n in counts.items() if n)
    return 100 * right / sum(counts.values())


def summary(runs: list[dict]) -> str:
    """The sentence about the results.json of one or several runs, in means over these.

    It is empty if a run has no question about what is new.
    """

    def means(*groups: str) -> tuple[float, float] | None:
        """Of base and student; None if a run lacks the groups."""
        found = [[measured(run, model, groups) for run in runs] for model in ("base", "student")]
        return None if None in found[0] else tuple(spread(values)[0] for values in found)

    new = {subject: means(f"new {subject}") for subject in SUBJECTS}
    new = {subject: pair for subject, pair in new.items() if pair}
    if not new:
        return ""
    before, after, of = [], [], " of 100 questions"
    for subject, pair in new.items():
        before.append(f"{pair[0]:.0f}{of} about new {subject}")
        after.append(f"{pair[1]:.0f}")
        of = ""
    start = f"In the mean of {len(runs)} runs, before" if len(runs) > 1 else "Before"
    text = f"{start}, the student answered {' and '.join(before)}; "
    text += f"after stage II it answers {' and '.join(after)}, without a rubric"
    if pair := means(*(f"known {subject}" for subject in SUBJECTS)):
        lost = round(pair[0] - pair[1])
        change = f"lost {lost}" if lost > 0 else f"gained {-lost}" if lost else "lost none"
        text += f"; of 100 known ones it {change}"
    return f"{text}."


def values_of(rows: list[dict], measure: str) -> dict[str, float]:
    """{question id: value} of the rows that have the measure."""
    return {row["id"]: float(row[measure]) for row in rows if row.get(measure) is not None}


def own_summary(answers: dict[str, list[dict]]) -> str:
    """The sentence about one's own held-out questions, from the rows of base and student.

    Of right answers, or of the divergence where fewer than half as many questions have a right
    answer; each on the questions that both have. Empty if there is neither.
    """
    pairs = {}
    for measure in ("right", "divergence"):
        before, after = (values_of(answers[name], measure) for name in ("base", "student"))
        pairs[measure] = [(before[id], after[id]) for id in before if id in after]
    right, diverging = pairs["right"], pairs["divergence"]
    if right and 2 * len(right) >= len(diverging):
        first, last = map(sum, zip(*right))
        return (
            f"Before, the student answered {first:.0f} of {len(right)} held-out questions; "
            f"after stage II it answers {last:.0f}, without a rubric."
        )
    if not diverging:
        return ""
    n = len(diverging)
    first, last = map(sum, zip(*diverging))
    return (
        f"Before, the student's answers to {n} held-out questions diverged from the teacher "
        f"that reads the rubric by {first / n:.3f} nats a token; after stage II its answers "
        f"diverge by {last / n:.3f}."
    )
