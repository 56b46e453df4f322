"""A byte-level BPE tokenizer: trained here, run by tiktoken, and never downloaded.

BPE is one idea. Write the text as bytes, find the adjacent pair of tokens that occurs most often,
make the pair one new token, repeat. Two rules keep the tokens sensible. PATTERN first cuts the text
into chunks, and no token crosses a cut. The special tokens have ids that no text can produce.

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

# Every character is in exactly one class (letter or mark, number, white space, anything else). Each
# class has a branch that matches a single character, so no character is dropped. No branch looks
# ahead or behind, so tiktoken can use its linear-time regex engine.
PATTERN = "|".join(
    [
        # the letter of a choice, (A), is one token next to its statement: so a small model finds it
        r" ?\([A-D]\)",
        # a word with the space before it; units such as N·m and km/h are words
        r" ?[\p{L}\p{M}](?:[/·]?[\p{L}\p{M}])*",
        r" ?\p{Nd}",  # one digit; the first digit of a number takes the space before it
        r" ?[\p{No}\p{Nl}]",  # one other number: ² ₂ ½
        r" ?[^\s\p{L}\p{M}\p{N}]+",  # punctuation and symbols, with the space before: " =", "°"
        r"[\r\n]+",  # line breaks
        r"[^\S\r\n]+",  # the white space that is left
    ]
)


def train_bpe(texts: Iterable[str], vocab_size: int) -> dict[bytes, int]:
    """Learn at most `vocab_size` tokens, 256 bytes and merges, as {token bytes: rank}.

    `vocab_size` does not count SPECIALS. The most frequent pair is merged first; of equally
    frequent pairs the one with smaller bytes, so the result only depends on the chunks and their
    counts. Stops early when no pair occurs twice. Raises ValueError for vocab_size < 256, and
    TypeError for a single str, because its items would be characters.
    """
    if vocab_size < 256:
        raise ValueError(f"vocab_size must be at least 256, one id per byte; got {vocab_size}")
    if isinstance(texts, str):
        raise TypeError("texts must be an iterable of strings, not one string")

    # Of millions of chunks only some thousand are different: train on these, with their counts.
    chunks = Counter()
    for text in texts:
        chunks.update(regex.findall(PATTERN, text))
    words = []  # each chunk as a list of tokens, at first its bytes
    for chunk in chunks:
        # "replace": a str can hold half a surrogate pair, which UTF-8 cannot encode.
        words.append([bytes([byte]) for byte in chunk.encode("utf-8", "replace")])
    freqs = list(chunks.values())

    pair_count = Counter()  # pair -> occurrences in the corpus
    pair_words = defaultdict(set)  # pair -> indices of words that hold it (or once did)
    for i, word in enumerate(words):
        for pair in zip(word, word[1:]):
            pair_count[pair] += freqs[i]
            pair_words[pair].add(i)

    # The best pair is at the top of a heap. When a count changes, the pair is pushed again. An
    # entry whose count is out of date is dropped when it comes to the top.
    heap = [(-count, pair) for pair, count in pair_count.items()]
    heapq.heapify(heap)

    ranks = {bytes([b]): b for b in range(256)}
    while heap and len(ranks) < vocab_size:
        negative_count, pair = heapq.heappop(heap)
        if pair_count[pair] != -negative_count:
            continue
        if pair_count[pair] < 2:
            break
        # The token is always new: equal bytes between two cuts are always merged in the same way,
        # so no second pair spells the same token (a+bc after ab+c). For the same reason encoding
        # repeats what training did.
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


# The file is tiktoken's own text format: a line "base64(token) rank" per token, in rank order.
def save_ranks(ranks: dict[bytes, int], path: str | os.PathLike) -> None:
    """Write the ranks to a text file, one line for each token."""
    in_order = sorted(ranks.items(), key=lambda item: item[1])
    write_lines(path, (f"{base64.b64encode(token).decode()} {rank}" for token, rank in in_order))


def load_ranks(path: str | os.PathLike) -> dict[bytes, int]:
    """The ranks in a file that save_ranks wrote.

    Raises ValueError, with the file, the line and what was expected, if the file is malformed.
    (tiktoken.load is of no use here: it caches by path, and a retrained file has the same path.)
    """
    ranks = {}
    with open(path, "rb") as file:
        lines = file.read().splitlines()
    for i, line in enumerate(lines):
        try:
            token = _read_token(line, i)
            if token in ranks:
                raise ValueError("a token that is not on an earlier line")
            if i < 256 and token != bytes([i]):
                raise ValueError(f"the byte {i}, as the 256 bytes come first")
        except ValueError as expected:
            raise ValueError(
                f"{path}, line {i + 1}: expected {expected}, got {line[:60]!r}"
            ) from expected
        ranks[token] = i
    if len(ranks) < 256:
        raise ValueError(
            f"{path}, line {len(ranks) + 1}: expected the byte {len(ranks)}, got end of file"
        )
    return ranks


def _read_token(line: bytes, rank: int) -> bytes:
    """The token on the line of this rank; ValueError, which says what was expected."""
    fields = line.split()
    if len(fields) != 2:
        example = base64.b64encode(b" the").decode()
        raise ValueError(f"'base64 rank', such as '{example} {rank}'")
    try:
        token = base64.b64decode(fields[0], validate=True)
    except binascii.Error as error:
        raise ValueError("a token in base64") from error
    if fields[1] != str(rank).encode():
        raise ValueError(f"rank {rank}, as ranks count up from 0")
    return token


class Tokenizer:
    """Text to token ids and back.

    `id` has the special ids by name, without the marks: tok.id["question"], tok.id["solve"].
    """

    def __init__(self, ranks: dict[bytes, int]):
        """Build tiktoken's encoding; AssertionError if the ranks are not 0 .. len(ranks) - 1."""
        special_tokens = {text: len(ranks) + i for i, text in enumerate(SPECIALS)}
        self.id = {text[2:-2]: token for text, token in special_tokens.items()}
        self.pad, self.eos = self.id["pad"], self.id["eos"]
        self.ends = {self.eos}
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
        """The tokenizer whose ranks save_ranks wrote."""
        return cls(load_ranks(path))

    def encode(self, text: str) -> list[int]:
        """The ids of plain text, in which "<|eos|>" is text too: it gives no special id."""
        return self.encoding.encode_ordinary(text)

    def encode_prompt(self, sections: list[tuple[str, str]]) -> list[int]:
        """The ids of (section, text) pairs: the section's special token, then the text."""
        ids = []
        for section, text in sections:
            # The vocabulary has no token of its own for a hint.
            ids.append(self.id["solution" if section == "hint" else section])
            ids += self.encode(text)
        return ids

    def encode_batch(self, texts: list[str], num_threads: int = 2) -> list[list[int]]:
        """The ids of each text; tiktoken alone would start eight threads."""
        return self.encoding.encode_ordinary_batch(texts, num_threads=num_threads)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of the ids; special tokens show as their text, half a character as U+FFFD.

        Raises KeyError for an id >= vocab_size, OverflowError for a negative one.
        """
        return self.encoding.decode(list(ids), errors="replace")

    def decode_completion(self, ids: list[int]) -> str:
        """The text of a completion, without the EOS at its end."""
        return self.decode(ids[:-1] if ids and ids[-1] == self.eos else ids)


def encode(tokenizer: Tokenizer, sections: list[tuple[str, str]]) -> list[int]:
    """The token ids of a prompt, (section, text) pairs: every prompt is encoded here."""
    return tokenizer.encode_prompt(sections)


TOKENIZER = "tokenizer.txt"  # its name in a run's data folder


def read_tokenizer(out: Path) -> Tokenizer:
    """The tokenizer of a run's data; ValueError if the run has no data yet."""
    try:
        return Tokenizer.from_file(out / "data" / TOKENIZER)
    except FileNotFoundError:
        raise ValueError(
            f"{out / 'data'}: no data yet; run `python rcsd.py data` with the same --out first"
        ) from None
