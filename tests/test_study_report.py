"""The study's report: its tables, what it refuses, and how it fills the README."""

import json
import subprocess
import sys

import pytest

from report.plot import cell, interval, markdown
from study.read import read_runs
from study.sections import Report, flags_text
from study.statistics import MEASURES, difference
from study.tables import around, main
from study_rows import everything, indexed, made, model, save
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


def test_tables_show_the_runs_that_are_there():
    report = Report(
        indexed(
            *(made("grpo", s) for s in range(3)),
            made("sft-30"),
            made("unheard-of"),
            made("lr-grpo-0.002", lr=0.002),
        ),
        ".",
    )
    text = "\n\n".join(report.parts)
    assert "| grpo `--method grpo` " in text and "| sft-30 `--method sft --corrupted 0.3` " in text
    assert [line for line in text.split("\n") if line.startswith("### ")] == [
        "### All methods",
        "### Corrupted annotation",
        "### Tokens and questions",
    ]
    assert "rcsd-learned minus" not in text and "unheard-of" not in text and "lr-grpo" not in text
    row = next(line for line in text.split("\n") if line.startswith("| grpo"))
    assert [c.strip() for c in row.split("|")][2] == "3"
    assert report.numbers["learning rates"] == {"lr-grpo-0.002": {0: 0.8}}
    assert Report(indexed(model("base")), ".").parts[0] == "### All methods"


def test_rows_and_columns_of_the_full_report(study_report):
    text = "\n\n".join(study_report.parts)
    head, *rows = [
        [c.strip() for c in line.split("|")[1:-1]] for line in study_report.parts[2].split("\n")
    ]
    assert head == [
        "run",
        "n",
        *MEASURES.values(),
        "score",
        "length",
        "sampled",
        "seconds",
        "kept",
        "lr",
    ]
    assert [row[0].split(" ")[0] for row in rows[1:]] == [
        "base",
        "sft",
        "grpo",
        "grpo-rubric",
        "opsd",
        "reverse-kl-pg",
        "rcsd-learned",
        "rcsd-reference",
        "sft-30",
        "opsd-30",
        "teacher-reference",
        "teacher-learned",
    ]
    assert (
        rows[2][6:] == ["97.0 ± 0.0", "42.5 ± 0.0", "30 ± 0", "61 ± 0", "40 ± 0", "0.001"]
        and rows[1][-1] == "–"
    )
    assert set(study_report.pictures) == {"rates.svg", "efficiency.svg", "stage1.svg"}
    stage1 = study_report.parts[-1].split("\n")[2:]
    assert [line.split("|")[3].strip() for line in stage1] == [
        "0",
        "12",
        "36",
        "120",
        "360",
        "1200",
    ]
    assert (
        stage1[-1].split("|")[-3].strip() == "90.0 ± 0.0"
    )  # rcsd-learned: its writer is that of teacher-learned
    few = next(line for line in text.split("\n") if line.startswith("| rcsd-questions-100 "))
    paired = difference(study_report.runs, "rcsd-questions-100", "rcsd-reference")
    assert [c.strip() for c in few.split("|")[-3:-1]] == [
        interval(paired, "new"),
        interval(paired, "average"),
    ]
    assert (
        "share of the gain" in text and "--clip-mode scale --clip 0.5" in text and "nan" not in text
    )
    assert study_report.numbers["differences"]["rcsd-learned - base"]["seeds"] == [0, 1, 2, 3, 4]
    assert study_report.numbers["differences"]["generic - base"]["seeds"] == [0, 1, 2]
    alone = Report(
        indexed(*(row for row in everything() if row["run"] in ("rcsd-learned", "base"))), "."
    )
    key = "rcsd-learned - base"  # a comparison does not depend on what else there is
    assert alone.numbers["differences"][key] == study_report.numbers["differences"][key]


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
        ({"correct": {"known": "1", "new": "1"}}, "correct: expected known, new and hard"),
        ({"correct": {"known": "1", "new": "12", "hard": "0"}}, "correct: expected"),
        ({"correct": {"known": "1", "new": "", "hard": "0"}}, "correct: expected"),
        (
            {"correct": {"known": "1" * 40, "new": "1" * 59, "hard": "1" * 50}},
            "correct: expected 60 answers in new",
        ),
        ({"score": {"known": 1, "new": 1.1, "hard": 0}}, "score: expected"),
        ({"length": {}}, "length: expected"),
        ({"curve": [[1, 2, 3]]}, "curve: expected"),
        ({"kept": float("nan")}, "kept: expected a number of at least 0, got NaN"),
        ({"seconds": float("inf")}, "seconds: expected"),
        ({"valid": 1.5}, "valid: expected"),
        ({"train": 1}, "train: expected"),
        ({"train": {"clipped": "x"}}, "train: expected"),
        ({"valid_new": 2}, "valid_new: expected"),
        ({"stage1": {"key_new": 1}}, "stage1: expected"),
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
    assert sorted(p.name for p in out.iterdir()) == [
        "efficiency.svg",
        "rates.svg",
        "results.json",
        "stage1.svg",
    ]
    before, after = README.encode().split(b"old")
    assert once[readme].startswith(before) and once[readme].endswith(after[1:])
    text = once[readme].decode()
    assert (
        "\nold\n" not in text and printed.strip() in text and "](study/results/rates.svg)" in text
    )
    assert (
        "x86_64, cpu" in printed.split("\n")[0]
        and "python -m study.tables" in printed.split("\n")[0]
    )
    assert main(arguments) == 0
    assert once == {path: path.read_bytes() for path in (readme, *out.iterdir())}
    assert around(readme)[0].encode() == before[:-1] and around(readme)[1].encode() == after[1:]


def test_first_line_counts_a_run_of_the_grid_once(tmp_path, capsys):
    rows = [made("grpo", s) for s in range(3)] + [
        made("lr-grpo-0.001", flags={"method": "grpo"}),
        model("base"),
        made("lr-grpo-0.002", flags={"method": "grpo"}, lr=0.002),
    ]
    assert main(["--runs", str(save(tmp_path / "runs.jsonl", rows)), "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith(
        "4 runs, "
    )  # three of grpo, one of them also in the grid, and the other rate


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
    rows = [made("opsd", s)["correct"]["new"] for s in range(2)]
    assert numbers["runs"]["opsd"]["new"]["mean"] == pytest.approx(
        sum(r.count("1") / len(r) for r in rows) / 2
    )
