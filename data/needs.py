"""What a question must have for a method, its reward or its teacher, and which questions have it."""

from collections.abc import Callable
from pathlib import Path

from rubrics import TEACHER_CONTEXTS, Example, can_check
from trainer.settings import Settings

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


def needs_of(method, context: str | None, settings: Settings) -> dict[str, str]:
    """What a question of stage II must have, keys of NEEDS, with the flag that asks for each.

    It is for a method (rcsd.Method), and for a teacher that sees `context`, a key of TEACHER_CONTEXTS.
    """
    flag, needs = f"--method {settings.method}", {}
    if method.needs:
        needs[method.needs] = flag
    if not method.teacher_context:
        flag = f"--teacher-context {context}"
    for name in TEACHER_CONTEXTS.get(context, ()):
        if name != "rubric":
            needs["an answer" if name == "answer" else f"a {name}"] = flag
        elif settings.rubrics not in ("learned", "generic"):
            needs["a rubric"] = f"--rubrics {settings.rubrics}"
    return needs


def what_they_have(examples: list[Example]) -> str:
    """How many of the questions have each of NEEDS, and the flag that it is for."""
    found = []
    for name, (has, flag) in NEEDS.items():
        if n := sum(map(has, examples)):
            found.append(f"{n} have {name} ({flag})")
    return f"of {len(examples)} questions {', '.join(found) or 'none has anything else'}"


def with_needs(
    examples: list[Example], needs: dict[str, str], out: Path, settings: Settings
) -> list[Example]:
    """The questions that have all of `needs`, keys of NEEDS; prints how many have not.

    Raises ValueError if no question has one of them; then it says what the file has, and what for.
    """
    path = settings.data or out / "data"
    for need, flag in needs.items():
        kept = [e for e in examples if NEEDS[need][0](e)]
        if not kept:
            has = f"{flag} needs {need}, and no question has one"
            raise ValueError(f"{path}: {has}; {what_they_have(examples)}")
        if len(kept) < len(examples):
            left_out = f"{len(examples) - len(kept)} of {len(examples)} questions"
            print(f"{path}: {flag} needs {need}: left out {left_out}, which have none")
        examples = kept
    return examples
