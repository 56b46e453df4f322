"""Files that are whole or not there, and one run a folder."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import forks
from data.files import only_run, replacing, write_lines
from tiny import FLAGS, ROOT

HOLD = """
import sys, time
from pathlib import Path
from data.files import only_run
with only_run(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_an_exception_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    write_lines(path, ["old"])

    def lines():
        yield "new"
        raise KeyError("half way")

    with pytest.raises(KeyError):
        write_lines(path, lines())
    assert path.read_text() == "old\n" and list(tmp_path.iterdir()) == [path]
    with replacing(path) as file:
        file.write("ä".encode())
        assert path.read_text() == "old\n"  # until the block ends
    assert path.read_text(encoding="utf-8") == "ä"


def test_a_folder_is_held_until_its_process_ends_however_it_ends(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    with pytest.raises(ValueError, match=f"(process {process.pid}|another process) is at work"):
        with only_run(tmp_path):
            pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    with only_run(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [["rcsd.py", "data", "--resume"], ["evaluate.py"]])
def test_the_second_run_in_a_folder_is_refused_and_changes_nothing(tmp_path, command):
    (tmp_path / "stage1.jsonl").write_text("a log\n")
    with only_run(tmp_path):
        script, *words = command
        done = forks.run([str(ROOT / script), *words, "--preset", "smoke", "--out", str(tmp_path)])
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert f"process {os.getpid()} is at work" in done.stderr or "another process" in done.stderr
    assert (tmp_path / "stage1.jsonl").read_text() == "a log\n"
    assert [path.name for path in tmp_path.iterdir()] == ["stage1.jsonl"]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_ending_train_sh_ends_its_child(tmp_path, how):
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    process = subprocess.Popen(
        ["bash", "train.sh", "smoke", "--out", str(tmp_path), *FLAGS, "--base-steps", "100000"],
        cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # else bash cannot trap it
    )  # fmt: skip
    for _ in range(1200):
        if (tmp_path / "base.jsonl").exists():
            break
        time.sleep(0.1)
    assert (tmp_path / "base.jsonl").exists()
    process.send_signal(how)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 128 + how
    assert ("rcsd.py: interrupted" in errors) == (how == signal.SIGINT)
    for _ in range(100):
        try:
            with only_run(tmp_path):
                return
        except ValueError:
            time.sleep(0.1)
    raise AssertionError("the child of train.sh still holds the folder")
