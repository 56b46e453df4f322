"""What the report shows of one answer, and which question and answers it chooses."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from data.tokenizer import Tokenizer, encode, train_bpe
from loss import token_divergence
from pages import CRITERIA, IDS, plain_logits
from report import explain
from rubrics import Criterion, Example, Rubric, prompt


def test_the_strip_shows_what_both_models_think(run):
    run = replace(run, settings=replace(run.settings, clip=0.05, clip_mode="token"))
    rows, rubric = explain.strip(run, "Why?", Rubric(CRITERIA), IDS), Rubric(CRITERIA)
    seen = plain_logits(run, run.base, prompt("Why?", rubric=rubric), IDS)
    for name, own in (
        ("before", plain_logits(run, run.base, prompt("Why?"), IDS)),
        ("teacher", seen),
        ("after", plain_logits(run, run.student, prompt("Why?"), IDS)),
    ):
        divergence = token_divergence(own, seen)
        for t, row in enumerate(rows):
            p = own[t].softmax(-1)
            if name != "teacher":
                assert row[name]["divergence"] == pytest.approx(divergence[t].item(), abs=1e-4)
                assert row[name]["clipped"] == (divergence[t].item() > 0.05)
            assert row[name]["logprob"] == pytest.approx(p[IDS[t]].log().item(), abs=1e-4)
            assert row[name]["entropy"] == pytest.approx(-(p * p.log()).sum().item(), abs=1e-4)
            assert [q for _, q in row[name]["top"]] == pytest.approx(
                p.sort(descending=True).values[:5].tolist(), abs=1e-5
            )
            assert row[name]["top"][0][0] == run.tokenizer.decode([p.argmax().item()]).replace(
                "\ufffd", "·"
            )
            assert row["text"] == run.tokenizer.decode([IDS[t]])
    assert [row["before"]["logprob"] for row in rows] != [row["after"]["logprob"] for row in rows]


ANSWERS = {"one": "12 N", "two": "7 m", "three": "5 s"}


def test_the_question_shown_is_the_one_whose_wrong_answer_diverges_most(run, monkeypatch):
    """Four samples by hand, (text, cut), of each of the first two questions."""
    rubrics = {name: Rubric(CRITERIA[: i + 1]) for i, name in enumerate(ANSWERS)}
    examples = [Example(name, f"Question {name}?", answer=a) for name, a in ANSWERS.items()]
    monkeypatch.setattr(explain, "SAMPLES", 4)
    monkeypatch.setattr(explain, "TRIED", 2)

    def found(texts, kind="a kind"):
        def stub(model, prompts, tokenizer, settings, *seed):
            assert model is run.base and len(prompts) == 8
            assert prompts == [
                encode(run.tokenizer, prompt(e.question)) for e in examples[:2] for _ in range(4)
            ]
            return [
                SimpleNamespace(
                    ids=run.tokenizer.encode(text) + [run.tokenizer.eos] * (not truncated),
                    truncated=truncated,
                )
                for text, truncated in texts
            ]

        monkeypatch.setattr(explain, "sample_completions", stub)
        return explain.right_and_wrong(run, kind, examples, rubrics)

    def mean(e, text, truncated=False):
        ids = run.tokenizer.encode(text) + [run.tokenizer.eos] * (not truncated)
        own, seen = (
            plain_logits(run, run.base, prompt(e.question, rubric=r), ids)
            for r in (None, rubrics[e.id])
        )
        return token_divergence(own, seen).mean().item()

    def says(a):
        return "".join(t["text"] for t in a["tokens"]).replace(
            run.tokenizer.decode([run.tokenizer.eos]), ""
        )

    one, two = ("Answer: 12 N", False), ("Answer: 7 m", False)
    wrong = [("Answer: 13 N", False), ("a = b", False), ("Answer: 8 N", True)]
    both = [
        wrong[0],
        one,
        *wrong[1:],
        two,
        wrong[1],
        wrong[0],
        two,
    ]  # the first wrong answer of each counts
    most = max(examples[:2], key=lambda e: mean(e, *(wrong[0] if e.id == "one" else wrong[1])))
    made = found(both)
    assert (made["id"], made["question"], made["answer"]) == (most.id, most.question, most.answer)
    assert (made["kind"], made["tried"], made["samples"]) == ("a kind", 2, 4)
    assert made["rubric"] == [
        {"weight": 5, "text": c.description} for c in rubrics[most.id].criteria
    ]
    first_wrong = wrong[0] if most.id == "one" else wrong[1]
    assert [(a["right"], says(a)) for a in made["answers"]] == [
        (True, f"Answer: {most.answer}"),
        (False, first_wrong[0]),
    ]
    own, seen = (
        plain_logits(
            run, run.base, prompt(most.question, rubric=r), run.tokenizer.encode(first_wrong[0])
        )
        for r in (None, rubrics[most.id])
    )
    assert [t["before"]["divergence"] for t in made["answers"][1]["tokens"]][
        : len(own)
    ] == pytest.approx(token_divergence(own, seen).tolist(), abs=1e-4)
    for i, name in enumerate(ANSWERS):  # who alone has both is chosen, whatever diverges
        if i < 2:
            only = [wrong[1]] * 8
            only[4 * i + 2] = (one, two)[i]
            assert found(only)["id"] == name
    better = (
        "a = 12 N\nAnswer: 12 N",
        False,
    )  # of several right answers the one that meets more of the rubric, if there is one
    plain = examples[0]
    checks = (
        Criterion("a", "Essential: writes a", 3, "shows a = 12 N"),
        Criterion("b", "Optional: ends", 1, "answer-line"),
    )
    examples[0] = replace(plain, rubric=Rubric(list(checks)))
    for four in ([one, better, one, wrong[1]], [better, one, wrong[1], one]):
        assert says(found(four + [wrong[1]] * 4)["answers"][0]) == better[0]
    examples[1] = replace(examples[1], rubric=examples[0].rubric, answer=ANSWERS["one"])
    for first, second, name in (
        (one, better, "two"),
        (better, one, "one"),
    ):  # and of the questions, whatever diverges
        assert found([first] + [wrong[1]] * 3 + [second] + [wrong[1]] * 3)["id"] == name
    examples[:2] = plain, replace(examples[1], rubric=None, answer=ANSWERS["two"])
    assert says(found([one, better, wrong[1], wrong[1]] + [wrong[1]] * 4)["answers"][0]) == one[0]
    cut = found(
        [wrong[1]] * 3 + [(f"Answer: {ANSWERS['one']}", True)] + [wrong[1]] * 4
    )  # right but for the missing end
    assert [a["right"] for a in cut["answers"]] == [False] and says(cut["answers"][0]) == wrong[1][
        0
    ]
    right = found([one] * 4 + [two] * 4)
    assert [a["right"] for a in right["answers"]] == [True]
    assert right["id"] == max(examples[:2], key=lambda e: mean(e, f"Answer: {e.answer}")).id
    assert found([one] * 4 + [two] * 3 + [wrong[0]])["id"] == "two"


def test_the_answers_to_a_question_of_ones_own_are_the_likeliest_of_each_model(run):
    found = explain.explain(run, "Why?", Rubric(CRITERIA))["answers"]
    for a in found:
        for name, side in (("base", "before"), ("student", "after")):
            if name in a["by"]:
                assert [t["text"] for t in a["tokens"]] == [
                    t[side]["top"][0][0] for t in a["tokens"]
                ]
    assert " and ".join(a["by"] for a in found) in (
        "base, greedy and student, greedy",
        "base and student, greedy",
    )


def test_half_a_character_shows_as_a_dot():
    tokenizer = Tokenizer(train_bpe(["a b"], 256))
    assert [explain.token_text(tokenizer, i) for i in tokenizer.encode("a×")] == ["a", "·", "·"]
