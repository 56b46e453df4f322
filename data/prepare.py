"""Make the data of a run: the stage-0 corpus, the tokenizer, the questions of both stages, the test
sets.

    python data/prepare.py --show 5                              # print examples as a person would read them
    python data/prepare.py --out DIR --seed 0 --base-rows 2000   # write the files (rcsd.py data does so for a preset)

Files, all JSON Lines but the tokenizer:
    base.jsonl        stage 0: {"sections": [[section, text], ...]}, prompt and completion in one
    stage1.jsonl      questions with reference rubrics, from which the rubric generator learns
    stage2.jsonl      other questions, for which it then writes the rubrics that stage II teaches from
    valid.jsonl       questions about known and new laws for choosing settings
    test_known.jsonl, test_new.jsonl    numbers that no training question has
    test_hard.jsonl   the same, and a phrasing or a two-step combination that no training question has
    tokenizer.txt     the merges, trained on base.jsonl

At the end: examples as a person would read them.
"""

import argparse
import json
import random
import sys
from dataclasses import replace
from pathlib import Path

if __name__ == "__main__":  # `python data/prepare.py` starts in data/: let it find its siblings
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tqdm import tqdm

from data.files import write_lines
from data.generate import example, rubric, solution
from data.invented import invented
from data.laws import BY_NAME, CHAINS, FIELDS, LAWS
from data.mistakes import mistaken
from data.problems import draw
from data.tokenizer import SPECIALS, save_ranks, train_bpe
from rubrics import GENERIC, Example, Rubric, prompt

KINDS = ("one-step", "conversion", "comparison", "two-step")
KIND_SHARES = (0.45, 0.15, 0.2, 0.2)

# Stage 0: solve known laws unaided, solve invented laws from a context, write rubrics. The new laws
# appear only as something half understood (`exposures`), so that an unaided student has something
# to build on, and to get wrong.
MIX = (
    ("known", 0.37),  # question (and now and then the generic rubric) -> solution, known laws
    ("read", 0.34),  # question + context -> solution, invented laws
    ("informed", 0.05),  # question + rubric -> solution, known laws
    ("uninformative", 0.03),  # question + rubric without its key criterion -> solution, known laws
    ("write", 0.10),  # question -> rubric, known laws
    (
        "rewrite",
        0.11,
    ),  # question + reference rubric -> rubric in other words, known and invented laws
)
CONTEXTS = (("rubric", 0.7), ("rubric+answer", 0.1), ("solution", 0.1), ("answer", 0.1))

# Stage 0 sees right and wrong solutions about each new law. A share of the new laws is understood:
# most of their solutions are right. The other laws are misunderstood: most solutions are wrong.
UNDERSTOOD = 0.4
WRONG_WHEN_UNDERSTOOD = 0.1  # share of wrong solutions
WRONG_WHEN_MISUNDERSTOOD = 0.9
# The generic rubric stands beside the same share of known and of new laws, or it would itself tell
# which is asked.
GENERIC_SHARE = 0.15


def _kind(rng: random.Random) -> str:
    return rng.choices(KINDS, KIND_SHARES)[0]


def corpus(count: int, exposed: list[Example], exposure_share: float, seed: int):
    """Yield the stage-0 corpus, one list of (section, text) a row; the text of the last section is
    the completion.
    """
    rng = random.Random(f"base {seed}")
    names, shares = zip(*MIX)
    for _ in range(count):
        if rng.random() < exposure_share:
            e = rng.choice(exposed)
            sections = prompt(e.question, rubric=GENERIC if rng.random() < GENERIC_SHARE else None)
            yield sections[:-1] + [("solve", e.solution)]
            continue
        task = rng.choices(names, shares)[0]
        imagined = task == "read" or (task == "rewrite" and rng.random() < 0.6)
        problem = invented(_kind(rng), rng) if imagined else draw(_kind(rng), False, "train", rng)
        e = example(problem, rng, "")
        if task == "known":
            sections = prompt(e.question, rubric=GENERIC if rng.random() < GENERIC_SHARE else None)
        elif task == "read":
            sees = rng.choices([name for name, _ in CONTEXTS], [share for _, share in CONTEXTS])[0]
            sections = prompt(
                e.question,
                rubric=e.rubric if "rubric" in sees else None,
                answer=e.answer if "answer" in sees else "",
                solution=e.solution if sees == "solution" else "",
            )
        elif task == "informed":
            sections = prompt(e.question, rubric=e.rubric)
        elif task == "uninformative":
            rest = tuple(c for c in e.rubric.criteria if c.title != "Relation")
            sections = prompt(e.question, rubric=Rubric(rest))
        elif task == "write":
            sections = prompt(e.question, task="write_rubric")
        else:
            sections = prompt(e.question, rubric=rubric(problem, rng), task="write_rubric")
        yield sections[:-1] + [
            (sections[-1][0], e.rubric.text() if sections[-1][0] == "write_rubric" else e.solution)
        ]


def questions(
    name: str,
    count: int,
    split: str,
    seed: int,
    *,
    new_share: float,
    hard=False,
    taken=frozenset(),
    mistakes: dict[str, float] | None = None,
) -> list[Example]:
    """`count` different questions of a split. `hard` takes unseen phrasings and unseen
    combinations.

    No question is in `taken`, and none needs a law and numbers whose key is. `mistakes`: how often
    the solution (not the answer, not the rubric) has a wrong relation, by law; in one step, that of
    the more mistaken law. Raises ValueError if there are too few.
    """
    rng = random.Random(f"{name} {seed}")
    found, seen, misses = [], set(), 0
    while len(found) < count and misses < 5000:
        problem = draw(_kind(rng), rng.random() < new_share, split, rng, held_out=hard)
        e = example(problem, rng, f"{name}-{len(found)}", held_out=hard)
        share, step = max(
            ((mistakes or {}).get(key.partition(":")[0], 0), i)
            for i, key in enumerate(problem.keys)
        )
        if share and rng.random() < share and (wrong := mistaken(problem, step)):
            e = replace(e, solution=solution(wrong))
        mark = (problem.keys, problem.target, problem.converted) if split == "test" else e.question
        if mark not in seen and taken.isdisjoint((e.question, *problem.keys)):
            seen.add(mark)
            found.append(e)
            misses = 0
        else:
            misses += 1
    if len(found) < count:
        raise ValueError(f"{name}: found only {len(found)} different questions, asked for {count}")
    return found


def exposures(count: int, seed: int) -> list[Example]:
    """What stage 0 sees of the new laws: solved questions, some by the right relation and some by a
    wrong one.

    A student takes the words, the units and the ways to try from them; it believes the right one
    for the understood laws, and a wrong one for the others. So there is something for a reward to
    find and for a rubric to correct.
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

    Raises ValueError for a vocabulary too small for the bytes, or if there are not as many
    questions as asked for.
    """
    if vocab_size < 256 + len(SPECIALS):
        raise ValueError(
            f"vocab_size: expected at least {256 + len(SPECIALS)}, a token for each byte; got {vocab_size}"
        )
    out.mkdir(parents=True, exist_ok=True)
    sets = {
        "stage1": questions("stage1", stage1_questions, "train", seed, new_share=0.8),
        "test_known": questions("test_known", test_questions, "test", seed, new_share=0),
        "test_new": questions("test_new", test_questions, "test", seed, new_share=1),
        "test_hard": questions("test_hard", test_questions, "test", seed, new_share=0.5, hard=True),
    }
    tested = {
        key
        for name in sets
        if name.startswith("test")
        for e in sets[name]
        for key in e.meta["keys"]
    }
    sets["stage2"] = questions(
        "stage2",
        stage2_questions,
        "train",
        seed,
        new_share=0.8,
        taken={e.question for e in sets["stage1"]},
    )
    sets["valid"] = questions(
        "valid", max(1, test_questions // 2), "valid", seed, new_share=0.5, taken=tested
    )
    for name, rows in sets.items():
        write_lines(out / f"{name}.jsonl", (e.to_json() for e in rows))
    exposed = exposures(exposure_count, seed)
    rows = list(
        tqdm(corpus(base_rows, exposed, exposure_share, seed), "data", base_rows, mininterval=1)
    )
    write_lines(out / "base.jsonl", (json.dumps({"sections": s}, ensure_ascii=False) for s in rows))
    texts = (text for sections in rows for _, text in sections)
    save_ranks(train_bpe(texts, vocab_size - len(SPECIALS)), out / "tokenizer.txt")


# ------------------------------------------------------------------------- what a person would read
USES = (  # what a row is for; the split, known or new laws (None: both), held out
    ("stage 0, which learns known laws from solved questions", "train", False, False),
    ("stages I and II, which teach new laws from rubrics", "train", True, False),
    ("the test sets, with numbers that no training question has", "test", None, False),
    ("the hard test set, with an unseen phrasing or combination", "test", None, True),
    ("stage 0, which learns to read a rubric from laws that hold nowhere", "", None, False),
)


def sample(count: int, seed: int) -> list[tuple[str, Example]]:
    """`count` examples with what they are for: in any twenty each kind for each use, and the fields
    in turn.
    """
    rng, rows = random.Random(f"sample {seed}"), []
    for i in range(count):
        kind, (use, split, new, held_out) = KINDS[i % len(KINDS)], USES[i % len(USES)]
        for _ in range(200):  # the field asked for, if any law or chain of it fits
            p = (
                draw(kind, i // 20 % 2 == 1 if new is None else new, split, rng, held_out=held_out)
                if split
                else invented(kind, rng)
            )
            if p.field in (FIELDS[(i // 4 + i) % 4], "invented"):
                break
        rows.append((use, example(p, rng, f"sample-{i}", held_out=held_out)))
    return rows


def show(rows: list[tuple[str, Example]], command: str) -> str:
    """Rows of `sample` as Markdown that also reads well in a terminal; `command` is what made
    them.
    """
    text = ["# Examples of the data", f"Made by `{command}`."]
    for number, (use, e) in enumerate(rows, 1):
        m = e.meta
        chain = next((c for c in CHAINS if c.name == m["law"]), None)
        laws = [
            BY_NAME[n]
            for n in ((chain.first, chain.second) if chain else (m["law"],))
            if n in BY_NAME
        ]
        width = max(len(c.description) for c in e.rubric.criteria)
        age = "" if not laws else ", new" if m["new"] else ", known"
        text += [
            f"## {number}. {m['kind']}, {m['field']}{age}",
            e.question,
            f"Reference answer: **{e.answer}**",
            "\n".join("    " + line for line in e.solution.split("\n")),
            "\n".join(
                [
                    f"| weight | {'criterion':{width}} | check |",
                    f"|-------:|{'-' * (width + 2)}|-------|",
                    *(
                        f"| {c.weight:6g} | {c.description:{width}} | `{c.check}` |"
                        for c in e.rubric.criteria
                    ),
                ]
            ),
            "\n".join(
                [
                    *(f"- Law: {law.name}, {law.relation} ({law.source})" for law in laws),
                    f"- For {use}.",
                ]
            ),
        ]
    return "\n\n".join(text) + "\n"


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        self.exit(2, f"{self.prog}: {message}\n")  # one line, without the usage


def main(argv: list[str] | None = None) -> None:
    """The command line. Exits with code 2 and one line for a bad argument or a folder that cannot
    be written.
    """
    parser = _Parser(
        description="Show examples, or write the data of a run. The defaults are those of the cpu preset."
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--show", type=int, metavar="N", help="print N examples")
    what.add_argument("--out", type=Path, metavar="DIR", help="write the files into this folder")
    parser.add_argument("--seed", type=int, default=0)
    for name, default in (
        ("base-rows", 160_000),
        ("exposure-count", 1500),
        ("stage1-questions", 1200),
        ("stage2-questions", 1600),
        ("test-questions", 400),
        ("vocab-size", 1280),
    ):
        parser.add_argument(
            "--" + name, type=int, default=default, metavar="N", help=f"({default})"
        )
    parser.add_argument("--exposure-share", type=float, default=0.03, metavar="X", help="(0.03)")
    args = vars(parser.parse_args(argv))
    count, out = args.pop("show"), args.pop("out")
    for name, value in {"show": 1 if count is None else count, **args}.items():
        if name not in ("seed", "exposure_share") and value < 1:
            parser.error(
                f"argument --{name.replace('_', '-')}: expected a number of at least 1, got {value}"
            )
    if not 0 <= args["exposure_share"] <= 1:
        parser.error(
            f"argument --exposure-share: expected a number from 0 to 1, got {args['exposure_share']}"
        )
    try:
        if out:
            prepare(out, **args)
        else:
            sys.stdout.reconfigure(encoding="utf-8")
            command = f"python data/prepare.py --show {count} --seed {args['seed']}"
            print(show(sample(count, args["seed"]), command), end="")
    except OSError as error:
        parser.error(f"{error.filename}: {error.strerror}")
    except ValueError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
