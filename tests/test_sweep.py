"""The study's runner on a tiny plan: every run once, the rates chosen by validation, a second call
does nothing."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from data.tokenizer import read_tokenizer
from evaluate import answer_all
from rcsd import METHODS
from rubrics import GENERIC, Example, Rubric, parse_rubric
from study import jobs, sweep
from study.read import GROUPS
from study.regrade import main, regrade
from study.runs import FULL, QUICK, RUNS, TABLES, Plan, Run
from study.sweep import Study
from trainer.checkpoints import load_model
from trainer.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
TINY = dict(
    base_rows=300,
    stage1_questions=24,
    stage2_questions=24,
    test_questions=24,
    vocab_size=400,
    base_steps=4,
    base_tokens=1024,
    stage1_steps=2,
    n_embd=32,
    n_head=2,
    n_kv_head=1,
    head_dim=16,
    n_layer=1,
    mlp_width=32,
    max_new_tokens=12,
    max_seq_len=400,
    exposure_count=8,
    save_seconds=1000.0,
)
PLAN = Plan(
    [
        [
            Run("sft", dict(method="sft"), (0, 1), sampled=True),
            Run("grpo", dict(method="grpo"), (0,)),
            Run("rcsd-learned", {}, (0,)),
        ],
        [
            Run("opsd-30", dict(method="opsd", corrupted=0.3), (1,)),
            Run("pitfalls", dict(method="rcsd-pitfalls", rubrics="reference"), (0,)),
            Run("noisy-writer", dict(stage1_noisy=0.3), (0,)),
        ],
    ],
    dict(batch=8, group_size=4, stage2_steps=2, eval_every=1),
    TINY,
    (0.001, 0.01),
    (9,),
    dict(test_questions=40),
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("study")
    Study(out, "smoke", PLAN).go(workers=1)
    return out


def lines(out):
    return [json.loads(line) for line in (out / "runs.jsonl").read_text().splitlines()]


def test_every_run_of_the_plan_is_there_once(finished):
    names = [(line["run"], line["seed"]) for line in lines(finished)]
    teachers = ("teacher-reference", "teacher-learned", "teacher-solution")
    base = [(name, seed) for seed in (0, 1) for name in ("base", *teachers)]
    grid = [
        (f"lr-{method}-{rate:g}", 9)
        for method in ("sft", "grpo", "rcsd", "opsd")
        for rate in PLAN.rates
    ]
    runs = [("sft", 0), ("sft", 1), ("grpo", 0), ("rcsd-learned", 0)]
    runs += [("opsd-30", 1), ("pitfalls", 0), ("teacher-pitfalls", 0), ("noisy-writer", 0)]
    assert sorted(names) == sorted([("prepared", 9), *base, *grid, *runs])


def test_jobs_come_in_the_order_of_their_worth(tmp_path):
    jobs = [(job.name, job.seed, job.is_tested) for job in Study(tmp_path, "smoke", PLAN).jobs()]
    assert jobs[0] == ("seed", 9, False) and all(job[1] == 9 for job in jobs[:9])
    assert [job[:2] for job in jobs[9:]] == [
        *(("seed", 0), ("sft", 0), ("grpo", 0), ("rcsd-learned", 0)),
        *(("seed", 1), ("sft", 1)),
        *(("pitfalls", 0), ("noisy-writer", 0), ("opsd-30", 1)),
    ]


def test_the_rate_is_the_best_on_the_validation_questions(finished):
    rows = {(line["run"], line["seed"]): line for line in lines(finished)}
    taken = {"sft": "sft", "grpo": "grpo", "pitfalls": "rcsd", "noisy-writer": "rcsd"}
    for name, method in taken.items():
        a, b = (rows[f"lr-{method}-{rate:g}", 9] for rate in PLAN.rates)
        assert rows[name, 0]["lr"] == (b["lr"] if b["valid"] > a["valid"] else a["lr"])
    study = Study(finished, "smoke", PLAN)
    study.lines["lr-sft-0.001", 9] = {"valid": 0.3}
    for valid, rate in ((0.2, 0.001), (0.3, 0.001), (0.4, 0.01)):
        study.lines["lr-sft-0.01", 9] = {"valid": valid}
        assert study.rate_of("sft") == rate
    del study.lines["lr-sft-0.01", 9]
    assert study.rate_of("sft") is None


def test_a_seed_that_tunes_is_not_tested_and_validates_with_its_own_number(finished):
    for line in lines(finished):
        assert ("correct" in line) == (line["seed"] != 9)
    for seed, count in ((0, 12), (9, 20)):
        questions = (finished / f"seed{seed}" / "data" / "valid.jsonl").read_text().splitlines()
        assert len(questions) == count
    assert not list((finished / "seed9").glob("answers/*"))


def test_the_writer_of_noisy_rubrics_is_another(finished):
    def rubrics(folder):
        rows = map(json.loads, (folder / "rubrics.jsonl").read_text().splitlines())
        return {row["writer"] for row in rows}

    seed = finished / "seed0"
    own, shared = rubrics(seed / "runs" / "noisy-writer"), rubrics(seed)
    assert len(own) == len(shared) == 1 and own != shared
    line = next(line for line in lines(finished) if line["run"] == "noisy-writer")
    assert set(line["stage1"]) == {"new laws", "new links", "known laws", "known links"}


def test_the_samples_of_a_student(finished):
    rows = {(line["run"], line["seed"]): line for line in lines(finished)}
    assert {name for (name, _), row in rows.items() if "sampled" in row} == {"base", "sft"}
    for seed in (0, 1):
        for group, found in rows["sft", seed]["sampled"].items():
            assert len(found["right"]) == len(rows["sft", seed]["correct"][group]) > 0
            assert set(found["right"]) <= set("012345678")
            assert set(found["distinct"]) <= set("12345678")


def test_the_counts_of_samples(monkeypatch):
    """Seven of eight answers are right in the first question, in the second all differ."""
    examples = [Example(str(i), "?", answer="2 N") for i in range(2)]
    texts = [["Answer: 2 N"] * 6 + ["Answer: 0.002 kN", "Answer: 3 N"]]
    texts.append([f"Answer: {i} m" for i in range(8)])
    asked = []

    def answers(model, tokenizer, examples, n, settings):
        asked.append(n)
        return texts[: len(examples)]

    monkeypatch.setattr("study.jobs.sample_answers", answers)
    found = jobs.sample(None, None, {"new laws": examples, "new links": examples[:1]}, None)
    assert asked == [8, 8]
    assert found == {
        "new laws": {"right": "70", "distinct": "28"},
        "new links": {"right": "7", "distinct": "2"},
    }


def test_a_teacher_reads_one_kind_of_criteria():
    texts = ("5 Essential: a", "3 Important: b", "-2 Pitfall: c", "1 Optional: d", "4 Essential: e")
    rubric = parse_rubric("\n".join(texts))
    kinds = {"rcsd-essential": (0, 4), "rcsd-pitfalls": (2,), "rcsd-rest": (1, 3)}
    for name, kept in kinds.items():
        edited = METHODS[name].edit_rubric(rubric)
        assert edited.text() == "\n".join(texts[i] for i in kept)
        assert METHODS[name].uses_teacher and METHODS[name].loss_fn is METHODS["rcsd"].loss_fn
    without = parse_rubric("5 Essential: a\n3 Important: b")
    assert METHODS["rcsd-pitfalls"].edit_rubric(without) is GENERIC


def test_the_teacher_of_a_kind_of_criteria_is_tested_too(finished):
    """It is the base, which reads the pitfalls of each question's reference rubric."""
    folder, settings = (
        finished / "seed0",
        Settings(**Study(finished, "smoke", PLAN).settings(0, {})),
    )
    base, examples = load_model(folder / "base.pt", "cpu"), jobs.test_questions(folder)["new laws"]
    pitfalls = {}
    for e in examples:
        kept = tuple(c for c in e.rubric.criteria if c.weight < 0)
        pitfalls[e.id] = Rubric(kept) if kept else GENERIC
    rows = answer_all(base, read_tokenizer(folder), examples, settings, pitfalls)
    found = json.loads((folder / "answers" / "teacher-pitfalls.json").read_text())
    assert found["new laws"] == [row["text"] for row in rows]
    line = next(line for line in lines(finished) if line["run"] == "teacher-pitfalls")
    assert (line["steps"], line["flags"]) == (0, {})
    assert set(line["correct"]) == set(GROUPS)


def test_the_study_starts_from_the_shipped_base_unless_told_otherwise(tmp_path, capsys):
    def start(*words):
        seen = []

        def describe(jobs):
            seen.extend(job.settings["start"] for job in jobs if job.name == "seed")
            return ""

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sweep, "describe", describe)
            assert sweep.main(["--plan", "--out", str(tmp_path / "none"), *words]) == 0
        return set(seen)

    assert start("--preset", "cpu") == start("--preset", "cpu", "--quick") == {"shipped/base.pt"}
    assert start("--preset", "cpu", "--own-bases") == start("--preset", "gpu") == {""}
    assert start("--preset", "smoke") == {""}
    assert not (tmp_path / "none").exists()
    assert (
        sweep.main(["--plan", "--quick", "--preset", "cpu", "--out", str(tmp_path / "none")]) == 0
    )
    said = capsys.readouterr().out
    assert said.strip().startswith("9 jobs") and "seed: seed 0\n" in said


def test_a_line_says_what_was_measured(finished):
    for line in lines(finished):
        if line["seed"] != 9:
            assert set(line["correct"]) == set(GROUPS)
            counts = {name: len(text) for name, text in line["correct"].items()}
            seen = sum(counts[f"new {x}"] for x in ("laws", "links"))
            unseen = sum(counts[f"unseen {x}"] for x in ("two-step", "chain", "phrasing"))
            assert (seen, unseen) == (24, 60)
            assert set("".join(line["correct"].values())) <= {"0", "1"}
            assert all(0 <= score <= 1 for score in line["score"].values())
        if line["steps"]:
            assert [point[0] for point in line["curve"]] == [1, 2] and line["kept"] in (1, 2)
            assert (line["sampled_tokens"] > 0) == (line["flags"].get("method") != "sft")


def test_the_stored_answers_are_graded_again(finished, tmp_path, monkeypatch):
    out = tmp_path / "study"
    shutil.copytree(finished, out)
    graded = [line for line in lines(finished) if line["seed"] != 9]
    all_right = [
        {**line, "correct": {name: "1" * len(line["correct"][name]) for name in GROUPS}}
        for line in graded
    ]
    write(out, all_right + [line for line in lines(finished) if line["seed"] == 9])
    assert regrade(out) == (len(graded), 9)
    assert sorted(map(str, lines(out))) == sorted(map(str, lines(finished)))
    monkeypatch.setattr("study.regrade.is_right", lambda e, text: True)
    write(out, graded)
    assert regrade(out) == (len(graded), 0)
    assert all(set("".join(line["correct"].values())) == {"1"} for line in lines(out))

    old = [{name: x for name, x in line.items() if name != "answers"} for line in graded[:2]]
    write(out, old + graded[2:])
    assert regrade(out) == (len(graded) - 2, 2)
    assert all(line in lines(out) for line in old)
    (out / "seed0" / "answers" / "base.json").write_text('{"known laws": []}')
    write(out, graded)
    assert main(["--out", str(out)]) == 2 and lines(out) == graded


def write(out, rows):
    (out / "runs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_second_call_trains_nothing_and_a_changed_row_is_trained_again(finished):
    before = (finished / "runs.jsonl").read_bytes()
    again = Study(finished, "smoke", PLAN)
    assert list(again.jobs()) == []
    assert (finished / "runs.jsonl").read_bytes() == before
    second = [*PLAN.parts[1][:-1], Run("noisy-writer", dict(stage1_noisy=0.4), (0,))]
    changed = replace(PLAN, parts=[PLAN.parts[0], second])
    waiting = [job.name for job in Study(finished, "smoke", changed).jobs()]
    assert waiting == ["noisy-writer"]


def test_rates_found_before_need_no_grid(finished):
    rates = dict(sft=0.002, grpo=0.0003, rcsd=0.003, opsd=0.005)
    known = replace(PLAN, rates=rates, tuned_on=())
    waiting = [
        (job.name, job.seed, job.settings["lr"]) for job in Study(finished, "smoke", known).jobs()
    ]
    assert waiting == [
        ("sft", 0, 0.002),
        ("grpo", 0, 0.0003),
        ("rcsd-learned", 0, 0.003),
        ("sft", 1, 0.002),
        ("pitfalls", 0, 0.003),
        ("noisy-writer", 0, 0.003),
        ("opsd-30", 1, 0.005),
    ]


def test_the_real_plans_are_valid():
    for plan in (FULL, QUICK):
        assert len({run.name for run in plan.runs}) == len(plan.runs)
        for run in plan.runs:
            made = Settings(**{**plan.seed, **plan.shared, **run.flags})
            assert made.method in METHODS and not set(run.seeds) & set(plan.tuned_on)
            assert isinstance(plan.rates, tuple) or plan.rates[run.tuned_as] > 0
    assert {name for names in TABLES.values() for name in names} == set(RUNS)


def test_a_line_that_was_cut_is_dropped_with_a_word(finished, tmp_path, capsys):
    whole = (finished / "runs.jsonl").read_bytes()
    first = whole[: whole.index(b"\n", 1000) + 1]
    for rest in (b'{"run": "sft", "se', whole[len(first) : len(first) + 5]):
        (tmp_path / "runs.jsonl").write_bytes(first + rest)
        study = Study(tmp_path, "smoke", PLAN)
        assert len(study.lines) == first.count(b"\n")
        error = capsys.readouterr().err
        assert "runs.jsonl:" in error and "dropped" in error and error.count("\n") == 1
        assert (tmp_path / "runs.jsonl").read_bytes() == first
    study.add([study.lines["prepared", 9]])
    assert (tmp_path / "runs.jsonl").read_bytes().count(b"\n") == first.count(b"\n") + 1
    Study(tmp_path, "smoke", PLAN)
    assert capsys.readouterr().err == ""
    (tmp_path / "runs.jsonl").write_bytes(b"{\n" + first)
    with pytest.raises(ValueError, match="runs.jsonl:1: expected a JSON object"):
        Study(tmp_path, "smoke", PLAN)


SLOW = """
import sys
from study import sweep
sweep.work = __import__("slow").work
sys.exit(sweep.main(["--quick", "--workers", "2", "--preset", "smoke", "--out", sys.argv[1]]))
"""
WORK = """
import os, time
def work(folder, job, preset, threads):
    folder.mkdir(exist_ok=True)
    (folder / "worker").write_text(str(os.getpid()))
    time.sleep(600)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_the_study_and_ctrl_c_says_one_line(tmp_path, how):
    (tmp_path / "slow.py").write_text(WORK)
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, str(tmp_path / "out")],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{tmp_path}", "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    told = tmp_path / "out" / "seed0" / "worker"
    while process.poll() is None and not (told.exists() and told.read_text()):
        time.sleep(0.05)
    worker = int(told.read_text())
    if how == signal.SIGINT:
        os.killpg(process.pid, how)  # as a terminal does: to the study and to its workers
    else:
        process.kill()
    errors = process.communicate(timeout=300)[1]
    if how == signal.SIGINT:
        lines = [line for line in errors.splitlines() if line and "study:" not in line]
        assert process.returncode == 130 and lines == [
            "sweep.py: interrupted; the same command goes on from here"
        ]
    for _ in range(1200):
        if not Path(f"/proc/{worker}").exists() or "zombie" in state_of(worker):
            return
        time.sleep(0.05)
    raise AssertionError("the worker outlives its study")


def state_of(process: int) -> str:
    try:
        return Path(f"/proc/{process}/status").read_text()
    except OSError:
        return "zombie"
