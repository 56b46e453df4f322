"""Reading back what a run wrote: JSON that is whole, unchanged, and of the expected fields.

A check is (whether a value is right, what was expected in words). Every reader raises ValueError
with the file, the line, the field and what was expected.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from data.files import digest, write_lines

Check = tuple[Callable[[object], bool], str]


# --------------------------------------------------------------------------------------- the checks
def is_number(value, high: float = 1e15) -> bool:
    """Whether a value is a number from 0 to `high`."""
    return type(value) in (int, float) and 0 <= value <= high


def is_share(value) -> bool:
    """Whether a value is a number from 0 to 1."""
    return is_number(value, 1)


def is_finite(value) -> bool:
    """Whether a value is a number, of either sign."""
    return type(value) in (int, float) and abs(value) < float("inf")


def is_name(value) -> bool:
    """Whether a value is a text that is not empty."""
    return isinstance(value, str) and value != ""


def is_text(value) -> bool:
    """Whether a value is a text."""
    return isinstance(value, str)


def is_whole(value) -> bool:
    """Whether a value is a whole number, and not a boolean."""
    return type(value) is int


def is_dict(value) -> bool:
    """Whether a value is a JSON object."""
    return isinstance(value, dict)


def each(is_right: Callable[[object], bool], names: Iterable[str] = ()) -> Callable:
    """A check that all values of a JSON object are right, and that it has these names."""

    def check(value) -> bool:
        return is_dict(value) and value.keys() >= {*names} and all(map(is_right, value.values()))

    return check


def check_fields(row: object, fields: dict[str, Check], place: str) -> None:
    """Raises ValueError, with the place and what was expected, for a wrong or missing field."""
    if not isinstance(row, dict):
        raise ValueError(f"{place}: expected a JSON object, got {json.dumps(row)[:60]}")
    for name, (is_right, expected) in fields.items():
        if not is_right(row.get(name)):
            got = json.dumps(row[name])[:60] if name in row else "nothing"
            raise ValueError(f"{place}: {name}: expected {expected}, got {got}")


# --------------------------------------------------------------------------------- lines of a folder
def read_text(path: Path) -> str:
    """A text file in UTF-8, with or without a byte-order mark."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ValueError(f"{path}: expected a file that can be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected text in UTF-8: {error}") from None


def parse(text: str, place: str) -> object:
    """The JSON value of a text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = str(error).replace("line 1 ", "")
        raise ValueError(f"{place}: expected a JSON object, got {text[:60]!r}: {reason}") from None


def iterate_rows(path: Path, fields: dict[str, Check]) -> Iterator[dict]:
    """The rows of a JSON Lines file, one after the other, each with these fields."""
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                place = f"{path}:{number}"
                try:
                    row = parse(line.decode("utf-8"), place)
                except UnicodeDecodeError as error:
                    raise ValueError(f"{place}: expected text in UTF-8: {error}") from None
                check_fields(row, fields, place)
                yield row
    except OSError as error:
        raise ValueError(f"{path}: expected a file that can be read: {error.strerror}") from None


def read_rows(path: Path, fields: dict[str, Check]) -> list[dict]:
    """All rows of a JSON Lines file, each with these fields."""
    return list(iterate_rows(path, fields))


# ----------------------------------------------------------------------------- objects with a digest
def write_json(path: Path, content: dict, **options) -> None:
    """Write a JSON object with the digest of its content, for `read_json`."""
    sealed = content | {"digest": digest([json.dumps(content)])}
    write_lines(path, [json.dumps(sealed, ensure_ascii=False, **options)])


def read_json(path: Path, fields: dict[str, Check] | None = None) -> dict:
    """A JSON object that `write_json` wrote, with these fields."""
    content = parse(read_text(path), str(path))
    check_fields(content, {}, str(path))
    if "digest" not in content:
        raise ValueError(f"{path}: not of this version of the project; delete it to make it anew")
    if content.pop("digest") != digest([json.dumps(content)]):
        raise ValueError(
            f"{path}: damaged or edited, not what was written; delete it to make it anew"
        )
    check_fields(content, fields or {}, str(path))
    return content
