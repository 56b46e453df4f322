"""The one training loop: it sets rates, logs, validates, saves and resumes."""

import copy
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TextIO

import torch
from tqdm import tqdm

from data.files import write_lines
from data.reading import Check, is_finite, is_whole, iterate_rows
from model import GPT
from pretrained.memory import FirstStep
from trainer.checkpoints import (
    load,
    load_weights,
    require_same_inputs,
    require_same_settings,
    save,
    trained_weights,
)
from trainer.processes import gather, rank_and_size, wait_for_all
from trainer.settings import Settings
from trainer.sharding import full, load_optimizer, load_parts, whole

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
    try:
        load_weights(state.student, content["model"])
        state.step, state.best = content["step"], content.get("best")
        if content["step"] == content["steps"]:  # a finished run has no more than its weights
            return
        for optimizer, saved in zip(state.optimizers, content["optimizers"]):
            load_optimizer(optimizer, saved)
        if state.ema is not None:
            load_parts(state.ema, content["ema"])
    except (RuntimeError, KeyError, TypeError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise ValueError(f"{path}: its state does not fit this run: {reason}") from None


def checkpoint(path: Path, state: State, steps: int, wanted: dict, inputs: dict[str, str]) -> None:
    """Write what `restore` reads; of a finished run the weights alone.

    Raises ValueError for weights that are not finite: the checkpoint before them stays.
    """
    finite = torch.stack([full(p.isfinite().all()) for p in state.student.parameters()])
    if not finite.all():  # read once
        stage = path.stem
        raise ValueError(diverged(stage, state.step - 1, "weights are not finite", path))
    content = {
        "step": state.step,
        "steps": steps,
        "settings": wanted,
        "inputs": inputs,
        "config": asdict(state.student.config),
        "model": trained_weights(state.student),
        "kept": state.best["step"] if state.best else state.step,
    }
    if state.step < steps:
        content["optimizers"] = [optimizer.state_dict() for optimizer in state.optimizers]
        content["ema"] = state.ema.state_dict() if state.ema is not None else None
        content["best"] = state.best
    content = whole(content)
    if rank_and_size()[0] == 0:
        save(path, content)


def diverged(stage: str, step: int, what: str, path: Path) -> str:
    """What a person reads when a number of a step is not finite."""
    rate = {"base": "--base-lr", "stage1": "--stage1-lr"}.get(stage, "--lr")
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
        model = copy.deepcopy(trained_weights(state.student))
        state.best = {"score": score, "step": state.step, "model": model}


class Loop:
    """The steps of a stage that are still to do: it sets rates, logs, validates and saves.

        with Loop("stage2", state, steps, out, settings, resume, warmup=5) as loop:
            for step in loop:
                loop.end_step(update(...))

    Everything random in a step comes from (seed, stage, step), so a killed run goes on to the same
    bits. With `validate`, from the student to {name: score}, the run ends with the weights of the
    best mean score, the earliest of equals. `inputs` are the digests of what the run learns from.
    Raises ValueError for a checkpoint of other settings or inputs, or if one exists and `resume` is
    False, and when a number of a step is not finite.
    """

    def __init__(
        self,
        stage: str,
        state: State,
        steps: int,
        out: Path,
        settings: Settings,
        resume: bool,
        *,
        warmup: int,
        inputs: dict[str, str] | None = None,
        validate: Callable[[GPT], dict[str, float]] | None = None,
    ):
        self.stage, self.state, self.steps, self.settings = stage, state, steps, settings
        self.warmup, self.inputs, self.validate = warmup, inputs or {}, validate
        self.path, self.log_path = out / f"{stage}.pt", out / f"{stage}.jsonl"
        self.made_with = settings.up_to(stage)
        self.rates = []  # the optimizers' own: a checkpoint holds those of its step
        for optimizer in state.optimizers:
            self.rates.append([group["lr"] for group in optimizer.param_groups])
        if self.path.exists():
            if not resume:
                raise ValueError(
                    f"{self.path} is there already: pass --resume to go on with it, "
                    "or another --out"
                )
            restore(self.path, state, self.made_with, self.inputs)
        self.done_before = self.path.exists() and state.step == steps
        self.has_learned = state.step > 0
        self.first_step = None

    def __enter__(self) -> "Loop":
        if self.done_before:
            print(f"{self.stage}: done before, {self.path}")
            return self
        is_first = rank_and_size()[0] == 0
        if is_first:  # forget what was logged after the checkpoint
            start, log = self.state.step, self.log_path
            done = read_log(log, start) if start else []
            write_lines(log, (json.dumps(row, ensure_ascii=False) for row in done))
        self.file = open(self.log_path if is_first else os.devnull, "a", encoding="utf-8")
        self.saved = time.monotonic()
        return self

    def __iter__(self) -> Iterator[int]:
        start, steps = self.state.step, self.steps
        self.bar = tqdm(range(start, steps), self.stage, initial=start, total=steps, mininterval=1)
        for step in self.bar if not self.done_before else ():
            self.began = time.perf_counter()
            for optimizer, own_rates in zip(self.state.optimizers, self.rates):
                for group, rate in zip(optimizer.param_groups, own_rates):
                    group["lr"] = rate * rate_factor(step, steps, self.warmup)
            if self.settings.model and step == start:
                self.first_step = FirstStep(self.state.student)
            yield step

    def end_step(self, measures: dict) -> None:
        """End the step: write its line, validate and save when it is time to."""
        state, steps, every = self.state, self.steps, self.settings.eval_every
        row = {"step": state.step, "lr": state.optimizers[0].param_groups[0]["lr"]} | measures
        state.step += 1
        if self.first_step and row.get("grad_norm", 1.0) > 1e-6:
            self.bar.write(self.first_step.changes(self.stage, row["lr"]), file=sys.stderr)
            self.first_step = None
        if row.get("grad_norm", 1.0) > 1e-6:
            self.has_learned = True
        elif state.step == min(5, steps) and not self.has_learned:
            self.bar.write(NOTHING_LEARNED.format(stage=self.stage), file=sys.stderr)
        seconds = time.perf_counter() - self.began
        row["seconds"], row["tokens_per_s"] = seconds, row["tokens"] / seconds
        row["peak_mb"] = peak_mb(state.student)
        if self.validate and (state.step % every == 0 or state.step == steps):
            scores = self.validate(state.student)
            row |= scores
            keep_best(state, scores)
        add_row(self.file, row)
        self.bar.set_postfix(loss=f"{row['loss']:.3f}", refresh=False)
        is_late = time.monotonic() - self.saved > self.settings.save_seconds
        if gather([is_late])[0] and state.step < steps:  # rank 0's clock: all save together
            if rank_and_size()[0] == 0:  # the others' log is the null device
                os.fsync(self.file.fileno())  # the log is never behind its checkpoint
            self.save()
            self.saved = time.monotonic()

    def save(self) -> None:
        checkpoint(self.path, self.state, self.steps, self.made_with, self.inputs)

    def __exit__(self, kind, error, traceback) -> None:
        if self.done_before:
            return
        self.file.close()
        if isinstance(error, FloatingPointError):
            what = diverged(self.stage, self.state.step, str(error), self.path)
            raise ValueError(what) from None
        if error is None:
            if self.state.best:
                load_weights(self.state.student, self.state.best["model"])
            self.save()
            wait_for_all()


def add_row(log: TextIO, row: dict) -> None:
    """Write a step's row. Raises OSError, which names the log."""
    try:
        log.write(json.dumps(row, ensure_ascii=False) + "\n")
        log.flush()
    except OSError as error:
        error.filename = log.name
        raise


NUMBER: Check = (is_finite, "a number")
ROW: dict[str, Check] = {  # what every row of a log has
    "step": (is_whole, "the number of a step"),
    **dict.fromkeys(("loss", "tokens", "seconds"), NUMBER),
}


def read_log(path: Path, steps: int | None = None) -> list[dict]:
    """The rows of a stage's log, the first `steps` of them.

    Raises ValueError with file, line and field for rows that training did not write.
    """
    rows = list(islice(iterate_rows(path, ROW), steps))  # a killed run may leave half a row
    if not rows:
        raise ValueError(f"{path}: expected a row for each step, got an empty file")
    for number, row in enumerate(rows):
        if row["step"] != number:
            raise ValueError(f"{path}:{number + 1}: step: expected {number}, got {row['step']}")
        for name, value in row.items():
            if name != "sample" and not is_finite(value):
                raise ValueError(f"{path}:{number + 1}: {name}: expected a number, got {value!r}")
    if steps is not None and len(rows) < steps:
        raise ValueError(f"{path}: expected the {steps} steps of its checkpoint, got {len(rows)}")
    return rows


def peak_mb(model: GPT) -> int:
    """Most memory that the run has used so far: the GPU's, or on a CPU the process's."""
    if model.head_weight.is_cuda:
        return torch.cuda.max_memory_allocated() >> 20
    if resource is None:
        return 0
    kilobytes_or_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # Linux, macOS
    return kilobytes_or_bytes >> (20 if sys.platform == "darwin" else 10)
