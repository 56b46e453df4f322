"""Files that are whole or not there: every result of a run is written through here."""

import hashlib
import json
import os
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Iterable, Iterator

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


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
    except BaseException as error:
        if isinstance(error, OSError) and error.errno and error.filename is None:
            error.filename = str(path)  # a full disk does not say where
        temporary.unlink(missing_ok=True)
        raise


def write_lines(path: str | os.PathLike, lines: Iterable[str]) -> None:
    """Write a text file in UTF-8, one line for each string."""
    with replacing(path) as file:
        for line in lines:
            file.write((line + "\n").encode("utf-8"))


def digest(content: Path | Iterable[str]) -> str:
    """16 hex digits that stand for a file's bytes, or for texts in their order.

    Raises ValueError for a file that is not there.
    """
    if isinstance(content, Path):
        try:
            data = content.read_bytes()
        except OSError as error:
            raise ValueError(f"{content}: {error.strerror}") from None
    else:
        data = json.dumps(list(content), ensure_ascii=False).encode("utf-8", "surrogatepass")
    return hashlib.sha256(data).hexdigest()[:16]


@contextmanager
def only_run(folder: Path) -> Iterator[None]:
    """Hold a folder while a run writes there. The hold ends with its process, however that ends.

    Raises ValueError if another process holds it. It needs no file: the folder itself is locked.
    """
    if fcntl is None:  # Windows
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        inode = os.fstat(handle).st_ino
        os.close(handle)
        raise ValueError(
            f"{folder}: {_holder(inode)} is at work there; wait for it, or take another --out"
        ) from None
    try:
        yield
    finally:
        os.close(handle)


def _holder(inode: int) -> str:
    """The process that holds the lock of an inode, as far as this system tells."""
    try:
        for line in Path("/proc/locks").read_text().splitlines():
            fields = line.split()  # 1: FLOCK ADVISORY WRITE 1234 fe:00:5678 0 EOF
            if fields[1] == "FLOCK" and fields[-3].endswith(f":{inode}"):
                return f"process {fields[-4]}"
    except (OSError, IndexError):
        pass
    return "another process"
