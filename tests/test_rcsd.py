"""The loop where training code usually lies: alignment, padding, micro-batches, resuming, bad input."""
import copy
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from base import Muon, bucketed, orthogonal
from data.tokenizer import Tokenizer, encode, train_bpe
from loss import token_divergence
from model import GPT, GPTConfig
from rcsd import set_advantages
from rubrics import Criterion, Rubric, prompt
from step import (
    Rollout,
    completion_hidden,
    distillation,
    micro_batches,
    policy_gradient_loss,
    sft_loss,
    update,
)
from trainer.checkpoints import load, save
from trainer.loop import State, train
from trainer.settings import PRESETS, Settings, seed_for

ROOT = Path(__file__).resolve().parent.parent
TINY = dict(base_rows=300, stage1_questions=24, stage2_questions=24, test_questions=8, vocab_size=400, base_steps=6,
            base_tokens=1024, stage1_steps=3, stage2_steps=3, batch=4, n_embd=32, n_head=2, n_kv_head=1, head_dim=16,
            n_layer=1, mlp_width=32, max_new_tokens=12, max_seq_len=400, exposure_count=8)
FLAGS = [flag for name, value in TINY.items() for flag in ("--" + name.replace("_", "-"), str(value))]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tiny_model(seed=0, vocab=50, max_seq_len=64):
    torch.manual_seed(seed)
    model = GPT(GPTConfig(vocab, max_seq_len, n_layer=2, n_head=2, n_kv_head=1, head_dim=8, n_embd=16, mlp_width=24))
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


# ----------------------------------------------------------------------------------------------------- alignment
def test_completion_hidden_is_the_state_before_each_token():
    model, rows = tiny_model().double(), random_rollouts()
    got = completion_hidden(model, [(r.prompt, r.completion) for r in rows])
    wanted = []
    for r in rows:  # one prefix at a time: no padding, no batch, no slicing
        for t in range(len(r.completion)):
            wanted.append(model(torch.tensor([r.prompt + r.completion[:t]]))[0, -1])
    torch.testing.assert_close(got, torch.stack(wanted), atol=1e-10, rtol=0)


def test_same_context_gives_a_loss_of_exactly_zero_and_no_gradient():
    student = tiny_model()
    stats = update(distillation, student, copy.deepcopy(student), random_rollouts(same_context=True), [], Settings())
    assert stats["loss"] == 0.0
    assert max(p.grad.abs().max() for p in student.parameters()) < 1e-5  # rounding


def test_another_context_gives_the_plain_formula():
    student, rows = tiny_model(), random_rollouts()
    teacher = copy.deepcopy(student)
    stats = update(distillation, student, teacher, rows, [], Settings(beta=0.3, temperature=1.5))
    total, count = 0.0, 0
    for r in rows:
        for t in range(len(r.completion)):
            one = student(torch.tensor([r.prompt + r.completion[:t]]))[0, -1:] @ student.head_weight.T
            other = teacher(torch.tensor([r.teacher_prompt + r.completion[:t]]))[0, -1:] @ teacher.head_weight.T
            total += token_divergence(one.double(), other.double(), beta=0.3, temperature=1.5).item()
            count += 1
    assert stats["loss"] == pytest.approx(total / count, rel=1e-5)


def test_without_a_teacher_the_signal_is_the_log_probability():
    student, rows = tiny_model(), random_rollouts()
    stats = update(sft_loss, student, None, rows, [], Settings())
    weighted = [Rollout(r.prompt, r.completion, weights=[0.5] * len(r.completion)) for r in rows]
    assert update(sft_loss, student, None, weighted, [], Settings())["loss"] == pytest.approx(stats["loss"], rel=1e-5)
    nll = [-(student(torch.tensor([r.prompt + r.completion[:t]]))[0, -1] @ student.head_weight.T).log_softmax(-1)[token]
           for r in rows for t, token in enumerate(r.completion)]
    assert stats["loss"] == pytest.approx(torch.stack(nll).mean().item(), rel=1e-5)


def gradients(teacher, **settings):
    student = tiny_model()
    update(distillation if teacher else sft_loss, student, tiny_model(1) if teacher else None, random_rollouts(), [], Settings(**settings))
    return [p.grad.clone() for p in student.parameters()]


@pytest.mark.parametrize("teacher", [True, False])
def test_micro_batches_change_nothing(teacher):
    whole = gradients(teacher, micro_tokens=10**6)
    assert max(g.abs().max() for g in whole) > 1e-3
    for tokens in (1, 60, 200):
        for a, b in zip(whole, gradients(teacher, micro_tokens=tokens)):
            torch.testing.assert_close(a, b, atol=2e-6, rtol=1e-4)


def test_weights_choose_tokens():
    student, (row,) = tiny_model(), random_rollouts(1, seed=3)
    assert len(row.completion) > 2
    last = Rollout(row.prompt + row.completion[:-1], row.completion[-1:])
    only_last = Rollout(row.prompt, row.completion, weights=[0.0] * (len(row.completion) - 1) + [2.0])
    a, b = (update(sft_loss, student, None, [r], [], Settings())["loss"] for r in (last, only_last))
    assert a == pytest.approx(b, rel=1e-5)


def test_micro_batches_hold_every_row_once_within_the_budget():
    rows = random_rollouts(50)
    batches = list(micro_batches(rows, 100))
    assert sorted(id(r) for b in batches for r in b) == sorted(id(r) for r in rows)
    for b in batches:
        longest = max(len(r.completion) + max(len(r.prompt), len(r.teacher_prompt)) for r in b)
        assert len(b) == 1 or len(b) * longest <= 100


def test_a_long_completion_weighs_by_its_tokens():
    student, a, b = tiny_model(), *random_rollouts(2)
    one, two, both = (update(sft_loss, student, None, rows, [], Settings())["loss"] for rows in ([a], [b], [a, b]))
    n, m = len(a.completion), len(b.completion)
    assert n != m
    assert both == pytest.approx((n * one + m * two) / (n + m), rel=1e-5)


def test_no_valid_token_changes_nothing():
    student = tiny_model()
    before = copy.deepcopy(student.state_dict())
    optimizer = torch.optim.AdamW(student.parameters(), lr=1.0)
    stats = update(distillation, student, copy.deepcopy(student), [Rollout([1, 2], [], [3], True)], [optimizer], Settings())
    assert stats["loss"] == 0.0
    assert all(torch.equal(before[name], p) for name, p in student.state_dict().items())


def test_eos_is_learned_and_is_not_pad():
    tokenizer = Tokenizer(train_bpe(["force = mass × acceleration"], 270))
    assert tokenizer.eos != tokenizer.pad
    student = tiny_model(vocab=tokenizer.vocab_size)
    optimizer = torch.optim.AdamW(student.parameters(), lr=0.01)
    rows = [Rollout(encode(tokenizer, prompt("why?")), tokenizer.encode("so") + [tokenizer.eos])]
    for _ in range(40):
        update(sft_loss, student, None, rows, [optimizer], Settings())
    hidden = completion_hidden(student, [(rows[0].prompt, rows[0].completion)])
    assert (hidden @ student.head_weight.T)[-1].argmax().item() == tokenizer.eos


def test_student_and_teacher_prompts_end_alike_and_text_is_never_joined():
    tokenizer = Tokenizer(train_bpe(["a rubric a rubric ab ab"] * 3, 300))
    rubric = Rubric((Criterion("t", "Essential: uses a = b", 5),))
    student, teacher = (encode(tokenizer, prompt("ab <|solve|>", rubric=r)) for r in (None, rubric))
    assert student[-1] == teacher[-1] == tokenizer.id["solve"]
    assert student.count(tokenizer.id["solve"]) == 1  # the literal text in the question stays text
    assert teacher[:len(student) - 1] == student[:-1]


# ------------------------------------------------------------------------------------------- stage 0's optimizer
@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 12, 5), (1, 5, 12)])
def test_orthogonal_changes_the_singular_values_alone(shape):
    """Each by the same scalar polynomial, three times: an SVD and plain numbers in float64."""
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))
    u, values, v = torch.linalg.svd(x, full_matrices=False)
    values = values / values.square().sum(-1, keepdim=True).sqrt()
    for _ in range(3):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    torch.testing.assert_close(orthogonal(x.float()), (u @ torch.diag_embed(values) @ v).float(), rtol=1e-4, atol=1e-4)
    values = torch.tensor([1.0, 0.5, 0.2, 0.1, 0.02])[:min(shape[1:])]
    near = torch.linalg.svdvals(orthogonal((u[..., :5] * values @ v[:, :5].double()).float()))[:, :len(values)]
    assert 0.5 < near.min() and near.max() < 1.21


def test_muon_is_momentum_made_orthogonal():
    """Against one matrix at a time by its formula, and PyTorch's own to the bfloat16 that it rounds to; it also resumes."""
    rng = torch.Generator().manual_seed(0)
    def draw(*shape):
        return torch.randn(*shape, generator=rng)
    start = [draw(6, 4), draw(6, 4), draw(4, 6), draw(5, 5)]
    ours, theirs, want = [[torch.nn.Parameter(p.clone()) for p in start] for _ in range(3)]
    optimizer, averages = Muon(ours, lr=0.02), [torch.zeros_like(p) for p in start]
    peer = torch.optim.Muon(theirs, lr=0.02, weight_decay=0.0, ns_steps=3)
    for _ in range(4):
        for i, p in enumerate(start):
            gradient = draw(*p.shape)
            ours[i].grad, theirs[i].grad = gradient.clone(), gradient.clone()
            averages[i] = 0.95 * averages[i] + 0.05 * gradient
            direction = orthogonal((0.05 * gradient + 0.95 * averages[i])[None])[0]
            want[i].data -= 0.02 * max(1, p.shape[0] / p.shape[1]) ** 0.5 * direction
        optimizer.step()
        peer.step()
        state = optimizer.state_dict()
        optimizer = Muon(ours, lr=0.5)
        optimizer.load_state_dict(state)
    for a, b, c, p in zip(ours, want, theirs, start):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
        assert (a - c).norm() < 0.02 * (c - p).norm()
    ours[0].grad = None  # a matrix without a gradient stays
    before = ours[0].detach().clone()
    optimizer.step()
    assert torch.equal(ours[0], before)


def test_bucketed_has_every_row_once():
    rows = [[0] * random.Random(i).randint(2, 90) for i in range(500)]
    batches = bucketed(rows, 400, seed=1)
    assert sorted(i for b in batches for i in b) == list(range(500))
    assert all(len(b) * max(len(rows[i]) for i in b) <= 400 for b in batches if len(b) > 1)
    assert batches == bucketed(rows, 400, seed=1) != bucketed(rows, 400, seed=2)


# -------------------------------------------------------------------------------------------- the stages, end to end
def run(command, out, *flags, script="rcsd.py", check=True):
    done = subprocess.run([sys.executable, ROOT / script, *command, "--preset", "smoke", "--out", str(out), *FLAGS, *flags],
                          capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    if check:
        assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A tiny run, uninterrupted."""
    out = tmp_path_factory.mktemp("run") / "tiny"
    for stage in ("data", "base", "stage1", "stage2"):
        run([stage], out)
    return out


def weights(path):
    return torch.load(path, weights_only=True)["model"]


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def link_inputs(finished, out, *names):
    """A new output folder with the finished inputs of a stage."""
    out.mkdir()
    for name in ("data", *names):
        (out / name).symlink_to(finished / name)


@pytest.mark.parametrize("stage, inputs", [("base", ()), ("stage1", ("base.pt",)), ("stage2", ("base.pt", "rubrics.jsonl"))])
def test_killed_at_any_moment_and_resumed_gives_the_same_bits(finished, tmp_path, stage, inputs):
    out = tmp_path / "killed"
    link_inputs(finished, out, *inputs)
    command = [sys.executable, ROOT / "rcsd.py", stage, "--preset", "smoke", "--out", str(out), *FLAGS, "--resume",
               "--save-seconds", "0"]
    rng, kills, steps = random.Random(stage), 0, TINY[f"{stage}_steps"]
    for _ in range(4):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                   env=os.environ | {"OMP_NUM_THREADS": "1"})
        # Kill at a random moment after a random number of steps has been logged.
        log, wanted = out / f"{stage}.jsonl", rng.randint(1, steps - 1)
        while process.poll() is None and not (log.exists() and len(log.read_bytes().splitlines()) >= wanted):
            time.sleep(0.002)
        time.sleep(rng.random() * 0.05)
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
    assert kills >= 2
    run([stage], out, "--resume")
    assert same(weights(out / f"{stage}.pt"), weights(finished / f"{stage}.pt"))
    def strip(path):
        return [{k: v for k, v in json.loads(line).items() if k not in ("seconds", "tokens_per_s", "peak_mb")}
                              for line in path.read_text().splitlines()]
    assert strip(out / f"{stage}.jsonl") == strip(finished / f"{stage}.jsonl")
    assert not list(out.glob("*.tmp"))


def test_a_second_run_shares_a_finished_one(finished, tmp_path):
    """--from takes data, base and rubrics of a run: the same weights as in place, and nothing of it is touched."""
    before = {path.name: path.stat().st_mtime_ns for path in finished.iterdir()}
    out = tmp_path / "second"
    run(["stage2"], out, "--from", str(finished))
    assert same(weights(out / "stage2.pt"), weights(finished / "stage2.pt"))
    assert before == {path.name: path.stat().st_mtime_ns for path in finished.iterdir()}
    for source, expected in ((tmp_path / "none", "no run there"), (out, "the same folder")):
        done = run(["stage2"], out, "--from", str(source), "--resume", check=False)
        assert done.returncode == 2 and expected in done.stderr and len(done.stderr.splitlines()) == 1


def test_the_ema_teacher_starts_as_a_copy_and_survives_a_kill(finished, tmp_path):
    flags = ("--teacher", "ema", "--ema-decay", "0.5", "--save-seconds", "0")
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    for out in (whole, halves):
        link_inputs(finished, out, "base.pt", "rubrics.jsonl")
    run(["stage2"], whole, *flags)
    first = json.loads((whole / "stage2.jsonl").read_text().splitlines()[0])
    fixed = json.loads((finished / "stage2.jsonl").read_text().splitlines()[0])
    assert first["loss"] == fixed["loss"]  # no step taken yet: the average is the starting policy
    process = subprocess.Popen([sys.executable, ROOT / "rcsd.py", "stage2", "--preset", "smoke", "--out", str(halves),
                                *FLAGS, *flags, "--resume"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               env=os.environ | {"OMP_NUM_THREADS": "1"})
    while not (halves / "stage2.pt").exists() and process.poll() is None:
        time.sleep(0.001)
    process.kill()
    process.wait()
    assert load(halves / "stage2.pt")["step"] < TINY["stage2_steps"]
    run(["stage2"], halves, *flags, "--resume")
    assert same(weights(whole / "stage2.pt"), weights(halves / "stage2.pt"))
    assert not same(weights(whole / "stage2.pt"), weights(finished / "stage2.pt"))


def test_another_seed_gives_other_data_and_weights(finished, tmp_path):
    assert seed_for(Settings(seed=0), "x") != seed_for(Settings(seed=1), "x")
    for stage in ("data", "base"):
        run([stage], tmp_path / "other", "--seed", "1")
    assert not same(weights(tmp_path / "other" / "base.pt"), weights(finished / "base.pt"))
    assert (tmp_path / "other" / "data" / "base.jsonl").read_text() != (finished / "data" / "base.jsonl").read_text()


def test_live_teacher_in_its_own_context_and_every_teacher_context_run(finished, tmp_path):
    for i, flags in enumerate((("--teacher", "live"), ("--teacher-context", "solution"), ("--rubrics", "reference"),
                               ("--teacher-context", "rubric+answer", "--clip-mode", "scale", "--clip", "0.5"))):
        out = tmp_path / str(i)
        link_inputs(finished, out, "base.pt", "rubrics.jsonl")
        run(["stage2"], out, *flags)
        losses = [json.loads(line)["loss"] for line in (out / "stage2.jsonl").read_text().splitlines()]
        assert len(losses) == TINY["stage2_steps"] and all(0 < loss < 20 for loss in losses)


def test_a_teacher_that_sees_nothing_more_teaches_nothing(finished, tmp_path):
    link_inputs(finished, tmp_path / "nothing", "base.pt", "rubrics.jsonl")
    run(["stage2"], tmp_path / "nothing", "--teacher-context", "nothing")
    losses = [json.loads(line)["loss"] for line in (tmp_path / "nothing" / "stage2.jsonl").read_text().splitlines()]
    assert losses[0] == 0.0


def test_evaluation_reads_the_run_and_prints_the_table(finished):
    done = run([], finished, script="evaluate.py")
    results = json.loads((finished / "results.json").read_text())
    for name, rows in results["answers"].items():
        known = [r["correct"] for r in rows if r["group"] == "known laws"]
        assert results["accuracy"][name]["known laws"] == pytest.approx(sum(known) / len(known))
    assert "new laws" in done.stdout and "student" in done.stdout


def test_train_sh_runs_the_whole_path_and_does_not_repeat_it(tmp_path):
    command = ["bash", str(ROOT / "train.sh"), "smoke", "--out", str(tmp_path / "smoke"), *FLAGS]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    first, second = (subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path) for _ in "12")
    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    assert "accuracy, %" in first.stdout and second.stdout.count("done before") == 4
    def table(text):
        return text[text.index("accuracy, %"):text.index("train.sh:")]
    assert table(first.stdout) == table(second.stdout)


@pytest.mark.parametrize("arguments, code, expected", [(["--help"], 0, "smoke"), (["huge"], 2, "unknown preset 'huge'")])
def test_train_sh_says_what_it_takes(arguments, code, expected):
    done = subprocess.run(["bash", str(ROOT / "train.sh"), *arguments], capture_output=True, text=True)
    assert done.returncode == code and expected in done.stdout + done.stderr


def test_finished_steps_are_not_repeated(finished):
    before = {p: p.stat().st_mtime_ns for p in finished.glob("*.pt")}
    for stage in ("data", "base", "stage1", "stage2"):
        assert "done before" in run([stage], finished, "--resume").stdout
    assert before == {p: p.stat().st_mtime_ns for p in finished.glob("*.pt")}


# ------------------------------------------------------------------------------------------------------ bad input
def snapshot(folder):
    return {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("command, flags, expected", [
    ("stage2", ("--beta", "2"), "--beta"),
    ("stage2", ("--teacher", "wise"), "--teacher"),
    ("stage2", ("--batch", "0"), "--batch"),
    ("stage2", ("--temperature", "0"), "--temperature"),
    ("stage2", ("--clip-mode", "scale"), "--clip"),
    ("stage2", ("--resume", "--lr", "0.5"), "lr"),
    ("base", (), "--resume"),
    ("data", (), "--resume"),
    ("data", ("--resume", "--seed", "5"), "seed=0, not 5"),
    ("stage1", ("--resume", "--seed", "5"), "seed=0, not 5"),
    ("stage2", ("--batch", "many"), "--batch"),
    ("stage3", (), "stage3"),
    ("base", ("--resume", "--n_embd", "48"), "n_embd"),
    ("stage1", ("--resume", "--data", "missing.jsonl"), "missing.jsonl"),
    pytest.param("stage2", ("--device", "cuda"), "--device cuda",
                 marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")),
])
def test_bad_input_is_one_line_and_exit_code_2(finished, command, flags, expected):
    before = snapshot(finished)
    done = run([command], finished, *flags, check=False)
    assert done.returncode == 2
    assert expected in done.stderr and len(done.stderr.splitlines()) == 1
    assert snapshot(finished) == before


@pytest.mark.parametrize("text, expected", [
    ("", "expected at least one"), ("not json\n", ":1"), ('{"question": "why?", "rubric": 7}\n', "rubric"), ("[1, 2]\n", ":1"),
])
def test_bad_data_files_are_one_line_and_exit_code_2(finished, tmp_path, text, expected):
    out, path = tmp_path / "out", tmp_path / "mine.jsonl"
    link_inputs(finished, out, "base.pt")
    path.write_text(text)
    done = run(["stage1"], out, "--data", str(path), check=False)
    assert done.returncode == 2 and expected in done.stderr and "Traceback" not in done.stderr
    assert not (out / "stage1.pt").exists()


def test_prompts_longer_than_the_context_are_named(finished, tmp_path):
    out, path = tmp_path / "out", tmp_path / "long.jsonl"
    link_inputs(finished, out, "base.pt")
    rubric = [{"title": "t", "description": "Essential: uses a = b", "weight": 5}]
    path.write_text(json.dumps({"question": "why? " * 500, "rubric": rubric}) + "\n")
    done = run(["stage1"], out, "--data", str(path), check=False)
    assert done.returncode == 2 and "388 tokens" in done.stdout + done.stderr
    path.write_text(path.read_text() + json.dumps({"question": "why?", "rubric": rubric}) + "\n")
    assert "dropped 1 of 2" in run(["stage1"], out, "--data", str(path)).stdout


def test_broken_or_foreign_checkpoints_are_named(finished, tmp_path):
    out = tmp_path / "out"
    link_inputs(finished, out, "rubrics.jsonl")
    (out / "base.pt").write_bytes(b"no checkpoint")
    done = run(["stage2"], out, check=False)
    assert done.returncode == 2 and "base.pt" in done.stderr and "Traceback" not in done.stderr
    torch.save({"weight": torch.zeros(3)}, out / "base.pt")
    done = run(["stage2"], out, check=False)
    assert done.returncode == 2 and "not a checkpoint of this project" in done.stderr and "Traceback" not in done.stderr
    (out / "base.pt").unlink()
    save(out / "base.pt", load(finished / "base.pt") | {"step": 3})
    done = run(["stage2"], out, check=False)
    assert done.returncode == 2 and "step 3 of 6" in done.stderr
    content = load(finished / "base.pt")
    save(out / "base.pt", content | {"config": content["config"] | {"n_embd": 64}})
    done = run(["stage2"], out, check=False)
    assert done.returncode == 2 and "base.pt" in done.stderr and "Traceback" not in done.stderr


def test_an_output_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("here")
    done = run(["data"], tmp_path / "file", check=False)
    assert done.returncode == 2 and "file" in done.stderr and "Traceback" not in done.stderr


def test_a_full_disk_is_named_and_keeps_the_old_checkpoint(finished, tmp_path):
    """A limit on the size of files stands in for a full disk."""
    link_inputs(finished, tmp_path / "out")
    run(["base"], tmp_path / "out", "--save-seconds", "0", "--base-steps", "6")
    whole = (tmp_path / "out" / "base.pt").read_bytes()
    stopped = load(tmp_path / "out" / "base.pt") | {"step": 5}
    torch.save(stopped | {"optimizers": [], "ema": None}, tmp_path / "out" / "base.pt")
    before = (tmp_path / "out" / "base.pt").read_bytes()
    code = ("import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
            "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000)); import rcsd; sys.exit(rcsd.main(sys.argv[1:]))")
    done = subprocess.run([sys.executable, "-c", code, "base", "--preset", "smoke", "--out", str(tmp_path / "out"), *FLAGS,
                           "--resume"], cwd=ROOT, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert len(whole) > 20000 and done.returncode == 2 and "Traceback" not in done.stderr
    assert "base.pt: the checkpoint could not be written" in done.stderr
    assert (tmp_path / "out" / "base.pt").read_bytes() == before
    assert not list((tmp_path / "out").glob("*.tmp"))


def test_presets_are_valid():
    for values in PRESETS.values():
        Settings(**values)


# ------------------------------------------------------------------------------------------------- the baselines
def test_advantages_are_normalised_within_groups():
    rows = random_rollouts(12)
    silent = set_advantages(rows, [1, 0, 0, 0, 1, 1, 1, 1, 0.2, 0.4, 0.6, 0.8], group_size=4)
    assert silent == pytest.approx(1 / 3)
    third = 3 ** 0.5
    assert [r.advantage for r in rows[:4]] == pytest.approx([third, -1 / third, -1 / third, -1 / third])
    assert [r.advantage for r in rows[4:8]] == [0.0] * 4
    assert [r.advantage for r in rows[8:]] == pytest.approx([-1.3416408, -0.4472136, 0.4472136, 1.3416408])


def logprob(model, prompt, completion, t, temperature=1.0):
    logits = model(torch.tensor([prompt + completion[:t]]))[0, -1] @ model.head_weight.T
    return (logits / temperature).log_softmax(-1)


def test_on_the_first_use_the_policy_gradient_is_advantage_times_log_probability():
    student, rows = tiny_model(), random_rollouts()
    for i, r in enumerate(rows):
        r.advantage = (-1) ** i * 0.1 * i
    loss = -sum(r.advantage * logprob(student, r.prompt, r.completion, t, 1.3)[token]
                for r in rows for t, token in enumerate(r.completion)) / sum(len(r.completion) for r in rows)
    wanted = torch.autograd.grad(loss, list(student.parameters()))
    count = sum(len(r.completion) for r in rows)
    surrogate, measures = policy_gradient_loss(student, None, rows, count, Settings(temperature=1.3))
    surrogate.backward()
    assert not measures["clipped"].any()
    for p, g in zip(student.parameters(), wanted):
        torch.testing.assert_close(p.grad, g, atol=1e-6, rtol=1e-3)


def test_a_reused_batch_is_clipped_on_the_side_that_goes_too_far():
    """ratio 2 is clipped for a good token and not for a bad one, ratio 1/2 the other way round."""
    for ratio, advantage, active in ((2.0, 1.0, False), (2.0, -1.0, True), (0.5, 1.0, True), (0.5, -1.0, False)):
        student, (row,) = tiny_model(), random_rollouts(1)
        now = torch.stack([logprob(student, row.prompt, row.completion, t)[token] for t, token in enumerate(row.completion)])
        row.advantage, row.old_logprobs = advantage, now.detach() - torch.tensor(ratio).log()
        stats = update(policy_gradient_loss, student, None, [row], [], Settings(clip_eps=0.2))
        bounded = max(0.8, min(1.2, ratio))
        assert stats["loss"] == pytest.approx(-min(ratio * advantage, bounded * advantage), rel=1e-4)
        assert (max(p.grad.abs().max() for p in student.parameters()) > 1e-3) == active
        assert stats["clipped"] == (not active)


def test_the_sampled_reverse_kl_is_unbiased():
    """Over all first tokens, weighted with their probability, its gradient is that of the full reverse KL."""
    student, teacher, prompts = tiny_model(), tiny_model(1), ([3, 5, 7], [3, 9, 9, 7])
    q = logprob(student, prompts[0], [], 0)
    total = [torch.zeros_like(p) for p in student.parameters()]
    for token in range(50):
        student.zero_grad()
        policy_gradient_loss(student, teacher, [Rollout(prompts[0], [token], prompts[1])], 1, Settings())[0].backward()
        for sum_, p in zip(total, student.parameters()):
            sum_ += q[token].exp().detach() * p.grad
    logits = student(torch.tensor([prompts[0]]))[0, -1:] @ student.head_weight.T
    seen = teacher(torch.tensor([prompts[1]]))[0, -1:] @ teacher.head_weight.T
    wanted = torch.autograd.grad(token_divergence(logits, seen, beta=1.0).sum(), list(student.parameters()))
    total, wanted = (torch.cat([g.flatten() for g in gradients]) for gradients in (total, wanted))
    assert wanted.norm() > 0.1 and (total - wanted).norm() < 1e-4 * wanted.norm()


@pytest.mark.parametrize("method", ["grpo", "reverse"])
def test_micro_batches_change_nothing_in_a_policy_gradient(method):
    def gradients(tokens):
        student, rows = tiny_model(), random_rollouts()
        set_advantages(rows, [i % 3 for i in range(9)], 3)
        for _ in range(2):  # the second use has a ratio
            update(policy_gradient_loss, student, tiny_model(1) if method == "reverse" else None, rows, [], Settings(micro_tokens=tokens))
        return [p.grad.clone() for p in student.parameters()]
    whole = gradients(10**6)
    assert max(g.abs().max() for g in whole) > 1e-3
    for a, b in zip(whole, gradients(60)):
        torch.testing.assert_close(a, b, atol=5e-6, rtol=1e-3)


@pytest.mark.parametrize("flags", [
    ("--method", "opsd", "--corrupted", "0.5"), ("--method", "grpo", "--group-size", "2", "--updates-per-batch", "2"),
    ("--method", "grpo-rubric", "--group-size", "4"), ("--method", "sft"), ("--method", "reverse-kl-pg"),
    ("--rubrics", "noisy", "--rubric-rate", "0.5"), ("--rubrics", "reduced"), ("--rubrics", "shuffled"),
    ("--rubrics", "generic"), ("--stage2-limit", "3", "--eval-every", "1"),
])
def test_every_method_and_rubric_source_runs_in_the_one_loop(finished, tmp_path, flags):
    link_inputs(finished, tmp_path / "out", "base.pt", "rubrics.jsonl")
    run(["stage2"], tmp_path / "out", *flags)
    log = [json.loads(line) for line in (tmp_path / "out" / "stage2.jsonl").read_text().splitlines()]
    assert len(log) == TINY["stage2_steps"] and all(abs(row["loss"]) < 50 for row in log)
    assert ("frac_zero_std" in log[0]) == ("grpo" in flags or "grpo-rubric" in flags)
    assert (log[0]["sampled"] == 0) == ("sft" in flags)
    if "--stage2-limit" in flags:
        first = [json.loads(line)["question"] for line in (tmp_path / "out" / "data" / "stage2.jsonl").read_text().splitlines()[:3]]
        assert {row["sample"]["question"] for row in log} <= set(first)


def test_the_best_of_the_validated_checkpoints_is_kept(tmp_path):
    """Scores 0.2, 0.9, 0.9, 0.1: the second; and the same when the run is stopped in between and resumed."""
    scores = [0.2, 0.9, 0.9, 0.1]

    def train_some(out, stop=None, resume=False):
        out.mkdir(exist_ok=True)
        student = tiny_model()

        def take_step(step):
            if step == stop:
                raise KeyboardInterrupt
            with torch.no_grad():
                student.head_weight.fill_(step)
            return {"loss": 0.0, "tokens": 1}
        settings = Settings(eval_every=1, save_seconds=0)
        return train("stage2", State(student, [torch.optim.SGD(student.parameters())]), take_step, 4, 1, out, settings, resume,
                     validate=lambda model: {"valid": scores[int(model.head_weight[0, 0])]})

    assert train_some(tmp_path / "whole").head_weight[0, 0] == 1
    with pytest.raises(KeyboardInterrupt):
        train_some(tmp_path / "halves", stop=3)
    assert train_some(tmp_path / "halves", resume=True).head_weight[0, 0] == 1
    for name in ("whole", "halves"):
        content = load(tmp_path / name / "stage2.pt")
        assert content["kept"] == 2 and content["step"] == 4 and content["model"]["embed.weight"][0, 0] == 1
        assert [json.loads(line)["valid"] for line in (tmp_path / name / "stage2.jsonl").read_text().splitlines()] == scores


def test_the_learning_rate_rises_stays_and_falls(tmp_path):
    """By hand: 8 steps, of which 2 to rise; each group of each optimizer by the same factor."""
    student, used = tiny_model(), []
    first, *rest = student.parameters()
    optimizers = [torch.optim.SGD([first], 4.0), torch.optim.SGD([dict(params=rest, lr=0.1)], 1.0)]

    def take_step(step):
        used.append([optimizer.param_groups[0]["lr"] for optimizer in optimizers])
        return {"loss": 0.0, "tokens": 1}
    train("stage2", State(student, optimizers), take_step, 8, 2, tmp_path, Settings(), False)
    factors = [0.5, 1, 1, 1, 1, 0.75, 0.5, 0.25]
    assert used == [[pytest.approx(4 * f), pytest.approx(0.1 * f)] for f in factors]
    log = [json.loads(line) for line in (tmp_path / "stage2.jsonl").read_text().splitlines()]
    assert [row["lr"] for row in log] == [4 * f for f in factors]


@pytest.mark.parametrize("flags, expected", [
    (("--method", "grpo", "--group-size", "3"), "--group-size"), (("--method", "opsd", "--teacher-context", "answer"), "--teacher-context"),
    (("--corrupted", "1.5"), "--corrupted"), (("--method", "ppo"), "--method"),
])
def test_methods_that_cannot_be_are_one_line(finished, flags, expected):
    done = run(["stage2"], finished, "--resume", *flags, check=False)
    assert done.returncode == 2 and expected in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("source", ["reference", "noisy", "shuffled"])
def test_a_rubric_source_says_which_question_has_none(finished, tmp_path, source):
    link_inputs(finished, tmp_path / "out", "base.pt")
    (tmp_path / "mine.jsonl").write_text('{"id": "bare", "question": "why?", "answer": "so"}\n' * 2 + '{"id": "2", "question": "who?", '
                                         '"answer": "I"}\n')
    done = run(["stage2"], tmp_path / "out", "--data", str(tmp_path / "mine.jsonl"), "--rubrics", source, check=False)
    assert done.returncode == 2 and "question bare and 1 more have no reference rubric" in done.stderr


@pytest.mark.parametrize("method, what", [("sft", "a solution"), ("grpo", "an answer"), ("grpo-rubric", "a rubric with checks"),
                                          ("opsd", "its solution")])
def test_a_method_says_what_its_data_lack(finished, tmp_path, method, what):
    link_inputs(finished, tmp_path / "out", "base.pt")
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps({"query": "why?", "rubric": [{"rubric_item": "says so", "type": "x"}]}) + "\n")
    done = run(["stage2"], tmp_path / "out", "--data", str(path), "--method", method, "--group-size", "2", check=False)
    assert done.returncode == 2 and what in done.stderr and "Traceback" not in done.stderr


# ------------------------------------------------------------------------------------------- two processes and one
def torchrun(command, out, *flags):
    script = [str(ROOT / "rcsd.py"), command] if command != "evaluate" else [str(ROOT / "evaluate.py")]
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", *script,
            "--preset", "smoke", "--out", str(out), *FLAGS, "--device", "cpu", *flags]


def alone(environment=os.environ):
    return environment | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


@pytest.mark.parametrize("stage, inputs, flags", [
    ("base", (), ()), ("stage1", ("base.pt",), ()), ("stage2", ("base.pt", "rubrics.jsonl"), ("--eval-every", "2")),
    ("stage2", ("base.pt", "rubrics.jsonl"), ("--method", "reverse-kl-pg", "--updates-per-batch", "2",
                                                      "--lr", "0.0003")),  # Adam blows rounding up to a share of it
])
def test_two_processes_equal_one_to_rounding(finished, tmp_path, stage, inputs, flags):
    one, two = tmp_path / "one", tmp_path / "two"
    for out in (one, two):
        link_inputs(finished, out, *inputs)
    run([stage], one, *flags)
    done = subprocess.run(torchrun(stage, two, *flags), capture_output=True, text=True, env=alone())
    assert done.returncode == 0, done.stderr
    a, b = weights(one / f"{stage}.pt"), weights(two / f"{stage}.pt")
    start = weights(finished / "base.pt") if stage != "base" else None
    for name in a:
        torch.testing.assert_close(b[name], a[name], atol=2e-5, rtol=1e-4)
        assert start is None or "embed" not in name or not torch.equal(a[name], start[name])  # something was learned
    rows = [[json.loads(line) for line in (out / f"{stage}.jsonl").read_text().splitlines()] for out in (one, two)]
    assert len(rows[0]) == len(rows[1]) == TINY[f"{stage}_steps"]
    for x, y in zip(*rows):
        for name in x.keys() - {"seconds", "tokens_per_s", "peak_mb"}:
            assert y[name] == (pytest.approx(x[name], rel=1e-3, abs=1e-4) if isinstance(x[name], float) else x[name]), name
    if stage == "stage1":
        assert (one / "rubrics.jsonl").read_text() == (two / "rubrics.jsonl").read_text()


def test_two_processes_evaluate_as_one(finished, tmp_path):
    stages = ("base.pt", "stage1.pt", "stage2.pt", "base.jsonl", "stage1.jsonl", "stage2.jsonl")
    for name in ("one", "two"):
        link_inputs(finished, tmp_path / name, *stages)
    run([], tmp_path / "one", script="evaluate.py")
    done = subprocess.run(torchrun("evaluate", tmp_path / "two"), capture_output=True, text=True, env=alone())
    assert done.returncode == 0 and done.stdout.count("report:") == 1, done.stderr
    one, two = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("one", "two"))
    assert one["answers"].keys() == two["answers"].keys() and one["stage1"] == two["stage1"]
    for name, rows in one["answers"].items():
        assert [(r["id"], r["text"]) for r in rows] == [(r["id"], r["text"]) for r in two["answers"][name]] and len(rows) > 9
    reports = [json.loads((tmp_path / name / "report.json").read_text()) for name in ("one", "two")]
    assert reports[0].keys() == reports[1].keys() and reports[0]["table"] == reports[1]["table"]


def test_a_killed_process_ends_the_run_with_a_message_and_one_process_resumes_it(finished, tmp_path):
    out = tmp_path / "killed"
    link_inputs(finished, out)
    steps = ("--base-steps", "400", "--save-seconds", "0")
    process = subprocess.Popen(torchrun("base", out, *steps), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                               env=alone())
    while not (out / "base.pt").exists() and process.poll() is None:
        time.sleep(0.01)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGKILL)
    output = process.communicate(timeout=60)[0]
    assert process.returncode != 0 and ("SIGKILL" in output or "another process of this run has ended" in output)
    reached = load(out / "base.pt")["step"]
    assert 0 < reached < 400
    run(["base"], out, "--resume", "--base-steps", "400")
    assert load(out / "base.pt")["step"] == 400
    assert len((out / "base.jsonl").read_text().splitlines()) == 400
