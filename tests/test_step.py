"""One step: which state predicts which token, the token losses, padding, micro-batches."""

import copy

import pytest
import torch

from data.tokenizer import Tokenizer, encode, train_bpe
from loss import token_divergence
from rubrics import Criterion, Rubric, prompt
from step import (
    Rollout,
    completion_hidden,
    distillation,
    micro_batches,
    policy_gradient_loss,
    sft_loss,
    update,
)
from tiny import next_logits, random_rollouts, tiny_model
from trainer.settings import Settings


def test_completion_hidden_is_the_state_before_each_token():
    model, rows = tiny_model().double(), random_rollouts()
    got = completion_hidden(model, [(r.prompt_ids, r.completion_ids) for r in rows])
    wanted = []
    for r in rows:  # one prefix at a time: no padding, no batch, no slicing
        for t in range(len(r.completion_ids)):
            wanted.append(model(torch.tensor([r.prompt_ids + r.completion_ids[:t]]))[0, -1])
    torch.testing.assert_close(got, torch.stack(wanted), atol=1e-10, rtol=0)


def test_same_context_gives_a_loss_of_exactly_zero_and_no_gradient():
    student = tiny_model()
    teacher, rows = copy.deepcopy(student), random_rollouts(same_context=True)
    stats = update(distillation, student, teacher, rows, [], Settings())
    assert stats["loss"] == 0.0
    assert max(p.grad.abs().max() for p in student.parameters()) < 1e-5  # rounding


def test_another_context_gives_the_plain_formula():
    student, rows = tiny_model(), random_rollouts()
    teacher = copy.deepcopy(student)
    stats = update(distillation, student, teacher, rows, [], Settings(beta=0.3, temperature=1.5))
    total, count = 0.0, 0
    for r in rows:
        for t in range(len(r.completion_ids)):
            one = next_logits(student, r.prompt_ids, r.completion_ids, t)[None].double()
            other = next_logits(teacher, r.teacher_prompt_ids, r.completion_ids, t)[None].double()
            total += token_divergence(one, other, beta=0.3, temperature=1.5).item()
            count += 1
    assert stats["loss"] == pytest.approx(total / count, rel=1e-5)


def test_without_a_teacher_the_signal_is_the_log_probability():
    student, rows = tiny_model(), random_rollouts()
    stats = update(sft_loss, student, None, rows, [], Settings())
    weighted = [
        Rollout(r.prompt_ids, r.completion_ids, token_weights=[0.5] * len(r.completion_ids))
        for r in rows
    ]
    again = update(sft_loss, student, None, weighted, [], Settings())
    assert again["loss"] == pytest.approx(stats["loss"], rel=1e-5)
    nll = []
    for r in rows:
        for t, token in enumerate(r.completion_ids):
            nll.append(
                -next_logits(student, r.prompt_ids, r.completion_ids, t).log_softmax(-1)[token]
            )
    assert stats["loss"] == pytest.approx(torch.stack(nll).mean().item(), rel=1e-5)


def gradients(teacher, **settings):
    student = tiny_model()
    loss_fn, teacher = (distillation, tiny_model(1)) if teacher else (sft_loss, None)
    update(loss_fn, student, teacher, random_rollouts(), [], Settings(**settings))
    return [p.grad.clone() for p in student.parameters()]


@pytest.mark.parametrize("teacher", [True, False])
def test_micro_batches_change_nothing(teacher):
    whole = gradients(teacher, micro_tokens=10**6)
    assert max(g.abs().max() for g in whole) > 1e-3
    for tokens in (1, 60, 200):
        for a, b in zip(whole, gradients(teacher, micro_tokens=tokens)):
            torch.testing.assert_close(a, b, atol=2e-6, rtol=1e-4)


def test_weights_choose_tokens():
    student, (row,) = tiny_model(), random_rollouts(1, seed=3)
    assert len(row.completion_ids) > 2
    last = Rollout(row.prompt_ids + row.completion_ids[:-1], row.completion_ids[-1:])
    weights = [0.0] * (len(row.completion_ids) - 1) + [2.0]
    only_last = Rollout(row.prompt_ids, row.completion_ids, token_weights=weights)
    a, b = (update(sft_loss, student, None, [r], [], Settings())["loss"] for r in (last, only_last))
    assert a == pytest.approx(b, rel=1e-5)


def test_micro_batches_hold_every_row_once_within_the_budget():
    rows = random_rollouts(50)
    batches = list(micro_batches(rows, 100))
    assert sorted(id(r) for b in batches for r in b) == sorted(id(r) for r in rows)
    for b in batches:
        longest = max(
            len(r.completion_ids) + max(len(r.prompt_ids), len(r.teacher_prompt_ids)) for r in b
        )
        assert len(b) == 1 or len(b) * longest <= 100


def test_a_long_completion_weighs_by_its_tokens():
    student, a, b = tiny_model(), *random_rollouts(2)
    one, two, both = (
        update(sft_loss, student, None, rows, [], Settings())["loss"] for rows in ([a], [b], [a, b])
    )
    n, m = len(a.completion_ids), len(b.completion_ids)
    assert n != m
    assert both == pytest.approx((n * one + m * two) / (n + m), rel=1e-5)


def test_no_valid_token_changes_nothing():
    student = tiny_model()
    before = copy.deepcopy(student.state_dict())
    optimizer = torch.optim.AdamW(student.parameters(), lr=1.0)
    teacher, rows = copy.deepcopy(student), [Rollout([1, 2], [], [3], True)]
    stats = update(distillation, student, teacher, rows, [optimizer], Settings())
    assert stats["loss"] == 0.0
    assert all(torch.equal(before[name], p) for name, p in student.state_dict().items())


def test_eos_is_learned_and_is_not_pad():
    tokenizer = Tokenizer(train_bpe(["force = mass × acceleration"], 270))
    assert tokenizer.eos != tokenizer.pad
    student = tiny_model(vocab=tokenizer.vocab_size)
    optimizer = torch.optim.AdamW(student.parameters(), lr=0.01)
    rows = [Rollout(encode(tokenizer, prompt("why?")), tokenizer.encode("so") + [tokenizer.eos])]
    for _ in range(40):
        update(sft_loss, student, None, rows, [optimizer], Settings())
    hidden = completion_hidden(student, [(rows[0].prompt_ids, rows[0].completion_ids)])
    assert (hidden @ student.head_weight.T)[-1].argmax().item() == tokenizer.eos


def test_student_and_teacher_prompts_end_alike_and_text_is_never_joined():
    tokenizer = Tokenizer(train_bpe(["a rubric a rubric ab ab"] * 3, 300))
    rubric = Rubric((Criterion("t", "Essential: uses a = b", 5),))
    student, teacher = (encode(tokenizer, prompt("ab <|solve|>", rubric=r)) for r in (None, rubric))
    assert student[-1] == teacher[-1] == tokenizer.id["solve"]
    assert student.count(tokenizer.id["solve"]) == 1  # the literal text in the question stays text
    assert teacher[: len(student) - 1] == student[:-1]


def exact_token_loss(loss_fn, student, teacher, r, t):
    """By its formula in float64, from one prefix alone."""
    token = r.completion_ids[t]
    logprobs = next_logits(student, r.prompt_ids, r.completion_ids, t).log_softmax(-1)
    if loss_fn is sft_loss:
        return -logprobs[token]
    if loss_fn is policy_gradient_loss:
        return -(logprobs[token] - r.old_logprobs[t].double()).exp() * r.advantage
    other = next_logits(teacher, r.teacher_prompt_ids, r.completion_ids, t).log_softmax(-1)
    return (other.exp() * (other - logprobs)).sum()


@pytest.mark.filterwarnings("ignore:Mismatch dtype")
@pytest.mark.parametrize("loss_fn", [sft_loss, distillation, policy_gradient_loss])
def test_an_update_in_bfloat16_is_near_the_formula_in_float64(loss_fn):
    student, teacher, rows = tiny_model(), tiny_model(1), random_rollouts()
    with torch.no_grad():
        for p in [*student.parameters(), *teacher.parameters()]:
            p.mul_(0.5)  # larger weights make the gradient so steep that no rounding is small
    exact, other = copy.deepcopy(student).double(), copy.deepcopy(teacher).double()
    for i, r in enumerate(rows):
        r.advantage, now = 1.0 + i, []
        for t, token in enumerate(r.completion_ids):
            now.append(next_logits(exact, r.prompt_ids, r.completion_ids, t).log_softmax(-1)[token])
        r.old_logprobs = torch.stack(now).detach() - 0.05  # ratios of 1.05: none is clipped
    terms = [
        exact_token_loss(loss_fn, exact, other, r, t)
        for r in rows
        for t in range(len(r.completion_ids))
    ]
    want = torch.stack(terms).mean()
    grads = torch.autograd.grad(want, list(exact.parameters()))
    args = None if loss_fn is policy_gradient_loss else teacher, rows, []
    got = update(loss_fn, student, *args, Settings(dtype="bfloat16"))
    assert 1e-6 < abs(got["loss"] / want.item() - 1) < 1e-3  # hidden states are rounded
    norm = torch.cat([g.flatten() for g in grads]).norm()
    scale = max(1.0, got["grad_norm"])  # what clipping divided by
    diff = torch.cat([(p.grad * scale - g).flatten() for p, g in zip(student.parameters(), grads)])
    assert diff.norm() / norm < 0.05
