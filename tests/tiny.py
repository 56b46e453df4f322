"""What several tests share: a tiny run of the commands, and a tiny model without one."""

import json
import random
import signal
import tempfile
import time
from pathlib import Path

import torch

import forks
from model import GPT, GPTConfig
from step import Rollout
from trainer.loop import Loop

ROOT = Path(__file__).resolve().parent.parent
TINY = dict(
    base_rows=300,
    stage1_questions=16,
    stage2_questions=16,
    test_questions=12,
    vocab_size=400,
    base_steps=6,
    base_tokens=1024,
    stage1_steps=3,
    stage2_steps=3,
    batch=4,
    n_embd=32,
    n_head=2,
    n_kv_head=1,
    head_dim=16,
    n_layer=1,
    mlp_width=32,
    max_new_tokens=12,
    max_seq_len=512,
    exposure_count=8,
    held_out=0,
)
SMALL_DATA = dict(
    base_rows=3000,
    exposure_count=20,
    exposure_share=0.03,
    explanation_share=0.45,
    stage1_questions=300,
    stage2_questions=600,
    test_questions=150,
    vocab_size=300,
)


def flags(settings):
    """{"batch": 4} as ["--batch", "4"]."""
    result = []
    for name, value in settings.items():
        result += ["--" + name.replace("_", "-"), str(value)]
    return result


FLAGS = ["--preset", "smoke", "--device", "cpu", *flags(TINY)]
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
STAGES = ("data", "base", "stage1", "stage2")


def command_of(arguments, out, *more, script="rcsd.py"):
    """The command line, behind `python`, that works on the folder `out` with the tiny settings."""
    return [str(ROOT / script), *arguments, "--out", str(out), *FLAGS, *more]


def run_and_kill(command, when):
    """Start a command and kill it as soon as `when()` holds; True if it was still running."""
    with tempfile.TemporaryDirectory() as folder:
        process = forks.start(command, Path(folder, "output"))
        while process.is_alive() and not when():
            time.sleep(0.001)
        process.kill()
        process.join()
    return process.exitcode == -signal.SIGKILL


def read_log(path):
    """The rows of a .jsonl file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def run_script(arguments, out, *more, script="rcsd.py", check=True):
    done = forks.run(command_of(arguments, out, *more, script=script))
    if check:
        assert done.returncode == 0, done.stderr
    return done


def link_inputs(finished, out, *names):
    """A new output folder with the finished inputs of a stage."""
    out.mkdir()
    for name in ("data", *names):
        (out / name).symlink_to(finished / name)


def link_run(finished, out):
    """A new output folder with the data, checkpoints and logs of a finished run."""
    stages = STAGES[1:]
    link_inputs(finished, out, *(f"{stage}.{kind}" for stage in stages for kind in ("pt", "jsonl")))
    return out


def weights(path):
    return torch.load(path, weights_only=True)["model"]


def same(a, b):
    """Are these weights the same to the bit?"""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def tiny_model(seed=0, vocab=50, max_seq_len=64):
    torch.manual_seed(seed)
    shape = dict(n_layer=2, n_head=2, n_kv_head=1, head_dim=8, n_embd=16, mlp_width=24)
    model = GPT(GPTConfig(vocab, max_seq_len, **shape))
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(4)  # far from uniform
    return model


def random_rollouts(count=9, seed=0, vocab=50, same_context=False):
    rng = random.Random(seed)

    def ids(low, high):
        return [rng.randrange(vocab) for _ in range(rng.randint(low, high))]

    rows = []
    for _ in range(count):
        student = ids(1, 12)
        rows.append(Rollout(student, ids(1, 15), student if same_context else ids(1, 30)))
    return rows


def next_logits(model, prompt, completion, t):
    """[V] before token t of the completion: one prefix alone, without padding or a batch."""
    return model(torch.tensor([prompt + completion[:t]]))[0, -1] @ model.head_weight.T


def run_loop(stage, state, take_step, *arguments, **options):
    """A whole stage whose steps are `take_step(step)`, which returns what to log."""
    with Loop(stage, state, *arguments, **options) as loop:
        for step in loop:
            loop.end_step(take_step(step))
    return state.student
