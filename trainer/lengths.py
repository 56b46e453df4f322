"""Who needs how many tokens: counted for all that a run will read and write, before its first step.

A prompt needs room for a completion behind it: --max-seq-len less --max-new-tokens. A row of text that
is learned as it stands must fit into --max-seq-len, and what a model is to write into
--max-new-tokens. Training rows that do not fit are left out and counted. A test set is read whole or
the run does not begin: a missing question would change what the table means.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from data.load import read_tests
from data.split import TESTS, training_questions, validation_questions
from data.tokenizer import Tokenizer, encode
from rubrics import (
    GENERIC,
    Example,
    Rubric,
    Sections,
    behind_analysis,
    missing,
    prompt,
    teacher_prompt,
    writer_prompt,
)
from trainer.settings import Settings

Prompt = Callable[[Example], Sections]  # what makes a prompt of an example
RULES = {
    "prompt": "--max-seq-len less --max-new-tokens",
    "row": "--max-seq-len",
    "completion": "--max-new-tokens",
}
MEASURES = ("tests", "validation")  # sets that are read whole or not at all
FEW = 0.01  # share of a set that may be too long without a word on what else would fit


@dataclass(frozen=True)
class LengthCheck:
    """The tokens that each row of a data set needs for one role: to be read, or to be written.

    0 stands for a row that is not there for this reader: a question without a solution to write.
    """

    dataset: str
    """The set: "stage2", "tests", ..."""
    role: str
    kind: str
    """What each row is, a key of RULES."""
    num_tokens: list[int]

    def room(self, settings: Settings) -> int:
        """Most tokens that a row may need."""
        rooms = {"row": settings.max_seq_len, "completion": settings.max_new_tokens}
        return rooms.get(self.kind, settings.prompt_room())

    def too_long(self, settings: Settings) -> int:
        """How many rows need more."""
        return sum(n > self.room(settings) for n in self.num_tokens)

    def said(self, settings: Settings) -> str:
        """What happens to its rows that need more."""
        return (
            f"lengths: {self.too_long(settings)} of {len(self.num_tokens):,} too long, "
            f"{'cut' if self.kind == 'completion' else 'left out'} ({self.dataset}: {self.role}, "
            f"{max(self.num_tokens)} tokens, room {self.room(settings)})"
        )


# ------------------------------------------------------------------------------------ who reads what
def question_lengths(
    dataset: str,
    examples: list[Example],
    tokenizer: Tokenizer,
    student: Prompt,
    teacher: Prompt | None = None,
    writes: Callable[[Example], str] | None = None,
    on_policy: bool = True,
    analysis: int = 0,
) -> list[LengthCheck]:
    """The checks of questions; num_tokens[i] is that of examples[i].

    `writes` gives the completion that a student is to write. With on_policy=False it is not written
    but read, behind the prompt. `analysis` are the tokens that the teacher may write before it scores.
    """

    def prompts(make: Prompt, more: int = 0) -> list[int]:
        made = [make(e) for e in examples]
        if more:
            made = [sections and behind_analysis(sections, "") for sections in made]
        return [len(encode(tokenizer, sections)) + more if sections else 0 for sections in made]

    checks = [LengthCheck(dataset, "student", "prompt", prompts(student))]
    if teacher:
        checks.append(LengthCheck(dataset, "teacher", "prompt", prompts(teacher, analysis)))
    if writes:
        written = [len(tokenizer.encode(writes(e))) for e in examples]
        if on_policy:
            with_eos = [n + 1 if n else 0 for n in written]
            checks.append(LengthCheck(dataset, "reference to write", "completion", with_eos))
        else:
            both = [a + b for a, b in zip(checks[0].num_tokens, written)]
            checks.append(LengthCheck(dataset, "question and solution", "row", both))
    return checks


def test_questions(out: Path) -> list[Example]:
    """All test questions of a run. Raises ValueError if two of them have one id."""
    examples = [e for name in TESTS for e in read_tests(out / "data" / f"{name}.jsonl")]
    id, count = Counter(e.id for e in examples).most_common(1)[0]
    if count > 1:
        raise ValueError(f"{out / 'data'}: {count} test questions have the id {id!r}")
    return examples


def test_lengths(
    examples: list[Example], tokenizer: Tokenizer, rubrics: dict[str, dict[str, Rubric]]
) -> list[LengthCheck]:
    """Those of the test questions: a student, and a teacher with each {name: rubrics by id}."""
    checks = question_lengths("tests", examples, tokenizer, lambda e: prompt(e.question))
    for name, by_id in rubrics.items():
        needs = [len(encode(tokenizer, prompt(e.question, rubric=by_id[e.id]))) for e in examples]
        checks.append(LengthCheck("tests", f"teacher, {name} rubric", "prompt", needs))
    return checks


def lengths_from(
    stage: str,
    out: Path,
    tokenizer: Tokenizer,
    settings: Settings,
    teacher_context: str | None,
    on_policy: bool,
) -> list[LengthCheck]:
    """Those of stages I and II and of the tests; with stage="stage2" without those of stage I.

    `teacher_context` and `on_policy` are those of stage II's method; None: it has no teacher. The
    reference rubrics stand in for the learned ones, which may not be written yet.
    """
    checks = []
    if stage != "stage2":
        examples = training_questions("stage1", out, settings)
        checks += question_lengths(
            "stage1",
            [e for e in examples if e.rubric],
            tokenizer,
            writer_prompt,
            lambda e: writer_prompt(e, e.rubric),
            lambda e: e.rubric.text(),
        )

    def with_reference(e: Example) -> Sections:
        rubric = GENERIC if settings.rubrics == "generic" else e.rubric
        if missing(e, teacher_context, rubric):
            return []  # stage II says what is missing
        return teacher_prompt(e, teacher_context, rubric)

    checks += question_lengths(
        "stage2",
        training_questions("stage2", out, settings),
        tokenizer,
        lambda e: prompt(e.question),
        with_reference if teacher_context else None,
        lambda e: e.solution,
        on_policy,
        settings.reason_first,
    )
    return checks + measure_lengths(out, tokenizer, settings)


def measure_lengths(out: Path, tokenizer: Tokenizer, settings: Settings) -> list[LengthCheck]:
    """Those of the validation and test questions.

    Of one's own data there is none: what does not fit is left out of its yardsticks, and counted.
    """
    if settings.data:
        return []
    valid, tests = validation_questions(out, settings), test_questions(out)
    checks = question_lengths("validation", valid, tokenizer, lambda e: prompt(e.question))
    return checks + test_lengths(tests, tokenizer, {"reference": {e.id: e.rubric for e in tests}})


# ----------------------------------------------------------------------------- what is said and done
def check_lengths(checks: list[LengthCheck], settings: Settings, out: Path, stage: str) -> None:
    """Say who needs how many tokens: a line if nearly all rows fit, else a table.

    Raises ValueError, unless the stage has begun, if a test or validation question does not fit or
    if no row of a training set is left.
    """
    checks = [r for r in checks if any(r.num_tokens)]
    too_long = [r for r in checks if r.too_long(settings)]
    if any(
        r.dataset in MEASURES or r.too_long(settings) >= FEW * len(r.num_tokens) for r in too_long
    ):
        print(table(checks, settings))
        print("Too long to read: left out, in a test not answered. Too long to write: cut.")
        print(advice(checks, settings, out))
    elif too_long:
        print("\n".join(r.said(settings) for r in too_long))
    elif prompts := [r for r in checks if r.kind == "prompt"]:
        tight = max(prompts, key=lambda r: max(r.num_tokens))
        print(
            f"lengths: the longest prompt has {max(tight.num_tokens)} of {tight.room(settings)} tokens "
            f"({tight.dataset}: {tight.role})"
        )
    if (out / f"{stage}.pt").exists():
        return
    for r in checks:
        if r.dataset in MEASURES and r.too_long(settings):
            raise ValueError(
                f"{r.dataset}: {r.too_long(settings)} of {len(r.num_tokens)} prompts are too long: the "
                f"longest has {max(r.num_tokens)} tokens, the room is {r.room(settings)} "
                f"({RULES[r.kind]}); {advice(checks, settings, out)}"
            )
    for dataset in {r.dataset: None for r in checks}:
        mine = [r for r in checks if r.dataset == dataset]
        if not any(_fits(mine, settings)):
            raise ValueError(_nothing_left(mine, settings, advice(checks, settings, out)))


def keep_fitting(
    examples: list[Example],
    checks: list[LengthCheck],
    tokenizer: Tokenizer,
    settings: Settings,
    out: Path,
) -> list[Example]:
    """The examples that all their checks can read whole; prints how many are dropped.

    Raises ValueError if none is left.
    """
    kept = [e for e, fits in zip(examples, _fits(checks, settings)) if fits]
    if len(kept) == len(examples):
        return kept
    ways = advice(checks + measure_lengths(out, tokenizer, settings), settings, out)
    if not kept:
        raise ValueError(_nothing_left(checks, settings, ways))
    dropped = f"dropped {len(examples) - len(kept)} of {len(examples)} questions"
    print(f"{checks[0].dataset}: {dropped}, too long; {ways}")
    return kept


def drop_too_long(
    stage, out: Path, examples: list[Example], tokenizer: Tokenizer, settings: Settings
) -> list[Example]:
    """The examples of a stage (rcsd.Stage) whose prompts and, off policy, solutions fit."""
    prompts, written = (stage.student_prompt, stage.teacher_prompt), stage.method.on_policy
    more = (stage.reference, written, stage.analysis)
    checks = question_lengths(stage.name, examples, tokenizer, *prompts, *more)
    return keep_fitting(examples, checks, tokenizer, settings, out)


def stage2_questions(
    out: Path, tokenizer: Tokenizer, settings: Settings, verbose: bool = True
) -> list[Example]:
    """The questions of stage II that leave room for an answer.

    With `verbose`, say what was dropped of one's own data. Raises ValueError if none is left.
    """
    examples = training_questions("stage2", out, settings, verbose and bool(settings.data))
    checks = question_lengths("stage2", examples, tokenizer, lambda e: prompt(e.question))
    return keep_fitting(examples, checks, tokenizer, settings, out)


def _fits(checks: list[LengthCheck], settings: Settings) -> list[bool]:
    """For each row of a set whether all its checks can read it."""
    read = [r for r in checks if r.kind != "completion"]
    return [
        all(n <= r.room(settings) for n, r in zip(row, read))
        for row in zip(*(r.num_tokens for r in read))
    ]


def _nothing_left(checks: list[LengthCheck], settings: Settings, ways: str) -> str:
    read = [r for r in checks if r.kind != "completion"]
    r = max(read, key=lambda r: min(r.num_tokens) - r.room(settings))
    return (
        f"{r.dataset}: every row is too long: the shortest has {min(r.num_tokens)} tokens ({r.role}), the room "
        f"is {r.room(settings)} ({RULES[r.kind]}); {ways}"
    )


def table(checks: list[LengthCheck], settings: Settings) -> str:
    """One line for each reader: its rows, the longest, its room, and the rows that do not fit."""
    lines = [f"{'lengths in tokens':34}{'rows':>9}{'longest':>9}{'room':>7}{'too long':>10}"]
    for r in checks:
        rows = sum(n > 0 for n in r.num_tokens)
        numbers = f"{rows:9,}{max(r.num_tokens):9,}{r.room(settings):7,}"
        lines.append(f"{r.dataset + ': ' + r.role:34}{numbers}{r.too_long(settings):10,}")
    return "\n".join(lines)


WINDOWS = (512, 1024, 2048, 4096)  # lengths to choose from


def what_fits(checks: list[LengthCheck], settings: Settings) -> str:
    """The table, and what share of each set other lengths would keep."""
    checks = [r for r in checks if any(r.num_tokens)]
    lines = [table(checks, settings)]
    for length in WINDOWS:
        if length > settings.max_new_tokens:
            longer, shares = replace(settings, max_seq_len=length), []
            for dataset in {r.dataset: None for r in checks}:
                fits = _fits([r for r in checks if r.dataset == dataset], longer)
                shares.append(f"{100 * sum(fits) // len(fits)}% of {dataset}")
            lines.append(f"--max-seq-len {length} keeps {', '.join(shares)}")
    for length in WINDOWS:
        shares = []
        for r in checks:
            if r.kind == "completion":
                written = [n <= length for n in r.num_tokens if n]
                shares.append(f"{100 * sum(written) // len(written)}% of {r.dataset}'s")
        if shares and length < settings.max_seq_len:
            said = f"--max-new-tokens {length} has room for {', '.join(shares)} references"
            lines.append(said)
    return "\n".join(lines)


def advice(checks: list[LengthCheck], settings: Settings, out: Path) -> str:
    """The flags that keep every row, of which none leads into the next refusal."""
    longest = {
        kind: max((max(r.num_tokens) for r in checks if r.kind == kind), default=0)
        for kind in RULES
    }
    ways, written = [], max(settings.max_new_tokens, longest["completion"])
    room = settings.max_seq_len - max(longest["prompt"], 1)  # for a completion behind the longest
    if longest["row"] <= settings.max_seq_len and longest["completion"] <= room > 0:
        ways.append(f"--max-new-tokens {min(written, room)}")
    flags = f"--max-seq-len {max(longest['row'], max(longest['prompt'], 1) + written)}"
    if written > settings.max_new_tokens:
        flags += f" --max-new-tokens {written}"
    if (out / "base.pt").exists():
        flags += " with another --out (it changes the base model)"
    return "to keep all: " + ", or ".join([*ways, flags])
