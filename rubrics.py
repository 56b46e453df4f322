"""Rubrics: what they are, what they look like in a prompt, how they are parsed, graded and loaded.

A rubric is a list of weighted criteria for a good answer (RCSD, arXiv 2606.19327; Rubrics as Rewards, 2507.17746).
This file speaks only text: no tensors, no torch. In order: the records, the prompts, parsing a sampled rubric,
the machine grader, and the loader for rubric data of the real world.
"""
import json
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

CATEGORIES = ("Essential", "Important", "Optional", "Pitfall")
_DESCRIPTION = re.compile(rf"({'|'.join(CATEGORIES)}): \S")


# ---------------------------------------------------------------------------------------------------- the records
@dataclass(frozen=True)
class Criterion:
    """One line of a rubric.

    `description` opens with its category ("Essential: uses force = mass × acceleration"); `weight` is positive for
    what a good answer has and negative for a pitfall; `check` is a predicate that `satisfied` can run, or "".
    Raises ValueError for an empty description, a weight that is 0 or not a finite number, or a check that cannot run.
    """
    title: str
    description: str
    weight: float
    check: str = ""

    def __post_init__(self):
        if not isinstance(self.description, str) or not self.description.strip():
            raise ValueError("criterion: description must be a non-empty string")
        weight = self.weight
        if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not abs(weight) < float("inf"):
            raise ValueError(f"criterion: weight must be a finite number, got {weight!r}")
        if weight == 0:
            raise ValueError("criterion: weight must not be 0, such a criterion says nothing")
        kind, _, wanted = self.check.partition(" ")
        if self.check and kind not in CHECKS:
            raise ValueError(f"criterion: unknown check {self.check!r}, expected one of {', '.join(CHECKS)}")
        if (kind == "states" and canonical(wanted) is None) or (kind in ("avoids", "shows") and not wanted):
            raise ValueError(f"criterion: check {self.check!r} does not say what it looks for")

    @property
    def category(self) -> str:
        """Essential, Important, Optional or Pitfall: from the description, else from the weight (never Optional)."""
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
        """The form in which a model reads and writes it: "weight description", one criterion a line."""
        return "\n".join(f"{c.weight:g} {c.description}" for c in self.criteria)

    def score(self, verdicts: list[bool], rule: str = "rar") -> float:
        """Turn one verdict for each criterion into a score. A verdict says "this is good": met, or a pitfall avoided.

        rule="rar": sum of |w| over good verdicts / sum of |w|, in [0, 1] (Rubrics as Rewards).
        rule="healthbench": (sum of positive w that are met + sum of negative w whose pitfall is present)
        / sum of positive w. At most 1, may be negative: average over questions first, then clip to [0, 1].
        Raises ValueError if the counts differ or if "healthbench" finds no positive weight.
        """
        if len(verdicts) != len(self.criteria):
            raise ValueError(f"rubric: {len(self.criteria)} criteria but {len(verdicts)} verdicts")
        weights = [c.weight for c in self.criteria]
        if rule == "rar":
            return sum(abs(w) for w, good in zip(weights, verdicts) if good) / sum(map(abs, weights))
        if rule == "healthbench":
            if not (positive := sum(w for w in weights if w > 0)):
                raise ValueError("rubric: the HealthBench rule needs a criterion with a positive weight")
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

    def to_json(self) -> str:
        row = {"id": self.id, "question": self.question, "answer": self.answer, "solution": self.solution,
               "rubric": [vars(c) for c in self.rubric.criteria] if self.rubric else [], "meta": self.meta}
        return json.dumps(row, ensure_ascii=False)


# ---------------------------------------------------------------------------------------------------- the prompts
SEES = {  # what a Stage II teacher may see beside the question
    "nothing": (), "rubric": ("rubric",), "answer": ("answer",), "rubric+answer": ("rubric", "answer"),
    "solution": ("solution",),
}


def prompt(question: str, *, rubric: Rubric | None = None, answer: str = "", solution: str = "",
           write: str = "solve") -> list[tuple[str, str]]:
    """Every prompt of the project, as (section, text) pairs; each section name is a special token.

    The student's prompt is the question alone; a teacher's has one or two context sections more. `write` says what
    the completion is: "solve" (Stage II, an answer) or "criteria" (Stage I, a rubric). The last section is empty:
    the completion fills it. Student and teacher prompts end alike, so the same completion ids follow both.
    """
    sections = [("question", question)]
    if rubric is not None:
        sections.append(("rubric", rubric.text()))
    if answer:
        sections.append(("answer", answer))
    if solution:
        sections.append(("solution", solution))
    return sections + [(write, "")]


def teacher_prompt(example: Example, sees: str, rubric: Rubric | None) -> list[tuple[str, str]]:
    """The Stage II teacher's prompt: the question and what `sees` names (a key of SEES).

    `rubric` is the one that this run teaches from (reference, learned, ...). Raises ValueError when the example
    lacks what the teacher should see.
    """
    shown = {"rubric": rubric, "answer": example.answer, "solution": example.solution}
    for name in SEES[sees]:
        if not shown[name]:
            raise ValueError(f"question {example.id}: the teacher should see its {name}, but it has none")
    return prompt(example.question, **{name: shown[name] for name in SEES[sees]})


# ---------------------------------------------------------------------------------------- parsing a sampled rubric
_LINE = re.compile(rf"(-?\d+(?:\.\d+)?) (({'|'.join(CATEGORIES)}): \S.*)")


def parse_rubric(text: str) -> Rubric:
    """Read a sampled rubric back. Strict, so that prose and broken lines count as what they are.

    Every line must be "weight Category: description", pitfalls weigh less than 0 and all others more, there are at
    most 25 criteria and at least one is Essential. Raises ValueError with the reason. A caller that cannot use the
    rubric counts it and falls back to GENERIC.
    """
    criteria = []
    for number, line in enumerate(text.strip().split("\n"), 1):
        match = _LINE.fullmatch(line.strip())
        if not match:
            raise ValueError(f"rubric line {number}: expected 'weight Category: description', got {line[:40]!r}")
        weight = float(match[1])
        weight = int(weight) if weight.is_integer() else weight
        if (weight < 0) != (match[3] == "Pitfall"):
            raise ValueError(f"rubric line {number}: weight {weight:g} does not fit {match[3]}")
        criteria.append(Criterion(match[3], match[2], weight))
    if len(criteria) > 25:
        raise ValueError(f"rubric: {len(criteria)} criteria, expected at most 25")
    if not any(c.category == "Essential" for c in criteria):
        raise ValueError("rubric: no Essential criterion")
    return Rubric(tuple(criteria))


def canonical(relation: str) -> tuple | None:
    """A relation up to the order of factors and summands: equal for "a = b × c" and "a = c × b". None if it is none.

    Only one level is sorted: a right side with brackets, and a product within a sum, count as they are written.
    """
    left, _, right = (side.strip() for side in relation.partition(" = "))
    if not left or not right:
        return None
    if "(" in right:  # pieces that cross a bracket must not be moved
        return left, right
    do, undo = "+−" if re.search(" [+−] ", right) else "×÷"
    terms = re.split(f" ([{do}{undo}]) ", f" {do} {right}")[1:]  # operator, term, operator, term, ...
    done = sorted(term.strip() for op, term in zip(terms[::2], terms[1::2]) if op == do)
    undone = sorted(term.strip() for op, term in zip(terms[::2], terms[1::2]) if op == undo)
    return left, do, tuple(done), tuple(undone)


VERBS = ("uses ", "states that ", "starts from ", "is based on ")  # open every key criterion of the project's data


def key_relations(rubric: Rubric) -> set[tuple]:
    """The canonical relations that a rubric's Essential criteria demand: what a teacher can learn from it."""
    keys = set()
    for criterion in rubric.criteria:
        body = criterion.description.partition(": ")[2]
        for verb in VERBS:
            if criterion.category == "Essential" and body.startswith(verb):
                keys.add(canonical(body.removeprefix(verb)))
    return keys - {None}


# ---------------------------------------------------------------------------------------------- the machine grader
CHECKS = ("states", "avoids", "shows", "unit", "answer-line")
_ANSWER = re.compile(r"Answer: (-?\d+(?:\.\d+|/\d+)?)(?: (.*))?")


def final_answer(text: str) -> tuple[Fraction, str] | None:
    """(value, unit) of the last "Answer: 12 N" line, or None."""
    for line in reversed(text.split("\n")):
        if match := _ANSWER.fullmatch(line.strip()):
            try:
                return Fraction(match[1]), (match[2] or "").strip()
            except (ZeroDivisionError, ValueError):  # "1/0", or more digits than Python converts
                return None
    return None


def correct(completion: str, answer: str) -> bool:
    """Exact match of value and unit with the reference answer ("12 N"); False if that is not a number and a unit."""
    return final_answer(completion) is not None and final_answer(completion) == final_answer("Answer: " + answer)


def satisfied(criterion: Criterion, completion: str) -> bool:
    """Run the criterion's check on a completion; True is good (for a pitfall: avoided).

    "states R": a line opens with relation R, factors in any order. "avoids T": the text T does not occur.
    "shows T; U": T and U occur. "unit U": the final answer has unit U. "answer-line": the last line is the answer.
    Raises ValueError for a criterion without a check.
    """
    kind, _, wanted = criterion.check.partition(" ")
    if kind == "states":
        openings = (" = ".join(line.split(" = ")[:2]) for line in completion.split("\n"))
        return canonical(wanted) in {canonical(opening) for opening in openings}
    if kind == "avoids":
        return wanted not in completion
    if kind == "shows":
        return all(part in completion for part in wanted.split("; "))
    if kind == "unit":
        return (final_answer(completion) or (0, None))[1] == wanted
    if kind == "answer-line":
        return _ANSWER.fullmatch(completion.strip().split("\n")[-1].strip()) is not None
    raise ValueError(f"criterion {criterion.description!r} has no check that a program can run")


def grade(rubric: Rubric, completion: str, rule: str = "rar") -> float:
    """Score of a completion under a rubric whose criteria all have checks."""
    return rubric.score([satisfied(c, completion) for c in rubric.criteria], rule)


GENERIC = Rubric((  # fits any question and says nothing about this one: a control, and the fallback
    Criterion("Result", "Essential: reaches the correct final answer", 5),
    Criterion("Reasoning", "Essential: follows from a correct relation", 4),
    Criterion("Steps", "Important: shows how the answer was found", 3),
    Criterion("Units", "Important: gives the answer in the right unit", 3),
    Criterion("Form", "Optional: is short and clear", 1),
    Criterion("Unsupported", "Pitfall: does not state things that the question does not support", -2),
))


# ----------------------------------------------------------------------------------------------------- the loader
@dataclass
class Report:
    """What became of the rows of a file. str() is what a user reads; `notes` counts what is odd in the kept rows."""
    path: str
    kept: int = 0
    dropped: Counter = field(default_factory=Counter)
    notes: Counter = field(default_factory=Counter)

    def __str__(self):
        text = f"kept {self.kept} of {self.kept + self.dropped.total()} rows of {self.path}"
        for title, counts in (("; dropped: ", self.dropped), ("\nin the kept rows: ", self.notes)):
            text += (title if counts else "") + ", ".join(f"{n} {what}" for what, n in counts.most_common())
        return text


class _Odd(Exception):
    """Why one row cannot be used, in a few words that are the same from row to row, so that they can be counted."""


def load_examples(path: str | Path) -> tuple[list[Example], Report]:
    """Read a JSON Lines file of questions, with or without rubrics, in any schema below; rows may be mixed.

    our own               what Example.to_json writes; the only one with checks
    RaR                   question, reference_answer, rubric: [{title, description, weight}]
    RubricHub, RL         prompt: [{role, content}], reward_model: {ground_truth, rubrics: [{criterion, points}]}
    RubricHub, SFT        query, answer, rubrics; the answer is a full reply, so it is the solution too
    HealthBench           prompt, rubrics: [{criterion, points}], ideal_completions_data (its reply is the solution)
    ResearchQA            query, rubric: [{rubric_item, type}]
    plain QA              question, answer or reference_answer
    multiple choice       question, choices: {text, label}, answerKey, or question, distractor1..3, correct_answer,
                          support (the solution); choices join the question, the answer is the right one's text

    The id is the row's own, else "file stem:line". An odd row is dropped and counted in the report; of equal
    questions the first stays. A line that is not a JSON object, an unreadable or empty file, or one without any
    usable row raises ValueError("file:line: field: what was expected").
    """
    examples, report, seen, ids, number = [], Report(str(path)), set(), set(), 0
    try:
        with open(path, "rb") as file:  # as bytes, a line at a time: a bad byte is then blamed on its own line
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    if not isinstance(row := json.loads(line.strip().decode("utf-8-sig")), dict):
                        raise ValueError(f"got {type(row).__name__}")
                except (ValueError, RecursionError) as error:
                    reason = str(error).replace("line 1 ", "")
                    raise ValueError(f"{path}:{number}: line: expected a JSON object in UTF-8: {reason}") from None
                notes = Counter()
                try:
                    example = _example(row, f"{Path(path).stem}:{number}", notes)
                    if example.question in seen:
                        raise _Odd("duplicate question")
                except _Odd as odd:
                    report.dropped[str(odd)] += 1
                    continue
                if example.id in ids:  # rubrics are kept by id: a second one must not take the first one's
                    notes["ids given twice, replaced"] += 1
                    example = replace(example, id=f"{Path(path).stem}:{number}")
                seen.add(example.question)
                ids.add(example.id)
                examples.append(example)
                report.kept += 1
                report.notes += notes
    except OSError as error:
        raise ValueError(f"{path}:0: file: expected a file that can be read: {error.strerror}") from None
    if not examples:
        raise ValueError(f"{path}:{number}: row: expected at least one usable row, but {report}")
    return examples, report


_OWN = {"id", "question", "answer", "solution", "rubric", "meta"}
_PROMISE = {"rubric", "rubrics", "Rubrics", "rubric_list", "rubric_count", "question_source", "reward_model", "prompt",
            "query"}  # fields of the schemas with rubrics: a row that has one of them should have a rubric


def _example(row: dict, default_id: str, notes: Counter) -> Example:
    """One row of any schema as an Example. Raises _Odd if it cannot be used; adds to `notes` what is odd in it."""
    own, get = row.keys() >= _OWN, row.get
    reward, ideal, choices, meta = (value if isinstance(value, dict) else {} for value in (
        get("reward_model"), get("ideal_completions_data"), get("choices"), get("meta")))
    question = _text("question", get("question"), get("query")) or _turns(get("prompt"))
    if not question:
        raise _Odd("empty question")
    answer = _text("answer", get("answer"), get("reference_answer"), get("correct_answer"), reward.get("ground_truth"))
    solution = _text("solution", get("solution"), get("support"), ideal.get("ideal_completion"),
                     answer if "query" in row else "")
    if "answerKey" in row:
        texts, labels = choices.get("text"), choices.get("label")
        if not isinstance(texts, list) or not isinstance(labels, list) or len(texts) != len(labels):
            raise _Odd("choices are not {text: [...], label: [...]}")
        options = {_text("choices", label): _text("choices", text) for label, text in zip(labels, texts)}
        key = _text("answerKey", get("answerKey"))
        answer = options.get(key) or options.get(key.translate(str.maketrans("ABCDE12345", "12345ABCDE")))
        if not answer:
            raise _Odd("answerKey names no choice")
    else:  # sorted, so that the place of a choice does not tell
        wrong = {_text("choices", get(f"distractor{n}")) for n in (1, 2, 3)} - {""}
        options = dict(zip("ABCD", sorted(wrong | {answer}))) if wrong and answer else {}
    question = "\n".join([question, *(f"{label}) {text}" for label, text in options.items())])

    rubric = None
    if value := get("rubric") or get("rubrics") or get("Rubrics") or reward.get("rubrics"):
        rubric = _rubric(value, own, notes)
    elif not own and row.keys() & _PROMISE:
        raise _Odd("no rubric")
    elif not own and not answer:
        raise _Odd("neither rubric nor answer")
    return Example(_text("id", get("id"), get("prompt_id")) or default_id, question, answer, solution, rubric, meta)


def _text(name: str, *values) -> str:
    """The first value that is not empty, as it stands but for white space around it; a number as JSON writes it (0)."""
    for value in values:
        if isinstance(value, (list, dict)):
            raise _Odd(f"{name} is not text")
        text = "" if value is None else value if isinstance(value, str) else json.dumps(value)
        if text := text.encode("utf-8", "replace").decode("utf-8").strip():  # half a surrogate pair becomes "?"
            return text
    return ""


def _turns(prompt) -> str:
    """A chat as one question. A single turn is the question as it stands; of several, each opens with its role."""
    if not isinstance(prompt, list):
        return _text("prompt", prompt)
    turns = [turn for turn in prompt if isinstance(turn, dict) and _text("prompt", turn.get("content"))]
    said = [_text("prompt", turn.get("content")) for turn in turns]
    roles = [_text("role", turn.get("role"), "user").capitalize() for turn in turns]
    return said[0] if len(said) == 1 else "\n\n".join(f"{role}: {text}" for role, text in zip(roles, said))


_PREFIX = re.compile(r"(essential|important|optional|pitfall|negative)(?: criteri(?:a|on))?\s*:\s*", re.IGNORECASE)


def _rubric(value, own: bool, notes: Counter) -> Rubric:
    """A list of criteria, or JSON text of one, as a Rubric that reads "weight Category: description".

    A criterion without a weight weighs 1 (-1 if its text calls it a pitfall); one of weight 0 or without text is left
    out. One without a category gets it from its weight. Where category and sign disagree both stay as written:
    changing either may turn the meaning round. Such rubrics, those of more than 25 criteria (RubricHub reaches 42)
    and those without an Essential one are fit to read, but parse_rubric would refuse them: the notes count them.
    """
    if isinstance(value, str):
        value = _rubric_json(value, notes)
    if not isinstance(value, list):
        raise _Odd("rubric is not a list")
    criteria = []
    for item in value:
        item = {"description": item} if isinstance(item, str) else item
        if not isinstance(item, dict):
            raise _Odd("a criterion is not an object")
        text = _text("criterion", item.get("description"), item.get("criterion"), item.get("rubric_item"))
        text, category, weight = " ".join(text.split()), "", item.get("weight", item.get("points"))
        if prefix := _PREFIX.match(text):
            category = prefix[1].capitalize().replace("Negative", "Pitfall")
            text = text[prefix.end():]
        if weight is None or weight == "":
            notes["criteria without a weight"] += 1
            weight = -1 if category == "Pitfall" else 1
        try:
            weight = weight if isinstance(weight, bool) else float(weight)
            if not text or weight == 0:
                notes["criteria left out, without text or of weight 0"] += 1
                continue
            category = category or Criterion("", text, weight).category
            title = " ".join(_text("title", item.get("title"), item.get("type"), category).split())
            check = _text("check", item.get("check")) if own else ""
            criteria.append(Criterion(title, f"{category}: {text}", weight, check))
        except (TypeError, ValueError, OverflowError):
            raise _Odd("a criterion's weight or check is not valid") from None
    if not criteria:
        raise _Odd("no usable criterion")
    rubric = Rubric(tuple(criteria))
    try:
        parse_rubric(rubric.text())
    except ValueError:
        notes["rubrics that parse_rubric would refuse"] += 1
    return rubric


def _rubric_json(text: str, notes: Counter) -> list:
    """The first array of criteria in a text that a model may have written around it ("Here it is [1]: [{...}]").

    Where it does not parse, each backslash that is not surely an escape becomes a plain one (LaTeX, not escaped).
    What is cut off is not mended: a rubric without its tail has lost its pitfalls.
    """
    mended = re.sub(r'\\(["\\/n]|u[0-9a-fA-F]{4})|\\', lambda match: match[0] if match[1] else r"\\", text)
    for attempt in (text, mended):
        for start in re.finditer(r"\[\s*\{", attempt):
            try:
                value, _ = json.JSONDecoder(strict=False).raw_decode(attempt, start.start())
            except (ValueError, RecursionError):
                continue
            if value[0].keys() & {"description", "criterion", "rubric_item"}:
                notes["rubrics with bad escapes mended"] += attempt != text
                return value
    raise _Odd("rubric is not a JSON array of criteria")
