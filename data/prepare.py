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
    test_hard.jsonl   an unseen phrasing, pair of laws or chain of links; 2.5 times as many
    tokenizer.txt     the merges, trained on base.jsonl

What known, new and invented laws are is explained at the top of `laws.py`.
"""

import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from data.chains import CHAINS
from data.console import Parser, exit_code, folder_path, number_flag, open_console
from data.corpus import corpus
from data.explanations import KINDS as WHY
from data.explanations import explanation, invented_explanation
from data.files import write_lines
from data.invented import invented
from data.laws import BY_NAME, FIELDS, Law
from data.links import LINKS, Link
from data.problems import draw
from data.questions import KINDS, exposures, questions, words_of
from data.tokenizer import SPECIALS, TOKENIZER, save_ranks, train_bpe
from rubrics import Example, Rubric, Sections

MOST_DATA = {  # bounds of the settings of the data: beyond them, hours pass before the first word
    "seed": 2**63 - 1,
    "base_rows": 10_000_000,
    "vocab_size": 1_000_000,
    **dict.fromkeys(("stage1_questions", "stage2_questions", "test_questions"), 100_000),
    "exposure_count": 100_000,
}
LEAST_VOCAB = 256 + len(SPECIALS)


def prepare(
    out: Path,
    *,
    seed: int,
    base_rows: int,
    exposure_count: int,
    exposure_share: float,
    explanation_share: float,
    stage1_questions: int,
    stage2_questions: int,
    test_questions: int,
    vocab_size: int,
    tokenizer: str = "",
) -> None:
    """Write all files of a run into `out`; a killed run leaves no half file.

    With `tokenizer`, the text of its file, there is no corpus to train one on.
    Raises ValueError for a vocabulary smaller than the bytes and special tokens, or if there are
    fewer questions than asked for.
    """
    if vocab_size < LEAST_VOCAB:
        raise ValueError(
            f"--vocab-size: expected at least {LEAST_VOCAB}, a token for each byte; "
            f"got {vocab_size}"
        )
    out.mkdir(parents=True, exist_ok=True)

    def draw(name: str, count: int, split: str, new_share: float, **more) -> list[Example]:
        shares = dict(new_share=new_share, explanation_share=explanation_share)
        return questions(name, count, split, seed, **shares, **more)

    stage1 = draw("stage1", stage1_questions, "train", 0.8)
    seen = {e.question for e in stage1}
    sets = {
        "stage1": stage1,
        "stage2": draw("stage2", stage2_questions, "train", 0.8, taken=seen),
        "test_known": draw("test_known", test_questions, "test", 0),
        "test_new": draw("test_new", test_questions, "test", 1),
        "test_hard": draw("test_hard", 5 * test_questions // 2, "test", 0.5, hard=True),
    }
    tested = set()
    for name in ("test_known", "test_new", "test_hard"):
        for e in sets[name]:
            tested.update(e.meta["keys"])
    sets["valid"] = draw("valid", max(1, test_questions // 2), "valid", 0.5, taken=tested)
    for name, examples in sets.items():
        write_lines(out / f"{name}.jsonl", (e.to_json() for e in examples))

    if tokenizer:
        write_lines(out / TOKENIZER, tokenizer.splitlines())
        return
    drawing = corpus_of(seed, base_rows, exposure_count, exposure_share, explanation_share)
    rows = list(tqdm(drawing, "data", base_rows, mininterval=1))
    write_lines(out / "base.jsonl", (json.dumps({"sections": s}, ensure_ascii=False) for s in rows))
    texts = (text for sections in rows for _, text in sections)
    save_ranks(train_bpe(texts, vocab_size - len(SPECIALS)), out / TOKENIZER)


def corpus_of(
    seed: int,
    base_rows: int,
    exposure_count: int,
    exposure_share: float,
    explanation_share: float,
    **others,
) -> Iterator[Sections]:
    """The rows of stage 0 that these settings of the data make; they do not depend on `others`."""
    exposed = exposures(exposure_count, explanation_share, seed)
    return corpus(base_rows, exposed, exposure_share, explanation_share, seed)


# ------------------------------------------------------------------------- what a person would read
ALL_KINDS = tuple(kind for pair in zip(KINDS, WHY) for kind in pair)
BY_NAMES = {(link.cause, link.effect): link for link in LINKS}
USES = (  # (what a row is for, split, new laws? or None for both, held out)
    ("stage 0, which learns known laws from solved questions", "train", False, False),
    ("stages I and II, which teach new laws from rubrics", "train", True, False),
    ("the test sets, with numbers that no training question has", "test", None, False),
    ("the hard test set, with an unseen phrasing or combination", "test", None, True),
    ("stage 0, which learns to read a rubric from laws that hold nowhere", "", None, False),
)


def sample(count: int, seed: int) -> list[tuple[str, Example]]:
    """Pairs of (what the example is for, example) that show all of the data.

    Any sixty in a row have each kind for each use. The fields of science take turns.
    """
    rng = random.Random(f"sample {seed}")
    rows = []
    for i in range(count):
        kind = ALL_KINDS[i % len(ALL_KINDS)]
        use, split, new, held_out = USES[i % len(USES)]
        if new is None:
            new = i // 60 % 2 == 1
        hard = held_out and kind != "choice"  # which has no unseen wording
        field = FIELDS[(i // 4 + i) % 4]
        for _ in range(2000):  # until the field is right; some fields have no such law or chain
            if kind in KINDS and split:
                problem = draw(kind, new, split, rng, held_out=hard)
            elif kind in KINDS:
                problem = invented(kind, rng)
            else:
                problem = (
                    explanation(new, split, rng, hard=hard) if split else invented_explanation(rng)
                )
            if problem.kind == kind and problem.field in (field, "invented"):
                break
        rows.append((use, words_of(problem).example(problem, rng, f"sample-{i}", held_out=hard)))
    return rows


def show(rows: list[tuple[str, Example]], command: str) -> str:
    """The rows of `sample` as Markdown that also reads well in a terminal.

    `command` is the command that made them.
    """
    blocks = ["# Examples of the data", f"Made by `{command}`."]
    for number, (use, e) in enumerate(rows, 1):
        laws, links = _laws_named(e.meta["law"]), _links_named(e.meta["law"])
        title = f"## {number}. {e.meta['kind']}, {e.meta['field']}"
        if laws or links:
            title += ", new" if e.meta["new"] else ", known"
        notes = [f"- Law: {law.name}, {law.relation} ({law.source})" for law in laws]
        for link in links:
            sign = {1: "follows", -1: "goes against"}[link.sign]
            notes.append(f"- Link: {link.effect} {sign} {link.cause} ({link.source})")
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


def _links_named(name: str) -> list[Link]:
    """The links of the paths with these names; none for invented ones."""
    found = []
    for path in name.split(" and "):
        names = path.split(" > ")
        found += [BY_NAMES[pair] for pair in zip(names, names[1:]) if pair in BY_NAMES]
    return found


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
        "stage1_questions": 2400,
        "stage2_questions": 3200,
        "test_questions": 400,
        "vocab_size": 1536,
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
    parser.add_argument(
        "--explanation-share",
        type=number_flag(float, 0, 1),
        default=0.45,
        metavar="X",
        help="(0.45)",
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
