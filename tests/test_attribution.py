"""Which criterion moves which token: by stubs whose effects are known, and with a model."""

from dataclasses import replace

import pytest
import torch

from data.tokenizer import encode
from loss import token_divergence
from pages import CRITERIA, IDS, plain_logits
from report import explain
from rubrics import Criterion, Rubric, prompt

MOVES = {
    c: torch.tensor([[1.0, 0.0, -2.0]]) * (i + 1) for i, c in enumerate(CRITERIA)
}  # [M = 1, n = 3]


def additive(criteria):
    return torch.full((1, 3), -7.0) + sum((MOVES.get(c, 0.0) for c in criteria), torch.zeros(1, 3))


def redundant(criteria):
    """Saying it once is enough."""
    return additive(tuple(sorted(set(criteria), key=CRITERIA.index)))


def together(criteria):
    """Two that work only side by side."""
    return torch.ones(1, 3) * (CRITERIA[0] in criteria and CRITERIA[1] in criteria)


def test_additive_criteria_sum_to_the_whole_both_ways():
    found = explain.attribute(additive, CRITERIA)
    assert found["whole"].tolist() == [[6, 0, -12]]
    for way in ("left out", "alone"):
        assert found[way].shape == (3, 1, 3)
        assert torch.equal(found[way].sum(0), found["whole"]) and torch.equal(
            found[way][1], MOVES[CRITERIA[1]]
        )


def test_a_criterion_that_repeats_another_adds_nothing_though_alone_it_does_all():
    found = explain.attribute(redundant, (CRITERIA[0], CRITERIA[0]))
    assert not found["left out"].any()
    assert (
        all(torch.equal(found["alone"][i], found["whole"]) for i in (0, 1)) and found["whole"].any()
    )


def test_criteria_that_work_only_together_each_take_all_away_and_alone_do_nothing():
    found = explain.attribute(together, CRITERIA)
    assert (
        found["left out"].tolist() == [[[1, 1, 1]], [[1, 1, 1]], [[0, 0, 0]]]
        and not found["alone"].any()
    )


def test_an_irrelevant_criterion_moves_nothing():
    found = explain.attribute(additive, (*CRITERIA, Criterion("", "Optional: is irrelevant", 1)))
    assert (
        not found["left out"][3].any()
        and not found["alone"][3].any()
        and found["left out"][:3].any()
    )


def test_each_context_is_scored_once_and_the_empty_one_is_no_rubric():
    asked = []
    explain.attribute(lambda criteria: asked.append(criteria) or torch.zeros(1, 1), CRITERIA)
    assert len(asked) == len(set(asked)) and set(asked) == {
        (),
        CRITERIA,
        CRITERIA[1:],
        CRITERIA[:2],
        (CRITERIA[0], CRITERIA[2]),
        *((c,) for c in CRITERIA),
    }


def test_the_scorer_reads_the_teacher_after_the_prompt_with_just_these_criteria(run):
    run = replace(run, settings=replace(run.settings, beta=0.3, temperature=1.7))
    score, chosen = explain.scorer(run, "Why?", IDS), CRITERIA[:2]
    own = plain_logits(run, run.base, prompt("Why?"), IDS)
    for criteria in (chosen, CRITERIA[:1], ()):
        seen = plain_logits(
            run, run.base, prompt("Why?", rubric=Rubric(criteria) if criteria else None), IDS
        )
        wanted = (seen / 1.7).log_softmax(-1)[range(len(IDS)), IDS]
        torch.testing.assert_close(score(criteria)[0], wanted, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(
            score(criteria)[1],
            token_divergence(own, seen, beta=0.3, temperature=1.7),
            atol=1e-4,
            rtol=1e-3,
        )
    assert score(())[1].abs().max() < 1e-6 and score(chosen)[1].max() > 0.01


def test_one_criterion_has_the_whole_effect_left_out_and_alone(run):
    found = explain.attribute(explain.scorer(run, "Why?", IDS), CRITERIA[:1])
    assert torch.equal(found["left out"][0], found["whole"]) and torch.equal(
        found["alone"][0], found["whole"]
    )
    assert found["whole"].abs().max() > 0.01


def test_effects_on_tokens_sum_to_the_effect_on_the_answer(run):
    found = explain.answer(run, "Why?", Rubric(CRITERIA), IDS)["effects"]

    def total(criteria):
        return (
            (
                plain_logits(
                    run, run.base, prompt("Why?", rubric=Rubric(criteria)), IDS
                ).log_softmax(-1)[range(len(IDS)), IDS]
            )
            .sum()
            .item()
        )

    for i in range(3):
        rest = CRITERIA[:i] + CRITERIA[i + 1 :]
        assert sum(found["logprob"]["left out"][i]) == pytest.approx(
            total(CRITERIA) - total(rest), abs=1e-3
        )


def test_controls_are_added_to_the_whole_rubric(run):
    found = explain.answer(run, "Why?", Rubric(CRITERIA), IDS)
    assert found["controls"] == [CRITERIA[0].description, explain.IRRELEVANT.description]
    score = explain.scorer(run, "Why?", IDS)
    wanted = score((*CRITERIA, CRITERIA[0])) - score(CRITERIA)
    for i, measure in enumerate(explain.MEASURES):
        assert found["effects"][measure]["control"][0] == wanted[i].tolist()
    used = len(encode(run.tokenizer, prompt("Why?", rubric=Rubric(CRITERIA))))
    none = explain.answer(
        replace(run, settings=replace(run.settings, max_seq_len=used + 8)),
        "Why?",
        Rubric(CRITERIA),
        IDS,
    )
    assert none["controls"] == [] and none["effects"]["divergence"]["control"] == []
