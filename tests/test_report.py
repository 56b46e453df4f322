"""The report of the study: intervals against a plain loop, statistics by hand, what is refused,
README and pictures."""

import json
import random
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from report.plot import Line, Panel, cell, chart, interval, markdown, round_ticks
from study.read import read_runs
from study.runs import RUNS, TABLES
from study.sections import Report, flags_text
from study.statistics import (
    MEASURES,
    accuracies,
    crossing,
    difference,
    mean_curve,
    resample,
    share_of_gain,
    spread,
    summary,
)
from study.tables import around, main

ROOT = Path(__file__).resolve().parent.parent
SVG = "{http://www.w3.org/2000/svg}"
SIZES = {"known": 40, "new": 60, "hard": 50}


def made(run, seed=0, share=0.7, **changes) -> dict:
    """A line of runs.jsonl; its answers depend on run and seed alone, and each seed has other
    questions."""
    rng = random.Random(f"{run} {seed}")
    sizes = {name: n + 3 * seed for name, n in SIZES.items()}
    row = {
        "run": run,
        "seed": seed,
        "lr": 0.001,
        "flags": RUNS[run].flags if run in RUNS else {},
        "correct": {
            name: "".join("01"[rng.random() < share] for _ in range(n)) for name, n in sizes.items()
        },
        "score": {"known": 0.99, "new": 0.97, "hard": 0.9},
        "length": {"known": 41.0, "new": 42.5, "hard": 44.0},
        "curve": [[20, 10_000, 0.9, 0.5], [40, 20_000, 0.9, 0.7]],
        "kept": 40,
        "steps": 60,
        "sampled_tokens": 30_000,
        "seconds": 61.2,
        "train": {"clipped": 0.1, "gradient_flipped": None},
        "valid": 0.8,
        "machine": "x86_64, cpu",
    }
    return {**row, **changes}


def model(run, seed=0, share=0.7, **changes) -> dict:
    """A line of a model without training, with only the fields that the runner gives it."""
    row = made(run, seed, share, steps=0, curve=[], **changes)
    return {
        k: v
        for k, v in row.items()
        if k not in ("lr", "kept", "sampled_tokens", "seconds", "train", "valid")
    }


def indexed(*rows) -> dict:
    runs = {}
    for row in rows:
        runs.setdefault(row["run"], {})[row["seed"]] = row
    return runs


def everything() -> list[dict]:
    keys = {"stage1": {"key_new": 0.9, "key_known": 1.0}}
    rows = [
        made(run.name, seed, 0.6, **(keys if run.name.startswith("stage1") else {}))
        for run in RUNS.values()
        for seed in range(5 if run.name in TABLES["main"] else 3)
    ]
    for seed in range(5):
        rows += [
            model("base", seed, 0.3, valid_new=0.3),
            model("teacher-reference", seed),
            model("teacher-learned", seed, **keys),
        ]
    return rows + [
        made(f"lr-grpo-{lr:g}", lr=lr, flags={"method": "grpo"}) for lr in (0.0005, 0.002)
    ]


@pytest.fixture(scope="module")
def full() -> Report:
    return Report(indexed(*everything()), ".")


def save(path, rows) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


# ---------------------------------------------------------------------------------------------------- the intervals
def slow_bootstrap(runs, names, draws) -> np.ndarray:
    """[draws, measure, run] by drawing seeds and questions one by one."""
    rng = np.random.default_rng(7)
    seeds = sorted(set.intersection(*(set(runs[name]) for name in names)))
    right = {
        (seed, name): np.array(
            [[int(c) for c in runs[run][seed]["correct"][name]] for run in names]
        )
        for seed in seeds
        for name in SIZES
    }
    found = np.zeros((draws, 4, len(names)))
    for d in range(draws):
        for _ in seeds:
            seed = seeds[rng.integers(len(seeds))]
            for i, name in enumerate(("new", "hard", "known")):
                answers = right[seed, name]
                found[d, i] += answers[
                    :, rng.integers(answers.shape[1], size=answers.shape[1])
                ].mean(1) / len(seeds)
        found[d, 3] = found[d, :3].mean(0)
    return found


def test_intervals_are_those_of_resampling_by_index():
    runs = indexed(
        *(made("rcsd-learned", s, 0.85) for s in range(4)),
        *(made("rcsd-reference", s, 0.9) for s in range(3)),
        *(made("base", s, 0.2) for s in range(3)),
    )
    for seed in range(3):  # answers that go together: an unpaired interval would be too wide
        runs["rcsd-reference"][seed]["correct"] = {
            name: text[:-9] + "110111011"
            for name, text in runs["rcsd-learned"][seed]["correct"].items()
        }
    draws = slow_bootstrap(runs, ("rcsd-learned", "rcsd-reference", "base"), 4000)
    pairs = [
        ("rcsd-reference", draws[..., 0] - draws[..., 1]),
        ("base", draws[..., 0] - draws[..., 2]),
    ]
    for found, slow in [
        *((difference(runs, "rcsd-learned", other), slow) for other, slow in pairs),
        (share_of_gain(runs), (draws[..., 0] - draws[..., 2]) / (draws[..., 1] - draws[..., 2])),
    ]:
        assert found["seeds"] == [0, 1, 2]
        for i, m in enumerate(MEASURES):
            if m in found:
                low, high = np.percentile(slow[:, i], (2.5, 97.5))
                tolerance = 0.08 * (high - low) + 0.002
                assert found[m]["low"] == pytest.approx(low, abs=tolerance), m
                assert found[m]["high"] == pytest.approx(high, abs=tolerance), m
                assert found[m]["low"] <= found[m]["value"] <= found[m]["high"]
    assert np.std(draws[:, 3, 0]) == pytest.approx(
        np.std(resample(runs, ("rcsd-learned",), [0, 1, 2])[:, 3, 0]), rel=0.08
    )


def test_same_answers_differ_by_nothing_and_opposite_ones_by_all():
    runs = indexed(
        *(
            made(name, s, share)
            for s in range(3)
            for name, share in (("a", 1), ("b", 0), ("c", 0.5))
        )
    )
    runs["same"] = runs["c"]
    for a, b, expected in (("a", "b", 1), ("b", "a", -1), ("c", "same", 0)):
        for m in MEASURES:
            assert set(difference(runs, a, b)[m].values()) == {expected}


def test_differences_use_shared_seeds_and_need_one():
    runs = indexed(made("a", 0, 1), made("a", 1, 0), made("b", 1, 1), made("b", 2, 0))
    assert (
        difference(runs, "a", "b")["seeds"] == [1]
        and difference(runs, "a", "b")["new"]["value"] == -1
    )
    assert difference(runs, "a", "nowhere") is None
    assert difference(indexed(made("a", 0), made("b", 1)), "a", "b") is None


def test_share_of_gain_by_hand_and_none_without_a_gain():
    def answers(share):
        return {
            "correct": {
                name: "1" * (n * share // 10) + "0" * (n - n * share // 10)
                for name, n in SIZES.items()
            }
        }

    runs = indexed(
        made("base", **answers(1)),
        made("rcsd-learned", **answers(7)),
        made("rcsd-reference", **answers(9)),
    )
    assert share_of_gain(runs)["new"]["value"] == pytest.approx(6 / 8)
    assert share_of_gain(runs)["average"]["value"] == pytest.approx(6 / 8)
    assert share_of_gain({**runs, "rcsd-reference": runs["base"]}) is None
    assert share_of_gain({"base": runs["base"]}) is None


# ------------------------------------------------------------------------------------------------ statistics by hand
def test_accuracies_mean_and_standard_deviation_by_hand():
    first = made("sft", 0, correct={"new": "1100", "hard": "1000", "known": "1111"}, lr=0.001)
    second = made(
        "sft", 1, correct={"new": "1110", "hard": "11111", "known": "11"}, lr=0.002, kept=20
    )
    assert accuracies(first) == pytest.approx([0.5, 0.25, 1, 1.75 / 3])
    found = summary({1: second, 0: first})
    assert found["seeds"] == [0, 1] and found["lr"] == [0.001, 0.002]
    assert found["new"] == pytest.approx({"mean": 0.625, "sd": 0.125 * 2**0.5})
    assert found["average"]["mean"] == pytest.approx((1.75 + 2.75) / 6)
    assert found["average"]["sd"] == pytest.approx((1 / 3) / 2**0.5)
    assert (
        found["kept"]["mean"] == 30
        and found["gradient_flipped"] is None
        and found["clipped"]["mean"] == pytest.approx(0.1)
    )
    alone = summary({0: model("base", 0)})
    assert alone["new"]["sd"] is None and alone["seconds"] is None and alone["lr"] == []
    assert spread([None, 2, 4]) == {"mean": 3, "sd": pytest.approx(2**0.5)} and spread([]) is None


@pytest.mark.parametrize(
    "points, expected",
    [
        ([(0, 2.0), (30, -1.0)], 20),
        ([(0, 1.0), (10, 3.0), (30, 1.0), (50, -3.0)], 35),
        ([(0, 1.0), (50, 0.0)], None),
        ([(0, 0.0), (10, -1.0)], 0),
        ([(0, -1.0), (10, 1.0)], 0),
        ([(0, 1.0), (10, -1.0), (30, 1.0), (50, -1.0)], 5),
        ([(10, 2.0)], None),
        ([], None),
    ],
)
def test_crossing(points, expected):
    assert crossing(points) == (None if expected is None else pytest.approx(expected))


def test_crossings_of_the_report():
    def right(share, seed):
        return {"correct": {name: ("1" * share).ljust(100, "0") for name in SIZES}}

    shares = {
        "rcsd-learned": 80,
        "opsd": 90,
        "opsd-10": 88,
        "opsd-30": 82,
        "opsd-50": 72,
        "rcsd-reference": 95,
        "noisy-50": 81,
    }
    rows = [
        made(name, seed, **right(share + seed, seed))
        for name, share in shares.items()
        for seed in range(2)
    ]
    report = Report(indexed(*rows), "pictures")
    assert report.crossings["opsd"]["average"] == pytest.approx(34)  # from +2 at 30 to -8 at 50
    assert (
        report.crossings["rcsd-reference"] == {"up to": 50, "average": None, "new": None}
        and "sft" not in report.crossings
    )
    text = "\n".join(report.parts)
    assert "opsd, corrupted solutions: 34%; rcsd, noisy rubrics: none up to 50%" in text


def test_mean_curve_by_hand():
    rows = [
        made("opsd", 0, curve=[[20, 1000, 0, 0.5], [40, 2000, 0, 0.6]]),
        made("opsd", 1, curve=[[20, 3000, 0, 0.7], [40, 4000, 0, 0.8], [60, 9000, 0, 0.9]]),
    ]
    assert mean_curve(indexed(*rows), "opsd") == [pytest.approx((2, 60)), pytest.approx((3, 70))]
    base = [model("base", 0, valid_new=0.2), model("base", 1, valid_new=0.4)]
    assert mean_curve(indexed(*rows, *base), "opsd")[0] == pytest.approx((0, 30))
    assert (
        len(mean_curve(indexed(*rows, base[0]), "opsd")) == 2
    )  # a start for one seed alone would bend the mean


# -------------------------------------------------------------------------------------------------- words and tables
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


def test_rows_and_columns_of_the_full_report(full):
    text = "\n\n".join(full.parts)
    head, *rows = [[c.strip() for c in line.split("|")[1:-1]] for line in full.parts[2].split("\n")]
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
    assert set(full.pictures) == {"rates.svg", "efficiency.svg", "stage1.svg"}
    stage1 = full.parts[-1].split("\n")[2:]
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
    paired = difference(full.runs, "rcsd-questions-100", "rcsd-reference")
    assert [c.strip() for c in few.split("|")[-3:-1]] == [
        interval(paired, "new"),
        interval(paired, "average"),
    ]
    assert (
        "share of the gain" in text and "--clip-mode scale --clip 0.5" in text and "nan" not in text
    )
    assert full.numbers["differences"]["rcsd-learned - base"]["seeds"] == [0, 1, 2, 3, 4]
    assert full.numbers["differences"]["generic - base"]["seeds"] == [0, 1, 2]
    alone = Report(
        indexed(*(row for row in everything() if row["run"] in ("rcsd-learned", "base"))), "."
    )
    key = "rcsd-learned - base"  # a comparison does not depend on what else there is
    assert alone.numbers["differences"][key] == full.numbers["differences"][key]


# --------------------------------------------------------------------------------------------------- the command line
README = "# Title\r\n\nprose ± \n<!-- study -->\nold\n<!-- /study -->\nmore, and no line end"


@pytest.mark.parametrize(
    "change, message",
    [
        ("not json", "line: expected a JSON object"),
        ("[1]", "line: expected a JSON object"),
        ("", "line: expected a JSON"),
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


# ------------------------------------------------------------------------------------------------------- the pictures
def drawn(svg, tag) -> list:
    return list(ElementTree.fromstring(svg).iter(SVG + tag))


def coordinates(element) -> list[tuple[float, float]]:
    return [tuple(map(float, pair.split(","))) for pair in element.get("points").split()]


def test_points_lie_where_the_scale_says():
    lines = [
        Line("a < b & c", "#000000", [(0, 20, 5), (10, 60, 5), (50, 100, 5)]),
        Line("level", "#777777", [(0, 50), (50, 50)], dashed=True),
    ]
    svg = chart([Panel("title", "x, %", "y, %", lines, [0, 10, 30, 50])])
    # The box: 56 to 702 px wide and 30 to 260 px high, for x from 0 to 50 and y from 0 to 100.
    a, level = [coordinates(e) for e in drawn(svg, "polyline")[:2]]
    assert a == [(56, 214), (185.2, 122), (702, 30)] and level == [(56, 145), (702, 145)]
    (band,) = map(coordinates, drawn(svg, "polygon"))
    assert band == [
        (56, 202.5),
        (185.2, 110.5),
        (702, 30),
        (702, 41.5),
        (185.2, 133.5),
        (56, 225.5),
    ]  # cut at 100%
    assert len(drawn(svg, "circle")) == 3  # a level has no markers
    assert {"a < b & c", "level", "x, %", "y, %", "title", "30"} <= {
        e.text for e in drawn(svg, "text")
    }


def test_logarithmic_axis_and_panels_side_by_side():
    panel = Panel(
        "t",
        "x",
        "y",
        [Line("a", "#000000", [(100, 0), (400, 50), (1600, 100)])],
        [100, 400, 1600],
        log=True,
    )
    first, second = [coordinates(e) for e in drawn(chart([panel, panel]), "polyline")[:2]]
    assert first == [(56, 260), (199, 145), (342, 30)]  # 400 lies halfway between 100 and 1600
    assert second == [(x + 360, y) for x, y in first]


def test_round_ticks():
    assert round_ticks(39, 97) == [20, 40, 60, 80, 100] and round_ticks(0, 190) == [
        0,
        50,
        100,
        150,
        200,
    ]
    assert round_ticks(90, 95) == [90, 91, 92, 93, 94, 95] and len(round_ticks(50, 50)) >= 2


def test_pictures_are_well_formed_and_stay_inside(full):
    for name, svg in full.pictures.items():
        root = ElementTree.fromstring(svg)
        width, height = float(root.get("width")), float(root.get("height"))
        assert width == 720 and "nan" not in svg, name
        for element in drawn(svg, "polyline") + drawn(svg, "polygon"):
            assert all(0 <= x <= width and 0 <= y <= height for x, y in coordinates(element)), name
    rates = drawn(full.pictures["rates.svg"], "polyline")
    sft = coordinates(rates[0])
    assert [x for x, _ in sft] == pytest.approx(
        [56, 113.2, 227.6, 342], abs=0.06
    )  # 0, 10, 30, 50% of 286 px
