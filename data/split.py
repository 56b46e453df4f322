"""Which questions a run trains on, validates with and is tested on.

A run's own data has a file for each. The one file of --data is split by a hash of the question, so
that a question stays where it is whatever else the file holds: a share --held-out is for the test,
another for validation. With --eval-data FILE the test is that file.
"""

from pathlib import Path

from data.load import load_examples, read_questions
from data.paths import share_of
from rubrics import Example
from trainer.settings import Settings

TESTS = ("test_known", "test_new", "test_hard")


def split(settings: Settings, verbose: bool = False) -> dict[str, list[Example]]:
    """The questions of --data in three parts: train, valid and test. `verbose` says what was read."""
    examples, share = read_questions(settings.data, verbose), settings.held_out
    if settings.eval_data:
        tested = load_examples(settings.eval_data)[0]
    else:
        tested = [e for e in examples if share_of(e.question) < share]
    questions = {e.question for e in tested}
    parts = {"train": [], "valid": [], "test": tested}
    for e in examples:
        if e.question not in questions:
            parts["valid" if share <= share_of(e.question) < 2 * share else "train"].append(e)
    return parts


def training_questions(
    name: str, out: Path, settings: Settings, verbose: bool = False
) -> list[Example]:
    """Those of stage1 or stage2. `verbose` prints what became of the rows of --data.

    Raises ValueError if --data leaves none.
    """
    if not settings.data:
        return load_examples(out / "data" / f"{name}.jsonl")[0]
    parts = split(settings, verbose)
    if verbose:
        print(
            f"{settings.data}: {len(parts['train'])} questions to train on, "
            f"{len(parts['valid'])} to validate, {len(parts['test'])} held out for the test"
        )
    if not parts["train"]:
        raise ValueError(f"{settings.data}: no question is left to train on; try --held-out 0.1")
    return parts["train"]


def validation_questions(out: Path, settings: Settings) -> list[Example]:
    """Those that choose the best weights of stage II."""
    if not settings.data:
        return load_examples(out / "data" / "valid.jsonl")[0]
    return split(settings)["valid"]


def held_out_questions(settings: Settings) -> list[Example]:
    """The test questions of one's own data."""
    return split(settings)["test"]
