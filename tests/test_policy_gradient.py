"""Advantages, and the policy-gradient loss: first use, clipping, the sampled reverse KL."""

import pytest
import torch

from loss import token_divergence
from step import Rollout, policy_gradient_loss, set_advantages, update
from tiny import next_logits, random_rollouts, tiny_model
from trainer.settings import Settings


def test_advantages_are_normalised_within_groups():
    rows = random_rollouts(12)
    silent = set_advantages(rows, [1, 0, 0, 0, 1, 1, 1, 1, 0.2, 0.4, 0.6, 0.8], group_size=4)
    assert silent == pytest.approx(1 / 3)
    third = 3**0.5
    assert [r.advantage for r in rows[:4]] == pytest.approx(
        [third, -1 / third, -1 / third, -1 / third]
    )
    assert [r.advantage for r in rows[4:8]] == [0.0] * 4
    assert [r.advantage for r in rows[8:]] == pytest.approx(
        [-1.3416408, -0.4472136, 0.4472136, 1.3416408]
    )


def logprob(model, prompt, completion, t, temperature=1.0):
    return (next_logits(model, prompt, completion, t) / temperature).log_softmax(-1)


def test_on_the_first_use_the_policy_gradient_is_advantage_times_log_probability():
    student, rows = tiny_model(), random_rollouts()
    for i, r in enumerate(rows):
        r.advantage = (-1) ** i * 0.1 * i
    total, count = 0.0, 0
    for r in rows:
        for t, token in enumerate(r.completion_ids):
            total -= r.advantage * logprob(student, r.prompt_ids, r.completion_ids, t, 1.3)[token]
            count += 1
    wanted = torch.autograd.grad(total / count, list(student.parameters()))
    settings = Settings(temperature=1.3)
    surrogate, measures = policy_gradient_loss(student, None, rows, count, settings)
    surrogate.backward()
    assert not measures["clipped"].any()
    for p, g in zip(student.parameters(), wanted):
        torch.testing.assert_close(p.grad, g, atol=1e-6, rtol=1e-3)


def test_a_reused_batch_is_clipped_on_the_side_that_goes_too_far():
    """ratio 2 is clipped for a good token and not for a bad one, ratio 1/2 the other way round."""
    cases = ((2.0, 1.0, False), (2.0, -1.0, True), (0.5, 1.0, True), (0.5, -1.0, False))
    for ratio, advantage, active in cases:
        student, (row,) = tiny_model(), random_rollouts(1)
        now = []
        for t, token in enumerate(row.completion_ids):
            now.append(logprob(student, row.prompt_ids, row.completion_ids, t)[token])
        row.advantage = advantage
        row.old_logprobs = torch.stack(now).detach() - torch.tensor(ratio).log()
        stats = update(policy_gradient_loss, student, None, [row], [], Settings(clip_eps=0.2))
        bounded = max(0.8, min(1.2, ratio))
        loss = -min(ratio * advantage, bounded * advantage)
        assert stats["loss"] == pytest.approx(loss, rel=1e-4)
        assert (max(p.grad.abs().max() for p in student.parameters()) > 1e-3) == active
        assert stats["clipped"] == (not active)


def test_the_sampled_reverse_kl_is_unbiased():
    """Its mean gradient over all first tokens, by probability, is that of the full reverse KL."""
    student, teacher, prompts = tiny_model(), tiny_model(1), ([3, 5, 7], [3, 9, 9, 7])
    q = logprob(student, prompts[0], [], 0)
    total = [torch.zeros_like(p) for p in student.parameters()]
    for token in range(50):
        student.zero_grad()
        rows = [Rollout(prompts[0], [token], prompts[1])]
        policy_gradient_loss(student, teacher, rows, 1, Settings())[0].backward()
        for sum_, p in zip(total, student.parameters()):
            sum_ += q[token].exp().detach() * p.grad
    logits = next_logits(student, prompts[0], [], 0)[None]
    seen = next_logits(teacher, prompts[1], [], 0)[None]
    divergence = token_divergence(logits, seen, beta=1.0).sum()
    wanted = torch.autograd.grad(divergence, list(student.parameters()))
    total, wanted = (torch.cat([g.flatten() for g in gradients]) for gradients in (total, wanted))
    assert wanted.norm() > 0.1 and (total - wanted).norm() < 1e-4 * wanted.norm()


@pytest.mark.parametrize("method", ["grpo", "reverse"])
def test_micro_batches_change_nothing_in_a_policy_gradient(method):
    def gradients(tokens):
        student, rows = tiny_model(), random_rollouts()
        set_advantages(rows, [i % 3 for i in range(9)], 3)
        teacher = tiny_model(1) if method == "reverse" else None
        settings = Settings(micro_tokens=tokens)
        for _ in range(2):  # the second use has a ratio
            update(policy_gradient_loss, student, teacher, rows, [], settings)
        return [p.grad.clone() for p in student.parameters()]

    whole = gradients(10**6)
    assert max(g.abs().max() for g in whole) > 1e-3
    for a, b in zip(whole, gradients(60)):
        torch.testing.assert_close(a, b, atol=5e-6, rtol=1e-3)
