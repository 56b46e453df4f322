"""Rows as others write them, and what becomes of each: one Example, or the reason why none.

`load_examples` in load.py lists the schemas.
"""

import json
import math
import re
from collections import Counter

from data.escapes import mend_escapes
from rubrics import Criterion, Example, Rubric, parse_rubric


class Odd(Exception):
    """The reason why a row cannot be used, in words that are the same for all such rows."""


# What a criterion without a weight weighs. The prompt that made RaR's rubrics (2507.17746) asks for
# 5 for Essential, 3 or 4 for Important, 1 or 2 for Optional, and -1 or -2 for a Pitfall.
CATEGORY_WEIGHTS = {"Essential": 5, "Important": 3, "Optional": 1, "Pitfall": -1}


_NATIVE_FIELDS = {"id", "question", "answer", "solution", "rubric", "meta"}
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


def example_of(row: dict, notes: Counter) -> Example:
    """A row of any schema as an Example; counts in `notes` what is odd in it. Its id may be "".

    Raises Odd if the row cannot be used.
    """
    is_native = row.keys() >= _NATIVE_FIELDS
    reward, ideal = _object(row, "reward_model"), _object(row, "ideal_completions_data")
    question = _text("question", row.get("question"), row.get("query")) or _chat(row.get("prompt"))
    if not question:
        raise Odd("empty question")
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
    elif isinstance(row.get("choices"), list):
        options, answer = _listed_choices(row["choices"], row.get("answer"))
    else:
        options = _distractor_choices(row, answer)
    meta = _object(row, "meta")
    for label, text in options.items():
        question += f"\n{label}) {text}"
        if text == answer:
            meta = meta | {"letter": label}
    if not solution and "\n####" in answer:  # GSM8K: the solution, then #### and the answer
        solution, _, answer = (part.strip() for part in answer.rpartition("\n####"))

    rubric = None
    criteria = row.get("rubric") or row.get("rubrics") or row.get("Rubrics")
    criteria = criteria or reward.get("rubrics")
    if criteria:
        rubric = _rubric(criteria, is_native, notes)
    elif not is_native and row.keys() & _RUBRIC_FIELDS:
        raise Odd("no rubric")
    elif not is_native and not answer and not row.get("teacher_prompt"):
        raise Odd("neither rubric nor answer")
    id = _text("id", row.get("id"), row.get("prompt_id"))
    hint = _text("teacher_prompt", row.get("teacher_prompt"))
    return Example(id, question, answer, solution, rubric, meta, hint)


def _object(row: dict, name: str) -> dict:
    """The field of the row if it is an object, else {}."""
    value = row.get(name)
    return value if isinstance(value, dict) else {}


def _labelled_choices(row: dict) -> tuple[dict[str, str], str]:
    """The choices as {label: text}, and the text of the one that answerKey names."""
    choices = _object(row, "choices")
    texts, labels = choices.get("text"), choices.get("label")
    if not isinstance(texts, list) or not isinstance(labels, list) or len(texts) != len(labels):
        raise Odd("choices are not {text: [...], label: [...]}")
    options = {}
    for label, text in zip(labels, texts):
        options[_text("choices", label)] = _text("choices", text)
    key = _text("answerKey", row.get("answerKey"))
    # A key may be a letter where the labels are digits, or a digit where they are letters.
    other_key = key.translate(str.maketrans("ABCDE12345", "12345ABCDE"))
    answer = options.get(key) or options.get(other_key)
    if not answer:
        raise Odd("answerKey names no choice")
    return options, answer


def _listed_choices(choices: list, answer) -> tuple[dict[str, str], str]:
    """The choices as {"A": text, ...}, and the text of the one that `answer` counts to, from 0."""
    texts = [_text("choices", text) for text in choices]
    is_index = isinstance(answer, int) and not isinstance(answer, bool)
    if is_index and 0 <= answer < len(texts):
        answer = texts[answer]
    if len(texts) > 26 or not answer or answer not in texts:
        raise Odd("answer names no choice")
    return dict(zip("ABCDEFGHIJKLMNOPQRSTUVWXYZ", texts)), answer


def _distractor_choices(row: dict, answer: str) -> dict[str, str]:
    """The answer and the distractors as {label: text}; {} if the row has none."""
    wrong = {_text("choices", row.get(f"distractor{n}")) for n in (1, 2, 3)} - {""}
    if not wrong or not answer:
        return {}
    return dict(zip("ABCD", sorted(wrong | {answer})))  # sorted: the place does not tell the answer


def _text(name: str, *values) -> str:
    """The first value that is not empty, without white space around it; "" if all are empty.

    A number becomes the text that JSON has for it, so 0 is not empty. Raises Odd, which says
    `name`, for a list, an object, and what is called a number but has no value (Infinity, 1e999).
    """
    for value in values:
        if isinstance(value, (list, dict)):
            raise Odd(f"{name} is not text")
        if isinstance(value, float) and not math.isfinite(value):
            raise Odd(f"{name} is not a finite number")
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


def _rubric(value, is_native: bool, notes: Counter) -> Rubric:
    """A Rubric from a list of criteria, or from text that holds such a list in JSON.

    parse_rubric would refuse some of these rubrics, which are fit to read all the same: those whose
    categories disagree with the signs of their weights, those of more than 25 criteria (RubricHub
    has up to 42) and those without an Essential criterion. `notes` counts them. Raises Odd if no
    criterion can be used.
    """
    if isinstance(value, str):
        value = _rubric_json(value, notes)
    if not isinstance(value, list):
        raise Odd("rubric is not a list")
    criteria = []
    for item in value:
        criterion = _criterion(item, is_native, notes)
        if criterion:
            criteria.append(criterion)
    if not criteria:
        raise Odd("no usable criterion")
    rubric = Rubric(tuple(criteria))
    try:
        parse_rubric(rubric.text())
    except ValueError:
        notes["rubrics that parse_rubric would refuse"] += 1
    return rubric


def _criterion(item, is_native: bool, notes: Counter) -> Criterion | None:
    """A Criterion from an object or a text; None if it has no text or the weight 0.

    Without a weight it gets that of its category, without a category the one that fits its weight,
    and without both it is Important. A category and a sign that disagree both stay as they are: a
    change of either might reverse the meaning. Only this project's rows (`is_native`) have checks.
    """
    if isinstance(item, str):
        item = {"description": item}
    if not isinstance(item, dict):
        raise Odd("a criterion is not an object")
    text = _text(
        "criterion", item.get("description"), item.get("criterion"), item.get("rubric_item")
    )
    text = " ".join(text.split())
    tags = item.get("tags")
    if isinstance(tags, dict) and tags.get("verifier") == "rule":
        text = _with_parameters(text, tags.get("parameters"))
        if not text:
            notes["criteria left out, for a rule whose parameters are missing"] += 1
            return None
        notes["criteria for a rule, read with its parameters"] += 1
    category = ""
    prefix = _PREFIX.match(text)
    if prefix:
        category = prefix[1].capitalize().replace("Negative", "Pitfall")
        text = text[prefix.end() :]
    weight = item.get("weight", item.get("points"))
    if weight is None or weight == "":
        notes["criteria without a weight"] += 1
        category = category or "Important"
        weight = CATEGORY_WEIGHTS[category]
    try:
        if not isinstance(weight, bool):  # Criterion refuses true and false
            weight = float(weight)
        if not text or weight == 0:
            notes["criteria left out, without text or of weight 0"] += 1
            return None
        category = category or Criterion("", text, weight).category
        title = " ".join(_text("title", item.get("title"), item.get("type"), category).split())
        check = _text("check", item.get("check")) if is_native else ""
        return Criterion(title, f"{category}: {text}", weight, check)
    except (TypeError, ValueError, OverflowError):
        raise Odd("a criterion's weight or check is not valid") from None


def _with_parameters(text: str, parameters) -> str:
    """A criterion that RubricHub checks by a rule, for a reader: "paragraphs (number 2)".

    Its text may be no more than the rule's name: without parameters that is "", a sentence stays.
    """
    if isinstance(parameters, str) and parameters.strip():
        try:
            parameters = json.loads(parameters)
        except ValueError:
            parameters = {"": parameters.strip()}
    said = []
    for name, value in parameters.items() if isinstance(parameters, dict) else ():
        if value in (None, "", [], {}):  # a file has the names of all its rules' parameters
            continue
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        said.append(f"{name.replace('_', ' ')} {' '.join(shown.split())}".strip())
    if said:
        return f"{text} ({', '.join(said)})".strip()
    return text if " " in text else ""


def _rubric_json(text: str, notes: Counter) -> list:
    """The first array of criteria in the text of a model: "Here it is [1]: [{...}]".

    Its LaTeX is mended as in a line of the file. A rubric that is cut off is not mended, because its
    last criteria, the pitfalls, are lost. Raises Odd if there is no such array.
    """
    mended = Counter()
    text = mend_escapes(text, mended)
    for start in re.finditer(r"\[\s*\{", text):
        try:
            value, _ = json.JSONDecoder(strict=False).raw_decode(text, start.start())
        except (ValueError, RecursionError):
            continue
        if value[0].keys() & {"description", "criterion", "rubric_item"}:
            notes += mended
            return value
    raise Odd("rubric is not a JSON array of criteria")
