"""Exercise 1, one BPE merge: its check and the mistakes it knows."""

import random

import data.tokenizer
from exercises.harness import compare, given, wrong

TITLE = "one BPE merge"
SHIPPED = (data.tokenizer._merge,)


def merge_mistakes(word, pair):
    backwards = data.tokenizer._merge(
        [t[::-1] for t in word[::-1]], tuple(t[::-1] for t in pair[::-1])
    )
    overlap, i = [], 0
    while i < len(word):
        hit = tuple(word[i : i + 2]) == pair
        overlap.append(pair[0] + pair[1] if hit else word[i])
        i += 1 + (hit and i + 2 == len(word))
    hits = [i for i in range(len(word) - 1) if (word[i], word[i + 1]) == pair]
    first = word[: hits[0]] + [pair[0] + pair[1]] + word[hits[0] + 2 :] if hits else list(word)
    return [
        (
            [t[::-1] for t in backwards[::-1]],
            "Read from the left: in a a a the first two merge, not the last two.",
        ),
        (overlap, "A token was used twice: after a merge go on behind both tokens (i += 2)."),
        (first, "Only the first occurrence was merged; every one should be."),
        (list(word), "Nothing was merged. (A list is never equal to a tuple.)"),
    ]


def check(merge):
    def compared(word, pair):
        case, own = f"word {word}, pair {pair}", list(word)
        with given(case):
            got, mistakes = merge(own, pair), merge_mistakes(word, pair)
        if own != word or got is own:
            raise wrong(
                case,
                "a new list, the word untouched",
                "the word itself was changed",
                "Training still needs the old word, to take its pairs out of the counts.",
            )
        if isinstance(got, list) and b"".join(got) != b"".join(word):
            mistakes.append(
                (
                    got,
                    f"A merge moves borders, the text stays {b''.join(word)}. Is the last token lost?",
                )
            )
        compare(case, got, data.tokenizer._merge(word, pair), mistakes)

    a, b = b"a", b"b"
    for word, pair in (
        ([a, a, a, b], (a, a)),
        ([a, b], (a, b)),
        ([a], (a, a)),
        ([], (a, b)),
        ([a] * 4, (a, a)),
        ([a, b, a, b, b"c"], (a, b)),
    ):
        compared(word, pair)
    rng = random.Random(0)
    for _ in range(200):
        compared(
            [rng.choice([a, b, b"ab", b"aa"]) for _ in range(rng.randrange(9))],
            (rng.choice([a, b, b"ab"]), rng.choice([a, b, b"aa"])),
        )
