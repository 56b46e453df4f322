"""From data to table: the seed, evaluate.py and train.sh."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tiny import FLAGS, ROOT, link_inputs, link_run, run_script, same, weights
from trainer.settings import Settings, seed_for


def test_another_seed_gives_other_data_and_weights(finished, tmp_path):
    assert seed_for(Settings(seed=0), "x") != seed_for(Settings(seed=1), "x")
    for stage in ("data", "base"):
        run_script([stage], tmp_path / "other", "--seed", "1")
    assert not same(weights(tmp_path / "other" / "base.pt"), weights(finished / "base.pt"))
    ours, others = (out / "data" / "base.jsonl" for out in (finished, tmp_path / "other"))
    assert others.read_text() != ours.read_text()


def test_evaluation_reads_the_run_and_prints_the_table(finished, tmp_path):
    out = link_run(finished, tmp_path / "run")
    done = run_script([], out, script="evaluate.py")
    results = json.loads((out / "results.json").read_text())
    for name, rows in results["answers"].items():
        known = [r["correct"] for r in rows if r["group"] == "known laws"]
        assert results["accuracy"][name]["known laws"] == pytest.approx(sum(known) / len(known))
    assert "new laws" in done.stdout and "student" in done.stdout


def test_train_sh_goes_on_to_the_end_of_the_path_and_repeats_nothing(finished, tmp_path):
    """In processes with their own imports, behind a data set and a base that are there."""
    out = tmp_path / "smoke"
    link_inputs(finished, out, "base.pt", "base.jsonl")
    done = subprocess.run(
        ["bash", str(ROOT / "train.sh"), "smoke", "--out", str(out), *FLAGS],
        capture_output=True,
        text=True,
        env=os.environ
        | {"OMP_NUM_THREADS": "1", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "accuracy, %" in done.stdout and done.stdout.count("done before") == 2
    for stage in ("stage1", "stage2"):
        assert same(weights(out / f"{stage}.pt"), weights(finished / f"{stage}.pt"))
    ours, others = (json.loads((place / "results.json").read_text()) for place in (out, finished))
    assert ours["accuracy"] == others["accuracy"] and ours["answers"] == others["answers"]


@pytest.mark.parametrize(
    "arguments, code, expected", [(["--help"], 0, "smoke"), (["huge"], 2, "unknown preset 'huge'")]
)
def test_train_sh_says_what_it_takes(arguments, code, expected):
    done = subprocess.run(
        ["bash", str(ROOT / "train.sh"), *arguments], capture_output=True, text=True
    )
    assert done.returncode == code and expected in done.stdout + done.stderr
