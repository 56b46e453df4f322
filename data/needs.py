"""What a question must have for a method, its reward or its teacher, and which questions have it."""

from collections.abc import Callable, Iterable
from pathlib import Path

from rubrics import Example, can_check

NEEDS: dict[str, tuple[Callable[[Example], bool], str]] = {  # (is it there, the flag that needs it)
    "a rubric": (lambda e: bool(e.rubric), "--rubrics reference"),
    "a rubric with checks": (
        lambda e: bool(e.rubric) and all(c.check for c in e.rubric.criteria),
        "--method grpo-rubric",
    ),
    "an answer": (lambda e: bool(e.answer), "--teacher-context answer"),
    "an answer to check": (can_check, "--method grpo"),
    "a solution": (lambda e: bool(e.solution), "--method sft"),
    "a hint": (lambda e: bool(e.hint), "--teacher-context hint"),
}


def with_needs(
    examples: list[Example], needs: Iterable[str], path: Path | str, flags: str
) -> list[Example]:
    """The questions that have all of `needs`, keys of NEEDS; prints how many have not.

    `flags` is what needs it, in words. Raises ValueError if no question has it; then it says what
    the file has, and what for.
    """
    for need in needs:
        kept = [e for e in examples if NEEDS[need][0](e)]
        if not kept:
            counts = {name: sum(map(has, examples)) for name, (has, _) in NEEDS.items()}
            found = [f"{n} have {name} ({NEEDS[name][1]})" for name, n in counts.items() if n]
            has = f"; of {len(examples)} questions {', '.join(found)}" if found else ""
            raise ValueError(f"{path}: {flags} needs {need}, and no question has one{has}")
        if len(kept) < len(examples):
            left_out = f"{len(examples) - len(kept)} of {len(examples)} questions"
            print(f"{path}: {flags} needs {need}: left out {left_out}, which have none")
        examples = kept
    return examples
