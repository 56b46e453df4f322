"""Run the study: train every run of study/runs.py that is missing, then make its tables.

    bash train.sh study                # all runs; a stopped study goes on where it was
    bash train.sh study --quick        # eight runs, one seed, a shorter stage 0

Runs are trained side by side, one core each; a base model takes several where there are more cores
than seeds. Each finished run is one line of runs.jsonl: its settings, every test answer as right
(1) or wrong (0), the learning curve on the validation questions, tokens and seconds.

The rules that make the comparison fair:

- For one seed all methods share base model, rubric writer, training questions and test questions,
  take the same number of optimizer steps and, except sft, sample the same number of completions
  with the same settings.
- The learning rate of a method is the best of the plan's grid on the method's clean run, by
  validation accuracy on the seeds that the plan tunes on. The quick study uses rates found by the
  full one.
- Early stopping: of the weights at every `eval_every` steps, a run keeps those with the best
  validation accuracy. Validation questions share no numbers with the test questions.
"""

import json
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, ProcessPoolExecutor, wait
from itertools import product
from pathlib import Path

import torch
from tqdm import tqdm

from data.console import Parser, exit_code, explanation, folder_path, number_flag
from data.files import only_run, replacing, write_lines
from data.reading import read_text
from study import tables
from study.jobs import TESTED_LAST, Job, work
from study.read import parse_line
from study.runs import FULL, QUICK, Plan
from trainer.settings import PRESETS


# ------------------------------------------------------------------------------- all jobs, in order
class Study:
    """What is done (lines of runs.jsonl), and which jobs are missing.

    A run waits for its seed and for the learning rate of its method.
    """

    def __init__(self, out: Path, preset: str, plan: Plan):
        self.out, self.preset, self.plan = out, preset, plan
        self.path = out / "runs.jsonl"
        self.lines = {}  # by run and seed
        if self.path.exists():
            *lines, rest = read_text(self.path).split("\n")
            for number, text in enumerate(lines, 1):
                line = parse_line(text, f"{self.path}:{number}")
                self.lines[line["run"], line["seed"]] = line
            if rest:
                say = f"{self.path}:{len(lines) + 1}: dropped, a line that was cut while written"
                print(say, file=sys.stderr)
                write_lines(self.path, lines)
        self.seeds = sorted({seed for run in plan.runs for seed in run.seeds})
        self.methods = {}  # method -> the run that chooses its learning rate, the first clean one
        for run in sorted(plan.runs, key=lambda run: run.flags.get("corrupted", 0)):
            self.methods.setdefault(run.method, run)
        self.grid = []  # (method, rate, seed)
        if isinstance(plan.rates, tuple):
            self.grid = list(product(self.methods, plan.rates, plan.tuned_on))

    def rate_of(self, method: str) -> float | None:
        """The learning rate with the best validation accuracy; None if it is not yet known.

        The accuracy is the mean over the seeds that the plan tunes on; of equal rates the lower
        one is chosen.
        """
        if isinstance(self.plan.rates, dict):
            return self.plan.rates[method]
        scores = {}
        for rate in self.plan.rates:
            found = [self.lines.get((grid_name(method, rate), s)) for s in self.plan.tuned_on]
            if None in found:
                return None
            scores[rate] = sum(line["valid"] for line in found)
        return max(scores, key=lambda rate: (scores[rate], -rate))

    def settings(self, seed: int, flags: dict) -> dict:
        """The preset with the plan's settings, the seed and the flags on top."""
        return {**PRESETS[self.preset], **self.plan.base, "seed": seed, **flags}

    def is_ready(self, seed: int) -> bool:
        """Whether data, base model and rubric writer of a seed are there."""
        return (TESTED_LAST, seed) in self.lines

    def jobs(self) -> Iterator[Job]:
        """Every job that is missing, in order."""
        yield from self.seed_jobs(self.plan.tuned_on)
        for method, rate, seed in self.grid:
            flags = self.methods[method].flags
            yield from self.run_jobs(grid_name(method, rate), flags, rate, seed)
        yield from self.seed_jobs(seed for seed in self.seeds if seed not in self.plan.tuned_on)
        for run in self.plan.runs:
            for seed in run.seeds:
                yield from self.run_jobs(run.name, run.flags, self.rate_of(run.method), seed)

    def seed_jobs(self, seeds: Iterable[int]) -> Iterator[Job]:
        """The jobs that prepare seeds."""
        for seed in seeds:
            if not self.is_ready(seed):
                facts = {"flags": {}, "steps": 0, "curve": []}
                yield Job("seed", seed, self.settings(seed, {}), facts)

    def run_jobs(self, name: str, flags: dict, rate: float | None, seed: int) -> Iterator[Job]:
        """The job that trains a run, unless its line is there.

        A run that the grid has already trained gets a copy of that line instead.
        """
        facts = {"flags": flags, "lr": rate, "shared": self.plan.shared}

        def has_facts(line: dict) -> bool:
            return all(line.get(key) == value for key, value in facts.items())

        done = self.lines.get((name, seed))
        if done and (rate is None or has_facts(done)):
            return
        if rate is None or not self.is_ready(seed):
            yield Job(name, seed, None, facts)
            return
        twin = self.lines.get((grid_name(flags.get("method", "rcsd"), rate), seed))
        if twin and has_facts(twin):
            self.add([{**twin, "run": name}])
        else:
            settings = self.settings(seed, {**self.plan.shared, **flags, "lr": rate})
            yield Job(name, seed, settings, facts)

    def add(self, lines: list[dict]) -> None:
        """Append finished lines to runs.jsonl, all of them or none."""
        before = self.path.read_bytes() if self.path.exists() else b""
        with replacing(self.path) as file:
            file.write(before + "".join(json.dumps(line) + "\n" for line in lines).encode())
        for line in lines:
            self.lines[line["run"], line["seed"]] = line

    def go(self, workers: int) -> None:
        """Do all missing jobs, `workers` at a time.

        Raises ValueError, which names the job, for one that fails.
        """
        os.environ["OMP_NUM_THREADS"] = "1"
        running = {}  # future -> (name, seed)
        bar = tqdm(total=len(list(self.jobs())), desc="study", unit="run")
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, spawn, end_with_parent) as pool:
            try:
                while True:
                    self.start_jobs(pool, running, workers)
                    if not running:
                        break
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        self.add(result_of(future, *running.pop(future)))
                        bar.update()
            except BaseException:  # no need to wait for jobs that nobody will read
                for worker in multiprocessing.active_children():
                    worker.terminate()
                raise
            finally:
                bar.close()

    def start_jobs(self, pool: ProcessPoolExecutor, running: dict, workers: int) -> None:
        """Start jobs that are ready and not running, as long as there is a free worker."""
        for job in self.jobs():
            key = (job.name, job.seed)
            if len(running) < workers and job.settings and key not in running.values():
                threads = max(1, workers // len(self.seeds)) if job.name == "seed" else 1
                folder, preset = self.out / f"seed{job.seed}", self.settings(job.seed, {})
                running[pool.submit(work, folder, job, preset, threads)] = key


def end_with_parent() -> None:
    """Let a worker end when the study ends, however that ends; Ctrl-C is for the study alone."""

    def wait_for_parent() -> None:
        multiprocessing.parent_process().join()  # a pipe that closes with the parent
        os._exit(1)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=wait_for_parent, daemon=True).start()


def result_of(future: Future, name: str, seed: int) -> list[dict]:
    """The lines of a job. Raises ValueError, which names the job, if it failed."""
    try:
        return future.result()
    except BrokenExecutor:
        reason = "its process ended (killed, or out of memory?); the same command goes on from here"
    except Exception as error:
        reason = explanation(error)
        if reason is None:
            raise
    raise ValueError(f"{name}, seed {seed}: {reason}")


def grid_name(method: str, rate: float) -> str:
    """The name of the run that tries a learning rate for a method."""
    return f"lr-{method}-{rate:g}"


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = Parser(__doc__, prog="sweep.py")
    parser.add_argument("--quick", action="store_true", help="a small study")
    parser.add_argument(
        "--preset",
        choices=sorted(PRESETS),
        help="of stage 0 and the sizes (default cpu, gpu with CUDA)",
    )
    parser.add_argument("--out", type=folder_path, help="default out/study, or out/study-quick")
    parser.add_argument(
        "--workers",
        type=number_flag(int, 1, 1000),
        default=os.cpu_count() or 1,
        help="runs side by side (default: one a core)",
    )
    args = parser.parse_args(arguments)
    preset = args.preset or ("gpu" if torch.cuda.is_available() else "cpu")
    out = args.out or Path("out") / ("study-quick" if args.quick else "study")

    def action() -> None:
        out.mkdir(parents=True, exist_ok=True)
        with only_run(out):
            Study(out, preset, QUICK if args.quick else FULL).go(args.workers)

    code = exit_code("sweep.py", action, "the same command goes on from here")
    return code or tables.main(["--runs", str(out / "runs.jsonl"), "--out", str(out)])


if __name__ == "__main__":
    sys.exit(main())
