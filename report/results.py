"""results.json: what it must hold, and how it is read."""

from pathlib import Path

from data.reading import Check, each, is_dict, is_number, is_text, is_whole, read_json
from trainer.settings import settings_of


def is_mean(value) -> bool:
    """Whether a value is a number, or the NaN that is the mean of nothing."""
    return is_number(value) or value != value


def are_answers(value) -> bool:
    """Whether a value is a list of answers, each with the id of its question and its text."""
    if not isinstance(value, list):
        return False
    return all(
        is_dict(row) and is_text(row.get("id")) and is_text(row.get("text")) for row in value
    )


MODELS = ("base", "teacher, reference rubric", "teacher, learned rubric", "student")
BY_GROUP: Check = (each(each(is_mean), MODELS), "a number for each group, by model")
BY_MODEL: Check = (each(is_mean, MODELS), "a number for each model")
RESULTS: dict[str, Check] = {
    "settings": (is_dict, "the settings of the run"),
    "parameters": (is_whole, "a whole number"),
    "machine": (is_text, "a text"),
    "questions": (each(is_whole), "a whole number for each group"),
    "accuracy": BY_GROUP,
    "score": BY_GROUP,
    "truncated": BY_MODEL,
    "length": BY_MODEL,
    "kinds": (each(each(each(is_mean)), MODELS), "a number for each kind, by model and group"),
    "stage1": (
        each(each(each(is_mean, ("valid", "key"))), ("base", "stage1")),
        "valid and key, numbers, for each group, of base and stage1",
    ),
    "seconds": (each(is_number), "a number for each stage that was trained"),
    "answers": (each(are_answers, MODELS), "a list of answers for each model"),
    "inputs": (each(is_text), "the digests of what it was made from"),
}


def read_results(path: Path) -> dict:
    """results.json of a finished run. Raises ValueError, which names file and field."""
    results = read_json(path, RESULTS)
    settings_of(results["settings"], path)
    return results
