"""Two processes on a CPU equal one."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

import forks
from tiny import ONE_THREAD, TINY, command_of, link_inputs, read_log, run_script, weights
from trainer import processes
from trainer.checkpoints import load
from trainer.settings import Settings


def torchrun(stage, out, *flags):
    """The command line of a stage with two processes."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    return [sys.executable, *launcher, *command_of([stage], out, *flags)]


def alone():
    return os.environ | ONE_THREAD | {"CUDA_VISIBLE_DEVICES": ""}


@pytest.mark.parametrize(
    "stage, inputs, flags",
    [
        ("base", (), ()),
        ("stage1", ("base.pt",), ()),
        ("stage2", ("base.pt", "rubrics.jsonl"), ("--eval-every", "2")),
        (  # Adam blows rounding up to a share of the rate
            "stage2",
            ("base.pt", "rubrics.jsonl"),
            ("--method", "reverse-kl-pg", "--updates-per-batch", "2", "--lr", "0.0003"),
        ),
    ],
)
def test_two_processes_equal_one_to_rounding(finished, tmp_path, stage, inputs, flags):
    one, two = tmp_path / "one", tmp_path / "two"
    for out in (one, two):
        link_inputs(finished, out, *inputs)
    run_script([stage], one, *flags)
    for done in forks.run_ranks(command_of([stage], two, *flags), 2):
        assert done.returncode == 0, done.stderr
    a, b = weights(one / f"{stage}.pt"), weights(two / f"{stage}.pt")
    start = weights(finished / "base.pt") if stage != "base" else None
    for name in a:
        torch.testing.assert_close(b[name], a[name], atol=2e-5, rtol=1e-4)
        if start is not None and "embed" in name:
            assert not torch.equal(a[name], start[name])  # something was learned
    rows = [read_log(out / f"{stage}.jsonl") for out in (one, two)]
    assert len(rows[0]) == len(rows[1]) == TINY[f"{stage}_steps"]
    for x, y in zip(*rows):
        for name in x.keys() - {"seconds", "tokens_per_s", "peak_mb"}:
            wanted = x[name]
            if isinstance(wanted, float):
                wanted = pytest.approx(wanted, rel=1e-3, abs=1e-4)
            assert y[name] == wanted, name
    if stage == "stage1":
        written = []
        for out in (one, two):
            rubrics, digest = read_log(out / "rubrics.jsonl"), load(out / "stage1.pt")["digest"]
            assert {row.pop("writer") for row in rubrics} == {digest}
            written.append(rubrics)
        assert written[0] == written[1]


def test_one_process_of_torchrun_takes_the_path_of_several(monkeypatch):
    """So one GPU tries what several need. Rows and gradients stay what they are."""
    reduce, count = dist.all_reduce, []
    monkeypatch.setattr(dist, "all_reduce", lambda flat: (count.append(len(flat)), reduce(flat)))
    trained, rows = (
        [torch.nn.Parameter(torch.ones(2, 3)), torch.nn.Parameter(torch.ones(4))],
        [5, 7],
    )
    trained[0].grad = torch.arange(6.0).view(2, 3)
    processes.sum_gradients(trained[:1])
    assert count == []
    monkeypatch.setattr(dist, "is_torchelastic_launched", lambda: True)
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_PORT", forks.free_port())
    processes.join_processes(Settings(device="cpu"))
    try:
        processes.sum_gradients(trained)
        processes.wait_for_all()
        assert processes.gather(rows) == rows and count == [10]
    finally:
        dist.destroy_process_group()
    assert (
        trained[0].grad.tolist() == [[0, 1, 2], [3, 4, 5]] and trained[1].grad.tolist() == [0] * 4
    )


def test_two_processes_evaluate_as_one(finished, tmp_path):
    stages = ("base.pt", "stage1.pt", "stage2.pt", "base.jsonl", "stage1.jsonl", "stage2.jsonl")
    for name in ("one", "two"):
        link_inputs(finished, tmp_path / name, *stages)
    run_script([], tmp_path / "one", script="evaluate.py")
    command = command_of([], tmp_path / "two", script="evaluate.py")
    for rank, done in enumerate(forks.run_ranks(command, 2)):
        assert done.returncode == 0 and done.stdout.count("report:") == (rank == 0), done.stderr
    one, two = (
        json.loads((tmp_path / name / "results.json").read_text()) for name in ("one", "two")
    )
    assert one["answers"].keys() == two["answers"].keys() and one["stage1"] == two["stage1"]
    for name, rows in one["answers"].items():
        others = two["answers"][name]
        assert [(r["id"], r["text"]) for r in rows] == [(r["id"], r["text"]) for r in others]
        assert len(rows) > 9
    reports = [json.loads((tmp_path / name / "report.json").read_text()) for name in ("one", "two")]
    assert reports[0].keys() == reports[1].keys() and reports[0]["table"] == reports[1]["table"]


def test_a_killed_process_ends_the_run_with_a_message_and_one_process_resumes_it(
    finished, tmp_path
):
    """Started by torchrun itself, which ends the others."""
    out = tmp_path / "killed"
    link_inputs(finished, out)
    steps = ("--base-steps", "200", "--save-seconds", "0")
    process = subprocess.Popen(
        torchrun("base", out, *steps),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=alone(),
    )
    while not (out / "base.pt").exists() and process.poll() is None:
        time.sleep(0.01)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGKILL)
    output = process.communicate(timeout=300)[0]
    assert process.returncode != 0 and (
        "SIGKILL" in output or "another process of this run has ended" in output
    )
    reached = load(out / "base.pt")["step"]
    assert 0 < reached < 200
    run_script(["base"], out, "--resume", "--base-steps", "200")
    assert load(out / "base.pt")["step"] == 200
    assert len((out / "base.jsonl").read_text().splitlines()) == 200
