"""From data to table: the seed, evaluate.py and train.sh."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tiny import FLAGS, ROOT, link_run, run_script, same, weights
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


def test_train_sh_runs_the_whole_path_and_does_not_repeat_it(tmp_path):
    command = ["bash", str(ROOT / "train.sh"), "smoke", "--out", str(tmp_path / "smoke"), *FLAGS]
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    first, second = (
        subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
        for _ in "12"
    )
    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    assert "accuracy, %" in first.stdout and second.stdout.count("done before") == 4

    def table(text):
        return text[text.index("accuracy, %") : text.index("train.sh:")]

    assert table(first.stdout) == table(second.stdout)


@pytest.mark.parametrize(
    "arguments, code, expected", [(["--help"], 0, "smoke"), (["huge"], 2, "unknown preset 'huge'")]
)
def test_train_sh_says_what_it_takes(arguments, code, expected):
    done = subprocess.run(
        ["bash", str(ROOT / "train.sh"), *arguments], capture_output=True, text=True
    )
    assert done.returncode == code and expected in done.stdout + done.stderr
