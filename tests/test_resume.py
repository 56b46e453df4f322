"""Killed, resumed and shared runs: the same bits as without a pause, and nothing is done twice."""

import random
import time

import pytest

from tiny import (
    STAGES,
    TINY,
    command_of,
    link_inputs,
    read_log,
    run_and_kill,
    run_script,
    same,
    weights,
)
from trainer.checkpoints import load


@pytest.mark.parametrize(
    "stage, inputs",
    [("base", ()), ("stage1", ("base.pt",)), ("stage2", ("base.pt", "rubrics.jsonl"))],
)
def test_killed_at_any_moment_and_resumed_gives_the_same_bits(finished, tmp_path, stage, inputs):
    out = tmp_path / "killed"
    link_inputs(finished, out, *inputs)
    command = command_of([stage], out, "--resume", "--save-seconds", "0")
    rng, kills, steps = random.Random(stage), 0, TINY[f"{stage}_steps"]
    log = out / f"{stage}.jsonl"
    for _ in range(12):
        # Kill at a random moment after a random number of steps has been logged.
        wanted, pause = rng.randint(1, steps - 1), rng.random() * 0.05

        def ready(wanted=wanted, pause=pause):
            if not log.exists() or len(log.read_bytes().splitlines()) < wanted:
                return False
            time.sleep(pause)
            return True

        if run_and_kill(command, ready):
            kills += 1
        elif kills < 2:  # it was done before the signal came: begin again
            kills = 0
            for path in (log, out / f"{stage}.pt"):
                path.unlink(missing_ok=True)
        if kills == 2:
            break
    assert kills >= 2
    run_script([stage], out, "--resume")
    assert same(weights(out / f"{stage}.pt"), weights(finished / f"{stage}.pt"))

    def timeless(path):
        rows = read_log(path)
        for row in rows:
            for name in ("seconds", "tokens_per_s", "peak_mb"):
                row.pop(name, None)
        return rows

    assert timeless(out / f"{stage}.jsonl") == timeless(finished / f"{stage}.jsonl")
    assert not list(out.glob("*.tmp"))


def test_a_second_run_shares_a_finished_one(finished, tmp_path):
    """--from takes data, base and rubrics of a run: the same weights, and the run is untouched."""
    before = {path.name: path.stat().st_mtime_ns for path in finished.iterdir()}
    out = tmp_path / "second"
    run_script(["stage2"], out, "--from", str(finished))
    assert same(weights(out / "stage2.pt"), weights(finished / "stage2.pt"))
    assert before == {path.name: path.stat().st_mtime_ns for path in finished.iterdir()}
    for source, expected in ((tmp_path / "none", "no run there"), (out, "the same folder")):
        done = run_script(["stage2"], out, "--from", str(source), "--resume", check=False)
        assert done.returncode == 2 and expected in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_the_ema_teacher_starts_as_a_copy_and_survives_a_kill(finished, tmp_path):
    flags = ("--teacher", "ema", "--ema-decay", "0.5", "--save-seconds", "0")
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    for out in (whole, halves):
        link_inputs(finished, out, "base.pt", "rubrics.jsonl")
    run_script(["stage2"], whole, *flags)
    first = read_log(whole / "stage2.jsonl")[0]
    fixed = read_log(finished / "stage2.jsonl")[0]
    assert first["loss"] == fixed["loss"]  # no step taken yet: the average is the starting policy
    command = command_of(["stage2"], halves, *flags, "--resume")
    run_and_kill(command, (halves / "stage2.pt").exists)
    assert load(halves / "stage2.pt")["step"] < TINY["stage2_steps"]
    run_script(["stage2"], halves, *flags, "--resume")
    assert same(weights(whole / "stage2.pt"), weights(halves / "stage2.pt"))
    assert not same(weights(whole / "stage2.pt"), weights(finished / "stage2.pt"))


def test_finished_steps_are_not_repeated(finished):
    before = {p: p.stat().st_mtime_ns for p in finished.glob("*.pt")}
    for stage in STAGES:
        assert "done before" in run_script([stage], finished, "--resume").stdout
    assert before == {p: p.stat().st_mtime_ns for p in finished.glob("*.pt")}
