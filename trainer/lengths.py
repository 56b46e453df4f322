"""Who needs how many tokens."""

from collections.abc import Callable

from data.tokenizer import Tokenizer, encode
from rubrics import Example


def filter_by_length(
    examples: list[Example],
    tokenizer: Tokenizer,
    room: int,
    *prompts: Callable[[Example], list[tuple[str, str]]] | None,
) -> list[Example]:
    """The examples whose prompts all fit into `room` tokens; prints how many are dropped.

    `prompts` are functions that make a prompt from an example (None is skipped). Raises ValueError
    if no example is left.
    """
    kept = []
    for e in examples:
        if all(len(encode(tokenizer, make(e))) <= room for make in prompts if make):
            kept.append(e)
    rule = f"a prompt must fit into {room} tokens (--max-seq-len less --max-new-tokens)"
    if not kept:
        raise ValueError(f"no question left to train on: {rule}")
    if len(kept) < len(examples):
        print(f"dropped {len(examples) - len(kept)} of {len(examples)} questions: {rule}")
    return kept
