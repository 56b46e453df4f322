"""The table of a finished run, of the calculations and of the questions that ask why."""

from collections.abc import Iterable
from textwrap import fill

from report.curves import spread
from report.summary import summary

PARTS = {  # of the table: the groups of test questions in each
    "calculations": (
        "known laws",
        "new laws",
        "unseen phrasing, known laws",
        "unseen phrasing, new laws",
        "unseen two-step, known",
        "unseen two-step, new",
    ),
    "explanations": (
        "known links",
        "new links",
        "unseen phrasing, known links",
        "unseen phrasing, new links",
        "unseen chain, known",
        "unseen chain, new",
    ),
}
GROUPS = tuple(group for groups in PARTS.values() for group in groups)
SEEN = tuple(g for g in GROUPS if not g.startswith("unseen"))  # phrasings that occur in training
WIDTH = 100  # columns of a terminal


def table_parts(runs: list[dict]) -> list[dict]:
    """The table that train.sh ends with, in %: calculations, explanations, rubrics of stage I.

    A part is {"title", "columns", "counted", "rows": [{"label", "n", "cells"}]}. A cell is [mean,
    standard deviation], the latter None for a single run; n is the number of questions, if known.
    A group that no run has a question of has no rows, and a part without rows is left out.
    """

    def measured(run: dict, *names: str) -> float:
        for name in names:  # a test set may lack a group or a kind
            run = run.get(name, float("nan")) if isinstance(run, dict) else run
        return run

    def row(label: str, columns: Iterable[str], measure: str, *names: str, n=None) -> dict:
        cells = [spread([100 * measured(run, measure, c, *names) for run in runs]) for c in columns]
        return {"label": label, "n": n, "cells": cells}

    columns, models = list(runs[0]["accuracy"]), {"base": "base", "stage1": "stage I"}
    parts, written = [], []
    for title, groups in PARTS.items():
        groups = [g for g in groups if any(run["questions"].get(g) for run in runs)]
        seen, rows = [g for g in groups if g in SEEN], []
        for group in groups:
            counts = {run["questions"].get(group) for run in runs}
            n = counts.pop() if len(counts) == 1 else None
            rows.append(row(group, columns, "accuracy", group, n=n))
        for group in seen:
            for kind in sorted({k for run in runs for k in run["kinds"]["base"].get(group, ())}):
                rows.append(row(f"  {group}, {kind}", columns, "kinds", group, kind))
        for group in seen:
            rows.append(row(f"rubric score, {group}", columns, "score", group))
            for name, words in (("valid", "valid"), ("key", "right key criteria")):
                written.append(row(f"{group}: {words}", models, "stage1", group, name))
        title = f"{title}: accuracy, %"
        parts.append({"title": title, "columns": columns, "counted": True, "rows": rows})
    title, names = "stage I: greedy rubrics, %", list(models.values())
    parts.append({"title": title, "columns": names, "counted": False, "rows": written})
    return [part for part in parts if part["rows"]]


def table(runs: list[dict]) -> str:
    """The run in a sentence and in the table; of several runs (seeds) the mean ± deviation."""

    def line(label: str, n: int | None, cells: list) -> str:
        text = f"{label:39}" if n is None else f"{label:34}{n:5}"
        for middle, deviation in cells:
            text += f"{middle:14.1f}" if deviation is None else f"{middle:8.1f} ± {deviation:3.1f}"
        return text

    lines = [fill(summary(runs), WIDTH)]
    for part in table_parts(runs):
        names, contexts = f"{part['title']:39}", f"{'':34}{'n':>5}"
        for column in part["columns"]:
            name, _, context = column.partition(", ")
            names += f"{name:>14}"
            contexts += f"{context.replace('rubric', 'rubr.'):>14}"
        lines += ["", names, *([contexts] if part["counted"] else [])]
        lines += [line(**row) for row in part["rows"]]
    return "\n".join(lines).lstrip("\n")
