"""Every method, teacher and source of rubrics runs in the one loop, or says what it lacks."""

import json

import pytest

from tiny import TINY, link_inputs, read_log, run_script


def test_live_teacher_in_its_own_context_and_every_teacher_context_run(finished, tmp_path):
    teachers = (
        ("--teacher", "live"),
        ("--teacher-context", "solution"),
        ("--rubrics", "reference"),
        ("--teacher-context", "rubric+answer", "--clip-mode", "scale", "--clip", "0.5"),
    )
    for i, flags in enumerate(teachers):
        out = tmp_path / str(i)
        link_inputs(finished, out, "base.pt", "rubrics.jsonl")
        run_script(["stage2"], out, *flags)
        losses = [row["loss"] for row in read_log(out / "stage2.jsonl")]
        assert len(losses) == TINY["stage2_steps"] and all(0 < loss < 20 for loss in losses)


def test_a_teacher_that_sees_nothing_more_teaches_nothing(finished, tmp_path):
    link_inputs(finished, tmp_path / "nothing", "base.pt", "rubrics.jsonl")
    run_script(["stage2"], tmp_path / "nothing", "--teacher-context", "nothing")
    assert read_log(tmp_path / "nothing" / "stage2.jsonl")[0]["loss"] == 0.0


@pytest.mark.parametrize(
    "flags",
    [
        ("--method", "opsd", "--corrupted", "0.5"),
        ("--method", "grpo", "--group-size", "2", "--updates-per-batch", "2"),
        ("--method", "grpo-rubric", "--group-size", "4"),
        ("--method", "sft"),
        ("--method", "reverse-kl-pg"),
        ("--rubrics", "noisy", "--rubric-rate", "0.5"),
        ("--rubrics", "reduced"),
        ("--rubrics", "shuffled"),
        ("--rubrics", "generic"),
        ("--stage2-limit", "3", "--eval-every", "1"),
    ],
)
def test_every_method_and_rubric_source_runs_in_the_one_loop(finished, tmp_path, flags):
    link_inputs(finished, tmp_path / "out", "base.pt", "rubrics.jsonl")
    run_script(["stage2"], tmp_path / "out", *flags)
    log = read_log(tmp_path / "out" / "stage2.jsonl")
    assert len(log) == TINY["stage2_steps"] and all(abs(row["loss"]) < 50 for row in log)
    assert ("frac_zero_std" in log[0]) == ("grpo" in flags or "grpo-rubric" in flags)
    assert (log[0]["sampled"] == 0) == ("sft" in flags)
    if "--stage2-limit" in flags:
        first = read_log(tmp_path / "out" / "data" / "stage2.jsonl")[:3]
        assert {row["sample"]["question"] for row in log} <= {row["question"] for row in first}


@pytest.mark.parametrize(
    "flags, expected",
    [
        (("--method", "grpo", "--group-size", "3"), "--group-size"),
        (("--method", "opsd", "--teacher-context", "answer"), "--teacher-context"),
        (("--corrupted", "1.5"), "--corrupted"),
        (("--method", "ppo"), "--method"),
    ],
)
def test_methods_that_cannot_be_are_one_line(finished, flags, expected):
    done = run_script(["stage2"], finished, "--resume", *flags, check=False)
    assert done.returncode == 2 and expected in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("source", ["reference", "noisy", "shuffled"])
def test_a_rubric_source_says_which_question_has_none(finished, tmp_path, source):
    link_inputs(finished, tmp_path / "out", "base.pt")
    path = tmp_path / "mine.jsonl"
    bare = '{"id": "bare", "question": "why?", "answer": "so"}\n'
    path.write_text(2 * bare + '{"id": "2", "question": "who?", "answer": "I"}\n')
    flags = ("--data", str(path), "--rubrics", source)
    done = run_script(["stage2"], tmp_path / "out", *flags, check=False)
    assert done.returncode == 2
    assert f"--rubrics {source} needs a rubric, and no question has one" in done.stderr
    assert "of 2 questions 2 have an answer (--teacher-context answer)" in done.stderr


@pytest.mark.parametrize(
    "method, what",
    [
        ("sft", "a solution"),
        ("grpo", "an answer"),
        ("grpo-rubric", "a rubric with checks"),
        ("opsd", "a solution"),
    ],
)
def test_a_method_says_what_its_data_lack(finished, tmp_path, method, what):
    link_inputs(finished, tmp_path / "out", "base.pt")
    path = tmp_path / "mine.jsonl"
    path.write_text(
        json.dumps({"query": "why?", "rubric": [{"rubric_item": "says so", "type": "x"}]}) + "\n"
    )
    flags = ("--data", str(path), "--method", method, "--group-size", "2")
    done = run_script(["stage2"], tmp_path / "out", *flags, check=False)
    assert done.returncode == 2 and what in done.stderr and "Traceback" not in done.stderr
