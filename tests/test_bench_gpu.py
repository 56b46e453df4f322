"""bench/gpu.py: a part that fails is recorded and the rest goes on; rows come from its file; a
captured step samples what an eager one does. No time is asserted."""

import json
import os
import subprocess
import sys
import time

import pytest
import torch

from bench import bench, gpu, gpu_parts
from bench.graphs import cuda_graph, graphed_steps
from model import Batch, generate
from tiny import STAGES, flags, read_log, tiny_model
from trainer.checkpoints import load
from trainer.settings import PRESETS


@pytest.fixture
def parts(tmp_path, monkeypatch):
    """Parts that measure nothing, in processes of their own, in place of the real ones."""
    (tmp_path / "parts.py").write_text(
        "import sys, json, time\n"
        "name, device, file = sys.argv[1:]\n"
        "rows = {'ours': {'seconds': [0.25], 'tokens': None}}\n"
        "json.dump({'step': {} if name == 'memory' else rows}, open(file, 'w'))\n"
        "if name == 'memory': raise ValueError('no room')\n"
        "if name == 'torchrun': time.sleep(600)\n"
    )
    popen = subprocess.Popen

    def start(command, **options):
        if command[1:3] == ["-m", "bench.gpu_parts"]:
            command = [sys.executable, str(tmp_path / "parts.py"), *command[3:]]
        return popen(command, **options)

    monkeypatch.setattr(gpu.subprocess, "Popen", start)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_a_failing_part_is_recorded_and_the_rest_goes_on(parts, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "MINUTES", 0.05)
    monkeypatch.setattr(gpu, "PARTS", {n: gpu_parts.Part(None, 0) for n in gpu.PARTS})
    out = tmp_path / "gpu.json"
    assert gpu.main(["--out", str(out), "--only", "torchrun", "memory"]) == 0
    first = json.loads(out.read_text())["parts"]
    assert list(first) == ["memory", "torchrun"]
    assert first["memory"]["error"] == "ValueError: no room"
    assert first["torchrun"]["error"].startswith("no end after")
    assert first["memory"]["races"] == {"step": {}}
    assert first["torchrun"]["races"]["step"]["ours"]["seconds"] == [0.25]  # what it had is kept
    printed = capsys.readouterr().out
    assert "no usable GPU" in printed and "0 of 2 parts are measured" in printed
    assert gpu.main(["--out", str(out), "--only", "step"]) == 0
    second = json.loads(out.read_text())["parts"]
    assert list(second) == ["step", "memory", "torchrun"] and "error" not in second["step"]
    assert second["memory"] == first["memory"]


def test_without_a_gpu_no_file_is_written_unless_it_is_asked_for(parts, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "RESULTS", tmp_path / "gpu.json")
    assert gpu.main(["--only", "step"]) == 0
    assert not gpu.RESULTS.exists()


def test_a_part_that_is_ended_leaves_nobody(tmp_path):
    """Its own child too, which waits for a minute."""
    file = tmp_path / "pid"
    child = f"import os, time; open({str(file)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    while not file.exists() or not file.read_text():
        time.sleep(0.01)
    gpu.end(process)
    assert process.returncode is not None
    stat = f"/proc/{file.read_text()}/stat"
    if sys.platform == "linux" and os.path.exists(stat):  # ended, and not yet collected
        assert open(stat).read().split()[2] == "Z"


def test_the_rows_by_hand(tmp_path, monkeypatch, capsys):
    mb = 2**20
    memory = {
        "small": {"announced": 2000 * mb, "peak": 3000 * mb, "seconds": 1.25},
        "large": {"left_out": "out of memory"},
    }
    stages = {"base": {"seconds": 90.0, "rate": 12345.6, "peak": 7 * mb}, "data": {"seconds": 6.0}}
    run = {"base seconds": 0.0125, "base loss": 6.5, "stage2 seconds": 0.5, "stage2 loss": 0.25}
    race = {"ours": {"seconds": [0.2], "tokens": None}, "theirs": {"seconds": [0.5]}}
    races = {
        "preset": {"preset gpu": stages, "the table": {"evaluate": 0, "lines": ["new laws  91"]}},
        "step": {"step": race},
        "memory": {"memory": memory},
        "torchrun": {"one process": {"torchrun": run}},
    }
    parts = {name: {"seconds": 60.0, "races": found} for name, found in races.items()}
    parts["step"]["error"] = "ValueError: no"
    found = {"machine": "a GPU", "device": "cuda", "parts": parts}
    results, readme = tmp_path / "gpu.json", tmp_path / "README.md"
    results.write_text(json.dumps(found))
    readme.write_text("before\n<!-- gpu -->\nnot yet\n<!-- /gpu -->\nafter\n")
    monkeypatch.setattr(gpu, "RESULTS", results)
    monkeypatch.setattr(gpu, "README", readme)
    assert gpu.main(["--readme"]) == 0
    text = readme.read_text()
    assert text.startswith("before\n<!-- gpu -->") and text.endswith("<!-- /gpu -->\nafter\n")
    rows = [" ".join(line.split()) for line in text.splitlines()]
    for row in [
        "a GPU",
        "preset gpu min tokens/s peak MB",
        "base 1.5 12,346 7",
        "data 0.1",
        "new laws 91",
        "theirs 500 ±0% 2.50",
        "step: failed after 1.0 min: ValueError: no",
        "small 2,000 3,000 1.50 1.2",
        "large not measured: out of memory",
        "torchrun 12 6.50000 500 0.25000",
    ]:
        assert row in rows, row
    assert "not yet" not in text
    results.write_text(json.dumps(found | {"device": "cpu"}))
    assert gpu.main(["--readme"]) == 2
    assert "of a CPU" in capsys.readouterr().err and readme.read_text() == text


def test_the_cheap_parts_test_themselves_on_a_cpu():
    """Each contender runs, or says what it lacks; LoRA's step has a peak and an announcement."""
    for part in ("sampler", "step"):
        for rows in dict(gpu_parts.PARTS[part].run("cpu")).values():
            lacking = {name for name, row in rows.items() if "left_out" in row}
            assert all("TRL" in name or "transformers" in name for name in lacking)
            assert len(rows) > len(lacking)
            assert bench.table_of(part, rows)
    rows = dict(gpu_parts.memory("cpu"))["memory of LoRA"]
    assert len(rows) == 4 and all(row["announced"] > 2**27 for row in rows.values())


def test_a_step_of_lora_that_fails_leaves_the_others(monkeypatch):
    lora_step, count = gpu_parts.lora_step, []

    def fails_once(shape, settings):
        count.append(shape)
        if len(count) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return lora_step(shape, settings)

    monkeypatch.setattr(gpu_parts, "lora_step", fails_once)
    rows = list(dict(gpu_parts.memory("cpu"))["memory of LoRA"].values())
    assert rows[0] == {"left_out": "out of memory"} and all("peak" in row for row in rows[1:])


def test_all_parts_fit_the_time():
    assert sum(part.minutes for part in gpu.PARTS.values()) == gpu.MINUTES == 25


def test_the_shapes_have_the_published_numbers_of_parameters():
    """0.6B and 1.7B with a tied head, 8B with one of its own: model cards of Qwen3."""
    sizes = []
    for shape in gpu_parts.QWEN3.values():
        with torch.device("meta"):
            model = gpu_parts.GPT(
                gpu_parts.GPTConfig(**gpu_parts.QWEN3_SHARED, **shape, max_seq_len=8)
            )
        sizes.append(sum(p.numel() for p in model.parameters()))
    assert sizes == [596_049_920, 1_720_574_976, 8_190_735_360]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_captured_step_samples_what_an_eager_one_does(device):
    """Rows end and are dropped on the way, so that a step is captured again."""
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    model = tiny_model().double().to(device)
    prompts = [[1, 2, 3], [4], [5, 6], [7, 8], [9]]
    noise = torch.rand(5, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    noise[:4, 9] = 0.0  # token 0 ends four of the five rows
    noise[:, :9], noise[4] = 0.9, 0.9
    options = dict(max_new_tokens=40, eos=0, noise=noise.to(device))
    want, captured, replayed, eager = generate(model, prompts, **options), [], [], Batch.step

    def capture(run):
        captured.append(run)
        replay = cuda_graph(run) if device == "cuda" else run
        return lambda: (replayed.append(run), replay())

    with graphed_steps(capture):
        assert generate(model, prompts, **options) == want
    assert len(captured) == 2 and len(replayed) == 40 - 2 and Batch.step is eager
    assert sorted(len(c.ids) for c in want) == [10, 10, 10, 10, 40]


def test_preset_gpu_makes_two_steps_of_each_stage_on_a_cpu(tmp_path, preset_gpu):
    """The whole model, few and short rows."""
    for stage in STAGES[1:]:
        rows = read_log(preset_gpu / f"{stage}.jsonl")
        assert len(rows) == 2 and all(row["loss"] > 0 for row in rows)
        shape = load(preset_gpu / f"{stage}.pt")["config"]
        for name in ("n_layer", "n_embd", "n_head", "head_dim", "mlp_width", "max_seq_len"):
            assert shape[name] == PRESETS["gpu"][name]


@pytest.fixture
def preset_gpu(tmp_path):
    import forks

    out = tmp_path / "gpu"
    small = gpu_parts.FEW_ROWS | dict(base_steps=2, stage1_steps=2, stage2_steps=2)
    small |= dict(base_tokens=300, batch=2, max_new_tokens=6, stage2_questions=8)
    words = ["--preset", "gpu", "--device", "cpu", "--out", str(out), "--rubrics", "reference"]
    for stage in STAGES:
        command = [str(gpu.ROOT / "rcsd.py"), stage, *words, *flags(small)]
        done = forks.run(command)
        assert done.returncode == 0, done.stderr
    return out
