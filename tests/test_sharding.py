"""--shard yes: two processes that hold half of each weight do what one with the whole does."""

import shutil
import tempfile
import time

import pytest
import torch

import forks
import rcsd
from own_model import FLAGS
from pretrained.memory import held
from tiny import ROOT, command_of, link_inputs, read_log, run_script, same, tiny_model, weights
from tiny import flags as tiny_flags
from trainer.checkpoints import load, load_model
from trainer.settings import Settings

SHARD = ("--shard", "yes")
TIMES = {"seconds", "tokens_per_s", "peak_mb"}


def run_two(command):
    """Two processes to their end; what rank 0 printed."""
    done = forks.run_ranks(command, 2)
    assert [each.returncode for each in done] == [0, 0], [each.stderr[-600:] for each in done]
    return done[0].stdout


def require_equal(one, two, stage):
    """The same log and the same weights, to rounding; all in a checkpoint that one process reads."""
    for x, y in zip(*(read_log(out / f"{stage}.jsonl") for out in (one, two)), strict=True):
        for name in x.keys() - TIMES:
            wanted = x[name]
            if isinstance(wanted, float):
                wanted = pytest.approx(wanted, rel=1e-5, abs=1e-5)
            assert y[name] == wanted, name
    a, b = load(one / f"{stage}.pt"), load(two / f"{stage}.pt")
    assert a["settings"] == b["settings"] and a["inputs"] == b["inputs"] and a["kept"] == b["kept"]
    for name in a["model"]:
        torch.testing.assert_close(b["model"][name], a["model"][name], atol=1e-5, rtol=1e-5)
    model = load_model(two / f"{stage}.pt", torch.device("cpu"))
    assert all(
        torch.equal(b["model"][n], t) for n, t in model.state_dict().items() if n in b["model"]
    )


@pytest.mark.parametrize(
    "stage, inputs, flags",
    [
        ("stage1", ("base.pt",), ("--recompute", "yes")),
        ("stage2", ("base.pt", "rubrics.jsonl"), ("--eval-every", "2", "--teacher", "ema")),
        # Micro-batches of a row, and not as many in each process; a gradient from each of them
        ("stage2", ("base.pt", "rubrics.jsonl"), ("--batch", "3", "--micro-tokens", "1")),
    ],
)
def test_two_halves_equal_one_whole(finished, tmp_path, stage, inputs, flags):
    one, two = tmp_path / "one", tmp_path / "two"
    for out in (one, two):
        link_inputs(finished, out, *inputs)
    run_script([stage], one, *flags)
    run_two(command_of([stage], two, *flags, *SHARD))
    require_equal(one, two, stage)
    start = weights(finished / "base.pt")
    assert not torch.equal(start["embed.weight"], weights(two / f"{stage}.pt")["embed.weight"])


def test_each_process_holds_half_and_together_they_have_the_whole(tmp_path):
    run_two([str(ROOT / "tests" / "halves.py"), str(tmp_path)])


def test_killed_and_resumed_by_two_or_by_one_equals_unbroken(finished, tmp_path):
    flags = ("--teacher", "ema", "--eval-every", "2", "--stage2-steps", "6", "--save-seconds", "0")
    unbroken, two, one = (tmp_path / name for name in ("unbroken", "two", "one"))
    for out in (unbroken, two):
        link_inputs(finished, out, "base.pt", "rubrics.jsonl")
    run_two(command_of(["stage2"], unbroken, *flags, *SHARD))
    with tempfile.TemporaryDirectory() as folder:
        running = forks.start_ranks(command_of(["stage2"], two, *flags, *SHARD), 2, folder)
        while not (two / "stage2.pt").exists() and any(p.is_alive() for p in running):
            time.sleep(0.001)
        for process in running:
            process.kill()
            process.join()
    assert 0 < load(two / "stage2.pt")["step"] < 6
    shutil.copytree(two, one, symlinks=True)
    run_two(command_of(["stage2"], two, *flags, *SHARD, "--resume"))
    run_script(["stage2"], one, *flags, "--resume")
    assert same(weights(two / "stage2.pt"), weights(unbroken / "stage2.pt"))
    require_equal(one, two, "stage2")


def test_a_pretrained_model_in_stage_0_and_an_adapter_beside_it(mine, tmp_path):
    small = dict(base_rows=60, base_steps=2, vocab_size=300, exposure_count=4, test_questions=4)
    small |= dict(stage1_questions=4, stage2_questions=4, rubrics="reference")
    one, two, script = tmp_path / "one", tmp_path / "two", str(ROOT / "rcsd.py")
    for out in (one, two):
        argv = ["--model", str(mine[0]), "--out", str(out), *tiny_flags(small), *FLAGS]
        assert rcsd.main(["data", *argv]) == 0
    run_two([script, "base", *argv, *SHARD])
    assert rcsd.main(["base", *argv[:3], str(one), *argv[4:]]) == 0
    require_equal(one, two, "base")
    shutil.copy(two / "base.pt", one / "base.pt")
    argv += ["--lora-rank", "2", "--lr", "0.01"]
    said = run_two([script, "stage2", *argv, *SHARD])
    assert rcsd.main(["stage2", *argv[:3], str(one), *argv[4:]]) == 0
    require_equal(one, two, "stage2")
    assert "memory in each of 2 processes, MiB" in said


def test_what_each_process_holds_by_hand():
    """float32: 4 bytes a weight, as many for its teacher, its gradient and each of Adam's two moments."""
    model = tiny_model(vocab=5000)  # its embedding, 4 * 5000 * 16 bytes, outweighs all the rest
    settings = dict(model="here", max_seq_len=64, max_new_tokens=8, batch=3)
    alone, shared = (Settings(**settings, shard=shard) for shard in ("no", "yes"))
    n = 4 * sum(p.numel() for p in model.parameters())
    parts = {"weights of student and teacher": n, "gradients": n // 2, "optimizer": n}
    more = held(model, shared, 2)
    assert {name: more[name] for name in parts} == parts
    plain = held(model, alone, 2)
    assert [plain[name] for name in parts] == [2 * value for value in parts.values()]
    block = 4 * sum(p.numel() for p in model.blocks[0].parameters())
    # Student's and teacher's embedding and norm, and the gradient of the student's; four blocks
    assert more["a step"] - plain["a step"] == 3 * (n - 2 * block) + 4 * block


def test_one_process_has_nothing_to_share(tmp_path, capsys):
    assert rcsd.main(["stage2", "--out", str(tmp_path), *SHARD]) == 2
    error = capsys.readouterr().err
    assert "--shard yes: expected several processes" in error and error.count("\n") == 1
