"""What every command line shares: flags, a console of any encoding, errors in one line.

Nothing here needs torch, as `python -m data.prepare` works without it.
"""

import argparse
import errno
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GO_ON = "the same command with --resume goes on from the last checkpoint"
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NO_MEMORY = re.compile(r"out of memory|not enough memory|can't allocate memory|alloc_cpu", re.I)


class Parser(argparse.ArgumentParser):
    """argparse with errors in one line, help as it is written, and no guessing of flags."""

    def __init__(self, description: str, **options):
        formatter = argparse.RawDescriptionHelpFormatter
        super().__init__(description=description, formatter_class=formatter, **options)

    def parse_args(self, *arguments, **options):
        open_console()  # before --help prints
        return super().parse_args(*arguments, **options)

    def error(self, message):
        self.exit(2, f"{self.prog}: {one_line(message)} (see --help)\n")


def open_console(encoding: str | None = None) -> None:
    """A console that lacks a character (cp1252, ASCII) shows "?" or its code instead of failing.

    With `encoding` the output has that encoding, as a file needs it.
    """
    for stream, how in ((sys.stdout, "replace"), (sys.stderr, "backslashreplace")):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding=encoding, errors=how)


def file_path(text: str) -> Path:
    """A path from a flag. Raises ArgumentTypeError for an empty one, which would mean "here"."""
    if not text.strip():
        raise argparse.ArgumentTypeError("expected a path, got an empty text")
    return Path(text)


def folder_path(text: str) -> Path:
    """A folder to write into. Raises ArgumentTypeError for one that holds this project's code."""
    path = file_path(text)
    place = path.resolve()
    if (place == ROOT or ROOT in place.parents) and any(place.glob("*.py")):
        raise argparse.ArgumentTypeError(
            f"{text!r} holds the project's own code; expected a folder for results, such as out/mine"
        )
    return path


def number_flag(kind: type, least: int, most: int) -> Callable[[str], int | float]:
    """The type of a flag that takes an int or a float (`kind`) within these bounds."""
    name = "whole number" if kind is int else "number"

    def read(text: str) -> int | float:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not least <= value <= most:
            expected = f"expected a {name} from {least} to {most:,}"
            raise argparse.ArgumentTypeError(f"{expected}, got {text[:40]!r}")
        return value

    return read


def one_line(text: object) -> str:
    """The text with its lines joined."""
    return " ".join(str(text).split("\n"))


def explanation(error: Exception) -> str | None:
    """What a user can mend, in one line; None for a fault of the program."""
    if isinstance(error, OSError):
        reason = error.strerror or str(error)
        if error.errno in DISK_FULL:
            reason = f"the disk is full ({reason}); what was written before is kept"
            return f"{error.filename or 'standard output'}: {reason}"
        return f"{error.filename}: {reason}" if error.filename else reason
    if isinstance(error, ValueError):
        return one_line(error)
    if isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and NO_MEMORY.search(str(error))
    ):
        return "out of memory; try a smaller --micro-tokens, --batch or model"
    return None


def exit_code(program: str, action: Callable[[], None], go_on: str = GO_ON) -> int:
    """Run a command line's action. What a user can mend becomes one line on stderr and code 2.

    Of several processes each says its own error, with its rank, whatever its output goes to.
    """
    several = int(os.environ.get("WORLD_SIZE", 1)) > 1
    who = f"{program}: rank {os.environ.get('RANK')}" if several else program
    try:
        action()
        sys.stdout.flush()
        return 0
    except BrokenPipeError:  # whoever read the output, `head` say, has seen enough
        sys.stdout = open(os.devnull, "w", encoding="utf-8")
        return 0
    except KeyboardInterrupt:
        message, code = f"interrupted; {go_on}", 130
    except Exception as error:
        message, code = explanation(error), 2
        if several:
            sys.stderr = sys.__stderr__
        if message is None:
            if several:
                print(f"{who}: {type(error).__name__}: {one_line(error)}", file=sys.stderr)
            raise
    try:
        print(f"{who}: {message}", file=sys.stderr)
    finally:
        drop_output()
    return code


def drop_output() -> None:
    """Forget what could not be printed, or Python tries again when it ends and fails again."""
    try:
        sys.stdout.flush()
    except OSError:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")
