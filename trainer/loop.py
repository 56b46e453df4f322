"""The one training loop: it sets rates, logs, validates, saves and resumes."""

import copy
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from data.files import write_lines
from model import GPT
from trainer.checkpoints import load, require_same_inputs, require_same_settings, save
from trainer.processes import rank_and_size, wait_for_all
from trainer.settings import Settings

try:
    import resource
except ImportError:  # Windows
    resource = None


@dataclass
class State:
    """All that a step changes, and so all that a checkpoint holds."""

    student: GPT
    optimizers: list[torch.optim.Optimizer]
    ema: GPT | None = None
    """A teacher whose weights move with the student's."""
    step: int = 0
    """Steps done."""
    best: dict | None = None
    """The best validated weights so far: {"score", "step", "model"}."""


def rate_factor(step: int, steps: int, warmup: int) -> float:
    """What each optimizer's own rate is multiplied by.

    It rises linearly over `warmup` steps to 1 and falls linearly to 0 from the middle of the run.
    """
    return min(1.0, (step + 1) / warmup, 2 * (1 - step / steps))


def restore(path: Path, state: State, wanted: dict, inputs: dict[str, str]) -> None:
    """Load a checkpoint into the state.

    Raises ValueError if it has other settings, other inputs or another shape.
    """
    content = load(path)
    require_same_settings(path, content["settings"], wanted)
    require_same_inputs(path, content["inputs"], inputs)
    if content["config"] != asdict(state.student.config):
        raise ValueError(f"{path} holds a model of another shape: {content['config']}")
    state.student.load_state_dict(content["model"])
    state.step, state.best = content["step"], content.get("best")
    if content["step"] == content["steps"]:  # a finished run has no more than its weights
        return
    for optimizer, saved in zip(state.optimizers, content["optimizers"]):
        optimizer.load_state_dict(saved)
    if state.ema is not None:
        state.ema.load_state_dict(content["ema"])


def checkpoint(path: Path, state: State, steps: int, wanted: dict, inputs: dict[str, str]) -> None:
    """Write what `restore` reads; of a finished run the weights alone.

    Raises ValueError for weights that are not finite: the checkpoint before them stays.
    """
    if not all(p.isfinite().all() for p in state.student.parameters()):
        stage = path.stem
        raise ValueError(diverged(stage, state.step - 1, "weights are not finite", path))
    content = {
        "step": state.step,
        "steps": steps,
        "settings": wanted,
        "inputs": inputs,
        "config": asdict(state.student.config),
        "model": state.student.state_dict(),
        "kept": state.best["step"] if state.best else state.step,
    }
    if state.step < steps:
        content["optimizers"] = [optimizer.state_dict() for optimizer in state.optimizers]
        content["ema"] = state.ema.state_dict() if state.ema is not None else None
        content["best"] = state.best
    if rank_and_size()[0] == 0:
        save(path, content)


def diverged(stage: str, step: int, what: str, path: Path) -> str:
    """What a person reads when a number of a step is not finite."""
    rate = "--base-lr" if stage == "base" else "--lr"
    kept = f"; {path} keeps the last good step" if path.exists() else ""
    return f"{stage}, step {step}: {what}: try a lower {rate} or a higher --temperature{kept}"


NOTHING_LEARNED = (
    "{stage}: there was no gradient so far, so nothing is learned: every group of answers has equal "
    "rewards, or the teacher sees no more than the student"
)


def keep_best(state: State, scores: dict[str, float]) -> None:
    """Remember the student's weights if their mean score is above all before."""
    score = sum(scores.values())
    if state.best is None or score > state.best["score"]:
        model = copy.deepcopy(state.student.state_dict())
        state.best = {"score": score, "step": state.step, "model": model}


def train(
    stage: str,
    state: State,
    take_step: Callable[[int], dict],
    steps: int,
    out: Path,
    settings: Settings,
    resume: bool,
    *,
    warmup: int,
    inputs: dict[str, str] | None = None,
    validate: Callable[[GPT], dict[str, float]] | None = None,
) -> GPT:
    """The one training loop. Returns the student.

    `take_step(step)` learns and returns what to log. The loop sets rates, validates and saves.
    Everything random in a step comes from (seed, stage, step), so a killed run goes on to the same
    bits. With `validate`, from the student to {name: score}, the run ends with the weights of the
    best mean score, the earliest of equals. `inputs` are the digests of what the run learns from.
    Raises ValueError for a checkpoint of other settings or inputs, or if one exists and `resume` is False, and
    when a number of a step is not finite.
    """
    path, log, rank = out / f"{stage}.pt", out / f"{stage}.jsonl", rank_and_size()[0]
    wanted, inputs, optimizers = settings.of(stage), inputs or {}, state.optimizers
    rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
    if path.exists():
        if not resume:
            raise ValueError(
                f"{path} is there already: pass --resume to go on with it, or another --out"
            )
        restore(path, state, wanted, inputs)
        if state.step == steps:
            print(f"{stage}: done before, {path}")
            return state.student
    if rank == 0:  # forget what was logged after the checkpoint
        done = log.read_text(encoding="utf-8").split("\n")[: state.step] if state.step else []
        write_lines(log, done)
    saved, has_learned = time.monotonic(), state.step > 0
    bar = tqdm(range(state.step, steps), stage, initial=state.step, total=steps, mininterval=1)
    with open(log if rank == 0 else os.devnull, "a", encoding="utf-8") as file:
        for step in bar:
            began = time.perf_counter()
            for optimizer, own_rates in zip(optimizers, rates):
                for group, rate in zip(optimizer.param_groups, own_rates):
                    group["lr"] = rate * rate_factor(step, steps, warmup)
            row = {"step": step, "lr": optimizers[0].param_groups[0]["lr"]}
            try:
                row |= take_step(step)
            except FloatingPointError as error:
                raise ValueError(diverged(stage, step, str(error), path)) from None
            state.step = step + 1
            if row.get("grad_norm", 1.0) > 1e-6:
                has_learned = True
            elif state.step == min(5, steps) and not has_learned:
                bar.write(NOTHING_LEARNED.format(stage=stage), file=sys.stderr)
            seconds = time.perf_counter() - began
            row["seconds"], row["tokens_per_s"] = seconds, row["tokens"] / seconds
            row["peak_mb"] = peak_mb(state.student)
            if validate and (state.step % settings.eval_every == 0 or state.step == steps):
                scores = validate(state.student)
                row |= scores
                keep_best(state, scores)
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            file.flush()
            bar.set_postfix(loss=f"{row['loss']:.3f}", refresh=False)
            if time.monotonic() - saved > settings.save_seconds and state.step < steps:
                checkpoint(path, state, steps, wanted, inputs)
                saved = time.monotonic()
    if state.best:
        state.student.load_state_dict(state.best["model"])
    checkpoint(path, state, steps, wanted, inputs)
    wait_for_all()
    return state.student


def peak_mb(model: GPT) -> int:
    """Most memory that the run has used so far: the GPU's, or on a CPU the process's."""
    if model.head_weight.is_cuda:
        return torch.cuda.max_memory_allocated() >> 20
    if resource is None:
        return 0
    kilobytes_or_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # Linux, macOS
    return kilobytes_or_bytes >> (20 if sys.platform == "darwin" else 10)
