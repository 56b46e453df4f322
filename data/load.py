"""The loader: questions and rubrics from public data sets, in any of several schemas.

examples, report = load_examples("questions.jsonl")
"""

import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from data.tokenizer import Tokenizer, encode
from rubrics import Criterion, Example, Rubric, parse_rubric


@dataclass
class Report:
    """What became of the rows of a file; str() gives the text that a user reads."""

    path: str
    kept: int = 0
    dropped: Counter = field(default_factory=Counter)  # {reason: rows}
    notes: Counter = field(default_factory=Counter)  # {what is odd in the kept rows: how often}

    def __str__(self):
        text = f"kept {self.kept} of {self.kept + self.dropped.total()} rows of {self.path}"
        if self.dropped:
            text += "; dropped: " + _listing(self.dropped)
        if self.notes:
            text += "\nin the kept rows: " + _listing(self.notes)
        return text


def _listing(counts: Counter) -> str:
    return ", ".join(f"{n} {what}" for what, n in counts.most_common())


class _Odd(Exception):
    """The reason why a row cannot be used, in words that are the same for all such rows."""


def load_examples(path: str | Path) -> tuple[list[Example], Report]:
    """The usable questions of a JSON Lines file, and a report of what was dropped.

    The rows may have any of these schemas, also mixed:

    this project's    what Example.to_json writes; the only schema with checks
    RaR               question, reference_answer, rubric: [{title, description, weight}]
    RubricHub, RL     prompt: [{role, content}],
                      reward_model: {ground_truth, rubrics: [{criterion, points}]}
    RubricHub, SFT    query, answer, rubrics; the answer is a full reply, so also the solution
    HealthBench       prompt, rubrics: [{criterion, points}],
                      ideal_completions_data, whose reply is the solution
    ResearchQA        query, rubric: [{rubric_item, type}]
    plain QA          question, answer or reference_answer
    multiple choice   question, choices: {text, label}, answerKey; or
                      question, distractor1..3, correct_answer, support (the solution).
                      The choices join the question; the answer is the text of the right choice

    An example takes the id of its row, else "file stem:line". The report counts the rows that are
    dropped because they are odd or repeat a question. Raises ValueError("file:line: field: what was
    expected") for a line that is not a JSON object, for a file that is unreadable or empty, and for
    a file without any usable row.
    """
    examples, report = [], Report(str(path))
    questions, ids = set(), set()
    number = 0
    try:
        with open(path, "rb") as file:  # bytes, so that a bad byte is blamed on its own line
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                row = _json_object(line, f"{path}:{number}")
                default_id = f"{Path(path).stem}:{number}"
                notes = Counter()
                try:
                    example = _example(row, default_id, notes)
                    if example.question in questions:
                        raise _Odd("duplicate question")
                except _Odd as odd:
                    report.dropped[str(odd)] += 1
                    continue
                if example.id in ids:  # learned rubrics are stored by id, so ids must differ
                    notes["ids given twice, replaced"] += 1
                    example = replace(example, id=default_id)
                questions.add(example.question)
                ids.add(example.id)
                examples.append(example)
                report.kept += 1
                report.notes += notes
    except OSError as error:
        raise ValueError(
            f"{path}:0: file: expected a file that can be read: {error.strerror}"
        ) from None
    if not examples:
        raise ValueError(f"{path}:{number}: row: expected at least one usable row, but {report}")
    return examples, report


def _json_object(line: bytes, place: str) -> dict:
    """The JSON object in a line; ValueError, which names the place, if the line holds none."""
    try:
        row = json.loads(line.strip().decode("utf-8-sig"))
        if not isinstance(row, dict):
            raise ValueError(f"got {type(row).__name__}")
    except (ValueError, RecursionError) as error:
        reason = str(error).replace("line 1 ", "")
        raise ValueError(f"{place}: line: expected a JSON object in UTF-8: {reason}") from None
    return row


def read_questions(path: str | Path, announce: bool) -> list[Example]:
    """The questions of a data file; with `announce`, print the report of load_examples."""
    examples, report = load_examples(path)
    if announce:
        print(report)
    return examples


def filter_by_length(
    examples: list[Example],
    tokenizer: Tokenizer,
    room: int,
    *prompts: Callable[[Example], list[tuple[str, str]]] | None,
) -> list[Example]:
    """The examples whose prompts all fit into `room` tokens; prints how many are dropped.

    `prompts` are functions that make a prompt from an example (None is skipped). Raises ValueError
    if no example is left.
    """
    kept = []
    for e in examples:
        if all(len(encode(tokenizer, make(e))) <= room for make in prompts if make):
            kept.append(e)
    rule = f"a prompt must fit into {room} tokens (--max-seq-len less --max-new-tokens)"
    if not kept:
        raise ValueError(f"no question left to train on: {rule}")
    if len(kept) < len(examples):
        print(f"dropped {len(examples) - len(kept)} of {len(examples)} questions: {rule}")
    return kept


_OWN_FIELDS = {"id", "question", "answer", "solution", "rubric", "meta"}
_RUBRIC_FIELDS = {  # fields of schemas with rubrics: a row that has one should have a rubric
    "rubric",
    "rubrics",
    "Rubrics",
    "rubric_list",
    "rubric_count",
    "question_source",
    "reward_model",
    "prompt",
    "query",
}


def _example(row: dict, default_id: str, notes: Counter) -> Example:
    """A row of any schema as an Example; counts in `notes` what is odd in it.

    Raises _Odd if the row cannot be used.
    """
    is_own = row.keys() >= _OWN_FIELDS
    reward, ideal = _object(row, "reward_model"), _object(row, "ideal_completions_data")
    question = _text("question", row.get("question"), row.get("query")) or _chat(row.get("prompt"))
    if not question:
        raise _Odd("empty question")
    answer = _text(
        "answer",
        row.get("answer"),
        row.get("reference_answer"),
        row.get("correct_answer"),
        reward.get("ground_truth"),
    )
    solution = _text(
        "solution",
        row.get("solution"),
        row.get("support"),
        ideal.get("ideal_completion"),
        answer if "query" in row else "",
    )
    if "answerKey" in row:
        options, answer = _labelled_choices(row)
    else:
        options = _distractor_choices(row, answer)
    for label, text in options.items():
        question += f"\n{label}) {text}"

    rubric = None
    criteria = row.get("rubric") or row.get("rubrics") or row.get("Rubrics")
    criteria = criteria or reward.get("rubrics")
    if criteria:
        rubric = _rubric(criteria, is_own, notes)
    elif not is_own and row.keys() & _RUBRIC_FIELDS:
        raise _Odd("no rubric")
    elif not is_own and not answer:
        raise _Odd("neither rubric nor answer")
    id = _text("id", row.get("id"), row.get("prompt_id")) or default_id
    return Example(id, question, answer, solution, rubric, _object(row, "meta"))


def _object(row: dict, name: str) -> dict:
    """The field of the row if it is an object, else {}."""
    value = row.get(name)
    return value if isinstance(value, dict) else {}


def _labelled_choices(row: dict) -> tuple[dict[str, str], str]:
    """The choices as {label: text}, and the text of the one that answerKey names."""
    choices = _object(row, "choices")
    texts, labels = choices.get("text"), choices.get("label")
    if not isinstance(texts, list) or not isinstance(labels, list) or len(texts) != len(labels):
        raise _Odd("choices are not {text: [...], label: [...]}")
    options = {}
    for label, text in zip(labels, texts):
        options[_text("choices", label)] = _text("choices", text)
    key = _text("answerKey", row.get("answerKey"))
    # A key may be a letter where the labels are digits, or a digit where they are letters.
    other_key = key.translate(str.maketrans("ABCDE12345", "12345ABCDE"))
    answer = options.get(key) or options.get(other_key)
    if not answer:
        raise _Odd("answerKey names no choice")
    return options, answer


def _distractor_choices(row: dict, answer: str) -> dict[str, str]:
    """The answer and the distractors as {label: text}; {} if the row has none."""
    wrong = {_text("choices", row.get(f"distractor{n}")) for n in (1, 2, 3)} - {""}
    if not wrong or not answer:
        return {}
    return dict(zip("ABCD", sorted(wrong | {answer})))  # sorted: the place does not tell the answer


def _text(name: str, *values) -> str:
    """The first value that is not empty, without white space around it; "" if all are empty.

    A number becomes the text that JSON has for it, so 0 is not empty. Raises _Odd, which says
    `name`, for a list or an object.
    """
    for value in values:
        if isinstance(value, (list, dict)):
            raise _Odd(f"{name} is not text")
        if value is None:
            continue
        text = value if isinstance(value, str) else json.dumps(value)
        text = text.encode("utf-8", "replace").decode("utf-8")  # half a surrogate pair becomes "?"
        text = text.strip()
        if text:
            return text
    return ""


def _chat(prompt) -> str:
    """A chat as one question; if the chat has several turns, each opens with its role."""
    if not isinstance(prompt, list):
        return _text("prompt", prompt)
    turns = []  # (role, text)
    for turn in prompt:
        if isinstance(turn, dict):
            text = _text("prompt", turn.get("content"))
            if text:
                turns.append((turn.get("role"), text))
    roles = [_text("role", role, "user").capitalize() for role, _ in turns]
    if len(turns) == 1:
        return turns[0][1]
    return "\n\n".join(f"{role}: {text}" for role, (_, text) in zip(roles, turns))


_PREFIX = re.compile(
    r"(essential|important|optional|pitfall|negative)(?: criteri(?:a|on))?\s*:\s*", re.IGNORECASE
)


def _rubric(value, is_own: bool, notes: Counter) -> Rubric:
    """A Rubric from a list of criteria, or from text that holds such a list in JSON.

    parse_rubric would refuse some of these rubrics, which are fit to read all the same: those whose
    categories disagree with the signs of their weights, those of more than 25 criteria (RubricHub
    has up to 42) and those without an Essential criterion. `notes` counts them. Raises _Odd if no
    criterion can be used.
    """
    if isinstance(value, str):
        value = _rubric_json(value, notes)
    if not isinstance(value, list):
        raise _Odd("rubric is not a list")
    criteria = []
    for item in value:
        criterion = _criterion(item, is_own, notes)
        if criterion:
            criteria.append(criterion)
    if not criteria:
        raise _Odd("no usable criterion")
    rubric = Rubric(tuple(criteria))
    try:
        parse_rubric(rubric.text())
    except ValueError:
        notes["rubrics that parse_rubric would refuse"] += 1
    return rubric


def _criterion(item, is_own: bool, notes: Counter) -> Criterion | None:
    """A Criterion from an object or a text; None if it has no text or the weight 0.

    Without a weight it weighs 1, or -1 if its text calls it a pitfall. Without a category it gets
    the category that fits its weight. A category and a sign that disagree both stay as they are:
    a change of either might reverse the meaning. Only this project's rows (`is_own`) have checks.
    """
    if isinstance(item, str):
        item = {"description": item}
    if not isinstance(item, dict):
        raise _Odd("a criterion is not an object")
    text = _text(
        "criterion", item.get("description"), item.get("criterion"), item.get("rubric_item")
    )
    text = " ".join(text.split())
    category = ""
    prefix = _PREFIX.match(text)
    if prefix:
        category = prefix[1].capitalize().replace("Negative", "Pitfall")
        text = text[prefix.end() :]
    weight = item.get("weight", item.get("points"))
    if weight is None or weight == "":
        notes["criteria without a weight"] += 1
        weight = -1 if category == "Pitfall" else 1
    try:
        if not isinstance(weight, bool):  # Criterion refuses true and false
            weight = float(weight)
        if not text or weight == 0:
            notes["criteria left out, without text or of weight 0"] += 1
            return None
        category = category or Criterion("", text, weight).category
        title = " ".join(_text("title", item.get("title"), item.get("type"), category).split())
        check = _text("check", item.get("check")) if is_own else ""
        return Criterion(title, f"{category}: {text}", weight, check)
    except (TypeError, ValueError, OverflowError):
        raise _Odd("a criterion's weight or check is not valid") from None


def _rubric_json(text: str, notes: Counter) -> list:
    """The first array of criteria in the text of a model: "Here it is [1]: [{...}]".

    If no array parses, backslashes that may be no escape (LaTeX) are escaped, and the text is tried
    again. A rubric that is cut off is not mended, because its last criteria, the pitfalls, are
    lost. Raises _Odd if there is no such array.
    """

    def escaped(match: re.Match) -> str:
        return match[0] if match[1] else r"\\"

    mended = re.sub(r'\\(["\\/n]|u[0-9a-fA-F]{4})|\\', escaped, text)
    for attempt in (text, mended):
        for start in re.finditer(r"\[\s*\{", attempt):
            try:
                value, _ = json.JSONDecoder(strict=False).raw_decode(attempt, start.start())
            except (ValueError, RecursionError):
                continue
            if value[0].keys() & {"description", "criterion", "rubric_item"}:
                if attempt != text:
                    notes["rubrics with bad escapes mended"] += 1
                return value
    raise _Odd("rubric is not a JSON array of criteria")
