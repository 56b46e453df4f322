"""Rubrics side by side: the criteria that say the same in one row, and those that are wrong."""

import re
from collections import defaultdict
from dataclasses import replace

from data.grammar import canonical, states
from data.statements import claims_of
from report.explain import Run
from rubrics import SAYS, VERBS, Criterion, Example, Rubric, parse_rubric, satisfied
from step import write_rubrics

_CHECKS = (  # what an unchecked criterion says, and the check that a solution must then pass
    (rf"(?:{'|'.join(VERBS)})(.* = .*)", r"states \1"),
    (r"says what the (.*) does", r"shows \1"),
    (r"gives the answer (?:in )?(.*)", r"unit \1"),
    (r"does not divide (.*) by (.*)", r"avoids \1 ÷ \2"),
    (r"does not multiply (.*) by (.*)", r"avoids \1 × \2"),
    (r"does not add (.*) to (.*)", r"avoids \2 + \1"),
    (r"converts ([−\d].*) to .*", r"shows = \1"),
    (r"says by what factor it changes", "unit times"),
)


def statement(criterion: Criterion) -> str:
    """What a criterion demands: its description without the category."""
    return criterion.description.partition(": ")[2]


def is_wrong(criterion: Criterion, solution: str) -> bool:
    """Whether the reference solution fails the criterion; False if no program can tell."""
    words = statement(criterion)
    for verb in SAYS:
        if words.startswith(verb) and claims_of(words.removeprefix(verb)):
            return not states(solution, words.removeprefix(verb))
    for pattern, check in _CHECKS:
        match = re.fullmatch(pattern, words)
        if match and not satisfied(replace(criterion, check=match.expand(check)), solution):
            return True
    return False


def meaning(criterion: Criterion) -> tuple:
    """A key that is equal for criteria that say the same.

    Relations are equal up to the order of factors, causes with their effects in whatever words,
    other criteria up to the order of words.
    """
    words = statement(criterion)
    for verb in dict.fromkeys(VERBS + SAYS):
        if words.startswith(verb):
            said = words.removeprefix(verb)
            if meant := canonical(said) or tuple(sorted(claims_of(said))):
                return meant
            break
    return (criterion.category, *sorted(re.findall(r"[^\s,]+", words)))


def aligned(rubrics: dict[str, Rubric | None], solution: str) -> list[dict]:
    """The criteria of several rubrics, those with the same meaning in one row.

    A row is {name: {"weight", "text", "wrong"}} by the names of `rubrics`. None stands for an
    invalid rubric.
    """
    rows = defaultdict(dict)
    for name, rubric in rubrics.items():
        for criterion in rubric.criteria if rubric else ():
            key = meaning(criterion)
            while name in rows[key]:  # one rubric says the same twice: another row
                key = (key, "again")
            rows[key][name] = {
                "weight": criterion.weight,
                "text": criterion.description,
                "wrong": is_wrong(criterion, solution),
            }
    return list(rows.values())


def stage1_panel(run: Run, examples: list[Example]) -> list[dict]:
    """For each question its reference rubric and the rubrics that base and stage I write."""
    by_base = write_rubrics(run.base, run.tokenizer, examples, run.settings)
    by_writer = write_rubrics(run.writer, run.tokenizer, examples, run.settings)
    panel = []
    for example, base_row, writer_row in zip(examples, by_base, by_writer):
        rubrics, problems = {"reference": example.rubric}, {}
        for name, row in (("base", base_row), ("stage I", writer_row)):
            problems[name] = row["problem"]
            rubrics[name] = None if row["problem"] else parse_rubric(row["text"])
        rows = aligned(rubrics, example.solution)
        panel.append({"question": example.question, "problems": problems, "rows": rows})
    return panel
