"""A byte-level BPE tokenizer: trained here, run by tiktoken, and never downloaded.

BPE is one idea. Write the text as bytes, find the adjacent pair of tokens that occurs most often,
make it one new token, repeat. Two walls keep the tokens sensible: text is first cut into chunks by
PATTERN, and no token ever crosses a cut; and the special tokens have ids that no text can produce.

    ids  0 .. 255             the bytes
    ids  256 .. R - 1         the merges, in the order in which they were learned
    ids  R .. R + 7           SPECIALS

    texts ── train_bpe ──> ranks {token bytes: id} ── save_ranks / load_ranks ── Tokenizer(ranks)
"""

import base64
import binascii
import heapq
import os
from collections import Counter, defaultdict
from pathlib import Path
from typing import Iterable

import regex  # installed with tiktoken, which needs it too; unlike `re`, it knows \p{L}
import tiktoken

from data.files import write_lines

# In id order. PAD is not EOS: a loss that masks padding must still learn to stop.
SPECIALS = (
    "<|pad|>",
    "<|eos|>",
    "<|question|>",
    "<|rubric|>",
    "<|answer|>",
    "<|solution|>",  # each opens a section of the context
    "<|solve|>",  # opens the completion that reasons
    "<|write_rubric|>",  # opens the completion that writes a rubric
)

# Every character falls into exactly one class (letter or mark, number, white space, anything else),
# and each class has a branch that takes one alone, so nothing is ever dropped. No branch looks
# ahead or behind, so tiktoken can use its linear-time regex engine.
PATTERN = "|".join(
    [
        r" ?[\p{L}\p{M}](?:[/·]?[\p{L}\p{M}])*",  # a word with its leading space; a unit such as N·m or km/h is one
        r" ?\p{Nd}",  # one digit; the first of a number takes the space before it
        r" ?[\p{No}\p{Nl}]",  # one other number: ² ₂ ½
        r" ?[^\s\p{L}\p{M}\p{N}]+",  # punctuation and symbols with their leading space: " =", " ×", "°"
        r"[\r\n]+",  # line breaks
        r"[^\S\r\n]+",  # the white space that is left
    ]
)


def train_bpe(texts: Iterable[str], vocab_size: int) -> dict[bytes, int]:
    """Learn up to vocab_size tokens (256 bytes + merges; SPECIALS not counted) as {token bytes:
    rank}.

    The most frequent pair is merged first; between equals, the pair of smaller bytes: the result
    depends on nothing but the chunks and their counts. Stops early when no pair occurs at least
    twice. Raises ValueError for vocab_size < 256, and TypeError for one str, whose items would be
    characters.
    """
    if vocab_size < 256:
        raise ValueError(f"vocab_size must be at least 256, one id per byte; got {vocab_size}")
    if isinstance(texts, str):
        raise TypeError("texts must be an iterable of strings, not one string")

    # A text of millions of chunks has only some thousand different ones: train on those, with
    # counts.
    chunks = Counter()
    for text in texts:
        chunks.update(regex.findall(PATTERN, text))
    # ("replace" is for half a surrogate pair, which Python's str can hold and UTF-8 cannot.)
    words = [
        [bytes([b]) for b in chunk.encode("utf-8", "replace")] for chunk in chunks
    ]  # lists of tokens
    freqs = list(chunks.values())

    pair_count = Counter()  # pair -> occurrences in the corpus
    pair_words = defaultdict(set)  # pair -> indices of words that hold it (or once did)
    for i, word in enumerate(words):
        for pair in zip(word, word[1:]):
            pair_count[pair] += freqs[i]
            pair_words[pair].add(i)

    # The best pair is at the top of a heap. A count that changes is pushed again rather than
    # searched for; an entry whose count is out of date is thrown away when it surfaces.
    heap = [(-count, pair) for pair, count in pair_count.items()]
    heapq.heapify(heap)

    ranks = {bytes([b]): b for b in range(256)}
    while heap and len(ranks) < vocab_size:
        negative_count, pair = heapq.heappop(heap)
        if pair_count[pair] != -negative_count:
            continue
        if pair_count[pair] < 2:
            break
        # Always a new token: merges between the same two cuts always go the same way, so no second
        # pair ever spells it (a+bc after ab+c). For the same reason encoding repeats what training
        # did.
        ranks[pair[0] + pair[1]] = len(ranks)

        changed = set()
        for i in pair_words.pop(pair):
            old, new = words[i], _merge(words[i], pair)
            for p in zip(old, old[1:]):
                pair_count[p] -= freqs[i]
                changed.add(p)
            for p in zip(new, new[1:]):
                pair_count[p] += freqs[i]
                pair_words[p].add(i)
                changed.add(p)
            words[i] = new
        for p in changed:
            if pair_count[p] > 0:
                heapq.heappush(heap, (-pair_count[p], p))
    return ranks


def _merge(word: list[bytes], pair: tuple[bytes, bytes]) -> list[bytes]:
    """The word with each occurrence of the pair, from the left, as one token: aaa -> (aa)a."""
    out, i = [], 0
    while i < len(word):
        if i + 1 < len(word) and (word[i], word[i + 1]) == pair:
            out.append(word[i] + word[i + 1])
            i += 2
        else:
            out.append(word[i])
            i += 1
    return out


# The file: one line "base64(token) rank" per token, in rank order, which is tiktoken's own text
# format


def save_ranks(ranks: dict[bytes, int], path: str | os.PathLike) -> None:
    """Write the ranks, a line each: the token in base64 and its rank."""
    in_order = sorted(ranks.items(), key=lambda item: item[1])
    write_lines(path, (f"{base64.b64encode(token).decode()} {rank}" for token, rank in in_order))


def load_ranks(path: str | os.PathLike) -> dict[bytes, int]:
    """Read what save_ranks wrote. (tiktoken.load caches by path: after retraining it would be
    stale.)

    Raises ValueError, with the file, the line and what was expected there, if the file is
    malformed.
    """
    ranks = {}
    with open(path, "rb") as file:
        lines = file.read().splitlines()
    for i, line in enumerate(lines):

        def problem(expected):
            return ValueError(f"{path}, line {i + 1}: expected {expected}, got {line[:60]!r}")

        fields = line.split()
        if len(fields) != 2:
            raise problem(f"'base64 rank', such as '{base64.b64encode(b' the').decode()} {i}'")
        try:
            token = base64.b64decode(fields[0], validate=True)
        except binascii.Error as error:
            raise problem("a token in base64") from error
        if fields[1] != str(i).encode():
            raise problem(f"rank {i}, as ranks count up from 0")
        if token in ranks:
            raise problem("a token that is not on an earlier line")
        if i < 256 and token != bytes([i]):
            raise problem(f"the byte {i}, as the 256 bytes come first")
        ranks[token] = i
    if len(ranks) < 256:
        raise ValueError(
            f"{path}, line {len(ranks) + 1}: expected the byte {len(ranks)}, got end of file"
        )
    return ranks


class Tokenizer:
    """Text <-> token ids. `id` holds the special ids by bare name: tok.id["question"],
    tok.id["solve"].
    """

    def __init__(self, ranks: dict[bytes, int]):
        """Raises AssertionError (from tiktoken) if the ranks are not exactly 0 .. len(ranks) -
        1.
        """
        special_tokens = {text: len(ranks) + i for i, text in enumerate(SPECIALS)}
        self.id = {text[2:-2]: token for text, token in special_tokens.items()}
        self.pad, self.eos = self.id["pad"], self.id["eos"]
        self.vocab_size = len(ranks) + len(SPECIALS)
        self.encoding = tiktoken.Encoding(
            "rcsd",
            pat_str=PATTERN,
            mergeable_ranks=ranks,
            special_tokens=special_tokens,
            explicit_n_vocab=self.vocab_size,
        )

    @classmethod
    def from_file(cls, path: str | os.PathLike) -> "Tokenizer":
        return cls(load_ranks(path))

    def encode(self, text: str) -> list[int]:
        """Ids of plain text. A literal "<|eos|>" in it stays text: special ids are only added by
        id.
        """
        return self.encoding.encode_ordinary(text)

    def encode_batch(self, texts: list[str], num_threads: int = 2) -> list[list[int]]:
        """encode() of each text. The threads are counted here because tiktoken would start
        eight.
        """
        return self.encoding.encode_ordinary_batch(texts, num_threads=num_threads)

    def decode(self, ids: Iterable[int]) -> str:
        """Text of the ids; a special token shows as its text, a character cut in half as U+FFFD.

        Raises KeyError for an id >= vocab_size, OverflowError for a negative one.
        """
        return self.encoding.decode(list(ids), errors="replace")

    def decode_completion(self, ids: list[int]) -> str:
        """Text of a completion, without the EOS that ends it."""
        return self.decode(ids[:-1] if ids and ids[-1] == self.eos else ids)


def encode(tokenizer: Tokenizer, sections: list[tuple[str, str]]) -> list[int]:
    """Token ids of (section, text) pairs: each section's special token, then its text."""
    return [i for name, text in sections for i in [tokenizer.id[name]] + tokenizer.encode(text)]


def read_tokenizer(out: Path) -> Tokenizer:
    """The tokenizer of a run's data. Raises ValueError if there is none yet."""
    try:
        return Tokenizer.from_file(out / "data" / "tokenizer.txt")
    except FileNotFoundError:
        raise ValueError(
            f"{out / 'data'}: no data yet; run `python rcsd.py data` with the same --out first"
        ) from None
