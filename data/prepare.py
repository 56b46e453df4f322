"""Make the data of a run: the corpus of stage 0, the tokenizer, and all sets of questions.

    python -m data.prepare --show 5                             # print five examples
    python -m data.prepare --out DIR --seed 0 --base-rows 2000  # write the files

`rcsd.py data` writes the same files in the sizes of a preset. All but the tokenizer are JSON Lines:

    base.jsonl        stage 0: {"sections": [[section, text], ...]}, the completion last
    stage1.jsonl      questions with reference rubrics; stage I learns to write rubrics from them
    stage2.jsonl      other questions; stage I writes their rubrics, stage II trains on them
    valid.jsonl       questions about known and new laws, for choosing settings
    test_known.jsonl  known laws, with numbers that no training question has
    test_new.jsonl    new laws, with numbers that no training question has
    test_hard.jsonl   such numbers, and an unseen phrasing or two-step combination
    tokenizer.txt     the merges, trained on base.jsonl

What known, new and invented laws are is explained at the top of `laws.py`.
"""

import json
import random
import sys
from collections.abc import Iterator, Set
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from data.chains import CHAINS
from data.console import Parser, exit_code, folder_path, number_flag, open_console
from data.files import write_lines
from data.generate import example, rubric, solution
from data.invented import invented
from data.laws import BY_NAME, FIELDS, LAWS, Law
from data.mistakes import mistaken
from data.problems import Problem, draw
from data.tokenizer import SPECIALS, save_ranks, train_bpe
from rubrics import GENERIC, Example, Rubric, Sections, prompt

MOST_DATA = {  # bounds of the settings of the data: beyond them, hours pass before the first word
    "seed": 2**63 - 1,
    "base_rows": 10_000_000,
    "vocab_size": 1_000_000,
    **dict.fromkeys(("stage1_questions", "stage2_questions", "test_questions"), 100_000),
    "exposure_count": 100_000,
}
LEAST_VOCAB = 256 + len(SPECIALS)
KINDS = ("one-step", "conversion", "comparison", "two-step", "extra", "missing")
KIND_SHARES = (0.4, 0.15, 0.18, 0.19, 0.04, 0.04)

# The tasks of stage 0: solve problems about known laws, read a context about invented laws, write
# rubrics. New laws only occur in the exposures, which replace a share of the rows.
# fmt: off
MIX = (  # (task, share of the rows)
    ("known", 0.37),          # question, sometimes with the generic rubric -> solution; known laws
    ("read", 0.34),           # question + one of CONTEXTS -> solution; invented laws
    ("informed", 0.05),       # question + rubric -> solution; known laws
    ("uninformative", 0.03),  # question + rubric without key criteria -> solution; known laws
    ("write", 0.10),          # question -> rubric; known laws
    ("rewrite", 0.11),        # question + rubric -> the rubric in other words; known and invented
)
# fmt: on
CONTEXTS = (("rubric", 0.7), ("rubric+answer", 0.1), ("solution", 0.1), ("answer", 0.1))
REWRITE_INVENTED = 0.6  # share of the "rewrite" rows that are about invented laws

# Stage 0 sees right and wrong solutions about each new law. A share of the new laws is understood:
# most of their solutions are right. The other laws are misunderstood: most solutions are wrong.
UNDERSTOOD = 0.4
WRONG_WHEN_UNDERSTOOD = 0.1  # share of wrong solutions
WRONG_WHEN_MISUNDERSTOOD = 0.9
MOST_MISSES = 5000  # draws in a row without a different question, before `questions` gives up

# The share of "known" rows and of exposures that show the generic rubric. The share is the same, or
# the rubric would tell whether a law is known or new.
GENERIC_SHARE = 0.15


def _kind(rng: random.Random) -> str:
    """A kind of problem, drawn with KIND_SHARES."""
    return rng.choices(KINDS, KIND_SHARES)[0]


def corpus(
    count: int, exposed: list[Example], exposure_share: float, seed: int
) -> Iterator[Sections]:
    """Yield `count` rows of stage 0: lists of (section, text), the completion last.

    A share of the rows, `exposure_share` (0 to 1), are solved questions from `exposed`; MIX has the
    tasks of the others.
    """
    rng = random.Random(f"base {seed}")
    tasks, shares = zip(*MIX)
    for _ in range(count):
        if rng.random() < exposure_share:
            exposure = rng.choice(exposed)
            yield _row(_prompt_without_context(exposure, rng), exposure)
            continue
        task = rng.choices(tasks, shares)[0]
        if task == "read" or (task == "rewrite" and rng.random() < REWRITE_INVENTED):
            problem = invented(_kind(rng), rng)
        else:
            problem = draw(_kind(rng), False, "train", rng)
        e = example(problem, rng, "")
        if task == "known":
            sections = _prompt_without_context(e, rng)
        elif task == "read":
            sections = _prompt_with_context(e, rng)
        elif task == "informed":
            sections = prompt(e.question, rubric=e.rubric)
        elif task == "uninformative":
            rest = tuple(c for c in e.rubric.criteria if c.title != "Relation")
            sections = prompt(e.question, rubric=Rubric(rest))
        elif task == "write":
            sections = prompt(e.question, task="write_rubric")
        else:  # rewrite
            sections = prompt(e.question, rubric=rubric(problem, rng), task="write_rubric")
        yield _row(sections, e)


def _prompt_without_context(e: Example, rng: random.Random) -> Sections:
    """The prompt that asks for a solution, with the generic rubric in a GENERIC_SHARE of cases."""
    return prompt(e.question, rubric=GENERIC if rng.random() < GENERIC_SHARE else None)


def _prompt_with_context(e: Example, rng: random.Random) -> Sections:
    """The prompt that asks for a solution, with one of CONTEXTS beside the question."""
    names, shares = zip(*CONTEXTS)
    context = rng.choices(names, shares)[0]
    return prompt(
        e.question,
        rubric=e.rubric if context in ("rubric", "rubric+answer") else None,
        answer=e.answer if context in ("answer", "rubric+answer") else "",
        solution=e.solution if context == "solution" else "",
    )


def _row(sections: Sections, e: Example) -> Sections:
    """The prompt with its completion, a rubric or a solution, as text of the last section."""
    task, _ = sections[-1]
    return sections[:-1] + [(task, e.rubric.text() if task == "write_rubric" else e.solution)]


def questions(
    name: str,
    count: int,
    split: str,
    seed: int,
    *,
    new_share: float,
    hard: bool = False,
    taken: Set[str] = frozenset(),
    mistakes: dict[str, float] | None = None,
) -> list[Example]:
    """Draw `count` different questions of a split; `new_share` of them (0 to 1) need a new law.

    `hard` draws phrasings and two-step combinations that no training question has. `taken` holds
    the questions and the keys (law and numbers) that may not occur. `mistakes` gives, for a law,
    the share of solutions (0 to 1) that are worked from a wrong relation; the answers and rubrics
    stay right. For two laws the larger share counts. Raises ValueError if 5000 draws in a row find
    nothing different.
    """
    rng = random.Random(f"{name} {seed}")
    found, seen, misses = [], set(), 0
    while len(found) < count:
        problem = draw(_kind(rng), rng.random() < new_share, split, rng, held_out=hard)
        e = example(problem, rng, f"{name}-{len(found)}", held_out=hard)
        if mistakes:
            e = _maybe_mistaken(e, problem, mistakes, rng)
        # A test set asks for a target from the same numbers only once, in whatever words.
        mark = (problem.keys, problem.target, problem.converted) if split == "test" else e.question
        if mark not in seen and taken.isdisjoint((e.question, *problem.keys)):
            seen.add(mark)
            found.append(e)
            misses = 0
            continue
        misses += 1
        if misses == MOST_MISSES:
            raise ValueError(
                f"{name}: found only {len(found)} different questions, asked for {count}"
            )
    return found


def _maybe_mistaken(
    e: Example, problem: Problem, mistakes: dict[str, float], rng: random.Random
) -> Example:
    """The example, or with the chance of its law the example with a mistaken solution."""
    step, share = 0, 0.0  # the step that may be wrong; of two equal shares the later step
    for i, key in enumerate(problem.keys):
        law = key.partition(":")[0]
        if mistakes.get(law, 0) >= share:
            step, share = i, mistakes.get(law, 0)
    if share and rng.random() < share:
        wrong = mistaken(problem, step)
        if wrong:
            return replace(e, solution=solution(wrong))
    return e


def exposures(count: int, seed: int) -> list[Example]:
    """The questions about new laws that stage 0 sees, solved from right and wrong relations.

    From them the student takes the words, the units and several ways to solve such questions. It
    believes the right relation for the understood laws and a wrong one for the others. So a reward
    has something to choose from, and a rubric has something to correct.
    """
    new = [law.name for law in LAWS if law.new]
    mistakes = dict.fromkeys(new, WRONG_WHEN_MISUNDERSTOOD)
    for name in random.Random(f"understood {seed}").sample(new, round(UNDERSTOOD * len(new))):
        mistakes[name] = WRONG_WHEN_UNDERSTOOD
    return questions("exposure", count, "train", seed, new_share=1, mistakes=mistakes)


def prepare(
    out: Path,
    *,
    seed: int,
    base_rows: int,
    exposure_count: int,
    exposure_share: float,
    stage1_questions: int,
    stage2_questions: int,
    test_questions: int,
    vocab_size: int,
) -> None:
    """Write all files of a run into `out`; a killed run leaves no half file.

    Raises ValueError for a vocabulary smaller than the bytes and special tokens, or if there are
    fewer questions than asked for.
    """
    if vocab_size < LEAST_VOCAB:
        raise ValueError(
            f"--vocab-size: expected at least {LEAST_VOCAB}, a token for each byte; "
            f"got {vocab_size}"
        )
    out.mkdir(parents=True, exist_ok=True)
    stage1 = questions("stage1", stage1_questions, "train", seed, new_share=0.8)
    sets = {
        "stage1": stage1,
        "test_known": questions("test_known", test_questions, "test", seed, new_share=0),
        "test_new": questions("test_new", test_questions, "test", seed, new_share=1),
        "test_hard": questions("test_hard", test_questions, "test", seed, new_share=0.5, hard=True),
        "stage2": questions(
            "stage2",
            stage2_questions,
            "train",
            seed,
            new_share=0.8,
            taken={e.question for e in stage1},
        ),
    }
    tested = set()
    for name in ("test_known", "test_new", "test_hard"):
        for e in sets[name]:
            tested.update(e.meta["keys"])
    sets["valid"] = questions(
        "valid", max(1, test_questions // 2), "valid", seed, new_share=0.5, taken=tested
    )
    for name, examples in sets.items():
        write_lines(out / f"{name}.jsonl", (e.to_json() for e in examples))

    exposed = exposures(exposure_count, seed)
    drawing = corpus(base_rows, exposed, exposure_share, seed)
    rows = list(tqdm(drawing, "data", base_rows, mininterval=1))
    write_lines(out / "base.jsonl", (json.dumps({"sections": s}, ensure_ascii=False) for s in rows))
    texts = (text for sections in rows for _, text in sections)
    save_ranks(train_bpe(texts, vocab_size - len(SPECIALS)), out / "tokenizer.txt")


# ------------------------------------------------------------------------- what a person would read
USES = (  # (what a row is for, split, new laws? or None for both, held out)
    ("stage 0, which learns known laws from solved questions", "train", False, False),
    ("stages I and II, which teach new laws from rubrics", "train", True, False),
    ("the test sets, with numbers that no training question has", "test", None, False),
    ("the hard test set, with an unseen phrasing or combination", "test", None, True),
    ("stage 0, which learns to read a rubric from laws that hold nowhere", "", None, False),
)


def sample(count: int, seed: int) -> list[tuple[str, Example]]:
    """Pairs of (what the example is for, example) that show all of the data.

    Any thirty in a row have each kind for each use. The fields of science take turns.
    """
    rng = random.Random(f"sample {seed}")
    rows = []
    for i in range(count):
        kind = KINDS[i % len(KINDS)]
        use, split, new, held_out = USES[i % len(USES)]
        if new is None:
            new = i // 30 % 2 == 1
        field = FIELDS[(i // 4 + i) % 4]
        for _ in range(200):  # until the field is right; some fields have no such law or chain
            if split:
                problem = draw(kind, new, split, rng, held_out=held_out)
            else:
                problem = invented(kind, rng)
            if problem.field in (field, "invented"):
                break
        rows.append((use, example(problem, rng, f"sample-{i}", held_out=held_out)))
    return rows


def show(rows: list[tuple[str, Example]], command: str) -> str:
    """The rows of `sample` as Markdown that also reads well in a terminal.

    `command` is the command that made them.
    """
    blocks = ["# Examples of the data", f"Made by `{command}`."]
    for number, (use, e) in enumerate(rows, 1):
        laws = _laws_named(e.meta["law"])
        title = f"## {number}. {e.meta['kind']}, {e.meta['field']}"
        if laws:
            title += ", new" if e.meta["new"] else ", known"
        notes = [f"- Law: {law.name}, {law.relation} ({law.source})" for law in laws]
        notes.append(f"- For {use}.")
        blocks += [
            title,
            e.question,
            f"Reference answer: **{e.answer}**",
            "\n".join("    " + line for line in e.solution.split("\n")),
            _rubric_table(e.rubric),
            "\n".join(notes),
        ]
    return "\n\n".join(blocks) + "\n"


def _laws_named(name: str) -> list[Law]:
    """The laws of the chain or law with this name; none for invented ones."""
    for chain in CHAINS:
        if chain.name == name:
            return [BY_NAME[chain.first], BY_NAME[chain.second]]
    return [BY_NAME[name]] if name in BY_NAME else []


def _rubric_table(rubric: Rubric) -> str:
    """The rubric as a Markdown table."""
    width = max(len(c.description) for c in rubric.criteria)
    lines = [
        f"| weight | {'criterion':{width}} | check |",
        f"|-------:|{'-' * (width + 2)}|-------|",
    ]
    for c in rubric.criteria:
        lines.append(f"| {c.weight:6g} | {c.description:{width}} | `{c.check}` |")
    return "\n".join(lines)


# --------------------------------------------------------------------------------- the command line
def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code, 2 after a line that says what was not expected."""
    parser = Parser(
        "Show examples, or write the data of a run. The defaults are those of the cpu preset."
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--show", type=number_flag(int, 1, 100_000), metavar="N", help="print N examples"
    )
    what.add_argument(
        "--out", type=folder_path, metavar="DIR", help="write the files into this folder"
    )
    defaults = {
        "seed": 0,
        "base_rows": 160_000,
        "exposure_count": 1500,
        "stage1_questions": 1200,
        "stage2_questions": 1600,
        "test_questions": 400,
        "vocab_size": 1280,
    }
    for name, default in defaults.items():
        parser.add_argument(
            "--" + name.replace("_", "-"),
            type=number_flag(int, int(name != "seed"), MOST_DATA[name]),
            default=default,
            metavar="N",
            help=f"({default})",
        )
    parser.add_argument(
        "--exposure-share", type=number_flag(float, 0, 1), default=0.03, metavar="X", help="(0.03)"
    )
    args = vars(parser.parse_args(arguments))
    count, out = args.pop("show"), args.pop("out")

    def action() -> None:
        if out:
            prepare(out, **args)
            return
        open_console("utf-8")  # the committed sample is what this prints
        command = f"python -m data.prepare --show {count} --seed {args['seed']}"
        print(show(sample(count, args["seed"]), command), end="")

    return exit_code("prepare.py", action, "the same command begins again")


if __name__ == "__main__":
    sys.exit(main())
