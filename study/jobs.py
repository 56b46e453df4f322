"""The jobs of the study: prepare a seed, or train and test one run.

Both return lines for runs.jsonl.
"""

import platform
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from base import run_data, train_base
from data.load import load_examples, read_tests
from data.reading import write_json
from data.tokenizer import Tokenizer, encode, read_tokenizer
from evaluate import answer_all, judge_rubrics
from model import GPT
from rcsd import METHODS, run_stage1, run_stage2
from rubrics import Example, Rubric, is_right, prompt
from step import sample_completions, validate, write_rubrics
from trainer.checkpoints import load, load_model
from trainer.command_line import link_run
from trainer.loop import read_log
from trainer.processes import device_of
from trainer.settings import Settings

SETS = ("known", "new", "hard")
TESTED_LAST = "teacher-solution"  # the last line of a seed: its data and models are ready


# ------------------------------------------------------------------------------------------- a test
def test_questions(folder: Path) -> dict[str, list[Example]]:
    """The questions of each test set."""
    return {name: read_tests(folder / "data" / f"test_{name}.jsonl") for name in SETS}


def measure(
    model: GPT,
    tokenizer: Tokenizer,
    sets: dict[str, list[Example]],
    settings: Settings,
    rubrics: dict[str, Rubric] | None = None,
    solutions: bool = False,
) -> dict:
    """Test a model on greedy answers: {"correct", "score", "length", "answers"}, each by test set.

    "correct" has a 1 or 0 for each question, "score" the mean rubric score (0 to 1), "length" the
    mean number of tokens, "answers" the texts. The model also sees `rubrics`, by question id, or
    the solutions.
    """
    result = {"correct": {}, "score": {}, "length": {}, "answers": {}}
    for name, examples in sets.items():
        rows = answer_all(model, tokenizer, examples, settings, rubrics, solutions=solutions)
        result["correct"][name] = "".join("1" if row["correct"] else "0" for row in rows)
        result["score"][name] = sum(row["score"] for row in rows) / len(rows)
        result["length"][name] = sum(row["length"] for row in rows) / len(rows)
        result["answers"][name] = [row["text"] for row in rows]
    return result


def answers_path(seed_folder: Path, run: str) -> Path:
    """The file with a run's answers to the test questions, {test set: texts}."""
    return seed_folder / "answers" / f"{run}.json"


def key_share(
    model: GPT, tokenizer: Tokenizer, sets: dict[str, list[Example]], settings: Settings
) -> tuple[dict[str, Rubric], dict[str, float]]:
    """The rubrics that a model writes for the test questions, and how good they are.

    Rubrics by question id; "key_known" and "key_new" are shares of rubrics with exactly the right
    key criteria.
    """
    rubrics, shares = {}, {}
    for name, examples in sets.items():
        written = write_rubrics(model, tokenizer, examples, settings)
        groups, usable = judge_rubrics(written, examples)
        rubrics |= usable
        if name != "hard" and groups[f"{name} laws"]["key"] is not None:
            shares[f"key_{name}"] = groups[f"{name} laws"]["key"]
    return rubrics, shares


def explore(
    folder: Path,
    base: GPT,
    tokenizer: Tokenizer,
    settings: Settings,
    samples: int = 8,
    count: int = 200,
) -> dict[str, float]:
    """What GRPO starts from: how often the sampled base is right on training questions.

    Shares of `count` questions about new laws that are right at least "once" in `samples` samples
    or "always", and the "mean" share of right samples.
    """
    examples = load_examples(folder / "data" / "stage2.jsonl")[0]
    examples = [e for e in examples if e.meta["new"]][:count]
    prompts = [encode(tokenizer, prompt(e.question)) for e in examples]
    right = [0] * len(examples)  # right samples of each question
    for k in range(samples):
        completions = sample_completions(base, prompts, tokenizer, settings, "explore", k)
        for i, completion in enumerate(completions):
            text = tokenizer.decode_completion(completion.ids)
            right[i] += not completion.truncated and is_right(examples[i], text)
    return {
        "once": sum(r > 0 for r in right) / len(right),
        "always": sum(r == samples for r in right) / len(right),
        "mean": sum(right) / len(right) / samples,
    }


# ----------------------------------------------------------------------------------------- the jobs
def prepare_seed(folder: Path, settings: Settings) -> list[dict]:
    """Make data, base model and rubric writer of a seed, and test base and teachers.

    Returns a line for the base and for each teacher, without seed and machine.
    """
    for stage in (run_data, train_base, run_stage1):
        stage(folder, settings, True)
    device, tokenizer, sets = device_of(settings), read_tokenizer(folder), test_questions(folder)
    base = load_model(folder / "base.pt", device)
    writer = load_model(folder / "stage1.pt", device)
    valid = validate(base, tokenizer, load_examples(folder / "data" / "valid.jsonl")[0], settings)
    learned, keys = key_share(writer, tokenizer, sets, settings)
    reference = {e.id: e.rubric for examples in sets.values() for e in examples}
    base_line = {
        "run": "base",
        **measure(base, tokenizer, sets, settings),
        **valid,
        "valid": sum(valid.values()) / len(valid),
        "explored": explore(folder, base, tokenizer, settings),
    }
    with_reference = measure(base, tokenizer, sets, settings, reference)
    with_learned = measure(base, tokenizer, sets, settings, learned)
    with_solution = measure(base, tokenizer, sets, settings, solutions=True)
    return [
        base_line,
        {"run": "teacher-reference", **with_reference},
        {"run": "teacher-learned", **with_learned, "stage1": keys},
        {"run": TESTED_LAST, **with_solution},
    ]


def average(log: list[dict], key: str) -> float | None:
    """The mean of a measure over all steps; None if the method does not log it."""
    return sum(row[key] for row in log) / len(log) if key in log[0] else None


def train_run(seed_folder: Path, name: str, settings: Settings, preset: Settings) -> list[dict]:
    """Train one run from the base model of a seed and test it; returns its line.

    A run that limits the rubrics of stage I has a stage I of its own, which takes the settings of
    its seed, `preset`, and that limit. `settings` are those of stage II.
    """
    folder = seed_folder / "runs" / name
    folder.mkdir(parents=True, exist_ok=True)
    own_writer = settings.stage1_limit > 0
    shared = ("data", "base.pt") if own_writer else ("data", "base.pt", "rubrics.jsonl")
    link_run(seed_folder, folder, shared)
    tokenizer, sets, extra = read_tokenizer(folder), test_questions(folder), {}
    device = device_of(settings)
    if own_writer:
        run_stage1(folder, replace(preset, stage1_limit=settings.stage1_limit), True)
        writer = load_model(folder / "stage1.pt", device)
        _, extra["stage1"] = key_share(writer, tokenizer, sets, settings)
    run_stage2(folder, settings, True)
    log = read_log(folder / "stage2.jsonl")
    sampled, curve = 0, []
    for row in log:
        sampled += row["sampled"]
        if "valid_new" in row:
            curve.append([row["step"] + 1, sampled, row["valid_known"], row["valid_new"]])
    samples_completions = METHODS[settings.method].on_policy
    student = load_model(folder / "stage2.pt", device)
    line = {
        "run": name,
        **measure(student, tokenizer, sets, settings),
        **extra,
        "curve": curve,
        "kept": load(folder / "stage2.pt")["kept"],
        "steps": len(log),
        "sampled_tokens": sampled,
        "completions": len(log) * settings.batch if samples_completions else 0,
        "seconds": sum(row["seconds"] for row in log),
        "valid": max((known + new) / 2 for _, _, known, new in curve),
        "train": {
            "clipped": average(log, "clipped"),
            "gradient_flipped": average(log, "gradient_flipped"),
            "frac_zero_std": average(log, "frac_zero_std"),
        },
    }
    return [line]


@dataclass(frozen=True)
class Job:
    """One job of the study: the run `name` of a seed, or all that its runs share (name "seed")."""

    name: str
    seed: int
    settings: dict | None
    """None: the job must wait for its seed or its learning rate."""
    facts: dict
    """What its lines say beside its results."""


def work(folder: Path, job: Job, preset: dict, threads: int) -> list[dict]:
    """Do a job in a process of its own; returns its lines for runs.jsonl.

    What the job prints goes to a file beside its results.
    """
    torch.set_num_threads(threads)
    folder.mkdir(parents=True, exist_ok=True)
    made = Settings(**preset)
    with open(folder / f"{job.name}.log", "a", encoding="utf-8") as log:
        with redirect_stderr(log), redirect_stdout(log):
            if job.name == "seed":
                lines = prepare_seed(folder, made)
            else:
                lines = train_run(folder, job.name, Settings(**job.settings), made)
    for line in lines:  # a line has the name of the file, which regrade.py reads
        path = answers_path(folder, line["run"])
        path.parent.mkdir(exist_ok=True)
        write_json(path, line["answers"])
        line["answers"] = line["run"]
    machine = f"{platform.machine()}, {device_of(made)}, torch {torch.__version__}"
    return [{**line, "seed": job.seed, **job.facts, "machine": machine} for line in lines]
