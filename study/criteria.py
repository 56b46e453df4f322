"""Which criteria teach? RCSD whose teacher reads a part of each rubric.

The three methods are rows of rcsd.METHODS while this file is imported.
"""

from collections.abc import Callable

from rcsd import METHODS, Method
from rubrics import GENERIC, Rubric
from step import distillation


def only(*categories: str) -> Callable[[Rubric], Rubric]:
    """A function that keeps the criteria of these categories.

    A rubric without any becomes the generic one, which says nothing about its question.
    """

    def kept(rubric: Rubric) -> Rubric:
        criteria = tuple(c for c in rubric.criteria if c.category in categories)
        return Rubric(criteria) if criteria else GENERIC

    return kept


def method(*categories: str) -> Method:
    """RCSD whose teacher reads these categories alone."""
    return Method(distillation, uses_teacher=True, edit_rubric=only(*categories))


METHODS |= {
    "rcsd-essential": method("Essential"),
    "rcsd-pitfalls": method("Pitfall"),
    "rcsd-rest": method("Important", "Optional"),
}
