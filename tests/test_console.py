"""What every command line shares: any console, a full disk, no memory, the errors of each rank."""

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import evaluate
import forks
import rcsd
from data import console, files, prepare
from data.console import exit_code
from exercises import check
from pages import LINES
from report import picture
from study import sweep, tables
from tiny import FLAGS, ROOT, link_run
from trainer.checkpoints import save


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_console_without_the_characters_breaks_no_command(
    finished, tmp_path, monkeypatch, encoding
):
    out = link_run(finished, tmp_path / "run")
    (out / "results.json").symlink_to(finished / "results.json")
    (tmp_path / "r.txt").write_text(LINES, encoding="utf-8-sig")
    for name in ("stdout", "stderr"):
        console = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        monkeypatch.setattr(sys, name, console)
    for main in (rcsd.main, evaluate.main, prepare.main, picture.main, sweep.main, tables.main):
        with pytest.raises(SystemExit) as stopped:
            main(["--help"])
        assert stopped.value.code == 0
    assert check.main(["--help"]) == 0
    assert evaluate.main(["--summary", str(out), str(out)]) == 0
    words = ["explain", "--out", str(out), *FLAGS, "--question", "× ÷ ∆ 力?"]
    assert evaluate.main([*words, "--rubric", str(tmp_path / "r.txt")]) == 0
    assert evaluate.main([*words, "--rubric", str(tmp_path / "missing ×.txt")]) == 2
    sys.stdout.flush()
    text = sys.stdout.buffer.getvalue().decode(encoding)
    assert text.count("usage:") == 6 and "new laws" in text and "explain.html" in text


# ----------------------------------------------------------------------------------- disk and memory
def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("what", ["fsync", "write"])
def test_a_full_disk_is_called_one_and_the_old_file_stays(tmp_path, monkeypatch, capsys, what):
    path = tmp_path / "base.pt"
    content = {"model": {"w": torch.zeros(3)}}
    save(path, content)
    before = path.read_bytes()
    if what == "fsync":
        monkeypatch.setattr(files.os, "fsync", full)
    else:
        monkeypatch.setattr(files, "open", lambda *_: open("/dev/full", "wb"), raising=False)
        monkeypatch.setattr(files.os, "replace", None)
    if what == "write" and not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    assert exit_code("rcsd.py", lambda: save(path, content)) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"rcsd.py: {path}: the disk is full") and error.count("\n") == 1
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_an_output_that_takes_no_more_is_one_line():
    code = "from data.console import exit_code; import sys\n"
    code += "sys.exit(exit_code('x.py', lambda: print('a' * 100)))"
    with open("/dev/full", "w") as full_device:
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, stdout=full_device, stderr=subprocess.PIPE
        )
    assert done.returncode == 2 and done.stderr.count(b"\n") == 1
    assert b"x.py: standard output: the disk is full" in done.stderr


def too_large():
    torch.zeros(2**55)


def no_memory():
    raise MemoryError


def no_gpu_memory():
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB\nmore lines")


@pytest.mark.parametrize("action", [too_large, no_memory, no_gpu_memory])
def test_no_memory_is_one_line(action, capsys):
    assert exit_code("x.py", action) == 2
    error = capsys.readouterr().err
    assert "x.py: out of memory" in error and error.count("\n") == 1 and "--micro-tokens" in error


def test_a_fault_of_the_program_keeps_its_traceback():
    for error in (KeyError("x"), RuntimeError("shapes"), AssertionError()):

        def action(error=error):
            raise error

        with pytest.raises(type(error)):
            exit_code("x.py", action)


@pytest.mark.parametrize("place", [ROOT, ROOT / "data", ROOT / "study", "", " "])
def test_a_folder_of_code_is_no_place_for_results(place, capsys):
    with pytest.raises(SystemExit) as stopped:
        evaluate.main(["--out", str(place)])
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and "argument --out" in error and error.count("\n") == 1
    assert console.folder_path(str(ROOT / "out" / "mine")) == ROOT / "out" / "mine"


# -------------------------------------------------------------------------------- several processes
RANKS = """
import os, sys
import rcsd

def broken(*_):
    if os.environ["RANK"] == "1":
        raise KeyError("a key")
    from trainer.processes import wait_for_all
    wait_for_all()

rcsd.COMMANDS["data"] = broken
sys.exit(rcsd.main(["data", "--preset", "smoke", "--device", "cpu", "--out", sys.argv[1]]))
"""


def test_each_rank_says_its_own_error(tmp_path):
    (tmp_path / "ranks.py").write_text(RANKS)
    other, own = forks.run_ranks([str(tmp_path / "ranks.py"), str(tmp_path / "run")], 2)
    assert own.returncode == 1 and "Traceback" in own.stderr
    assert "rcsd.py: rank 1: KeyError: 'a key'" in own.stderr
    assert other.returncode == 2 and "Traceback" not in other.stderr
    assert "rcsd.py: rank 0: another process of this run has ended" in other.stderr


@pytest.mark.parametrize(
    "error, expected",
    [
        (ValueError("--beta: expected less"), "x.py: rank 1: --beta: expected less"),
        (MemoryError(), "x.py: rank 1: out of memory"),
        (torch.OutOfMemoryError("CUDA out of memory."), "x.py: rank 1: out of memory"),
        (OSError(errno.ENOSPC, "No space left", "a.pt"), "x.py: rank 1: a.pt: the disk is full"),
        (KeyError("x"), "x.py: rank 1: KeyError: 'x'"),
        (RuntimeError("of one's own"), "x.py: rank 1: RuntimeError: of one's own"),
    ],
)
def test_a_silent_rank_gets_its_stderr_back(monkeypatch, capsys, error, expected):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(sys, "__stderr__", sys.stderr)
    with open(os.devnull, "w") as nowhere:
        monkeypatch.setattr(sys, "stderr", nowhere)  # as join_processes leaves it

        def action():
            raise error

        if isinstance(error, (KeyError, RuntimeError)) and "memory" not in str(error):
            with pytest.raises(type(error)):
                exit_code("x.py", action)
        else:
            assert exit_code("x.py", action) == 2
    text = capsys.readouterr().err
    assert expected in text and "another process" not in text
