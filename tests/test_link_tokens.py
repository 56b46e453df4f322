"""The share of divergence on the lines of a rubric's links, against shares worked out by hand."""

from types import SimpleNamespace

import pytest
import torch

from data.tokenizer import encode
from loss import token_divergence
from pages import plain_logits
from report import explain, link_tokens
from rubrics import Criterion, Example, Rubric, prompt

RUBRIC = (
    "Essential: says that the cloud cover rises, so the sunlight falls",
    "Essential: shows that the leaf temperature rises when the sunlight rises",
    "Important: says what the leaf temperature does",
    "Essential: says that the leaf temperature falls, so the growth falls",
    "Pitfall: does not say that the sunlight rises",
    "Essential: uses force = mass × acceleration",
    "Important: states that the cloud cover rises, so the sunlight falls",
)
# (text, divergence): the first line states the first link, the second contradicts the second link;
# the third link has no line. Of 20 nats in 10 tokens 4 and 10 lie on these lines.
ANSWER = (
    ("the cloud cover", 0.5),
    (" falls, so the", 1.0),
    (" sunlight rises", 2.0),
    ("\n", 0.5),
    ("the sunlight rises", 6.0),
    (", so the leaf temperature", 1.0),
    (" falls", 2.5),
    ("\n", 0.5),
    ("Answer: it falls", 4.0),
    ("", 2.0),
)


def test_the_shares_of_an_answer_by_hand():
    texts, divergence = zip(*ANSWER)
    rows = link_tokens.shares(list(RUBRIC), list(texts), list(divergence))
    assert [list(row.values()) for row in rows] == [
        [RUBRIC[0], "states", 4, 0.4, 0.2],
        [RUBRIC[1], "contradicts", 4, 0.4, 0.5],
        [RUBRIC[3], "", 0, None, None],
    ]
    nothing = link_tokens.shares(list(RUBRIC[:1]), list(texts), [0.0] * 10)
    assert [list(row.values())[1:] for row in nothing] == [["states", 4, 0.4, None]]


def test_lines_that_state_a_link_come_before_those_that_contradict_it():
    texts = ["the a rises, so the b falls\n", "the a falls, ", "so the b rises\n", "if a rises, b "]
    texts += ["rises\n", "Answer: A"]
    for line, tokens, share in (("states", 3, 0.6), ("contradicts", 2, 0.3)):
        sign = {"states": "falls", "contradicts": "stays the same"}[line]
        criterion = f"Essential: says that the a rises, so the b {sign}"
        (row,) = link_tokens.shares([criterion], texts, [1.0, 2.0, 3.0, 2.0, 1.0, 1.0])
        if line == "contradicts":  # all three lines say something else
            tokens, share = 5, 0.9
        assert (row["line"], row["tokens"]) == (line, tokens)
        assert row["divergence share"] == pytest.approx(share)


def test_a_token_is_on_the_line_that_the_tokens_before_it_begin(finished):
    tokenizer = explain.load_tokenizer(finished, SimpleNamespace(model=""))
    text = "the a rises, so the b × c falls\n\nso b falls\nAnswer: 4 m/s²"
    ids = [*tokenizer.encode(text), tokenizer.eos]
    run = SimpleNamespace(tokenizer=tokenizer)
    texts = link_tokens.words_of(run, [explain.token_text(tokenizer, i) for i in ids])
    assert texts[-1] == ""
    wanted, taken = [], b""
    for i in ids:  # by the bytes of the text, one token after the other
        wanted.append(taken.count(b"\n"))
        taken += b"" if i == tokenizer.eos else tokenizer.encoding.decode_bytes([i])
    assert taken.decode() == text and link_tokens.line_numbers(texts) == wanted
    for k, line in enumerate(text.split("\n")):
        mine = [i for i, number in zip(ids[:-1], wanted) if number == k]
        assert tokenizer.decode(mine).removesuffix("\n") == line


def row(line, tokens, divergence):
    return {"line": line, "token share": tokens, "divergence share": divergence}


def test_the_means_by_hand():
    rows = [
        row("states", 0.2, 0.1),
        row("contradicts", 0.4, 0.8),
        row("states", 0.4, 0.3),
        row("", None, None),
        row("contradicts", 0.5, None),
    ]
    wanted = [("states", 2, 0.3, 0.2), ("contradicts", 1, 0.4, 0.8), ("", 3, 1 / 3, 0.4)]
    found = link_tokens.means(rows)
    assert [(r["line"], r["count"]) for r in found] == [w[:2] for w in wanted]
    for r, (_, _, tokens, divergence) in zip(found, wanted):
        assert r["token share"] == pytest.approx(tokens)
        assert r["divergence share"] == pytest.approx(divergence)
    assert [r["divergence share"] for r in link_tokens.means([rows[3]])] == [None] * 3


def test_the_means_over_sampled_answers_against_one_prefix_at_a_time(run, monkeypatch):
    """Three questions, of which one has no link; answers by hand, divergences by their definition."""
    link = Criterion("", "Essential: says that the a rises, so the b falls", 5)
    relation = Criterion("", "Essential: uses a = b × c", 5)
    examples = [Example(name, f"Question {name}?") for name in ("one", "two", "three", "four")]
    rubrics = {e.id: Rubric((link,)) for e in examples} | {"two": Rubric((relation,))}
    texts = {"one": "b\nthe a rises, so the b falls\n", "three": "the a falls, so the b falls"}
    monkeypatch.setattr(link_tokens, "MOST", 2)

    def sample_completions(model, prompts, tokenizer, settings, *names):
        assert model is run.base
        assert prompts == [encode(tokenizer, prompt(f"Question {name}?")) for name in texts]
        found = [tokenizer.encode(text) for text in texts.values()]
        return [SimpleNamespace(ids=[*ids, tokenizer.eos]) for ids in found]

    monkeypatch.setattr(link_tokens, "sample_completions", sample_completions)
    found = link_tokens.link_tokens(run, examples, rubrics)
    assert (found["questions"], found["criteria"]) == (2, 2)
    shares = []
    for name, text in texts.items():
        ids = [*run.tokenizer.encode(text), run.tokenizer.eos]
        question = f"Question {name}?"
        own, seen = (
            plain_logits(run, run.base, prompt(question, rubric=r), ids)
            for r in (None, rubrics[name])
        )
        divergence = token_divergence(own, seen)
        start, end = (2, len(ids) - 1) if name == "one" else (0, len(ids))  # "b", "\n" before
        share = divergence[start:end].sum() / divergence.sum()
        shares.append(((end - start) / len(ids), share.item()))
    for line, share in zip(found["lines"], shares):
        assert line["token share"] == pytest.approx(share[0])
        assert line["divergence share"] == pytest.approx(share[1], rel=1e-3)
    assert [line["count"] for line in found["lines"]] == [1, 1, 2]
    assert torch.tensor(shares).ge(0).all() and shares[0][1] < 1
    assert link_tokens.link_tokens(run, examples[1:2], rubrics) is None
