"""A check names the typical mistakes of its exercise, and passes other right solutions."""

import pytest
import torch

import model
import rubrics
import step
from data.tokenizer import _merge, encode
from exercises import check
from exercises.check import EXERCISES
from solutions import (
    D,
    advantages_by_torch,
    advantages_with,
    attached,
    attend_with,
    attribute_with,
    chunks_with,
    clip_with,
    divergence_by_hand,
    divergence_with,
    encode_joined,
    encode_special,
    from_the_right,
    gradient_by_autograd,
    gradient_with,
    hidden_nan,
    hidden_with,
    in_vocabulary_order,
    interleaved,
    joined_beside,
    kl_forgotten,
    late_temperature,
    log_of_the_mixture,
    m_swapped,
    merge_with,
    padded_on_the_left,
    plain_kl,
    prompt_with,
    sample_with,
    sampler_by_sorting,
    slope_only,
    summed_over_tokens,
    teacher_undivided,
    the_others_added_up,
    without_the_crossing_token,
    zero_deviation,
)

ENTRIES = {e.number: e for e in EXERCISES}


WRONG = [  # exercise, the wrong functions, what the message says
    (1, [merge_with(step=1)], "used twice"),
    (1, [from_the_right], "from the left"),
    (1, [merge_with(first_only=True)], "Only the first occurrence"),
    (1, [lambda word, pair: _merge(word, pair)[:-1]], "Is the last token lost"),
    (1, [merge_with(in_place=True)], "the word itself was changed"),
    (1, [lambda word, pair: None], "is a return missing"),
    (1, [lambda word, pair: list(word)], "never equal to a tuple"),
    (2, [attend_with("own", scale=False)], "divided by sqrt"),
    (2, [attend_with("own", visible="future")], "new tokens behind it"),
    (2, [attend_with("own", visible="no cache")], "starts at column 0"),
    (2, [attend_with("own", visible="longest")], "stale"),
    (2, [attend_with("own", visible="one short")], "see itself"),
    (2, [attend_with("own", neighbours=False)], "repeat_interleave"),
    (2, [joined_beside], "The buffers are as they were"),
    (3, [sample_with(lambda z, tau, k, p, u: (z, 1.0, k, p, u))], "without a temperature"),
    (
        3,
        [sample_with(lambda z, tau, k, p, u: (z * tau**2, tau, k, p, u))],
        "Multiplied by the temperature",
    ),
    (3, [late_temperature], "Temperature first"),
    (3, [without_the_crossing_token], "reaches top_p is kept"),
    (3, [sample_with(lambda z, tau, k, p, u: (z, tau, None, p, u))], "without top_k"),
    (
        3,
        [sample_with(lambda z, tau, k, p, u: (z, tau, k, p, u[:1].expand(len(u)).contiguous()))],
        "Every row drew",
    ),
    (
        3,
        [sample_with(lambda z, tau, k, p, u: (z, tau, k, p, torch.rand(len(u), dtype=u.dtype)))],
        "in `uniform` alone",
    ),
    (3, [sampler_by_sorting(bound="truncated")], "reaches top_p is kept"),
    (3, [sampler_by_sorting(renormalise=False)], "that was cut is drawn"),
    (3, [lambda *a: model.sample(*a)[:, None]], "int64 [20000]"),
    (4, [hidden_with(first=0, last=0)], "The shift is missing"),
    (4, [hidden_with(first=-2, last=-2)], "Shifted twice"),
    (4, [hidden_with(first=-99, last=-1)], "The prompt is in it"),
    (4, [hidden_with(first=0, last=-1)], "first completion token has no state"),
    (4, [hidden_with(order=True)], "order of the rows"),
    (4, [hidden_with(fed=0)], "need not be read"),
    (4, [padded_on_the_left], "Padded on the left"),
    (4, [lambda model, rows: step.completion_hidden(model, rows)[None]], "an axis too many"),
    (
        5,
        [divergence_with(lambda s, t, b, tau: D(s, t, beta=1 - b, temperature=tau))],
        "teacher are swapped",
    ),
    (5, [divergence_with(lambda s, t, b, tau: D(s, t, beta=b))], "divide both logits"),
    (
        5,
        [divergence_with(lambda s, t, b, tau: D(s, t, beta=b, temperature=tau).mean())],
        "mean over the tokens",
    ),
    (
        5,
        [divergence_with(lambda s, t, b, tau: D(s, t, beta=b, temperature=tau) * tau**2)],
        "Hinton",
    ),
    (
        5,
        [divergence_with(lambda s, t, b, tau: D(s, t, beta=b, temperature=tau) / s.shape[-1])],
        "over the vocabulary",
    ),
    (5, [divergence_with(summed_over_tokens)], "last axis"),
    (5, [divergence_with(m_swapped)], "weights inside m are swapped"),
    (5, [divergence_with(plain_kl)], "0 * inf"),
    (5, [divergence_with(attached)], "Detach them"),
    (5, [divergence_with(hidden_nan)], "Replace the -inf before"),
    (5, [divergence_with(log_of_the_mixture)], "nan: look for"),
    (6, [gradient_with(lambda g, *rest: -g)], "sign is turned around"),
    (6, [gradient_with(lambda g, z, t, b, tau: g * tau)], "1 / temperature is missing"),
    (6, [gradient_with(slope_only)], "slope for log q"),
    (6, [gradient_with(kl_forgotten)], "KL inside the bracket"),
    (6, [gradient_with(teacher_undivided)], "teacher's logits are not divided"),
    (
        6,
        [gradient_with(lambda g, z, t, b, tau: g if b in (0, 1) else g / (1 - b))],
        "factor (1 - beta)",
    ),
    (7, [chunks_with(scale="mean")], "mean of the chunks' means"),
    (7, [chunks_with(scale="own")], "own size"),
    (7, [chunks_with(scale="none")], "divide by N"),
    (7, [chunks_with(add=False)], "adds up over the chunks"),
    (7, [chunks_with(tau_once=True)], "lacks 1 / temperature"),
    (7, [chunks_with(keep=True)], "one chunk at a time"),
    (8, [rubrics.prompt, encode_joined], "encoded as text"),
    (8, [rubrics.prompt, encode_special], "written in the data became one"),
    (8, [rubrics.prompt, lambda t, sections: encode(t, sections) + [t.eos]], "no EOS"),
    (8, [prompt_with(lambda p, more: p[:-1]), encode], "last section is missing"),
    (8, [prompt_with(lambda p, more: p[1:-1] + p[:1] + p[-1:]), encode], "question comes first"),
    (
        8,
        [prompt_with(lambda p, more: p[:-1] + [("solve", "")]), encode],
        "that is 'write_rubric' here",
    ),
    (9, [advantages_with(group_of="batch")], "whole batch"),
    (9, [advantages_with(less=1)], "n - 1"),
    (9, [interleaved], "groups are neighbours"),
    (9, [zero_deviation], "Compare the rewards themselves"),
    (9, [advantages_by_torch(more=1e-4)], "added to the deviation"),
    (9, [advantages_with(divide=False)], "division by the standard deviation"),
    (9, [advantages_with(nan=True)], "equal rewards"),
    (9, [advantages_with(result=lambda silent, groups: silent)], "number of silent groups"),
    (9, [lambda rollouts, rewards, group: 0.5], "Set rollout.advantage"),
    (10, [clip_with(scale=lambda f, d, c: d * (c / d).clamp(max=1))], "not detached"),
    (10, [clip_with(scale=lambda f, d, c: d * (c / d.detach()))], "at most 1"),
    (10, [clip_with(scale=lambda f, d, c: d.clamp(max=c))], "not detached"),
    (
        10,
        [clip_with(pointwise=lambda f, d, c: f.clamp(-c, c).sum(-1))],
        "negative terms are clamped too",
    ),
    (
        10,
        [clip_with(token=lambda f, d, c: f.clamp(max=c).sum(-1))],
        "This is clip_mode 'pointwise'",
    ),
    (
        11,
        [attribute_with(left=lambda s, r, i: s(r[:i] + r[i + 1 :]) - s(()))],
        "compared with no rubric",
    ),
    (11, [attribute_with(left=lambda s, r, i: s(r[:i] + r[i + 1 :]) - s(r))], "sign is turned"),
    (11, [attribute_with(whole=lambda s, r: s(()) - s(r))], "sign is turned"),
    (11, [attribute_with(alone=lambda s, r, i: s((r[i],)) - s(r))], "alone is against none"),
    (11, [attribute_with(alone=lambda s, r, i: s(r) - s((r[i],)))], "alone is against none"),
    (11, [attribute_with(alone=lambda s, r, i: s((r[i],)))], "score(()) is not subtracted"),
    (11, [attribute_with(left=lambda s, r, i: s((r[i],)) - s(()))], "each criterion alone"),
    (11, [attribute_with(left=the_others_added_up)], "score(()) is defined"),
    (
        11,
        [attribute_with(left=lambda s, r, i: s(r) - s(tuple(c for c in r if c != r[i])))],
        "by place",
    ),
    (11, [attribute_with(alone=lambda s, r, i: s(r[i]) - s(()))], "the tuple (c,)"),
    (
        11,
        [attribute_with(left=lambda s, r, i: s(r) - s(r[i + 1 :] + r[:i]))],
        "Another order is another prompt",
    ),
    (11, [attribute_with(axis=1)], "the first axis"),
    (11, [attribute_with(cached=False)], "before the loop"),
]


@pytest.mark.parametrize("case", range(len(WRONG)), ids=lambda i: f"{WRONG[i][0]}-{WRONG[i][2]}")
def test_a_typical_mistake_is_named(case):
    number, functions, words = WRONG[case]
    _, _, file, test, _ = ENTRIES[number]
    message = check.run(test, file, functions)
    assert words in message, message
    assert "input " in message and "expected " in message and "came " in message


@pytest.mark.parametrize(
    "number, function",
    [
        (1, merge_with()),
        (2, attend_with("own")),
        (3, in_vocabulary_order),
        (4, hidden_with()),
        (5, divergence_with(divergence_by_hand)),
        (6, gradient_by_autograd),
        (7, chunks_with()),
        (9, advantages_with()),
        (9, advantages_by_torch()),
        (3, sampler_by_sorting()),
        (
            10,
            clip_with(
                scale=lambda f, d, c: d * (c / d.detach()).clamp(max=1),
                token=lambda f, d, c: d.clamp(max=c),
                pointwise=lambda f, d, c: f.clamp(max=c).sum(-1),
                none=lambda f, d, c: d,
            ),
        ),
        (11, attribute_with()),
    ],
)
def test_another_right_solution_passes(number, function):
    _, _, file, test, _ = ENTRIES[number]
    assert check.run(test, file, [function]) == ""


def test_every_exercise_has_at_least_two_wrong_solutions():
    assert all(sum(w[0] == number for w in WRONG) >= 2 for number in ENTRIES)
