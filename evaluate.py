"""What a finished run means: accuracy of base, teacher and student, and the quality of rubrics.

    python evaluate.py --preset cpu      # the table; writes results.json and report.html in out/cpu
    python evaluate.py --summary out/cpu out/seed1 out/seed2    # mean and spread of several seeds
    python evaluate.py explain --question "..." --rubric FILE   # which criterion moves which token

Accuracy is exact: the value of the final answer, with its unit. The teacher is the base model with
a rubric in its context: what it gets right is the ceiling of what a fixed teacher can teach. The
student answers with no rubric in sight.
"""

import platform
import sys
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch

from base import check_data, count_parameters, load_base
from data import explanations
from data.console import exit_code, file_path, number_flag
from data.files import digest
from data.reading import write_json
from data.split import held_out_questions
from data.tokenizer import Tokenizer, encode
from model import GPT
from pretrained.start import load_tokenizer, start_inputs
from pretrained.write import report_own
from report.explain import open_run
from report.pass_at import report_pass_at
from report.results import read_results
from report.table import GROUPS, SEEN, table, table_parts
from report.write import explain_one, write_report
from rubrics import Example, Rubric, grade, is_right, key_relations, prompt, usable_rubric
from step import greedy, write_rubrics
from trainer.checkpoints import load, load_model, require_same_inputs
from trainer.command_line import hold, settings_from, settings_parser, with_run_settings
from trainer.lengths import TESTS, check_lengths, test_lengths, test_questions
from trainer.loop import read_log
from trainer.processes import device_of, join_processes, rank_and_size, wait_for_all
from trainer.settings import Settings

TRAINED = ("base", "stage1", "stage2")


def group_of(e: Example) -> str:
    """The row of the table that a test question belongs to."""
    knowledge = "new" if e.meta["new"] else "known"
    subject = "links" if e.meta["kind"] in explanations.KINDS else "laws"
    if e.meta["phrasing"] == "seen":
        return f"{knowledge} {subject}"
    if e.meta["kind"] == "two-step":
        return f"unseen two-step, {knowledge}"
    if e.meta.get("combination") == "unseen":
        return f"unseen chain, {knowledge}"
    return f"unseen phrasing, {knowledge} {subject}"


def answer_all(
    model: GPT,
    tokenizer: Tokenizer,
    examples: list[Example],
    settings: Settings,
    rubrics: dict[str, Rubric] | None = None,
    solutions: bool = False,
    note: str = "",
) -> list[dict]:
    """Greedy answers, a dict each: id, group, kind, text, correct, score, truncated, length.

    `rubrics` (by question id) puts a rubric into the context, `solutions` the reference solution.
    `score` is the RaR score under the reference rubric and answer, `length` is in tokens.
    """
    prompts = []
    for e in examples:
        rubric = rubrics[e.id] if rubrics else None
        sections = prompt(e.question, rubric=rubric, solution=e.solution if solutions else "")
        prompts.append(encode(tokenizer, sections))
    answers = greedy(model, tokenizer, prompts, settings, note)
    rows = []
    for e, (text, truncated, length) in zip(examples, answers):
        row = {"id": e.id, "group": group_of(e), "kind": e.meta["kind"], "text": text}
        row |= {"truncated": truncated, "correct": is_right(e, text)}
        row |= {"score": grade(e, text), "length": length}
        rows.append(row)
    return rows


def judge_rubrics(written: list[dict], examples: list[Example]) -> tuple[dict, dict[str, Rubric]]:
    """Stage I's measures by group, and the rubrics for a teacher by question id.

    valid: the share of texts that parse. key: the share whose Essential criteria demand exactly the
    relations of the reference rubric.
    """
    groups, usable = defaultdict(lambda: {"valid": [], "key": []}), {}
    for row, e in zip(written, examples):
        usable[e.id] = usable_rubric(row)
        right = not row["problem"] and key_relations(usable[e.id]) == key_relations(e.rubric)
        groups[group_of(e)]["valid"].append(not row["problem"])
        groups[group_of(e)]["key"].append(right)
    shares = {}
    for group, measures in groups.items():
        shares[group] = {name: mean(values) for name, values in measures.items()}
    return shares, usable


def mean(values: Iterable[float]) -> float:
    """The mean, or NaN of nothing."""
    values = list(values)
    return sum(values) / len(values) if values else float("nan")


def by_group(rows: list[dict], name: str) -> dict[str, float]:
    """The mean of a measure in each group."""
    return {group: mean(r[name] for r in rows if r["group"] == group) for group in GROUPS}


def by_kind(rows: list[dict]) -> dict[str, dict[str, float]]:
    """Accuracy by the kind of question, in the groups of seen phrasing."""
    found = {}
    for group in SEEN:
        kinds = defaultdict(list)
        for row in rows:
            if row["group"] == group:
                kinds[row["kind"]].append(row["correct"])
        found[group] = {kind: mean(kinds[kind]) for kind in sorted(kinds)}
    return found


def evaluate(out: Path, settings: Settings) -> dict:
    """All measures of a finished run. Raises ValueError if a stage is missing or unfinished."""
    settings = with_run_settings(out, settings)  # what the run was, whatever the flags say now
    made = settings.up_to("stage2")
    tokenizer, device = load_tokenizer(out, settings), device_of(settings)
    base = load_base(out, settings, device)[0].eval()
    writer, student = (load_model(out / f"{name}.pt", device).eval() for name in TRAINED[1:])
    # Before the answers: a bad log costs no time.
    trained = [s for s in stages_of(out, settings) if not (s == "base" and settings.start)]
    seconds = {stage: seconds_of(out, stage) for stage in trained}
    examples = test_questions(out)
    reference = {e.id: e.rubric for e in examples}
    written = write_rubrics(base, tokenizer, examples, settings)
    stage1 = {"base": judge_rubrics(written, examples)[0]}
    written = write_rubrics(writer, tokenizer, examples, settings)
    stage1["stage1"], learned = judge_rubrics(written, examples)
    checks = test_lengths(examples, tokenizer, {"reference": reference, "learned": learned})
    check_lengths(checks, settings, out, "stage2")

    def ask(model: GPT, rubrics: dict[str, Rubric] | None, note: str) -> list[dict]:
        return answer_all(model, tokenizer, examples, settings, rubrics, note=note)

    answers = {
        "base": ask(base, None, "base"),
        "teacher, reference rubric": ask(base, reference, "teacher"),
        "teacher, learned rubric": ask(base, learned, "teacher"),
        "student": ask(student, None, "student"),
    }
    threads = torch.get_num_threads()
    return {
        "settings": made,
        "parameters": count_parameters(base),
        "machine": f"{platform.machine()}, {device}, torch {torch.__version__}, {threads} threads",
        "questions": {group: sum(group_of(e) == group for e in examples) for group in GROUPS},
        "accuracy": {name: by_group(rows, "correct") for name, rows in answers.items()},
        "score": {name: by_group(rows, "score") for name, rows in answers.items()},
        "truncated": {name: mean(r["truncated"] for r in rows) for name, rows in answers.items()},
        "length": {name: mean(r["length"] for r in rows) for name, rows in answers.items()},
        "kinds": {name: by_kind(rows) for name, rows in answers.items()},
        "stage1": stage1,
        "seconds": seconds,
        "answers": answers,
    }


def seconds_of(out: Path, stage: str) -> float:
    """Time of a stage's steps, from its log."""
    steps = load(out / f"{stage}.pt")["steps"]
    return sum(row["seconds"] for row in read_log(out / f"{stage}.jsonl", steps))


def stages_of(out: Path, settings: Settings) -> list[str]:
    """The stages that were trained: no stage 0 of a pretrained model, no stage I without rubrics."""
    stages = [stage for stage in TRAINED if not settings.skips(stage)]
    if settings.data and not (out / "stage1.pt").exists():
        stages.remove("stage1")
    return stages


def inputs_of(out: Path, settings: Settings) -> dict[str, str]:
    """Digests of what results.json is made from.

    Raises ValueError for data that changed, or for stages that are not made from each other.
    """
    check_data(out)
    found = start_inputs(out, settings)
    for stage in stages_of(out, settings):
        content = load(out / f"{stage}.pt")
        require_same_inputs(out / f"{stage}.pt", content["inputs"], found)
        if stage == "base":
            found["base.pt"] = content["digest"]
    for stage in stages_of(out, settings):
        found[f"{stage}.pt"] = load(out / f"{stage}.pt")["digest"]
    if settings.data:
        found["held-out questions"] = digest(e.content() for e in held_out_questions(settings))
        return found
    for name in TESTS:
        found[f"data/{name}.jsonl"] = digest(out / "data" / f"{name}.jsonl")
    return found


def results_of(out: Path, settings: Settings) -> dict:
    """results.json of a finished run, made now unless it is of the same models and questions."""
    path, inputs = out / "results.json", inputs_of(out, settings)
    done = path.exists() and read_results(path)["inputs"] == inputs
    wait_for_all()  # with several processes: all must have looked before the first writes
    if not done:
        results = evaluate(out, settings) | {"inputs": inputs}
        if rank_and_size()[0] == 0:
            write_json(path, results, indent=1)
        wait_for_all()
    return read_results(path)


def print_runs(runs: list[dict]) -> None:
    """A line a run: its seed, its size, its machine, and the minutes of its stages."""
    for run in runs:
        minutes = [f"{stage} {seconds / 60:.1f} min" for stage, seconds in run["seconds"].items()]
        head = f"seed {run['settings']['seed']}: {run['parameters']:,} parameters; "
        print(head + f"{run['machine']}; {', '.join(minutes)}")


def main(arguments: list[str] | None = None) -> int:
    parser = settings_parser(__doc__)
    parser.add_argument(
        "command",
        nargs="?",
        choices=("explain",),
        help="explain: one question, and which criterion moves which token of its answers",
    )
    parser.add_argument(
        "--summary",
        type=file_path,
        nargs="+",
        metavar="DIR",
        help="only print the mean of finished runs (and write their report where --out is given)",
    )
    parser.add_argument("--question", metavar="TEXT", help="for explain")
    parser.add_argument(
        "--rubric",
        type=file_path,
        metavar="FILE",
        help='for explain: lines such as "5 Essential: uses a = b × c", or JSON as --data takes',
    )
    parser.add_argument(
        "--color",
        action="store_true",
        help="for explain: colours although the output is no terminal",
    )
    parser.add_argument(
        "--pass-at",
        type=number_flag(int, 1, 1000),
        default=0,
        metavar="K",
        help="also sample: is one of K answers right, and how many of them differ",
    )
    parser.add_argument(
        "--judge",
        action="store_true",
        help="with --data: also the rubric score by the base model as judge of each criterion",
    )
    args = parser.parse_args(arguments)
    if not args.command and (args.question or args.rubric or args.color):
        parser.error("--question, --rubric and --color go with the command explain")

    if (args.command or args.summary) and (args.pass_at or args.judge):
        parser.error("--pass-at and --judge go with the table of one run")

    def action() -> None:
        out, settings = settings_from(args)
        if args.summary:
            runs = [read_results(folder / "results.json") for folder in args.summary]
            print(table(runs))
            print_runs(runs)
            if args.out:
                write_report(out, args.summary, runs, table_parts(runs))
            return
        join_processes(settings)
        with hold(out):
            if args.command == "explain":
                settings = with_run_settings(out, settings)
                explain_one(out, settings, args.question, args.rubric, args.color)
                return
            settings = with_run_settings(out, settings)
            if args.judge and not (settings.data and settings.model):
                raise ValueError("--judge: expected a run with --model and --data")
            if settings.data:
                inputs = inputs_of(out, settings)
                seconds = {stage: seconds_of(out, stage) for stage in stages_of(out, settings)}
                report_own(out, settings, inputs, seconds, args.pass_at, args.judge)
                return
            results = results_of(out, settings)
            print(table([results]))
            print_runs([results])
            if args.pass_at:
                run = open_run(out, settings)
                report_pass_at(out, results["answers"], test_questions(out), run, args.pass_at)
            settings = replace(settings, **results["settings"])
            write_report(out, [out], [results], table_parts([results]), settings)

    return exit_code("evaluate.py", action)


if __name__ == "__main__":
    sys.exit(main())
