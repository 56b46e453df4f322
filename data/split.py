"""Which questions a run trains on, validates with and is tested on.

A run's own data has a file for each. The one file of --data is split by a hash of the question, so
that a question stays where it is whatever else the file holds: a share --held-out is for the test,
another for validation. With --eval-data FILE the test is that file.
"""

import hashlib
from pathlib import Path

from data.load import load_examples, read_questions
from rubrics import Example
from trainer.settings import Settings

TESTS = ("test_known", "test_new", "test_hard")


def place(question: str) -> float:
    """A number from 0 to 1 that depends on the question alone."""
    return int.from_bytes(hashlib.sha256(question.encode()).digest()[:4], "big") / 2**32


def training_questions(
    name: str, out: Path, settings: Settings, verbose: bool = False
) -> list[Example]:
    """Those of stage1 or stage2. `verbose` prints what became of the rows of --data.

    Raises ValueError if --data leaves none.
    """
    if not settings.data:
        return load_examples(out / "data" / f"{name}.jsonl")[0]
    examples = read_questions(settings.data, verbose)
    tested = {e.question for e in held_out_questions(settings)}
    validated = {e.question for e in validation_questions(out, settings)}
    kept = [e for e in examples if e.question not in tested | validated]
    if verbose:
        print(
            f"{settings.data}: {len(kept)} questions to train on, {len(validated)} to validate, "
            f"{len(tested)} held out for the test"
        )
    if not kept:
        raise ValueError(f"{settings.data}: no question is left to train on; try --held-out 0.1")
    return kept


def validation_questions(out: Path, settings: Settings) -> list[Example]:
    if not settings.data:
        return load_examples(out / "data" / "valid.jsonl")[0]
    examples, share = load_examples(settings.data)[0], settings.held_out
    tested = {e.question for e in held_out_questions(settings)}
    left = [e for e in examples if e.question not in tested]
    return [e for e in left if share <= place(e.question) < 2 * share]


def held_out_questions(settings: Settings) -> list[Example]:
    """The test questions of one's own data."""
    if settings.eval_data:
        return load_examples(settings.eval_data)[0]
    examples = load_examples(settings.data)[0]
    return [e for e in examples if place(e.question) < settings.held_out]
