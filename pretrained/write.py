"""What evaluate.py prints and writes for one's own data: the table, results_own.json, report.html."""

from pathlib import Path
from textwrap import wrap

from data.reading import is_dict, is_text, read_json, write_json
from data.split import held_out_questions
from pretrained.judge import add_judgements
from pretrained.yardsticks import evaluate_own, own_table, own_table_parts
from report import explain, panels
from report.alignment import stage1_panel
from report.curves import curves
from report.pass_at import add_pass_at
from report.summary import own_summary
from report.table import WIDTH
from report.write import write_page
from rubrics import Example
from trainer.processes import rank_and_size, wait_for_all
from trainer.settings import Settings

SHOWN = 3  # questions in the report
WANTED = {
    "settings": (is_dict, "the settings of the run"),
    "machine": (is_text, "a text"),
    "answers": (is_dict, "a list of answers for each model"),
    "inputs": (is_dict, "the digests of what it was made from"),
}


def report_own(
    out: Path,
    settings: Settings,
    inputs: dict[str, str],
    seconds: dict[str, float],
    k: int,
    judged: bool,
) -> None:
    """Measure a finished run on its held-out questions, print the table, write the report.

    `inputs` are the digests of what it is made from, `seconds` the time of each stage's steps. With
    k > 0 also pass@k, with `judged` the rubric score by the base as judge.
    """
    path = out / "results_own.json"
    results = read_json(path, WANTED) if path.exists() else {}
    wait_for_all()  # with several processes: all must have looked before the first writes
    before, run = dict(results), explain.open_run(out, settings)
    if results.get("inputs") != inputs:
        results = evaluate_own(run) | {"inputs": inputs, "seconds": seconds}
    examples = held_out_questions(settings)
    if k and results.get("pass_at") != k:
        add_pass_at(results["answers"], examples, run, k)
        results["pass_at"] = k
    if judged and not results.get("judged"):
        add_judgements(results["answers"], examples, run)
        results["judged"] = True
    if results != before and rank_and_size()[0] == 0:
        write_json(path, results, indent=1)
    questions = f"{results['held_out']} held-out questions"
    parts = own_table_parts(results["answers"], questions, results.get("pass_at", 0))
    said = own_summary(results["answers"])
    print("\n".join([*wrap(said, WIDTH), own_table(parts)]))
    report = {"runs": [panels.facts(results)], "summary": said, "table": parts}
    report |= {"curves": curves([out])} | sections(run)
    write_page(out, "report", panels.tidy(report))
    print(f"report: {out / 'report.html'}")


def sections(run: explain.Run) -> dict:
    """Strips and criteria of the questions that the rubric changes most, and stage I's rubrics."""
    left: list[Example] = [e for e in held_out_questions(run.settings) if e.rubric]
    left = [e for e in left if explain.fits(run, e.question, rubric=e.rubric)][: explain.TRIED]
    shown = []
    while left and len(shown) < SHOWN:
        shown.append(explain.most_changed(run, left))
        left.remove(shown[-1])
    if not shown:
        return {}
    examples = [explain.explain(run, e.question, e.rubric) for e in shown]
    return {"examples": examples, "stage1": stage1_panel(run, shown) if run.writer else []}
