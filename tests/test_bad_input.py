"""Bad settings, data, checkpoints and disks: one line that names the cause, and exit code 2."""

import json

import pytest
import torch

import forks
from tiny import command_of, link_inputs, run_script
from trainer.checkpoints import load, save


def snapshot(folder):
    return {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    "command, flags, expected",
    [
        ("stage2", ("--beta", "2"), "--beta"),
        ("stage2", ("--teacher", "wise"), "--teacher"),
        ("stage2", ("--batch", "0"), "--batch"),
        ("stage2", ("--temperature", "0"), "--temperature"),
        ("stage2", ("--clip", "0"), "--clip"),
        ("stage2", ("--resume", "--lr", "0.5"), "lr"),
        ("base", (), "--resume"),
        ("data", (), "--resume"),
        ("data", ("--resume", "--seed", "5"), "seed=0, not 5"),
        ("stage1", ("--resume", "--seed", "5"), "seed=0, not 5"),
        ("stage2", ("--batch", "many"), "--batch"),
        ("stage3", (), "stage3"),
        ("base", ("--resume", "--n_embd", "48"), "n_embd"),
        ("stage1", ("--resume", "--data", "missing.jsonl"), "missing.jsonl"),
        pytest.param(
            "stage2",
            ("--device", "cuda"),
            "--device cuda",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(finished, command, flags, expected):
    before = snapshot(finished)
    done = run_script([command], finished, *flags, check=False)
    assert done.returncode == 2
    assert expected in done.stderr and len(done.stderr.splitlines()) == 1
    assert snapshot(finished) == before


@pytest.mark.parametrize(
    "text, expected",
    [
        ("", "expected at least one"),
        ("not json\n", ":1"),
        ('{"question": "why?", "rubric": 7}\n', "rubric"),
        ("[1, 2]\n", ":1"),
    ],
)
def test_bad_data_files_are_one_line_and_exit_code_2(finished, tmp_path, text, expected):
    out, path = tmp_path / "out", tmp_path / "mine.jsonl"
    link_inputs(finished, out, "base.pt")
    path.write_text(text)
    done = run_script(["stage1"], out, "--data", str(path), check=False)
    assert done.returncode == 2 and expected in done.stderr and "Traceback" not in done.stderr
    assert not (out / "stage1.pt").exists()


def test_prompts_longer_than_the_context_are_named(finished, tmp_path):
    out, path = tmp_path / "out", tmp_path / "long.jsonl"
    link_inputs(finished, out, "base.pt")
    rubric = [{"title": "t", "description": "Essential: uses a = b", "weight": 5}]
    path.write_text(json.dumps({"question": "why? " * 500, "rubric": rubric}) + "\n")
    done = run_script(["stage1"], out, "--data", str(path), check=False)
    assert done.returncode == 2 and "the room is 500" in done.stdout + done.stderr
    path.write_text(path.read_text() + json.dumps({"question": "why?", "rubric": rubric}) + "\n")
    assert "dropped 1 of 2" in run_script(["stage1"], out, "--data", str(path)).stdout


def test_broken_or_foreign_checkpoints_are_named(finished, tmp_path):
    out = tmp_path / "out"
    link_inputs(finished, out, "rubrics.jsonl")
    (out / "base.pt").write_bytes(b"no checkpoint")
    done = run_script(["stage2"], out, check=False)
    assert done.returncode == 2 and "base.pt" in done.stderr and "Traceback" not in done.stderr
    torch.save({"weight": torch.zeros(3)}, out / "base.pt")
    done = run_script(["stage2"], out, check=False)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "not a checkpoint of this project" in done.stderr
    (out / "base.pt").unlink()
    save(out / "base.pt", load(finished / "base.pt") | {"step": 3})
    done = run_script(["stage2"], out, check=False)
    assert done.returncode == 2 and "step 3 of 6" in done.stderr
    content = load(finished / "base.pt")
    save(out / "base.pt", content | {"config": content["config"] | {"n_embd": 64}})
    done = run_script(["stage2"], out, check=False)
    assert done.returncode == 2 and "base.pt" in done.stderr and "Traceback" not in done.stderr


def test_an_output_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("here")
    done = run_script(["data"], tmp_path / "file", check=False)
    assert done.returncode == 2 and "file" in done.stderr and "Traceback" not in done.stderr


FULL_DISK = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
import rcsd
sys.exit(rcsd.main(sys.argv[1:]))
"""


def test_a_full_disk_is_named_and_keeps_the_old_checkpoint(finished, tmp_path):
    """A limit on the size of files stands in for a full disk."""
    link_inputs(finished, tmp_path / "out")
    run_script(["base"], tmp_path / "out", "--save-seconds", "0", "--base-steps", "6")
    whole = (tmp_path / "out" / "base.pt").read_bytes()
    stopped = load(tmp_path / "out" / "base.pt") | {"step": 5}
    save(tmp_path / "out" / "base.pt", stopped | {"optimizers": [], "ema": None})
    before = (tmp_path / "out" / "base.pt").read_bytes()
    (tmp_path / "full.py").write_text(FULL_DISK)
    _, *arguments = command_of(["base"], tmp_path / "out", "--resume")
    done = forks.run([str(tmp_path / "full.py"), *arguments])
    assert len(whole) > 20000 and done.returncode == 2 and "Traceback" not in done.stderr
    assert "base.pt: the disk is full" in done.stderr
    assert (tmp_path / "out" / "base.pt").read_bytes() == before
    assert not list((tmp_path / "out").glob("*.tmp"))
