"""Files that are whole or not there: every result of a run is written through here."""

import os
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Iterable, Iterator


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """Open a file that replaces `path` when the block ends; it takes bytes.

    The old file stays until the new file is whole and on the disk. An exception inside the block,
    or a killed process, leaves the old file as it was.
    """
    path = Path(path)
    temporary = path.with_name(path.name + ".tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_lines(path: str | os.PathLike, lines: Iterable[str]) -> None:
    """Write a text file in UTF-8, one line for each string."""
    with replacing(path) as file:
        for line in lines:
            file.write((line + "\n").encode("utf-8"))
