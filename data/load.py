"""The loader: rubric data of the real world, in any of its schemas, as Examples.

examples, report = load_examples("questions.jsonl")
"""

import json
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

from data.tokenizer import Tokenizer, encode
from rubrics import Criterion, Example, Rubric, parse_rubric


@dataclass
class Report:
    """What became of the rows of a file. str() is what a user reads; `notes` counts what is odd in
    the kept rows.
    """

    path: str
    kept: int = 0
    dropped: Counter = field(default_factory=Counter)
    notes: Counter = field(default_factory=Counter)

    def __str__(self):
        text = f"kept {self.kept} of {self.kept + self.dropped.total()} rows of {self.path}"
        for title, counts in (("; dropped: ", self.dropped), ("\nin the kept rows: ", self.notes)):
            text += (title if counts else "") + ", ".join(
                f"{n} {what}" for what, n in counts.most_common()
            )
        return text


class _Odd(Exception):
    """Why one row cannot be used, in a few words that are the same from row to row, so that they
    can be counted.
    """


def load_examples(path: str | Path) -> tuple[list[Example], Report]:
    """Read a JSON Lines file of questions, with or without rubrics, in any schema below; rows may
    be mixed.

    our own               what Example.to_json writes; the only one with checks
    RaR                   question, reference_answer, rubric: [{title, description, weight}]
    RubricHub, RL         prompt: [{role, content}], reward_model: {ground_truth, rubrics: [{criterion, points}]}
    RubricHub, SFT        query, answer, rubrics; the answer is a full reply, so it is the solution too
    HealthBench           prompt, rubrics: [{criterion, points}], ideal_completions_data (its reply is the solution)
    ResearchQA            query, rubric: [{rubric_item, type}]
    plain QA              question, answer or reference_answer
    multiple choice       question, choices: {text, label}, answerKey, or question, distractor1..3, correct_answer,
                          support (the solution); choices join the question, the answer is the right
                          one's text

    The id is the row's own, else "file stem:line". An odd row is dropped and counted in the report;
    of equal questions the first stays. A line that is not a JSON object, an unreadable or empty
    file, or one without any usable row raises ValueError("file:line: field: what was expected").
    """
    examples, report, seen, ids, number = [], Report(str(path)), set(), set(), 0
    try:
        with open(
            path, "rb"
        ) as file:  # as bytes, a line at a time: a bad byte is then blamed on its own line
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    if not isinstance(row := json.loads(line.strip().decode("utf-8-sig")), dict):
                        raise ValueError(f"got {type(row).__name__}")
                except (ValueError, RecursionError) as error:
                    reason = str(error).replace("line 1 ", "")
                    raise ValueError(
                        f"{path}:{number}: line: expected a JSON object in UTF-8: {reason}"
                    ) from None
                notes = Counter()
                try:
                    example = _example(row, f"{Path(path).stem}:{number}", notes)
                    if example.question in seen:
                        raise _Odd("duplicate question")
                except _Odd as odd:
                    report.dropped[str(odd)] += 1
                    continue
                if (
                    example.id in ids
                ):  # rubrics are kept by id: a second one must not take the first one's
                    notes["ids given twice, replaced"] += 1
                    example = replace(example, id=f"{Path(path).stem}:{number}")
                seen.add(example.question)
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


def read_questions(path: str | Path, announce: bool) -> list[Example]:
    """The questions of a data file. With `announce`, print what was kept and why the rest was
    dropped.
    """
    examples, report = load_examples(path)
    if announce:
        print(report)
    return examples


def filter_by_length(
    examples: list[Example], tokenizer: Tokenizer, room: int, *prompts
) -> list[Example]:
    """The examples whose prompts, one for each function in `prompts` (None: skip it), fit into
    `room` tokens.

    Prints how many it drops. Raises ValueError if none is left.
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


_OWN = {"id", "question", "answer", "solution", "rubric", "meta"}
_PROMISE = {
    "rubric",
    "rubrics",
    "Rubrics",
    "rubric_list",
    "rubric_count",
    "question_source",
    "reward_model",
    "prompt",
    "query",
}  # fields of the schemas with rubrics: a row that has one of them should have a rubric


def _example(row: dict, default_id: str, notes: Counter) -> Example:
    """One row of any schema as an Example. Raises _Odd if it cannot be used; adds to `notes` what
    is odd in it.
    """
    own, get = row.keys() >= _OWN, row.get
    reward, ideal, choices, meta = (
        value if isinstance(value, dict) else {}
        for value in (
            get("reward_model"),
            get("ideal_completions_data"),
            get("choices"),
            get("meta"),
        )
    )
    question = _text("question", get("question"), get("query")) or _turns(get("prompt"))
    if not question:
        raise _Odd("empty question")
    answer = _text(
        "answer",
        get("answer"),
        get("reference_answer"),
        get("correct_answer"),
        reward.get("ground_truth"),
    )
    solution = _text(
        "solution",
        get("solution"),
        get("support"),
        ideal.get("ideal_completion"),
        answer if "query" in row else "",
    )
    if "answerKey" in row:
        texts, labels = choices.get("text"), choices.get("label")
        if not isinstance(texts, list) or not isinstance(labels, list) or len(texts) != len(labels):
            raise _Odd("choices are not {text: [...], label: [...]}")
        options = {
            _text("choices", label): _text("choices", text) for label, text in zip(labels, texts)
        }
        key = _text("answerKey", get("answerKey"))
        answer = options.get(key) or options.get(
            key.translate(str.maketrans("ABCDE12345", "12345ABCDE"))
        )
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
    return Example(
        _text("id", get("id"), get("prompt_id")) or default_id,
        question,
        answer,
        solution,
        rubric,
        meta,
    )


def _text(name: str, *values) -> str:
    """The first value that is not empty, as it stands but for white space around it; a number as
    JSON writes it (0).
    """
    for value in values:
        if isinstance(value, (list, dict)):
            raise _Odd(f"{name} is not text")
        text = "" if value is None else value if isinstance(value, str) else json.dumps(value)
        if (
            text := text.encode("utf-8", "replace").decode("utf-8").strip()
        ):  # half a surrogate pair becomes "?"
            return text
    return ""


def _turns(prompt) -> str:
    """A chat as one question. A single turn is the question as it stands; of several, each opens
    with its role.
    """
    if not isinstance(prompt, list):
        return _text("prompt", prompt)
    turns = [
        turn for turn in prompt if isinstance(turn, dict) and _text("prompt", turn.get("content"))
    ]
    said = [_text("prompt", turn.get("content")) for turn in turns]
    roles = [_text("role", turn.get("role"), "user").capitalize() for turn in turns]
    return (
        said[0]
        if len(said) == 1
        else "\n\n".join(f"{role}: {text}" for role, text in zip(roles, said))
    )


_PREFIX = re.compile(
    r"(essential|important|optional|pitfall|negative)(?: criteri(?:a|on))?\s*:\s*", re.IGNORECASE
)


def _rubric(value, own: bool, notes: Counter) -> Rubric:
    """A list of criteria, or JSON text of one, as a Rubric that reads "weight Category:
    description".

    A criterion without a weight weighs 1 (-1 if its text calls it a pitfall); one of weight 0 or
    without text is left out. One without a category gets it from its weight. Where category and
    sign disagree both stay as written: changing either may turn the meaning round. Such rubrics,
    those of more than 25 criteria (RubricHub reaches 42) and those without an Essential one are fit
    to read, but parse_rubric would refuse them: the notes count them.
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
        text = _text(
            "criterion", item.get("description"), item.get("criterion"), item.get("rubric_item")
        )
        text, category, weight = " ".join(text.split()), "", item.get("weight", item.get("points"))
        if prefix := _PREFIX.match(text):
            category = prefix[1].capitalize().replace("Negative", "Pitfall")
            text = text[prefix.end() :]
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
    """The first array of criteria in a text that a model may have written around it ("Here it is
    [1]: [{...}]").

    Where it does not parse, each backslash that is not surely an escape becomes a plain one (LaTeX,
    not escaped). What is cut off is not mended: a rubric without its tail has lost its pitfalls.
    """
    mended = re.sub(
        r'\\(["\\/n]|u[0-9a-fA-F]{4})|\\', lambda match: match[0] if match[1] else r"\\", text
    )
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
