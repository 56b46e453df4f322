"""Run the study: train every run of study/runs.py that is missing, then make its tables.

    bash train.sh study                # all runs; a stopped study goes on where it was
    bash train.sh study --quick        # eight runs, one seed
    python -m study.sweep --plan       # only say which jobs are missing

Runs are trained side by side, one core each; a rubric writer takes several where there are more
cores than seeds. Each finished run is one line of runs.jsonl: its settings, every test answer as
right (1) or wrong (0), the learning curve on the validation questions, tokens and seconds.

The rules that make the comparison fair:

- All seeds start from the shipped base of preset cpu: a seed varies questions, their order and all
  samples, not the base. With --own-bases, and with other presets, each seed trains its own.
- For one seed all methods share rubric writer, training questions and test questions. But for the
  long runs, they take the same number of optimizer steps and, except sft, sample the same number of
  completions with the same settings.
- The learning rate of a method is the best of the plan's grid on the method's first clean run, by
  validation accuracy on seeds that no table shows; RATE_OF in runs.py says which methods take that
  of another. The quick study has known rates.
- Kept weights: of the weights at every `eval_every` steps, a run keeps those with the best
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
from pathlib import Path

import torch
from tqdm import tqdm

from data.console import Parser, exit_code, explanation, folder_path, number_flag
from data.files import only_run, replacing, write_lines
from data.reading import read_text
from study import tables
from study.jobs import TESTED_LAST, Job, work
from study.read import PREPARED, grid_name, parse_line
from study.runs import FULL, QUICK, START, WIDE, Plan
from study.statistics import best_rate
from trainer.settings import PRESETS


# ------------------------------------------------------------------------------- all jobs, in order
class Study:
    """What is done (lines of runs.jsonl), and which jobs are missing.

    A run waits for its seed and for the learning rate of its method.
    """

    def __init__(self, out: Path, preset: str, plan: Plan, start: str = ""):
        self.out, self.preset, self.plan, self.start = out, preset, plan, start
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
        self.methods = {}  # method -> the run that chooses its learning rate, the first clean one
        for run in sorted(plan.runs, key=lambda run: run.flags.get("corrupted", 0)):
            self.methods.setdefault(run.tuned_as, run)

    def rate_of(self, method: str) -> float | None:
        """The learning rate with the best validation accuracy; None if it is not yet known."""
        if isinstance(self.plan.rates, dict):
            return self.plan.rates[method]
        scores = {}
        for rate in self.plan.rates:
            found = [self.lines.get((grid_name(method, rate), s)) for s in self.plan.tuned_on]
            if None in found:
                return None
            scores[rate] = sum(line["valid"] for line in found)
        return best_rate(scores)

    def settings(self, seed: int, flags: dict) -> dict:
        """The preset with the plan's settings, the seed and the flags on top."""
        own = self.plan.tuning if seed in self.plan.tuned_on else {}
        plan = {"start": self.start, **self.plan.seed, **own}
        return {**PRESETS[self.preset], **plan, "seed": seed, **flags}

    def is_ready(self, seed: int) -> bool:
        """Whether data, base model and rubric writer of a seed are there."""
        return (PREPARED if seed in self.plan.tuned_on else TESTED_LAST, seed) in self.lines

    def jobs(self) -> Iterator[Job]:
        """Every job that is missing, in order."""
        if isinstance(self.plan.rates, tuple):
            yield from self.seed_jobs(self.plan.tuned_on)
            for method, run in self.methods.items():
                for rate in self.plan.rates:
                    for seed in self.plan.tuned_on:
                        yield from self.run_jobs(grid_name(method, rate), run.flags, rate, seed)
        prepared = set()
        for part in self.plan.parts:
            for seed in sorted({seed for run in part for seed in run.seeds}):
                yield from self.seed_jobs({seed} - prepared)
                prepared.add(seed)
                for run in part:
                    if seed in run.seeds:
                        rate, sampled = self.rate_of(run.tuned_as), run.is_sampled(seed)
                        yield from self.run_jobs(run.name, run.flags, rate, seed, sampled)

    def seed_jobs(self, seeds: Iterable[int]) -> Iterator[Job]:
        """The jobs that prepare seeds."""
        for seed in seeds:
            if not self.is_ready(seed):
                facts = {"flags": {}, "steps": 0, "curve": []}
                is_tested = seed not in self.plan.tuned_on
                yield Job("seed", seed, self.settings(seed, {}), facts, seed in WIDE, is_tested)

    def run_jobs(
        self, name: str, flags: dict, rate: float | None, seed: int, is_sampled: bool = False
    ) -> Iterator[Job]:
        """The job that trains a run, unless its line is there."""
        facts = {"flags": flags, "lr": rate, "shared": self.plan.shared}
        done = self.lines.get((name, seed))
        if done and (rate is None or all(done.get(key) == facts[key] for key in facts)):
            return
        settings = None
        if rate is not None and self.is_ready(seed):
            settings = self.settings(seed, {**self.plan.shared, **flags, "lr": rate})
        yield Job(name, seed, settings, facts, is_sampled)

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
                threads = max(1, workers // len(self.plan.seeds)) if job.name == "seed" else 1
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


def describe(jobs: list[Job]) -> str:
    """The jobs in words, a line for each run with its seeds, in order."""
    seeds = {}
    for job in jobs:
        seeds.setdefault(job.name, []).append(str(job.seed))
    said = [f"{len(jobs)} jobs (a seed: its data, its rubric writer, tests of base and teachers)"]
    return "\n".join(said + [f"{name}: seed {', '.join(found)}" for name, found in seeds.items()])


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
        "--own-bases",
        action="store_true",
        help=f"train a base for each seed; preset cpu starts from {START} otherwise",
    )
    parser.add_argument("--plan", action="store_true", help="only print the jobs that are missing")
    parser.add_argument(
        "--workers",
        type=number_flag(int, 1, 1000),
        default=os.cpu_count() or 1,
        help="runs side by side (default: one a core)",
    )
    args = parser.parse_args(arguments)
    preset = args.preset or ("gpu" if torch.cuda.is_available() else "cpu")
    out = args.out or Path("out") / ("study-quick" if args.quick else "study")
    start = START if preset in ("cpu", "quick") and not args.own_bases else ""
    plan = QUICK if args.quick else FULL

    def action() -> None:
        if args.plan:
            print(describe(list(Study(out, preset, plan, start).jobs())))
            return
        out.mkdir(parents=True, exist_ok=True)
        with only_run(out):
            Study(out, preset, plan, start).go(args.workers)

    code = exit_code("sweep.py", action, "the same command goes on from here")
    if code or args.plan:
        return code
    quick = ["--quick"] if args.quick else []
    return tables.main(["--runs", str(out / "runs.jsonl"), "--out", str(out), *quick])


if __name__ == "__main__":
    sys.exit(main())
