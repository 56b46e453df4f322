"""Rubrics: what they are, what they look like in a prompt, how they are parsed and graded.

A rubric is a list of weighted criteria for a good answer (RCSD, arXiv 2606.19327; Rubrics as
Rewards, 2507.17746). This file speaks only text: no tensors, no torch. In order: the records, the
prompts, parsing a sampled rubric, and the machine grader, which reads an answer by the grammar of
data/grammar.py.
"""

import json
import re
from dataclasses import dataclass, field

from data.grammar import (
    answer_line,
    canonical,
    chosen,
    correct,
    final_answer,
    has_unit,
    missing_datum,
    shows,
    states,
    uses,
)
from data.statements import ANSWERS, answered, claims_of

CATEGORIES = ("Essential", "Important", "Optional", "Pitfall")
_DESCRIPTION = re.compile(rf"({'|'.join(CATEGORIES)}): \S")


# -------------------------------------------------------------------------------------- the records
@dataclass(frozen=True)
class Criterion:
    """One line of a rubric.

    `description` opens with its category ("Essential: uses force = mass × acceleration"); `weight`
    is positive for what a good answer has and negative for a pitfall; `check` is a predicate that
    `satisfied` can run, or "". Raises ValueError for an empty description, a weight that is 0 or
    not a finite number, or a check that cannot run.
    """

    title: str
    description: str
    weight: float
    check: str = ""

    def __post_init__(self):
        if not isinstance(self.description, str) or not self.description.strip():
            raise ValueError("criterion: description must be a non-empty string")
        weight = self.weight
        is_number = isinstance(weight, (int, float)) and not isinstance(weight, bool)
        if not is_number or not abs(weight) < float("inf"):
            raise ValueError(f"criterion: weight must be a finite number, got {weight!r}")
        if weight == 0:
            raise ValueError("criterion: weight must not be 0, such a criterion says nothing")
        kind, _, wanted = self.check.partition(" ")
        if self.check and kind not in CHECKS:
            raise ValueError(
                f"criterion: unknown check {self.check!r}, expected one of {', '.join(CHECKS)}"
            )
        no_relation = kind == "states" and canonical(wanted) is None and not claims_of(wanted)
        no_text = kind in ("avoids", "shows") and not wanted
        no_answer = kind == "answer" and not correct(f"Answer: {wanted}", wanted)
        if no_relation or no_text or no_answer:
            raise ValueError(f"criterion: check {self.check!r} does not say what it looks for")

    @property
    def category(self) -> str:
        """Essential, Important, Optional or Pitfall: from the description, else from the weight."""
        if match := _DESCRIPTION.match(self.description):
            return match[1]
        return "Pitfall" if self.weight < 0 else "Essential" if self.weight >= 4 else "Important"


@dataclass(frozen=True)
class Rubric:
    """An ordered list of criteria. Raises ValueError if it is empty."""

    criteria: tuple[Criterion, ...]

    def __post_init__(self):
        if not self.criteria:
            raise ValueError("rubric: expected at least one criterion")

    def text(self) -> str:
        """What a model reads and writes: "weight description", one criterion a line."""
        return "\n".join(f"{c.weight:g} {c.description}" for c in self.criteria)

    def score(self, verdicts: list[bool], rule: str = "rar") -> float:
        """The score of one verdict for each criterion.

        A verdict says "this is good": met, or a pitfall avoided.

        rule="rar": sum of |w| over good verdicts / sum of |w|, in [0, 1] (Rubrics as Rewards).
        rule="healthbench": (sum of positive w that are met + sum of negative w whose pitfall is
        present) / sum of positive w. At most 1, may be negative: average over questions first, then
        clip to [0, 1]. Raises ValueError if the counts differ or if "healthbench" finds no positive
        weight.
        """
        if len(verdicts) != len(self.criteria):
            raise ValueError(f"rubric: {len(self.criteria)} criteria but {len(verdicts)} verdicts")
        weights = [c.weight for c in self.criteria]
        if rule == "rar":
            earned = sum(abs(w) for w, good in zip(weights, verdicts) if good)
            return earned / sum(abs(w) for w in weights)
        if rule == "healthbench":
            positive = sum(w for w in weights if w > 0)
            if not positive:
                raise ValueError("rubric: the HealthBench rule needs a positive weight")
            return sum(w for w, good in zip(weights, verdicts) if good == (w > 0)) / positive
        raise ValueError(f"rubric: unknown score rule {rule!r}, expected rar or healthbench")


@dataclass(frozen=True)
class Example:
    """One question with what is known about it; only the question is always there."""

    id: str
    question: str
    answer: str = ""
    solution: str = ""
    rubric: Rubric | None = None
    meta: dict = field(default_factory=dict)
    hint: str = ""
    """Any other text that a teacher may see: a critique, feedback, the output of a tool."""

    def content(self) -> str:
        """What can be learned from it, wherever it stands and whatever its id."""
        rubric = self.rubric.text() if self.rubric else ""
        hint = [self.hint] if self.hint else []
        return json.dumps([self.question, self.answer, self.solution, rubric, *hint])

    def to_json(self) -> str:
        """Its line in a data file."""
        row = {
            "id": self.id,
            "question": self.question,
            "answer": self.answer,
            "solution": self.solution,
            "rubric": [vars(c) for c in self.rubric.criteria] if self.rubric else [],
            "meta": self.meta,
        }
        if self.hint:
            row["teacher_prompt"] = self.hint
        return json.dumps(row, ensure_ascii=False)


# -------------------------------------------------------------------------------------- the prompts
Sections = list[tuple[str, str]]  # a prompt before it is encoded: (section, text) pairs

TEACHER_CONTEXTS = {  # what a stage II teacher may see beside the question
    "nothing": (),
    "rubric": ("rubric",),
    "answer": ("answer",),
    "rubric+answer": ("rubric", "answer"),
    "solution": ("solution",),
    "hint": ("hint",),
}


def prompt(
    question: str,
    *,
    rubric: Rubric | None = None,
    answer: str = "",
    solution: str = "",
    hint: str = "",
    task: str = "solve",
) -> Sections:
    """Every prompt of the project, as (section, text) pairs. For the project's own tokenizer a
    section's name is a special token (a hint takes the solution's).

    The student's prompt is the question alone. A teacher's has one or two sections more.
    `task` says what the completion is: "solve" (an answer, stage II) or "write_rubric" (a rubric,
    stage I). The last section is empty: the completion fills it. Student and teacher prompts end
    alike, so the same completion ids follow both.
    """
    sections = [("question", question)]
    if rubric is not None:
        sections.append(("rubric", rubric.text()))
    if answer:
        sections.append(("answer", answer))
    if solution:
        sections.append(("solution", solution))
    if hint:
        sections.append(("hint", hint))
    return sections + [(task, "")]


def writer_prompt(example: Example, rubric: Rubric | None = None) -> Sections:
    """Stage I's prompts, to write a rubric: its teacher sees the reference rubric."""
    return prompt(example.question, rubric=rubric, task="write_rubric")


def missing(example: Example, context: str, rubric: Rubric | None) -> list[str]:
    """What `context` names and the example lacks."""
    shown = {name: getattr(example, name) for name in ("answer", "solution", "hint")}
    shown["rubric"] = rubric
    return [name for name in TEACHER_CONTEXTS[context] if not shown[name]]


def teacher_prompt(example: Example, context: str, rubric: Rubric | None) -> Sections:
    """The stage II teacher's prompt: the question and what `context` names.

    `context` is a key of TEACHER_CONTEXTS; `rubric` is the one that this run teaches from.
    Raises ValueError when the example lacks what the teacher should see.
    """
    if lacks := missing(example, context, rubric):
        raise ValueError(
            f"question {example.id}: the teacher should see its {lacks[0]}, but it has none"
        )
    names = TEACHER_CONTEXTS[context]
    texts = {name: getattr(example, name) for name in names if name != "rubric"}
    return prompt(example.question, rubric=rubric if "rubric" in names else None, **texts)


def analysis_prompt(teacher: Sections) -> Sections:
    """The teacher's prompt with another task: an analysis of what a good answer has."""
    return [*teacher[:-1], ("analyse", "")]


def behind_analysis(teacher: Sections, analysis: str) -> Sections:
    """The teacher's prompt with an analysis before its task."""
    return [*teacher[:-1], ("analysis", analysis), *teacher[-1:]]


def judge_prompt(question: str, answer: str, criterion: Criterion) -> Sections:
    """Ask a judge whether an answer does what one criterion asks, yes or no."""
    line = Rubric((criterion,)).text()
    return [("question", question), ("reply", answer), ("criterion", line), ("judge", "")]


# ------------------------------------------------------------------------- parsing a sampled rubric
_LINE = re.compile(rf"(-?\d+(?:\.\d+)?) (({'|'.join(CATEGORIES)}): \S.*)")


@dataclass(frozen=True)
class RubricForm:
    """What a valid rubric must be, beside lines that parse: as strict as the references allow."""

    most: int = 25
    """Most criteria."""
    has_essential: bool = True
    """At least one criterion is Essential."""
    signs_fit: bool = True
    """Pitfalls have negative weights, all others positive ones."""


ANY_FORM = RubricForm(10**6, False, False)


def form_of(references: list[Rubric]) -> RubricForm:
    """The strictest rule that all reference rubrics obey, so that to write like them is valid."""
    strict, criteria = RubricForm(), [c for r in references for c in r.criteria]
    return RubricForm(
        max([strict.most, *(len(r.criteria) for r in references)]),
        all(any(c.category == "Essential" for c in r.criteria) for r in references),
        all((c.weight < 0) == (c.category == "Pitfall") for c in criteria),
    )


def parse_rubric(text: str, form: RubricForm | None = None) -> Rubric:
    """Read a sampled rubric back. Strict, so that prose and broken lines count as what they are.

    Every line must be "weight Category: description", and the whole must have the form. Raises
    ValueError with the reason. A caller that cannot use the rubric counts it and falls back to
    GENERIC. No form: the strictest.
    """
    criteria, form = [], form or RubricForm()
    for number, line in enumerate(text.strip().split("\n"), 1):
        match = _LINE.fullmatch(line.strip())
        if not match:
            raise ValueError(
                f"rubric line {number}: expected 'weight Category: description', got {line[:40]!r}"
            )
        weight = float(match[1])
        weight = int(weight) if weight.is_integer() else weight
        if form.signs_fit and (weight < 0) != (match[3] == "Pitfall"):
            raise ValueError(f"rubric line {number}: weight {weight:g} does not fit {match[3]}")
        criteria.append(Criterion(match[3], match[2], weight))
    if len(criteria) > form.most:
        raise ValueError(f"rubric: {len(criteria)} criteria, expected at most {form.most}")
    if form.has_essential and not any(c.category == "Essential" for c in criteria):
        raise ValueError("rubric: no Essential criterion")
    return Rubric(tuple(criteria))


# Fits any question and says nothing about this one: a control, and the fallback.
GENERIC = Rubric(
    (
        Criterion("Result", "Essential: reaches the correct final answer", 5),
        Criterion("Reasoning", "Essential: follows from a correct relation", 4),
        Criterion("Steps", "Important: shows how the answer was found", 3),
        Criterion("Units", "Important: gives the answer in the right unit", 3),
        Criterion("Form", "Optional: is short and clear", 1),
        Criterion(
            "Unsupported", "Pitfall: does not state things that the question does not support", -2
        ),
    )
)


def usable_rubric(row: dict) -> Rubric:
    """A sampled rubric {"text", "problem"} for a teacher; an invalid one becomes GENERIC."""
    return GENERIC if row["problem"] else parse_rubric(row["text"], ANY_FORM)


def rubric_problem(text: str, truncated: bool, form: RubricForm | None = None) -> str:
    """Why a sampled rubric cannot be used, or ""."""
    try:
        parse_rubric(text, form)
    except ValueError as error:
        return str(error)
    return "cut at the length limit" if truncated else ""


# One of these opens each Essential criterion of the project's data, before its relation.
VERBS = ("uses ", "states that ", "starts from ", "is based on ")
SAYS = ("says that ", "states that ", "explains that ", "shows that ")  # before a cause and effect


def key_relations(rubric: Rubric) -> set[tuple]:
    """The relations and links that the Essential criteria demand: what a teacher can learn."""
    keys = set()
    for criterion in rubric.criteria:
        body = criterion.description.partition(": ")[2]
        for verb in dict.fromkeys(VERBS + SAYS):
            if criterion.category == "Essential" and body.startswith(verb):
                said = body.removeprefix(verb)
                keys.update(claims_of(said) or {canonical(said)})
    return keys - {None}


# ------------------------------------------------------------------------------- the machine grader
CHECKS = ("states", "avoids", "shows", "unit", "answer-line", "no-value", "answer")


def satisfied(criterion: Criterion, completion: str) -> bool:
    """Run the criterion's check on a completion; True is good (for a pitfall: avoided).

    "states R": a line opens with relation R, in any form. "avoids T": no line uses the operation T.
    "shows T; U": the quantities T and U occur. "unit U": the final answer is in U. "answer-line":
    the last line is the answer. "no-value": the final answer is no quantity. "answer A": the final
    answer has the value A. data/grader_cases.md has cases of each. Raises ValueError for a criterion
    without a check.
    """
    kind, _, wanted = criterion.check.partition(" ")
    if kind == "states":
        return states(completion, wanted)
    if kind == "avoids":
        return not uses(completion, wanted)
    if kind == "shows":
        return shows(completion, wanted)
    if kind == "unit":
        return has_unit(completion, wanted)
    if kind == "answer-line":
        last = completion.strip().split("\n")[-1]
        is_answer = answer_line(last) is not None or missing_datum(last) is not None
        return is_answer or answered(last) in ANSWERS
    if kind == "no-value":
        return final_answer(completion) is None
    if kind == "answer":
        return correct(completion, wanted)
    raise ValueError(f"criterion {criterion.description!r} has no check that a program can run")


def grading_rubric(example: Example) -> Rubric:
    """The example's rubric, and a criterion that no model reads: the final answer is right.

    Without it a wrong answer whose steps look right would have the full score. An answer that no
    program can check is left to the rubric.
    """
    if not correct(f"Answer: {example.answer}", example.answer):
        return example.rubric
    text, check = "Essential: reaches the correct final answer", f"answer {example.answer}"
    return Rubric((*example.rubric.criteria, Criterion("Answer", text, 5, check)))


def grade(example: Example, completion: str, rule: str = "rar") -> float:
    """Score of a completion under the example's rubric, whose criteria all have checks."""
    rubric = grading_rubric(example)
    return rubric.score([satisfied(c, completion) for c in rubric.criteria], rule)


def can_check(example: Example) -> bool:
    """Whether a program can tell a right answer to it: the reference itself must count as right."""
    return has_answer(example, f"Answer: {example.answer}")


def is_right(example: Example, completion: str) -> bool:
    """Whether the final answer is the reference's; a direction can be guessed, so an explanation
    must give all its reasons too."""
    right = has_answer(example, completion)
    if not right or example.answer.lower() not in ANSWERS:
        return right
    criteria = example.rubric.criteria if example.rubric else ()
    reasons = [c for c in criteria if c.category == "Essential" and c.check]
    return all(satisfied(c, completion) for c in reasons)


def has_answer(example: Example, completion: str) -> bool:
    """Whether the final answer is the reference's: its value and unit, letter, text or direction."""
    if "letter" not in example.meta:
        return correct(completion, example.answer)
    return chosen(completion, example.answer) in (example.meta["letter"].upper(), example.answer)
