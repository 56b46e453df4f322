"""The tokenizer against independent implementations: a trainer that recounts everything after each
merge, and the slow, readable trainer and encoder of tiktoken._educational."""

import base64
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import regex
from tiktoken._educational import SimpleBytePairEncoding, bpe_train

from data.tokenizer import PATTERN, SPECIALS, Tokenizer, load_ranks, save_ranks, train_bpe

SENTENCES = [
    "A 12 kg box on a 30° slope: F = m × g = 12 × 9.81 = 117.72 N.\n",
    "The resistor is 47 Ω, the current 0.25 A; so V = I·R = 11.75 V.\r\n",
    "Light of 532 nm has f = c / λ ≈ 5.64 × 10¹⁴ Hz, i.e. E = 2.33 eV.\n\n",
    "She isn't heating 2 mol of H₂O by ΔT = 15 K; it's 250 µL ÷ 2.\n",
    "\t- The answer states the unit (m/s²).\n\t- The answer converts 5 km to 5000 m.\n",
]
HARD = [
    "",
    " ",
    "  two  spaces ",
    "a\r\nb\rc\n\n\nd",
    "tab\tand\x0bvertical\x0cfeed",
    "x = 3",
    "x =  3 4",
    "1 000 000.50",
    "m² m ² ½ Ⅳ 10⁻¹² H₂O",
    "٣٤ १२ 𝟘𝟙",
    "_snake_case_ it's",
    "naïve nai\u0308ve \u0301",
    "\x00\x01\x1c\x1f\x7f\x85\xa0\u2028\u200b\ufeff",
    "\U0010ffff\ue000\ufffd",
    "👩🏽‍🔬🧪👍",
    "力学の問題",
    "<|eos|> a<|pad|><|solve|>",
    "<|endoftext|>",
]


@pytest.fixture(scope="module")
def tok():
    return Tokenizer(train_bpe(SENTENCES * 3, 400))


def random_text(rng, length):
    """Words, numbers and symbols in the middle of code points from all of Unicode."""
    pieces = [
        "the",
        "box",
        " ",
        " ",
        "  ",
        "\n",
        "\r\n",
        "7",
        "42",
        ".",
        " = ",
        "×",
        "²",
        "Ω",
        "<|eos|>",
    ]

    def scalar():
        return chr(rng.choice([rng.randrange(0xD800), rng.randrange(0xE000, 0x110000)]))

    return "".join(rng.choice(pieces) if rng.random() < 0.7 else scalar() for _ in range(length))


def recount_train(texts, vocab_size):
    """BPE by its definition. Returns (ranks, how many steps were tied, the chunks cut into
    tokens)."""
    words = [
        [bytes([b]) for b in chunk.encode()]
        for text in texts
        for chunk in regex.findall(PATTERN, text)
    ]
    ranks, tied = {bytes([b]): b for b in range(256)}, 0
    while len(ranks) < vocab_size:
        counts = Counter(pair for word in words for pair in zip(word, word[1:]))
        most = max(counts.values(), default=0)
        if most < 2:
            break
        best = sorted(pair for pair in counts if counts[pair] == most)
        tied += len(best) > 1
        left, right = best[0]
        assert left + right not in ranks
        ranks[left + right] = len(ranks)
        for word in words:
            i = 0
            while i < len(word) - 1:
                if word[i] == left and word[i + 1] == right:
                    word[i : i + 2] = [left + right]
                i += 1
    return ranks, tied, words


def test_first_merges_by_hand():
    ranks = train_bpe(["aaab", "aaab", "c"], 300)
    # 1. (a, a) x 4 -> aa a b.  2. (a, b) x 2 and (aa, a) x 2 tie, and a < aa -> aa ab.  3. (aa, ab) x 2.
    assert list(ranks.items())[256:] == [(b"aa", 256), (b"ab", 257), (b"aaab", 258)]
    assert list(train_bpe(["aaab", "c"], 300))[256:] == [b"aa"]  # aa x 2, then no pair occurs twice
    assert list(train_bpe(["ab cd"], 300))[256:] == []


def test_training_equals_recounting():
    ties = 0
    for seed in range(60):
        rng = random.Random(seed)
        alphabet = rng.choice(["ab", "abc", "abcde ", "aé× 1\n"])
        texts = ["".join(rng.choices(alphabet, k=rng.randrange(1, 60))) for _ in range(12)]
        expected, tied, words = recount_train(texts, 256 + 60)
        got = train_bpe(texts, 256 + 60)
        assert list(got.items()) == list(expected.items()), seed
        # encoding cuts the training text exactly as training left it
        ids = [i for text in texts for i in Tokenizer(got).encode(text)]
        assert ids == [expected[token] for word in words for token in word], seed
        ties += tied
    assert ties  # the subtle case did occur
    assert train_bpe(SENTENCES, 360) == recount_train(SENTENCES, 360)[0]


def test_training_equals_tiktoken_educational_where_no_counts_tie():
    rng = random.Random(6)
    text = "".join(
        (" " + "".join(rng.choices("abcd", k=5))) * rng.randrange(1, 300) for _ in range(20)
    )
    size = 256 + 16
    assert recount_train([text], size)[1] == 0  # else the oracle may break a tie in its own way
    assert train_bpe([text], size) == bpe_train(text, size, PATTERN, visualise=None)


def test_vocab_size_is_reached_or_pairs_ran_out():
    assert len(train_bpe(SENTENCES * 3, 300)) == 300
    assert list(train_bpe(SENTENCES * 3, 300)) == list(train_bpe(SENTENCES * 3, 400))[:300]
    assert len(train_bpe(SENTENCES, 256)) == 256
    assert len(train_bpe([], 300)) == 256
    with pytest.raises(ValueError, match="256"):
        train_bpe(SENTENCES, 255)
    with pytest.raises(TypeError):
        train_bpe("one string", 300)


def test_training_text_is_encoded_with_the_merges(tok):
    lengths = [len(tok.encode(text)) for text in SENTENCES]
    assert sum(lengths) < 0.6 * sum(len(text.encode()) for text in SENTENCES)
    assert [tok.decode([i]) for i in tok.encode("The answer is 12.5 Ω")] == [
        "The",
        " answer",
        " is",
        " 1",
        "2",
        ".",
        "5",
        " Ω",
    ]


def test_encoding_equals_tiktoken_educational(tok):
    ranks = tok.encoding._mergeable_ranks
    slow = SimpleBytePairEncoding(pat_str=PATTERN, mergeable_ranks=ranks)
    rng = random.Random(2)
    for text in SENTENCES + HARD + [random_text(rng, 80) for _ in range(100)]:
        assert tok.encode(text) == slow.encode(text, visualise=None), repr(text)


def test_round_trip(tok):
    rng = random.Random(3)
    for text in SENTENCES + HARD + [random_text(rng, 200) for _ in range(300)]:
        assert tok.decode(tok.encode(text)) == text


def test_no_character_is_dropped(tok):
    everything = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x110000)]))
    assert tok.decode(tok.encode(everything)) == everything
    assert "".join(regex.findall(PATTERN, everything)) == everything
    for c in range(0x3100):  # and each alone, between letters, and after a space
        text = f"{chr(c)}a{chr(c)} {chr(c)}"
        assert tok.decode(tok.encode(text)) == text


def test_half_a_surrogate_pair_becomes_the_replacement_character(tok):
    assert tok.decode(tok.encode("a\ud800b")) == "a\ufffdb"
    assert tok.decode(tok.encode("\ud83d\udc4d")) == "👍"
    assert len(train_bpe(["\udfff"] * 2, 300)) == 256  # and training does not trip over it


def test_chunks():
    def cut(text):
        return regex.findall(PATTERN, text)

    assert cut("A 12 kg box") == ["A", " 1", "2", " kg", " box"]
    assert cut("v = 3.5 m/s²") == ["v", " =", " 3", ".", "5", " m/s", "²"]
    assert cut("tide falls (B); (E) f(A)") == [
        "tide",
        " falls",
        " (B)",
        ";",
        " (",
        "E",
        ")",
        " f",
        "(A)",
    ]
    assert cut("N·m/s, and/or a/ /b ·") == ["N·m/s", ",", " and/or", " a", "/", " /", "b", " ·"]
    assert cut("2 × 3 ÷ 4·5 ° Ω µm ² ½") == [
        "2",
        " ×",
        " 3",
        " ÷",
        " 4",
        "·",
        "5",
        " °",
        " Ω",
        " µm",
        " ²",
        " ½",
    ]
    assert cut("10⁻¹²") == ["1", "0", "⁻", "¹", "²"]
    assert cut("a.\r\n\n\t b") == ["a", ".", "\r\n\n", "\t ", "b"]


def test_no_token_holds_two_digits_and_only_a_first_one_takes_a_space():
    rng = random.Random(4)
    numbers = [
        f"x = {rng.randrange(30)} kg, {rng.randrange(30)}² 10¹² ٣٣٣ 100 100" for _ in range(300)
    ]
    tok = Tokenizer(train_bpe(numbers, 600))
    tokens = [token.decode(errors="ignore") for token in tok.encoding._mergeable_ranks]
    assert not [t for t in tokens if sum(c.isnumeric() for c in t) > 1]
    assert not [t for t in tokens if any(c.isdecimal() for c in t) and len(t.removeprefix(" ")) > 1]
    assert " kg" in tokens and "²" in tokens
    for text in numbers:
        pieces = [tok.decode([i]) for i in tok.encode(text)]
        assert [p.strip() for p in pieces if p.strip().isdecimal()] == [
            c for c in text if c.isdecimal()
        ]


def test_specials(tok):
    names = ["pad", "eos", "question", "rubric", "answer", "solution", "solve", "write_rubric"]
    first = len(tok.encoding._mergeable_ranks)
    assert SPECIALS == tuple(f"<|{name}|>" for name in names)
    assert tok.id == {name: first + i for i, name in enumerate(names)}
    assert tok.vocab_size == first + 8
    assert (tok.pad, tok.eos) == (first, first + 1)
    row = [tok.id["question"], *tok.encode("Why?"), tok.eos, tok.pad]
    assert tok.decode(row) == "<|question|>Why?<|eos|><|pad|>"


def test_literal_text_of_a_special_stays_text(tok):
    for text in [*SPECIALS, "a" + "".join(SPECIALS) + "b", *HARD]:
        for ids in (tok.encode(text), *tok.encode_batch([text])):
            assert max(ids, default=0) < tok.pad
            assert tok.decode(ids) == text
    # not even when the corpus is full of it
    greedy = Tokenizer(train_bpe([" ".join(SPECIALS)] * 50, 500))
    assert max(greedy.encode("".join(SPECIALS))) < greedy.pad


def test_decode_of_broken_utf8_and_of_unknown_ids(tok):
    half = tok.encode("力")[:1]
    assert tok.decode([*half, *tok.encode("a")]) == "\ufffda"
    assert tok.decode(iter(tok.encode("an iterator"))) == "an iterator"
    with pytest.raises(KeyError):
        tok.decode([tok.vocab_size])


def test_encode_batch(tok):
    texts = SENTENCES + HARD
    for num_threads in (1, 2, 5):
        assert tok.encode_batch(texts, num_threads=num_threads) == [
            tok.encode(text) for text in texts
        ]
    assert tok.encode_batch([]) == []


def test_save_and_load(tok, tmp_path):
    ranks, path = tok.encoding._mergeable_ranks, tmp_path / "tokenizer.txt"
    save_ranks(dict(reversed(ranks.items())), path)  # the file is in rank order whatever the dict's
    assert list(load_ranks(path).items()) == list(ranks.items())
    assert os.listdir(tmp_path) == ["tokenizer.txt"]  # no temporary file is left
    lines = path.read_bytes().split(b"\n")
    assert lines[0] == b"AA== 0" and lines[-1] == b""
    assert lines[256] == base64.b64encode(list(ranks)[256]) + b" 256"
    again = Tokenizer.from_file(str(path))
    assert [again.encode(text) for text in SENTENCES + HARD] == [
        tok.encode(text) for text in SENTENCES + HARD
    ]
    path.write_bytes(
        path.read_bytes().replace(b"\n", b"\r\n")
    )  # as git may check it out on Windows
    assert load_ranks(path) == ranks


def test_a_retrained_file_at_the_same_path_is_not_stale(tmp_path):
    path = tmp_path / "tokenizer.txt"
    for word in (" alpha", " beta"):
        save_ranks(train_bpe([word] * 5, 300), path)
        assert len(Tokenizer.from_file(path).encode(word)) == 1
    assert len(Tokenizer.from_file(path).encode(" alpha")) > 1


def test_a_failed_save_leaves_the_old_file(tok, tmp_path, monkeypatch):
    path = tmp_path / "tokenizer.txt"
    save_ranks(train_bpe([], 256), path)
    before = path.read_bytes()
    encode, calls = base64.b64encode, []

    def full_disk(token):
        calls.append(token)
        if len(calls) > 100:
            raise OSError("disk full")
        return encode(token)

    monkeypatch.setattr("data.tokenizer.base64.b64encode", full_disk)
    with pytest.raises(OSError, match="disk full"):
        save_ranks(tok.encoding._mergeable_ranks, path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "line, text, expected",
    [
        (3, b"Ag== 2 2", "base64 rank"),
        (3, b"", "base64 rank"),
        (3, b"Ag==", "base64 rank"),
        (3, b"*** 2", "base64"),
        (3, b"Ag= 2", "base64"),
        (3, b"\xff\xfe 2", "base64"),
        (3, b"Ag== two", "rank 2"),
        (3, b"Ag== 3", "rank 2"),
        (3, b"Ag== -2", "rank 2"),
        (3, b"Aw== 2", "byte 2"),
        (258, b"AAA= 256", "rank 257"),
        (258, b"Ag== 257", "earlier line"),
    ],
)
def test_malformed_line(tmp_path, line, text, expected):
    path = tmp_path / "bad.txt"
    save_ranks(train_bpe([" alpha"] * 5, 300), path)
    lines = path.read_bytes().splitlines()
    lines[line - 1] = text
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(ValueError) as error:
        load_ranks(path)
    assert f"{path}, line {line}: expected" in str(error.value) and expected in str(error.value)


@pytest.mark.parametrize("kept", [0, 1, 255])
def test_truncated_file(tmp_path, kept):
    path = tmp_path / "short.txt"
    save_ranks({bytes([b]): b for b in range(kept)}, path)
    with pytest.raises(
        ValueError, match=f"short.txt, line {kept + 1}: expected the byte {kept}, got end"
    ):
        load_ranks(path)


def test_training_does_not_depend_on_order():
    """Neither on the order of the texts nor on that of sets and dicts, which follow
    PYTHONHASHSEED."""
    rng = random.Random(5)
    texts = ["".join(rng.choices("abc ", k=30)) for _ in range(50)]
    expected = list(train_bpe(texts, 400))
    for _ in range(5):
        rng.shuffle(texts)
        assert list(train_bpe(texts, 400)) == expected

    code = (
        f"from data.tokenizer import *\nprint(list(train_bpe(set({texts!r}), 400)) == {expected!r})"
    )
    for seed in "012":
        run = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=Path(__file__).parents[1],
            capture_output=True,
            text=True,
            check=True,
        )
        assert run.stdout == "True\n"


def test_never_uses_the_network(tok, monkeypatch):
    import socket

    def refuse(*args, **kwargs):
        raise AssertionError("the tokenizer opened a socket")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    tok = Tokenizer(train_bpe(SENTENCES, 300))
    assert tok.decode(tok.encode("offline")) == "offline"
