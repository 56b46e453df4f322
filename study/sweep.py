"""Run the study: every run of study/runs.py that is missing, side by side, one core each (a base model takes more
where there are more cores than seeds).

    bash train.sh study                # all; a stopped study goes on where it was; then its tables and pictures
    bash train.sh study --quick        # a small one: eight runs, one seed, a shorter stage 0

Each finished run is one line of runs.jsonl: its settings, every test answer as right (1) or wrong (0), the learning
curve on the validation questions, tokens and seconds. The rules that make it a fair comparison:

- For one seed all methods share base model, rubric writer, training questions and test questions, take the same number
  of optimizer steps and, but for sft, sample the same number of completions with the same settings.
- The learning rate of a method is the best of the plan's grid by validation accuracy on the seeds that it is tuned on,
  on its clean run (the quick study has these rates from the full one).
- Early stopping: of the weights at every `eval_every` steps those are kept that do best on the validation questions,
  which share no numbers with the test questions.
"""
import argparse
import json
import multiprocessing
import os
import platform
import sys
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path

import torch
from tqdm import tqdm

from base import run_base, run_data
from data.grammar import correct
from data.load import load_examples
from data.tokenizer import Tokenizer, encode, read_tokenizer
from evaluate import answer_all, judge_rubrics
from model import GPT
from rcsd import METHODS, run_stage1, run_stage2, validate, write_rubrics
from rubrics import prompt
from step import rollout
from study import runs as table
from study import tables
from trainer.checkpoints import load, load_model
from trainer.command_line import share
from trainer.processes import device_of
from trainer.settings import PRESETS, Settings

SETS = ("known", "new", "hard")


# ------------------------------------------------------------------------------------------------------ one job
def test_questions(folder: Path) -> dict:
    return {name: load_examples(folder / "data" / f"test_{name}.jsonl")[0] for name in SETS}


def measure(model: GPT, tokenizer: Tokenizer, sets: dict, settings: Settings, rubrics=None, solutions=False) -> dict:
    """Greedy answers to the test questions: right or wrong each, mean rubric score (0 to 1), mean length in tokens."""
    result = {"correct": {}, "score": {}, "length": {}}
    for name, examples in sets.items():
        rows = answer_all(model, tokenizer, examples, settings, rubrics, solutions=solutions)
        result["correct"][name] = "".join(str(int(r["correct"])) for r in rows)
        result["score"][name] = sum(r["score"] for r in rows) / len(rows)
        result["length"][name] = sum(r["length"] for r in rows) / len(rows)
    return result


def key_share(model: GPT, tokenizer: Tokenizer, sets: dict, settings: Settings) -> tuple[dict, dict]:
    """The rubrics that a model writes for the test questions, and how many have exactly the right key criteria."""
    rubrics, shares = {}, {}
    for name, examples in sets.items():
        written = write_rubrics(model, tokenizer, examples, settings)
        groups, usable = judge_rubrics(written, examples)
        rubrics |= usable
        shares[f"key_{name}"] = groups[f"{name} laws"]["key"] if name != "hard" else None
    return rubrics, {name: share for name, share in shares.items() if share is not None}


def explore(folder: Path, base: GPT, tokenizer: Tokenizer, settings: Settings, samples=8, count=200) -> dict:
    """What GRPO starts from: shares of the training questions about new laws that the base, sampled, gets right at
    least once, always, and on average."""
    examples = [e for e in load_examples(folder / "data" / "stage2.jsonl")[0] if e.meta["new"]][:count]
    prompts = [encode(tokenizer, prompt(e.question)) for e in examples]
    draws = [[not c.truncated and correct(tokenizer.decode_completion(c.ids), e.answer) for e, c in zip(
        examples, rollout(base, prompts, tokenizer, settings, "explore", k))] for k in range(samples)]
    right = [sum(column) for column in zip(*draws)]
    return {"once": sum(r > 0 for r in right) / len(right), "always": sum(r == samples for r in right) / len(right),
            "mean": sum(right) / len(right) / samples}


def prepare_seed(folder: Path, settings: Settings) -> list[dict]:
    """Data, base model and rubric writer of a seed; then what base and teachers know before stage II."""
    for stage in (run_data, run_base, run_stage1):
        stage(folder, settings, True)
    device, tokenizer, sets = device_of(settings), read_tokenizer(folder), test_questions(folder)
    base, writer = (load_model(folder / f"{name}.pt", device) for name in ("base", "stage1"))
    valid = validate(base, tokenizer, load_examples(folder / "data" / "valid.jsonl")[0], settings)
    learned, keys = key_share(writer, tokenizer, sets, settings)
    reference = {e.id: e.rubric for examples in sets.values() for e in examples}
    return [{"run": "base", **measure(base, tokenizer, sets, settings), **valid, "valid": sum(valid.values()) / len(valid),
             "explored": explore(folder, base, tokenizer, settings)},
            {"run": "teacher-reference", **measure(base, tokenizer, sets, settings, reference)},
            {"run": "teacher-learned", **measure(base, tokenizer, sets, settings, learned), "stage1": keys},
            {"run": "teacher-solution", **measure(base, tokenizer, sets, settings, solutions=True)}]


def train_run(seed_folder: Path, name: str, settings: Settings, preset: Settings) -> list[dict]:
    """Stage II (and stage I before it, where the run has its own) from the base model of a seed, then its test.

    `settings` are those of stage II; stage I takes those of its seed, and from the run only the number of rubrics.
    """
    folder = seed_folder / "runs" / name
    folder.mkdir(parents=True, exist_ok=True)
    own_writer = settings.stage1_limit > 0
    share(seed_folder, folder, ("data", "base.pt") + (() if own_writer else ("rubrics.jsonl",)))
    tokenizer, sets, extra = read_tokenizer(folder), test_questions(folder), {}
    if own_writer:
        run_stage1(folder, replace(preset, stage1_limit=settings.stage1_limit), True)
        extra["stage1"] = key_share(load_model(folder / "stage1.pt", device_of(settings)), tokenizer, sets, settings)[1]
    run_stage2(folder, settings, True)
    with open(folder / "stage2.jsonl", encoding="utf-8") as file:
        log = [json.loads(line) for line in file]
    sampled, curve = 0, []
    for row in log:
        sampled += row["sampled"]
        if "valid_new" in row:
            curve.append([row["step"] + 1, sampled, row["valid_known"], row["valid_new"]])
    def average(key):
        return sum(row[key] for row in log) / len(log) if key in log[0] else None
    student = load_model(folder / "stage2.pt", device_of(settings))
    return [{"run": name, **measure(student, tokenizer, sets, settings), **extra, "curve": curve,
             "kept": load(folder / "stage2.pt")["kept"], "steps": len(log), "sampled_tokens": sampled,
             "completions": len(log) * settings.batch * METHODS[settings.method].on_policy,
             "seconds": sum(row["seconds"] for row in log), "valid": max((known + new) / 2 for _, _, known, new in curve),
             "train": {key: average(key) for key in ("clipped", "gradient_flipped", "frac_zero_std")}}]


def work(folder: Path, name: str, seed: int, settings: dict, preset: dict, facts: dict, threads: int) -> list[dict]:
    """A job in a process of its own: its output goes to a file beside its results. Returns lines for runs.jsonl."""
    torch.set_num_threads(threads)
    folder.mkdir(parents=True, exist_ok=True)
    made = Settings(**preset)
    with open(folder / f"{name}.log", "a", encoding="utf-8") as log, redirect_stderr(log), redirect_stdout(log):
        lines = prepare_seed(folder, made) if name == "seed" else train_run(folder, name, Settings(**settings), made)
    machine = f"{platform.machine()}, {device_of(made)}, torch {torch.__version__}"
    return [{**line, "seed": seed, **facts, "machine": machine} for line in lines]


# ------------------------------------------------------------------------------------------------ all jobs, in order
class Study:
    """What is done (lines of runs.jsonl), and which jobs are ready: a run waits for its seed and for its method's rate."""

    def __init__(self, out: Path, preset: str, plan):
        self.out, self.preset, self.plan = out, preset, plan
        self.path = out / "runs.jsonl"
        self.lines = {}
        if self.path.exists():
            with open(self.path, encoding="utf-8") as file:
                for line in map(json.loads, file):
                    self.lines[line["run"], line["seed"]] = line
        self.seeds = sorted({seed for run in plan.runs for seed in run.seeds})
        self.methods = {}  # and the run that its learning rate is chosen on: the first with clean rationales
        for run in sorted(plan.runs, key=lambda run: run.flags.get("corrupted", 0)):
            self.methods.setdefault(run.method, run)
        self.grid = [(method, rate, seed) for method in self.methods for rate in plan.rates for seed in plan.tuned_on] \
            if isinstance(plan.rates, tuple) else []

    def rate_of(self, method: str) -> float | None:
        """The learning rate with the best validation accuracy, the mean over the plan's `tuned_on`; None: not yet known."""
        if isinstance(self.plan.rates, dict):
            return self.plan.rates[method]
        scores = {}
        for rate in self.plan.rates:
            found = [self.lines.get((f"lr-{method}-{rate:g}", seed)) for seed in self.plan.tuned_on]
            if None in found:
                return None
            scores[rate] = sum(line["valid"] for line in found)
        return max(scores, key=lambda rate: (scores[rate], -rate))

    def settings(self, seed: int, flags: dict) -> dict:
        return {**PRESETS[self.preset], **self.plan.base, "seed": seed, **flags}

    def jobs(self):
        """Every job that is missing, in order: (name, seed, settings, facts), settings None while it must wait."""
        yield from self.seed_jobs(self.plan.tuned_on)
        for method, rate, seed in self.grid:
            yield from self.job(f"lr-{method}-{rate:g}", self.methods[method].flags, rate, seed)
        yield from self.seed_jobs(seed for seed in self.seeds if seed not in self.plan.tuned_on)
        for run in self.plan.runs:
            for seed in run.seeds:
                yield from self.job(run.name, run.flags, self.rate_of(run.method), seed)

    def seed_jobs(self, seeds):
        for seed in seeds:
            if ("teacher-solution", seed) not in self.lines:
                yield "seed", seed, self.settings(seed, {}), {"flags": {}, "steps": 0, "curve": []}

    def job(self, name: str, flags: dict, rate: float | None, seed: int):
        ready = rate is not None and ("teacher-solution", seed) in self.lines
        facts = {"flags": flags, "lr": rate, "shared": self.plan.shared}
        done = self.lines.get((name, seed))
        if done is None or (rate is not None and any(done.get(key) != value for key, value in facts.items())):
            twin = self.lines.get((f"lr-{flags.get('method', 'rcsd')}-{rate:g}", seed)) if ready else None
            if twin and all(twin.get(key) == value for key, value in facts.items()):  # the grid has trained it
                self.add([{**twin, "run": name}])
            else:
                settings = self.settings(seed, {**self.plan.shared, **flags, "lr": rate}) if ready else None
                yield name, seed, settings, facts

    def add(self, lines: list[dict]) -> None:
        with open(self.path, "a", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)
        self.lines |= {(line["run"], line["seed"]): line for line in lines}

    def go(self, workers: int) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        running, bar = {}, tqdm(total=len(list(self.jobs())), desc="study", unit="run")
        os.environ["OMP_NUM_THREADS"] = "1"
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
            while True:
                busy = {key for key in running.values()}
                for name, seed, settings, facts in self.jobs():
                    if len(running) < workers and settings and (name, seed) not in busy:
                        folder, preset = self.out / f"seed{seed}", self.settings(seed, {})
                        threads = max(1, workers // len(self.seeds)) if name == "seed" else 1
                        future = pool.submit(work, folder, name, seed, settings, preset, facts, threads)
                        running[future] = name, seed
                        busy.add((name, seed))
                if not running:
                    break
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    del running[future]
                    self.add(future.result())
                    bar.update()
        bar.close()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small study")
    parser.add_argument("--preset", choices=sorted(PRESETS), help="of stage 0 and the sizes (default cpu, gpu with CUDA)")
    parser.add_argument("--out", type=Path, help="default out/study, or out/study-quick")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="runs side by side (default: one a core)")
    args = parser.parse_args(arguments)
    preset = args.preset or ("gpu" if torch.cuda.is_available() else "cpu")
    out = args.out or Path("out") / ("study-quick" if args.quick else "study")
    try:
        Study(out, preset, table.QUICK if args.quick else table.FULL).go(args.workers)
    except (ValueError, OSError) as error:
        print(f"sweep.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("sweep.py: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    return tables.main(["--runs", str(out / "runs.jsonl"), "--out", str(out)])


if __name__ == "__main__":
    sys.exit(main())
