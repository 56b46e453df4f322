"""Read the lines of runs.jsonl, and refuse lines that the study does not write.

A line holds one finished run: {"run": name, "seed", "flags", "machine", "steps", ...}.
"""

from collections.abc import Callable
from pathlib import Path

from data.reading import (
    Check,
    check_fields,
    each,
    is_dict,
    is_name,
    is_number,
    is_share,
    is_text,
    is_whole,
    parse,
    read_text,
)

GROUPS = (  # of the test questions
    *("new laws", "new links", "unseen two-step", "unseen chain", "unseen phrasing"),
    *("known laws", "known links"),
)
KEY_GROUPS = ("new laws", "new links", "known laws", "known links")  # that judge rubric writers
SAMPLED_GROUPS = ("new laws", "new links")  # on which students are sampled
PREPARED = "prepared"  # the run of a seed that only tunes: a line without results
SAMPLES = 8  # answers to each question there
Runs = dict[str, dict[int, dict]]  # lines by run and seed


# --------------------------------------------------------------------------------------- the checks
def are_answers(value) -> bool:
    """Whether a value is a text of 0 and 1."""
    return is_name(value) and set(value) <= set("01")


def of_each(is_right: Callable[[object], bool], groups: tuple = GROUPS) -> Callable:
    """A check that a value has something right for each group."""

    def check(value) -> bool:
        return is_dict(value) and all(is_right(value.get(name)) for name in groups)

    return check


def is_curve(value) -> bool:
    """Whether a value is a list of points, each of four numbers."""
    if not isinstance(value, list):
        return False
    for point in value:
        if not (isinstance(point, list) and len(point) == 4 and all(map(is_number, point))):
            return False
    return True


def is_share_or_missing(value) -> bool:
    """Whether a value is a share or None."""
    return value is None or is_share(value)


def is_number_or_missing(value) -> bool:
    """Whether a value is a number of at least 0 or None."""
    return value is None or is_number(value)


def are_counts(value) -> bool:
    """Whether a value has right and different answers of each question, digits up to SAMPLES."""
    if not is_dict(value):
        return False
    texts = value.get("right"), value.get("distinct")
    digits = [set("012345678"), set("12345678")]
    fine = all(is_name(text) and set(text) <= allowed for text, allowed in zip(texts, digits))
    return fine and len(texts[0]) == len(texts[1])


def is_sampled(value) -> bool:
    """Whether a value is what study.jobs.sample returns, or None."""
    return value is None or of_each(are_counts, SAMPLED_GROUPS)(value)


def is_stage1(value) -> bool:
    """Whether a value has the shares of right key criteria, or is None."""
    return value is None or of_each(is_share, KEY_GROUPS)(value)


SHARE: Check = (is_share, "a number from 0 to 1")
AT_LEAST_0: Check = (is_number, "a number of at least 0")
EVERY_LINE: dict[str, Check] = {
    "run": (is_name, "a name"),
    "seed": (is_whole, "a whole number"),
    "flags": (is_dict, "settings of rcsd.py by name"),
    "machine": (is_text, "a text"),
    "steps": (is_number, "a number, 0 for a model without training"),
}
GRID: dict[str, Check] = {"lr": (is_number, "a learning rate"), "valid": SHARE}
TESTED: dict[str, Check] = {  # fields of every line but those of the grid of learning rates
    "correct": (of_each(are_answers), "for each group a 0 or 1 for every question"),
    "score": (of_each(is_share), "for each group a score from 0 to 1"),
    "length": (of_each(is_number), "for each group a number of tokens"),
    "curve": (is_curve, "a list of [step, tokens, accuracy on what is known, on what is new]"),
    "valid_known": (is_share_or_missing, "a number from 0 to 1"),
    "valid_new": (is_share_or_missing, "a number from 0 to 1"),
    "sampled": (is_sampled, "right and distinct, a digit for every question, for each group"),
    "stage1": (is_stage1, "a number from 0 to 1 for each group"),
}
TRAINED: dict[str, Check] = {  # fields of every line with steps
    **GRID,
    **TESTED,
    "kept": AT_LEAST_0,
    "sampled_tokens": AT_LEAST_0,
    "seconds": AT_LEAST_0,
    "train": (each(is_number_or_missing), "numbers or null by name"),
}


# -------------------------------------------------------------------------------------- the reading
def is_grid(name: str) -> bool:
    """Whether a run is one of the grid of learning rates."""
    return name.startswith("lr-")


def grid_name(method: str, rate: float) -> str:
    """The name of the run that tries a learning rate for a method."""
    return f"lr-{method}-{rate:g}"


def parse_line(line: str, place: str) -> dict:
    """One line of the file, checked. Raises ValueError, with the place and what was expected."""
    row = parse(line, place)
    check_fields(row, {}, place)
    if row.get("run") == PREPARED:
        fields = {}
    elif is_grid(str(row.get("run"))):
        fields = GRID
    elif row.get("steps"):
        fields = TRAINED
    else:
        fields = TESTED
    check_fields(row, {**EVERY_LINE, **fields}, place)
    return row


def read_runs(path: Path) -> Runs:
    """The lines of runs.jsonl by run and seed; later lines replace earlier ones.

    Raises ValueError, with the place and what was expected, for anything that the study does not
    write.
    """
    lines = read_text(path).splitlines()
    runs, sizes = {}, {}  # sizes: questions in a group, by seed and group
    for i, line in enumerate(lines, 1):
        place = f"{path}:{i}"
        row = parse_line(line, place)
        name, seed = row["run"], row["seed"]
        for group in () if name == PREPARED or is_grid(name) else GROUPS:
            count = len(row["correct"][group])
            first = sizes.setdefault((seed, group), count)
            if count != first:
                raise ValueError(
                    f"{place}: correct: expected {first} answers in {group}, as in the first "
                    f"line of seed {seed}, got {count}"
                )
        runs.setdefault(name, {})[seed] = row
    if not runs:
        raise ValueError(f"{path}:1: line: expected a finished run, got an empty file")
    return runs
