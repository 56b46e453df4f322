"""Check the exercises: python -m exercises.check (all), ... 5 (one), ... 5 6 (some).

Each check (exercises/checks) has a case worked by hand (the one of the exercise's text), a
property, and random inputs on which the shipped function gives the expected value, in float64. A
wrong value is compared with what typical mistakes give, and the mistake is named. Exit code 0: all
that were checked passed; 1: some did not; 2: a bad argument.

No file here holds an answer, but for what it needs to name mistakes: the shipped source is it.
"""

import importlib
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

sys.path.append(str(Path(__file__).resolve().parents[1]))  # for python exercises/check.py
from data.console import open_console
from exercises.harness import Endless, Wrong

HERE = Path(__file__).resolve().parent
SECONDS = 20  # for one exercise: an endless loop is a mistake like any other


class Exercise(NamedTuple):
    number: int
    title: str
    file: str  # the stub
    check: Callable
    shipped: tuple[Callable, ...]  # the learner's functions have the same names


def read_exercise(path: Path) -> Exercise:
    """The exercise that a file such as exercises/checks/check_05_token_divergence.py checks."""
    module = importlib.import_module(f"exercises.checks.{path.stem}")
    stem = path.stem.removeprefix("check_")
    return Exercise(int(stem[:2]), module.TITLE, stem + ".py", module.check, module.SHIPPED)


EXERCISES = [read_exercise(path) for path in sorted(HERE.glob("checks/check_*.py"))]


def too_long(*_):
    raise Endless(f"no result after {SECONDS} seconds: does a loop never end?")


def notes(error: BaseException) -> str:
    return "".join(f"\n{note}" for note in getattr(error, "__notes__", ()))


def fault(error: BaseException, file: str) -> str:
    """The last line of an exception, and the last line of the learner's file that it went
    through."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename).name == file]
    if isinstance(error, SyntaxError) and Path(error.filename or "").name == file:
        lines = [error.lineno]
    text = traceback.format_exception_only(type(error), error)
    what = text[-1 - len(getattr(error, "__notes__", ()))].strip()
    return (f"line {lines[-1]} of {file}: {what}" if lines else what) + notes(error)


def run(check: Callable, file: str, functions=None, names=()) -> str:
    """'' if the check passed, or why not.

    Takes the functions given, or else those of these names in the file.
    """
    if hasattr(signal, "SIGALRM"):
        before = signal.signal(signal.SIGALRM, too_long)
        signal.alarm(SECONDS)
    try:
        if functions is None:
            path = HERE / file
            module = {"__name__": path.stem, "__file__": str(path)}
            exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), module)
            if missing := [name for name in names if not callable(module.get(name))]:
                return f"{file} has no function {missing[0]}"
            functions = [module[name] for name in names]
        check(*functions)
    except NotImplementedError as error:
        if not str(error).startswith("exercise "):
            return fault(error, file)
        last = traceback.extract_tb(error.__traceback__)[-1].name
        if last in names[1:]:
            return f"{last} is not written yet; what comes before it is right"
        return "not written yet"
    except Wrong as error:
        return str(error) + notes(error)
    except (Exception, SystemExit) as error:
        return fault(error, file)
    finally:
        if hasattr(signal, "SIGALRM"):
            signal.alarm(0)
            signal.signal(signal.SIGALRM, before)
    return ""


def main(arguments: list[str]) -> int:
    """Check the exercises of these numbers, or all; returns the exit code."""
    open_console()
    if {"-h", "--help"} & {*arguments}:
        print(__doc__)
        return 0
    known = {str(exercise.number): exercise for exercise in EXERCISES}
    if bad := [a for a in arguments if a not in known]:
        numbers = f"numbers from {EXERCISES[0].number} to {EXERCISES[-1].number}"
        message = f"check.py: no exercise {bad[0]!r}; expected {numbers}, or none for all"
        print(message, file=sys.stderr)
        return 2
    results = Counter()
    for number, title, file, check, shipped in [known[a] for a in arguments] or EXERCISES:
        problem = run(check, file, names=[f.__name__ for f in shipped])
        results[problem == ""] += 1
        head, _, body = (problem or "passed").partition("\n")
        if problem and head != "not written yet":
            head, body = "not right yet", problem
        print(f"{number} {title}: {head}")
        print("".join(f"    {line}\n" for line in body.split("\n") if line), end="")
    if results.total() > 1:
        print(f"{results[True]} of {results.total()} passed")
    return 0 if not results[False] else 1


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main(sys.argv[1:]))
