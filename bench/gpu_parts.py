"""The parts of `python -m bench.gpu`. Each yields (title, rows by name) as soon as it has them.

A part runs in a process of its own: python -m bench.gpu_parts PART DEVICE FILE writes all that it
has so far into the file, so what a time limit cuts off leaves the rest.
"""

import gc
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from bench.bench import ROOT, measure_losses, measure_samplers, race, reason
from bench.contenders import (
    SMALL,
    Ids,
    base_contenders,
    loop_contenders,
    loss_contenders,
    loss_sizes,
    peak_bytes,
    sampler_contenders,
)
from data.files import write_lines
from model import GPT, GPTConfig
from pretrained.lora import add_lora
from pretrained.memory import held
from pretrained.start import frozen_copy
from rcsd import COMMANDS
from step import Rollout, distillation, sample_completions, update
from trainer.loop import read_log
from trainer.settings import PRESETS, Settings

Rows = Iterator[tuple[str, dict]]
FEW_ROWS = dict(  # of data, where only the steps matter
    base_rows=300,
    exposure_count=8,
    stage1_questions=16,
    stage2_questions=16,
    test_questions=6,
    vocab_size=400,
    held_out=0,
)
SMALLEST = dict(  # a model for the self-test on a CPU
    base_steps=2,
    base_tokens=512,
    stage1_steps=2,
    stage2_steps=2,
    batch=4,
    n_layer=1,
    n_head=2,
    n_kv_head=1,
    head_dim=16,
    n_embd=32,
    mlp_width=32,
    max_new_tokens=12,
    rubrics="generic",  # a model this small writes no valid one
)
TINY = SMALL | dict(n_layer=1, n_embd=32, mlp_width=32)
QWEN3 = {  # the shapes of the published models
    "Qwen3-0.6B": dict(n_layer=28, n_embd=1024, n_head=16, mlp_width=3072),
    "Qwen3-1.7B": dict(n_layer=28, n_embd=2048, n_head=16, mlp_width=6144),
    "Qwen3-8B": dict(n_layer=36, n_embd=4096, n_head=32, mlp_width=12288, tie_head=False),
}
QWEN3_SHARED = dict(n_kv_head=8, head_dim=128, vocab_size=151_936, rope_theta=1e6)


def as_flags(settings: dict) -> list[str]:
    """{"base_rows": 300} as ["--base-rows", "300"]."""
    return [word for k, v in settings.items() for word in ("--" + k.replace("_", "-"), str(v))]


def run_command(command: list[str]) -> tuple[float, str]:
    """Run a command line in the project's folder: (its seconds, what it printed).

    Raises ValueError, with the last line that it said, if it fails.
    """
    began = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, encoding="utf-8")
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise ValueError(f"{' '.join(command[1:3])}: {said[-1]}")
    return time.perf_counter() - began, done.stdout


# --------------------------------------------------------------------------------------- the parts
def preset(device: str) -> Rows:
    """Preset gpu from the data to the table, by the commands of train.sh, in a temporary folder."""
    more = as_flags(FEW_ROWS | SMALLEST) if device == "cpu" else []
    stages = {}
    with tempfile.TemporaryDirectory() as out:
        flags = ["--preset", "gpu", "--out", out, "--device", device, *more]
        for stage in COMMANDS:
            seconds, _ = run_command([sys.executable, "rcsd.py", stage, *flags])
            stages[stage] = {"seconds": seconds}
            if (log := Path(out, f"{stage}.jsonl")).exists():
                steps = read_log(log)
                rates = [row["tokens_per_s"] for row in steps]
                stages[stage]["rate"] = statistics.median(rates)
                stages[stage]["peak"] = max(row["peak_mb"] for row in steps) * 2**20
            yield "preset gpu", stages
        seconds, printed = run_command([sys.executable, "evaluate.py", *flags])
        stages["evaluate"] = {"seconds": seconds}
        stages["in all"] = {"seconds": sum(row["seconds"] for row in stages.values())}
        yield "preset gpu", stages
        yield "the table", {"lines": printed.replace(out, "OUT").rstrip().splitlines()}


def loss(device: str) -> Rows:
    """The loss: 8192 tokens, width 4096, vocabulary 128,256 in bfloat16."""
    if device == "cuda":
        yield from measure_losses(device, quick=False)
        return
    for title, contenders in loss_contenders(device, loss_sizes(device, quick=True)).items():
        yield title, race(title, contenders, device, 1)


def sampler(device: str) -> Rows:
    """The sampler, 64 and 512 rows, with and without CUDA graphs."""
    if device == "cuda":
        yield from measure_samplers(device, quick=False)
        return
    yield "sampler, 16 rows", race("sampler", sampler_contenders(device, True, TINY, 16), device, 1)


def step(device: str) -> Rows:
    """A step beside the trainers of TRL, and a step of stage 0."""
    is_test = device == "cpu"
    rounds = 1 if is_test else 5
    yield "step", race("step", loop_contenders(device, is_test), device, rounds)
    yield "stage 0", race("stage 0", base_contenders(device, is_test), device, rounds)


def memory(device: str) -> Rows:
    """LoRA on random weights of Qwen3's shapes: announced memory beside the measured peak."""
    shapes = {name: QWEN3_SHARED | shape for name, shape in QWEN3.items()}
    options = PRESETS["own"]
    if device == "cpu":
        shapes = {"a tiny model": TINY, "a tiny model, untied": TINY | dict(tie_head=False)}
        options = options | dict(max_seq_len=96, max_new_tokens=16, batch=4)
    rows = {}
    for name, shape in shapes.items():
        for recompute in ("no", "yes"):
            settings = Settings(
                **options,
                model="random weights",
                lora_rank=16,
                dtype="bfloat16",
                device=device,
                recompute=recompute,
            )
            title = name + (", recompute" if recompute == "yes" else "")
            try:
                rows[title] = lora_step(shape, settings)
            except Exception as error:  # the next shape may be smaller
                rows[title] = {"left_out": reason(error)}
            gc.collect()
            if device == "cuda":
                torch.cuda.empty_cache()
            yield "memory of LoRA", rows


def lora_step(shape: dict, settings: Settings) -> dict:
    """{"announced", "peak": bytes, "seconds"} of one step with rows as long as they may be.

    The peak counts from before there was a model.
    """
    row = {}

    def run() -> None:
        torch.manual_seed(0)
        torch.set_default_dtype(torch.bfloat16)  # of the frozen weights
        try:
            with torch.device(settings.device):
                student = GPT(GPTConfig(**shape, max_seq_len=settings.max_seq_len))
        finally:
            torch.set_default_dtype(torch.float32)
        student.recompute = settings.recompute == "yes"
        add_lora(student, settings.lora_rank, 2 * settings.lora_rank, seed=0)
        row["announced"] = sum(held(student, settings).values())
        teacher = frozen_copy(student)
        optimizer = torch.optim.AdamW(student.parameters(), lr=settings.lr)
        size = (2, settings.batch, settings.prompt_room())
        prompts, teacher_prompts = torch.randint(shape["vocab_size"], size).tolist()
        began = time.perf_counter()
        completions = sample_completions(student, prompts, Ids, settings, "memory")
        rollouts = []
        for prompt, completion, other in zip(prompts, completions, teacher_prompts):
            rollouts.append(Rollout(prompt, completion.ids, other))
        update(distillation, student, teacher, rollouts, [optimizer], settings)
        row["seconds"] = time.perf_counter() - began

    row["peak"] = peak_bytes(run, settings.device)
    return row


def torchrun(device: str) -> Rows:
    """A few steps by torchrun with one process (nccl on a GPU), and the same steps without it."""
    settings = FEW_ROWS | dict(base_steps=10, stage2_steps=3, rubrics="reference")
    settings |= SMALLEST if device == "cpu" else dict(base_rows=3000)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=1"]
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        data = str(Path(folder, "data"))
        flags = ["--preset", "gpu", "--device", device, *as_flags(settings)]
        run_command([sys.executable, "rcsd.py", "data", "--out", data, *flags])
        for name, words in {"without torchrun": [], "torchrun": launch}.items():
            out = Path(folder, name.replace(" ", "_"))
            row = rows[name] = {}
            for stage in ("base", "stage2"):
                command = [sys.executable, *words, "rcsd.py", stage, "--out", str(out), *flags]
                run_command([*command, "--from", data])
                steps = read_log(out / f"{stage}.jsonl")
                row[f"{stage} seconds"] = statistics.median(s["seconds"] for s in steps)
                row[f"{stage} loss"] = steps[-1]["loss"]
            yield "torchrun, one process", rows


@dataclass(frozen=True)
class Part:
    """What a part runs, and the minutes that are kept for it."""

    run: Callable[[str], Rows]
    minutes: float


PARTS = {
    "preset": Part(preset, 11),
    "loss": Part(loss, 4),
    "sampler": Part(sampler, 5),
    "step": Part(step, 1.5),
    "memory": Part(memory, 2.5),
    "torchrun": Part(torchrun, 1),
}


def main(part: str, device: str, file: str) -> None:
    """Run a part, and write what it has each time that there is more."""
    races = {}
    for title, rows in PARTS[part].run(device):
        races[title] = rows
        write_lines(file, [json.dumps(races)])


if __name__ == "__main__":
    main(*sys.argv[1:])
