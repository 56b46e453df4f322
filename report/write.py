"""What evaluate.py writes for people: the report of a run, and the page about one question."""

import json
import sys
from pathlib import Path

from data.files import digest, write_lines
from data.load import load_examples, read_tests
from data.reading import read_json, read_text, write_json
from report import explain, page, panels, terminal
from report.curves import curves
from report.summary import summary
from rubrics import Rubric, parse_rubric
from trainer.processes import rank_and_size, wait_for_all
from trainer.settings import Settings


def write_page(out: Path, name: str, report: dict) -> None:
    """Write NAME.json and the page NAME.html made from it."""
    if rank_and_size()[0]:
        return
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / f"{name}.json", report, allow_nan=False)
    write_lines(out / f"{name}.html", [page.page(report)])


def write_report(
    out: Path,
    folders: list[Path],
    runs: list[dict],
    table: list[dict],
    settings: Settings | None = None,
) -> None:
    """Write report.json and report.html for one run, or for several if `settings` is None.

    The report of several runs leaves out the sections that need models. `table` holds the parts
    of the table.
    """
    path, made_from = out / "report.json", digest(json.dumps(run) for run in runs)
    report = read_json(path) if path.exists() else {}
    wait_for_all()  # with several processes: all must have looked before the first writes
    if report.get("made_from") != made_from:
        facts = [panels.facts(run) for run in runs]
        report = {"runs": facts, "summary": summary(runs), "table": table}
        report = panels.tidy(report | {"curves": curves(folders)})
        if settings:
            report |= panels.report(out, settings, runs[0])
        report["made_from"] = made_from
    write_page(out, "report", report)
    print(f"report: {out / 'report.html'}")


def own_question(question: str | None, path: Path) -> tuple[str, Rubric]:
    """The user's own question and the rubric for it in the file `path`.

    The file holds a rubric as text, or examples in JSON, of which the question chooses one. Raises
    ValueError for a file without a rubric for this question.
    """
    text = read_text(path)
    if text.lstrip().startswith("{"):
        found = [e for e in load_examples(path)[0] if e.rubric]
        chosen = [e for e in found if e.question == question]
        if not chosen and (len(found) == 1 or not question):
            chosen = found
        if not chosen:
            raise ValueError(
                f"{path}: {len(found)} questions with a rubric, none of them this --question"
            )
        return question or chosen[0].question, chosen[0].rubric
    if not (question or "").strip():
        raise ValueError("explain needs --question (or a --rubric FILE of JSON that has it)")
    try:
        return question, parse_rubric(text)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def explain_one(
    out: Path, settings: Settings, question: str | None, rubric_file: Path | None, color: bool
) -> None:
    """The command `explain`: print and write strips and criteria of one question's greedy answers.

    Without a rubric file, explains the test question of this run that its rubric changes most.
    """
    if question and not rubric_file:
        raise ValueError("explain --question needs --rubric FILE")
    run = explain.open_run(out, settings)
    if rubric_file:
        question, rubric = own_question(question, rubric_file)
    else:
        chosen = explain.most_changed(run, read_tests(out / "data" / "test_new.jsonl"))
        question, rubric = chosen.question, chosen.rubric
    report = panels.tidy({"examples": [explain.explain(run, question, rubric)]})
    write_page(out, "explain", report)
    print(terminal.terminal(report, color or sys.stdout.isatty()))
    print(f"\npage: {out / 'explain.html'}")
