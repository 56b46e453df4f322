"""The study's runner on a tiny plan: every run once, the rates chosen by validation, a second call
does nothing."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rcsd import METHODS
from study.jobs import SETS
from study.regrade import main, regrade
from study.runs import FULL, QUICK, RUNS, TABLES, Plan, Run
from study.sweep import Study
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
        Run("sft", dict(method="sft"), (0, 1)),
        Run("grpo", dict(method="grpo"), (0,)),
        Run("rcsd-learned", {}, (0,)),
        Run("opsd-30", dict(method="opsd", corrupted=0.3), (1,)),
        Run("stage1-8", dict(stage1_limit=8), (0,)),
    ],
    dict(batch=8, group_size=4, stage2_steps=2, eval_every=1),
    TINY,
    (0.001, 0.01),
    (0,),
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
    base = [
        (name, seed)
        for seed in (0, 1)
        for name in ("base", "teacher-reference", "teacher-learned", "teacher-solution")
    ]
    grid = [
        (f"lr-{method}-{rate:g}", 0)
        for method in ("sft", "grpo", "rcsd", "opsd")
        for rate in PLAN.rates
    ]
    runs = [
        ("sft", 0),
        ("sft", 1),
        ("grpo", 0),
        ("rcsd-learned", 0),
        ("opsd-30", 1),
        ("stage1-8", 0),
    ]
    assert sorted(names) == sorted(base + grid + runs)


def test_the_rate_is_the_best_on_the_validation_questions(finished):
    rows = {(line["run"], line["seed"]): line for line in lines(finished)}
    for name in ("sft", "grpo"):
        a, b = (rows[f"lr-{name}-{rate:g}", 0] for rate in PLAN.rates)
        assert rows[name, 0]["lr"] == (b["lr"] if b["valid"] > a["valid"] else a["lr"])
        assert rows[name, 0]["correct"] == (b if b["valid"] > a["valid"] else a)["correct"]


def test_a_line_says_what_was_measured(finished):
    for line in lines(finished):
        assert line["correct"].keys() == {"known", "new", "hard"} and set(
            "".join(line["correct"].values())
        ) <= {"0", "1"}
        assert all(0 <= score <= 1 for score in line["score"].values())
        if line["steps"]:
            assert [point[0] for point in line["curve"]] == [1, 2] and line["kept"] in (1, 2)
            assert (line["sampled_tokens"] > 0) == (line["flags"].get("method") != "sft")


def test_the_stored_answers_are_graded_again(finished, tmp_path, monkeypatch):
    out = tmp_path / "study"
    shutil.copytree(finished, out)
    graded = lines(finished)
    write(
        out,
        [
            {**line, "correct": {name: "1" * len(line["correct"][name]) for name in SETS}}
            for line in graded
        ],
    )
    assert regrade(out) == (len(graded), 0)
    assert sorted(map(str, lines(out))) == sorted(map(str, graded))
    monkeypatch.setattr("study.regrade.is_right", lambda e, text: True)
    assert regrade(out) == (len(graded), 0)
    assert all(set("".join(line["correct"].values())) == {"1"} for line in lines(out))

    old = [{name: x for name, x in line.items() if name != "answers"} for line in graded[:2]]
    write(out, old + graded[2:])
    assert regrade(out) == (len(graded) - 2, 2)
    assert all(line in lines(out) for line in old)
    (out / "seed0" / "answers" / "base.json").write_text('{"known": []}')
    write(out, graded)
    assert main(["--out", str(out)]) == 2 and lines(out) == graded


def write(out, rows):
    (out / "runs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_second_call_trains_nothing_and_a_changed_row_is_trained_again(finished):
    before = (finished / "runs.jsonl").read_bytes()
    again = Study(finished, "smoke", PLAN)
    assert list(again.jobs()) == []
    assert (finished / "runs.jsonl").read_bytes() == before
    changed = Plan(
        [*PLAN.runs[:-1], Run("stage1-8", dict(stage1_limit=9), (0,))],
        PLAN.shared,
        TINY,
        PLAN.rates,
        (0,),
    )
    assert [job.name for job in Study(finished, "smoke", changed).jobs()] == ["stage1-8"]


def test_rates_found_before_need_no_grid(finished):
    known = Plan(
        PLAN.runs, PLAN.shared, TINY, dict(sft=0.002, grpo=0.0003, rcsd=0.003, opsd=0.005), ()
    )
    waiting = [
        (job.name, job.seed, job.settings["lr"]) for job in Study(finished, "smoke", known).jobs()
    ]
    assert waiting == [
        ("sft", 0, 0.002),
        ("sft", 1, 0.002),
        ("grpo", 0, 0.0003),
        ("rcsd-learned", 0, 0.003),
        ("opsd-30", 1, 0.005),
        ("stage1-8", 0, 0.003),
    ]


def test_the_real_plans_are_valid():
    for plan in (FULL, QUICK):
        assert len({run.name for run in plan.runs}) == len(plan.runs)
        for run in plan.runs:
            Settings(**{**plan.base, **plan.shared, **run.flags})
            assert run.method in METHODS
            assert isinstance(plan.rates, tuple) or plan.rates[run.method] > 0
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
    study.add([study.lines["base", 0]])
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
