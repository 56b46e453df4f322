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
from data.split import TESTS
from data.tokenizer import Tokenizer, read_tokenizer
from evaluate import answer_all, group_of, judge_rubrics
from model import GPT
from rcsd import METHODS, run_stage1, run_stage2
from report.pass_at import count_kinds, sample_answers
from rubrics import Example, Rubric, is_right
from step import validate, write_rubrics
from study import criteria  # noqa: F401 (its methods)
from study.read import GROUPS, KEY_GROUPS, PREPARED, SAMPLED_GROUPS, SAMPLES, is_grid
from trainer.checkpoints import load, load_model
from trainer.command_line import link_run
from trainer.loop import read_log
from trainer.processes import device_of
from trainer.settings import Settings

TESTED_LAST = "teacher-solution"  # the last line of a seed: its data and models are ready
SAMPLED_QUESTIONS = 50  # of each group


# ------------------------------------------------------------------------------------------- a test
def test_questions(folder: Path) -> dict[str, list[Example]]:
    """The test questions of each group.

    Raises ValueError if a group has none.
    """
    groups = {name: [] for name in GROUPS}
    for test_set in TESTS:
        for e in read_tests(folder / "data" / f"{test_set}.jsonl"):
            groups[group_of(e).partition(",")[0]].append(e)  # unseen ones: known and new together
    for name, examples in groups.items():
        if not examples:
            raise ValueError(f"{folder / 'data'}: expected test questions of the group {name}")
    return groups


def measure(
    model: GPT,
    tokenizer: Tokenizer,
    sets: dict[str, list[Example]],
    settings: Settings,
    rubrics: dict[str, Rubric] | None = None,
    solutions: bool = False,
) -> dict:
    """Test a model on greedy answers: {"correct", "score", "length", "answers"}, each by group.

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
    """The file with a run's answers to the test questions, {group: texts}."""
    return seed_folder / "answers" / f"{run}.json"


def key_share(
    model: GPT, tokenizer: Tokenizer, sets: dict[str, list[Example]], settings: Settings
) -> tuple[dict[str, Rubric], dict[str, float]]:
    """The rubrics that a model writes for the test questions, and how good they are.

    Rubrics by question id; for each of KEY_GROUPS the share of rubrics with exactly the right key
    criteria.
    """
    rubrics, shares = {}, {}
    for name, examples in sets.items():
        written = write_rubrics(model, tokenizer, examples, settings)
        groups, usable = judge_rubrics(written, examples)
        rubrics |= usable
        if name in KEY_GROUPS:
            shares[name] = groups[name]["key"]
    return rubrics, shares


def sample(
    model: GPT, tokenizer: Tokenizer, sets: dict[str, list[Example]], settings: Settings
) -> dict[str, dict[str, str]]:
    """Sample SAMPLES answers to each of the first questions about what is new.

    Returns {"right", "distinct"} by group: for each question a digit, how many answers are right
    and how many differ.
    """
    found = {}
    for name in SAMPLED_GROUPS:
        examples, right, distinct = sets[name][:SAMPLED_QUESTIONS], "", ""
        for e, texts in zip(
            examples, sample_answers(model, tokenizer, examples, SAMPLES, settings)
        ):
            right += str(sum(is_right(e, text) for text in texts))
            distinct += str(len(count_kinds(e, texts)))
        found[name] = {"right": right, "distinct": distinct}
    return found


# ----------------------------------------------------------------------------------------- the jobs
def prepare_seed(folder: Path, settings: Settings, is_tested: bool, is_sampled: bool) -> list[dict]:
    """Make data, base model and rubric writer of a seed, and test base and teachers.

    Returns a line for the base and for each teacher, without seed and machine; one line of no
    results for a seed that only tunes.
    """
    for stage in (run_data, train_base, run_stage1):
        stage(folder, settings, True)
    if not is_tested:
        return [{"run": PREPARED}]
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
    }
    if is_sampled:
        base_line["sampled"] = sample(base, tokenizer, sets, settings)
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


def train_run(
    seed_folder: Path, name: str, settings: Settings, preset: Settings, is_sampled: bool
) -> list[dict]:
    """Train one run from the base model of a seed and test it; returns its line.

    A method that edits rubrics comes with the line of its teacher: the base that reads them.
    A run of the grid of learning rates is only validated. A run with noisy rubrics for
    stage I has a stage I of its own, with the settings of its seed, `preset`, and its own share.
    `settings` are those of stage II.
    """
    folder = seed_folder / "runs" / name
    folder.mkdir(parents=True, exist_ok=True)
    own_writer = settings.stage1_noisy > 0
    shared = ("data", "base.pt") if own_writer else ("data", "base.pt", "rubrics.jsonl")
    link_run(seed_folder, folder, shared)
    tokenizer, device, tested = read_tokenizer(folder), device_of(settings), {}
    if own_writer:
        run_stage1(folder, replace(preset, stage1_noisy=settings.stage1_noisy), True)
        writer = load_model(folder / "stage1.pt", device)
        _, tested["stage1"] = key_share(writer, tokenizer, test_questions(folder), settings)
    run_stage2(folder, settings, True)
    lines = []
    edit = METHODS[settings.method].edit_rubric
    if edit and not is_grid(name):
        base, sets = load_model(folder / "base.pt", device), test_questions(folder)
        rubrics = {e.id: edit(e.rubric) for examples in sets.values() for e in examples}
        teacher = measure(base, tokenizer, sets, settings, rubrics)
        lines = [{"run": f"teacher-{name}", "flags": {}, "steps": 0, "curve": [], **teacher}]
    log = read_log(folder / "stage2.jsonl")
    sampled, curve = 0, []
    for row in log:
        sampled += row["sampled"]
        if "valid_new" in row:
            curve.append([row["step"] + 1, sampled, row["valid_known"], row["valid_new"]])
    if not is_grid(name):
        student, sets = load_model(folder / "stage2.pt", device), test_questions(folder)
        tested |= measure(student, tokenizer, sets, settings)
        if is_sampled:
            tested["sampled"] = sample(student, tokenizer, sets, settings)
    line = {
        "run": name,
        **tested,
        "curve": curve,
        "kept": load(folder / "stage2.pt")["kept"],
        "steps": len(log),
        "sampled_tokens": sampled,
        "seconds": sum(row["seconds"] for row in log),
        "valid": max((known + new) / 2 for _, _, known, new in curve),
        "train": {
            "clipped": average(log, "clipped"),
            "gradient_flipped": average(log, "gradient_flipped"),
        },
    }
    return [*lines, line]


@dataclass(frozen=True)
class Job:
    """One job of the study: the run `name` of a seed, or all that its runs share (name "seed")."""

    name: str
    seed: int
    settings: dict | None
    """None: the job must wait for its seed or its learning rate."""
    facts: dict
    """What its lines say beside its results."""
    is_sampled: bool = False
    """Its model (for name "seed": the base) is also sampled."""
    is_tested: bool = True
    """False for a seed that only tunes."""


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
                lines = prepare_seed(folder, made, job.is_tested, job.is_sampled)
            else:
                settings = Settings(**job.settings)
                lines = train_run(folder, job.name, settings, made, job.is_sampled)
    for line in lines:  # a line has the name of the file, which regrade.py reads
        if "answers" not in line:
            continue
        path = answers_path(folder, line["run"])
        path.parent.mkdir(exist_ok=True)
        write_json(path, line["answers"])
        line["answers"] = line["run"]
    machine = f"{platform.machine()}, {device_of(made)}, torch {torch.__version__}"
    return [{**job.facts, **line, "seed": job.seed, "machine": machine} for line in lines]
