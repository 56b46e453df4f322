"""The study's report: its tables, what it refuses, and how it fills the README."""

import json
import subprocess
import sys

import pytest

from report.plot import cell, interval, markdown
from study.read import GROUPS, read_runs
from study.runs import FULL, QUICK
from study.sections import Report, flags_text
from study.statistics import MEASURES, difference
from study.tables import around, main, missing
from study_rows import everything, indexed, made, model, sampled, save, tuned
from tiny import ROOT


def test_flags_are_those_of_the_command_line():
    assert flags_text({"method": "opsd", "corrupted": 0.3}) == "--method opsd --corrupted 0.3"
    assert flags_text({"teacher_context": "rubric+answer"}) == "--teacher-context rubric+answer"
    assert flags_text({}) == ""


def test_cells():
    assert (
        cell({"mean": 0.9351, "sd": 0.0432}) == "93.5 ± 4.3"
        and cell({"mean": 0.9351, "sd": None}) == "93.5"
    )
    assert cell({"mean": 190_400, "sd": 600}, 0.001, 0) == "190 ± 1" and cell(None) == "–"
    assert (
        interval({"new": {"value": 0.031, "low": -0.012, "high": 0.0744}}, "new")
        == "+3.1 [-1.2, +7.4]"
    )
    assert interval(None, "new") == "–"
    assert markdown(["run", "n"], [["a", "12"], ["long", "3"]]).split("\n") == [
        "| run  |  n |",
        "| ---- | -: |",
        "| a    | 12 |",
        "| long |  3 |",
    ]
    assert "| -: |" in markdown(
        ["run", "n"], [["a", "3"]]
    )  # a column of one character needs its dash too


def cells_of(text: str) -> list[list[str]]:
    """The cells of a Markdown table, its head first, without the rule."""
    rows = [[c.strip() for c in line.split("|")[1:-1]] for line in text.split("\n")]
    return [row for row in rows if not row[0].startswith("--")]


def section(report: Report, title: str) -> list[str]:
    """The paragraphs of a section after its title."""
    start = report.parts.index(f"### {title}") + 1
    for end in range(start, len(report.parts) + 1):
        if end == len(report.parts) or report.parts[end].startswith("### "):
            return report.parts[start:end]


def test_tables_show_the_runs_that_are_there():
    report = Report(
        indexed(
            *(made("grpo", s) for s in range(3)),
            made("sft-30"),
            made("unheard-of"),
            tuned("grpo", 0.002, 0.8),
        ),
        ".",
    )
    text = "\n\n".join(report.parts)
    assert "| grpo `--method grpo` " in text and "| sft-30 `--method sft --corrupted 0.3` " in text
    assert [line for line in text.split("\n") if line.startswith("### ")] == [
        "### All methods",
        "### Learning rates",
        "### Corrupted annotation",
    ]
    assert "rcsd-learned minus" not in text and "unheard-of" not in text and "lr-grpo" not in text
    row = next(line for line in text.split("\n") if line.startswith("| grpo"))
    assert [c.strip() for c in row.split("|")][2] == "3"
    assert report.numbers["learning rates"] == {"grpo": {0.002: {9: 0.8}}}
    assert Report(indexed(model("base")), ".").parts[0] == "### All methods"


def test_a_best_rate_at_an_edge_is_said():
    def rates(sft, grpo):
        found = zip((0.0003, 0.001, 0.00001), zip(sft, grpo))
        rows = [(m, lr, v) for lr, pair in found for m, v in zip(("sft", "grpo"), pair)]
        return section(Report(indexed(*(tuned(*row) for row in rows)), "."), "Learning rates")

    inside = rates((0.7, 0.6, 0.5), (0.4, 0.3, 0.2))
    assert len(inside) == 2 and "on seed 9," in inside[0]
    head, *rows = cells_of(inside[1])
    assert head == ["method", "1e-05", "0.0003", "0.001"]
    assert rows == [["sft", "50.0", "**70.0**", "60.0"], ["grpo", "20.0", "**40.0**", "30.0"]]
    outside = rates((0.7, 0.8, 0.5), (0.4, 0.3, 0.9))[2]
    assert outside == "The best rate is at an edge of the grid for: sft (0.001), grpo (1e-05)."


def test_rows_and_columns_of_the_full_report(study_report):
    text = "\n\n".join(study_report.parts)
    first, second, pairs = (
        cells_of(part)
        for part in section(study_report, "All methods")
        if part.startswith("| r") and "|" in part
    )
    groups = "new laws, new links, unseen two-step, unseen chain, unseen phrasing, known laws"
    columns = [*groups.split(", "), "known links", "average"]
    assert first[0] == ["run", "n", *columns] and tuple(columns) == MEASURES
    assert second[0] == ["run", "n", "score", "length", "sampled", "seconds", "kept", "lr"]
    names = "base sft grpo opsd rcsd-learned rcsd-reference teacher-reference teacher-learned"
    for rows in (first[1:], second[1:]):
        assert [row[0].split(" ")[0] for row in rows] == names.split()
    assert second[1][4:] == ["–"] * 4
    assert second[2][1:] == ["5", "93.0 ± 0.0", "43.0 ± 0.0", "30 ± 0", "61 ± 0", "40 ± 0", "0.001"]
    correct = [made("sft", s, 0.6)["correct"]["new links"] for s in range(5)]
    mean = 20 * sum(answers.count("1") / len(answers) for answers in correct)
    assert first[2][3].startswith(f"{mean:.1f} ± ")
    paired = difference(study_report.runs, "rcsd-learned", "sft")
    row = next(row for row in pairs if row[0] == "sft")
    assert row[2:] == [interval(paired, measure) for measure in MEASURES]
    assert set(study_report.pictures) == {"tokens.svg", "long.svg"}
    assert "share of the gain" in text and "--clip-mode pointwise --rubrics reference" in text
    assert "nan" not in text
    assert study_report.numbers["differences"]["rcsd-learned - base"]["seeds"] == [0, 1, 2, 3, 4]
    assert study_report.numbers["differences"]["generic - base"]["seeds"] == [0, 1]
    alone = Report(
        indexed(*(row for row in everything() if row["run"] in ("rcsd-learned", "base"))), "."
    )
    key = "rcsd-learned - base"  # a comparison does not depend on what else there is
    assert alone.numbers["differences"][key] == study_report.numbers["differences"][key]


def test_the_samples_of_the_report(study_report):
    means, paired = (cells_of(part) for part in section(study_report, "Diversity")[1::2])
    assert means[0][2:5] == ["new laws, pass@1", "new laws, pass@8", "new laws, distinct"]
    assert [row[0].split(" ")[0] for row in means[1:]] == [
        *("base", "sft", "grpo", "opsd", "rcsd-learned", "rcsd-reference")
    ]
    # base: 4, 0, 0, 0 of 8 are right and 2, 5, 6, 8 differ; sft: 8, 0, 2, 1 and 1, 3, 3, 2
    assert [row[1] for row in means[1:]] == ["3"] * 6
    assert means[1][2:5] == ["12.5 ± 0.0", "25.0 ± 0.0", "5.2 ± 0.0"]
    assert means[2][2:5] == ["34.4 ± 0.0", "75.0 ± 0.0", "2.2 ± 0.0"]
    assert paired[1][:2] == ["sft", "3"]
    assert [text.split(" ")[0] for text in paired[1][2:5]] == ["+21.9", "+50.0", "-3.0"]
    numbers = study_report.numbers["differences of samples"]["sft - base"]
    assert numbers["new links, distinct"]["value"] == pytest.approx(-3)


def test_what_the_other_sections_compare(study_report):
    def rows(title, part=-1):
        head, *rows = cells_of(section(study_report, title)[part])
        return [{**dict(zip(head, row)), "run": row[0].split(" ")[0]} for row in rows]

    def paired(a, b, measure="new links"):
        return interval(difference(study_report.runs, a, b), measure)

    long = {row["run"]: row for row in rows("400 steps")}
    assert long["rcsd-400-ema"]["new links − short"] == paired("rcsd-400-ema", "rcsd-learned")
    assert long["sft-400"]["new links − short"] == paired("sft-400", "sft")
    assert (long["sft-400"]["best"], long["sft-400"]["last"]) == ("80.0", "80.0")
    corrupted = {row["run"]: row for row in rows("Corrupted annotation")}
    assert corrupted["noisy-30"]["average − clean"] == paired(
        "noisy-30", "rcsd-reference", "average"
    )
    assert corrupted["opsd-30"]["new laws − clean"] == paired("opsd-30", "opsd", "new laws")
    for name in ("sft", "rcsd-reference", "rcsd-learned"):  # clean ones themselves
        assert corrupted[name]["new laws − clean"] == "–"
    writer = rows("A rubric writer taught on noisy rubrics")
    assert [row["run"] for row in writer] == ["rcsd-learned", "noisy-writer", "noisy-30"]
    # rcsd-learned: its writer is that of teacher-learned
    assert [row["right key, known laws"] for row in writer] == ["70.0 ± 0.0", "70.0 ± 0.0", "–"]
    criteria = {row["run"]: row for row in rows("Which criteria teach")}
    teachers = ["teacher-pitfalls", "teacher-reference"]
    assert list(criteria) == ["base", *teachers, "essential", "pitfalls", "rest", "rcsd-reference"]
    assert criteria["pitfalls"]["new links − base"] == paired("pitfalls", "base")


def test_an_unfinished_study_says_what_is_missing():
    runs = indexed(*everything())
    assert missing(runs, FULL) == ""
    del runs["shuffled"], runs["grpo"][3], runs["sft"][0], runs["sft"][4]
    assert missing(runs, FULL) == (
        "The study is not finished. Missing: sft (seeds 0, 4); grpo (seed 3); "
        "shuffled (seeds 0, 1)."
    )
    assert missing(runs, QUICK).endswith("Missing: sft (seed 0); shuffled (seed 0).")


README = "# Title\r\n\nprose ± \n<!-- study -->\nold\n<!-- /study -->\nmore, and no line end"


@pytest.mark.parametrize(
    "change, message",
    [
        ("not json", "expected a JSON object"),
        ("[1]", "expected a JSON object"),
        ("", "expected a JSON"),
        ({"run": 3}, "run: expected a name, got 3"),
        ({"seed": None}, "seed: expected a whole number"),
        ({"seed": True}, "seed: expected"),
        ({"flags": []}, "flags: expected"),
        ({"lr": "x"}, "lr: expected"),
        ({"lr": -1}, "lr: expected"),
        ({"machine": 1}, "machine: expected"),
        ({"steps": None}, "steps: expected"),
        ({"correct": dict.fromkeys(GROUPS[1:], "1")}, "correct: expected for each group"),
        ({"correct": dict.fromkeys(GROUPS, "12")}, "correct: expected"),
        ({"correct": dict.fromkeys(GROUPS, "")}, "correct: expected"),
        ({"correct": dict.fromkeys(GROUPS, "1" * 60)}, "correct: expected 45 answers in new links"),
        ({"score": dict.fromkeys(GROUPS, 1.1)}, "score: expected"),
        ({"length": {}}, "length: expected"),
        (sampled("9", "1"), "sampled: expected"),
        (sampled("8", "0"), "sampled: expected"),
        (sampled("88", "1"), "sampled: expected"),
        (sampled("", ""), "sampled: expected"),
        ({"curve": [[1, 2, 3]]}, "curve: expected"),
        ({"kept": float("nan")}, "kept: expected a number of at least 0, got NaN"),
        ({"seconds": float("inf")}, "seconds: expected"),
        ({"valid": 1.5}, "valid: expected"),
        ({"train": 1}, "train: expected"),
        ({"train": {"clipped": "x"}}, "train: expected"),
        ({"valid_new": 2}, "valid_new: expected"),
        ({"stage1": {"new laws": 1}}, "stage1: expected"),
        ("missing", "kept: expected a number of at least 0, got nothing"),
    ],
)
def test_bad_lines_are_refused_and_nothing_is_written(change, message, tmp_path, capsys):
    row = made("grpo")
    if change == "missing":
        del row["kept"]
    line = (
        change
        if isinstance(change, str) and change != "missing"
        else json.dumps(row if change == "missing" else {**row, **change})
    )
    runs, readme = save(tmp_path / "runs.jsonl", [made("sft")]), tmp_path / "README.md"
    with open(runs, "a", encoding="utf-8") as file:
        file.write(line + "\n")
    readme.write_bytes(README.encode())
    assert main(["--runs", str(runs), "--out", str(tmp_path / "out"), "--readme", str(readme)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(f"tables.py: {runs}:2: {message}") and err.count("\n") == 1
    assert readme.read_bytes() == README.encode() and not (tmp_path / "out").exists()


def test_missing_and_empty_files_are_refused(tmp_path, capsys):
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "bytes.jsonl").write_bytes(b"\xff\n")
    for name in ("nowhere.jsonl", "empty.jsonl", "bytes.jsonl"):
        assert main(["--runs", str(tmp_path / name), "--out", str(tmp_path / "out")]) == 2
        err = capsys.readouterr().err
        assert (
            err.startswith(f"tables.py: {tmp_path / name}:")
            and "expected" in err
            and err.count("\n") == 1
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "text",
    [
        "no markers",
        "<!-- study --> only",
        "<!-- /study --> <!-- study -->",
        "<!-- study --> <!-- /study --> <!-- study -->",
    ],
)
def test_a_readme_without_its_markers_is_refused(text, tmp_path, capsys):
    runs, readme = save(tmp_path / "runs.jsonl", [made("sft")]), tmp_path / "README.md"
    readme.write_text(text)
    assert main(["--runs", str(runs), "--out", str(tmp_path / "out"), "--readme", str(readme)]) == 2
    assert capsys.readouterr().err.startswith(f"tables.py: {readme}: markers: expected one")
    assert readme.read_text() == text and not (tmp_path / "out").exists()


def test_readme_is_filled_between_its_markers_and_twice_gives_the_same(tmp_path, capsys):
    runs = save(tmp_path / "runs.jsonl", [row for row in everything() if row["seed"] == 0])
    readme, out = tmp_path / "README.md", tmp_path / "study" / "results"
    readme.write_bytes(README.encode())
    arguments = ["--runs", str(runs), "--out", str(out), "--readme", str(readme)]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    once = {path: path.read_bytes() for path in (readme, *out.iterdir())}
    assert sorted(p.name for p in out.iterdir()) == ["long.svg", "results.json", "tokens.svg"]
    before, after = README.encode().split(b"old")
    assert once[readme].startswith(before) and once[readme].endswith(after[1:])
    text = once[readme].decode()
    assert "\nold\n" not in text and printed.strip() in text and "](study/results/long.svg)" in text
    assert (
        "x86_64, cpu" in printed.split("\n")[0]
        and "python -m study.tables" in printed.split("\n")[0]
    )
    assert main(arguments) == 0
    assert once == {path: path.read_bytes() for path in (readme, *out.iterdir())}
    assert around(readme)[0].encode() == before[:-1] and around(readme)[1].encode() == after[1:]


def test_first_line_counts_the_runs(tmp_path, capsys):
    rows = [made("grpo", s) for s in range(3)] + [model("base"), tuned("grpo", 0.002, 0.8)]
    rows.append({"run": "prepared", "seed": 9, "flags": {}, "machine": "x86_64", "steps": 0})
    assert main(["--runs", str(save(tmp_path / "runs.jsonl", rows)), "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out.split("\n\n")
    assert said[0].startswith("4 runs (1 of them to choose learning rates), trained on x86_64")
    assert "grpo (seeds 3, 4)" in said[1] and "sft (seeds 0, 1, 2, 3, 4)" in said[1]


def test_a_later_line_replaces_an_earlier_one(tmp_path):
    path = save(
        tmp_path / "runs.jsonl",
        [made("grpo", valid=0.1), made("grpo", valid=0.2), made("lr-sft-1", correct=None)],
    )
    runs = read_runs(path)
    assert runs["grpo"][0]["valid"] == 0.2 and set(runs) == {"grpo", "lr-sft-1"}


def test_the_script_runs_by_itself(tmp_path):
    runs = save(tmp_path / "runs.jsonl", [made("opsd", s) for s in range(2)])
    done = subprocess.run(
        [sys.executable, "-m", "study.tables", "--runs", str(runs), "--out", str(tmp_path / "out")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert done.returncode == 0 and "| opsd `--method opsd` " in done.stdout and done.stderr == ""
    numbers = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    rows = [made("opsd", s)["correct"]["new laws"] for s in range(2)]
    assert numbers["runs"]["opsd"]["new laws"]["mean"] == pytest.approx(
        sum(r.count("1") / len(r) for r in rows) / 2
    )
