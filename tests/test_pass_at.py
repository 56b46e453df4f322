"""pass@k and different answers against a count of all draws; the judge against its own logits."""

import json
import shutil
from itertools import combinations

import pytest
import torch

import evaluate
from base import load_base
from own_model import run
from pretrained.judge import judge
from pretrained.start import load_tokenizer
from report.pass_at import count_kinds, distinct_at_k, pass_at_k, sample_answers
from rubrics import Criterion, Example, Rubric, judge_prompt
from tiny import FLAGS, next_logits
from trainer.settings import Settings


@pytest.mark.parametrize("n, k", [(1, 1), (5, 1), (6, 3), (7, 5), (6, 6)])
def test_the_estimates_are_the_means_over_all_draws(n, k):
    for right in range(n + 1):
        draws = list(combinations([True] * right + [False] * (n - right), k))
        assert pass_at_k(n, right, k) == pytest.approx(sum(map(any, draws)) / len(draws))
    for counts in ([n], [1] * n, [n - 1, 1] if n > 1 else [1], [2, 2, n - 4] if n > 4 else [n]):
        answers = [kind for kind, count in enumerate(counts) for _ in range(count)]
        draws = [len(set(draw)) for draw in combinations(answers, k)]
        assert distinct_at_k(counts, k) == pytest.approx(sum(draws) / len(draws))


def test_answers_that_are_one_in_other_words():
    number = Example("1", "How far?", "2 m")
    texts = ["Answer: 2 m", "So\nAnswer: 200 cm", "Answer: 3 m", "I do not  know", "i do not know"]
    assert count_kinds(number, texts) == [2, 1, 2]
    choice = Example("2", "Which?\nA) iron\nB) gold", "gold", meta={"letter": "B"})
    assert count_kinds(choice, ["Answer: B", "gold", "Answer: A", "(A) answer: A", "?"]) == [
        2,
        2,
        1,
    ]


@pytest.fixture
def tiny(mine, tmp_path):
    """(settings, tokenizer, model)"""
    options = dict(max_seq_len=900, max_new_tokens=5, base_steps=0, device="cpu")
    settings = Settings(model=str(mine[0]), data=str(mine[1]), **options)
    model = load_base(tmp_path, settings, torch.device("cpu"))[0]
    return settings, load_tokenizer(tmp_path, settings), model


def test_samples_depend_on_the_question_alone(tiny):
    settings, tokenizer, model = tiny
    asked = [Example(str(i), f"What is {i}?") for i in range(3)]
    together = sample_answers(model, tokenizer, asked, 4, settings)
    assert [len(texts) for texts in together] == [4, 4, 4] and len(set(together[0])) > 1
    assert sample_answers(model, tokenizer, asked[2:], 4, settings) == together[2:]


def test_a_verdict_is_yes_against_no(tiny):
    """Oracle: the logits behind each prompt alone; micro-batches of one or of all."""
    settings, tokenizer, model = tiny
    criteria = (
        Criterion("", "Essential: says two", 5),
        Criterion("", "Pitfall: says <|im_end|>", -1),
    )
    e = Example("1", "What is 1 + 1?", rubric=Rubric(criteria))
    found = judge(model, tokenizer, e, "Two.", settings)
    for criterion, probability in zip(criteria, found):
        ids = tokenizer.encode_prompt(judge_prompt(e.question, "Two.", criterion))
        assert ids.count(tokenizer.eos) == 2  # of the two turns: text gives none
        with torch.no_grad():
            probs = next_logits(model, ids, [], 0).softmax(-1)
        yes, no = (probs[tokenizer.encode(word)[0]].item() for word in ("Yes", "No"))
        assert probability == pytest.approx(yes / (yes + no), abs=1e-5)
    small = Settings(**vars(settings) | {"micro_tokens": 1})
    assert judge(model, tokenizer, e, "Two.", small) == pytest.approx(found, abs=1e-5)
    assert judge(model, tokenizer, e, "Two. " * 400, settings) is None


def test_both_are_in_the_table_with_counts_and_paired_intervals(mine, own_run, tmp_path, capsys):
    out, more = tmp_path / "run", ["--rubrics", "reference"]
    shutil.copytree(own_run, out)
    path = out / "results_own.json"
    plain = json.loads(path.read_text("utf-8"))
    assert run(mine, out, "evaluate", *more, "--pass-at", "2", "--judge") == 0
    said, answers = capsys.readouterr().out, json.loads(path.read_text("utf-8"))["answers"]
    for label in ("pass@1", "pass@2", "as judge", "different ones of 2"):
        assert label in said
    for name, rows in answers.items():
        for row, before in zip(rows, plain["answers"][name]):
            assert row.items() >= before.items() and len(row["verdicts"]) == 2
            assert row["judged"] == pytest.approx((5 * row["verdicts"][0] + row["verdicts"][1]) / 6)
            if name in ("base", "student"):
                assert 0 <= row["pass_1"] <= row["pass_k"] <= 1 <= row["distinct"] <= 2
    assert run(mine, out, "evaluate", *more) == 0  # what was measured stays in the table
    assert "pass@2" in capsys.readouterr().out


def test_the_built_in_tests_have_pass_at_k_too(finished, tmp_path, capsys):
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    assert evaluate.main(["--out", str(out), *FLAGS, "--pass-at", "2"]) == 0
    said, found = capsys.readouterr().out, json.loads((out / "pass_at.json").read_text("utf-8"))
    groups = {row["group"] for row in found["answers"]["base"]}
    assert said.count("pass@2 of samples, %") == len(groups) > 2 and "in %, new laws" in said
    for rows in found["answers"].values():
        assert len(rows) == 12 + 12 + 30 and all(row["pass_1"] <= row["pass_k"] for row in rows)
    assert (out / "results.json").read_bytes() == (finished / "results.json").read_bytes()


def test_flags_that_make_no_sense_are_one_line(tmp_path, capsys):
    for flags in (["explain", "--pass-at", "2"], ["--summary", "x", "--judge"], ["--pass-at", "0"]):
        with pytest.raises(SystemExit):
            evaluate.main([*flags, "--out", str(tmp_path)])
        assert capsys.readouterr().err.count("\n") == 1
