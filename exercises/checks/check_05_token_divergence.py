"""Exercise 5, token divergence: its check and the mistakes it knows."""

import math

import torch

import loss
from exercises.harness import compare, given, logs, normal, show, wrong

TITLE = "token divergence"
SHIPPED = (loss.token_divergence,)


def divergence_mistakes(s, t, beta, temperature):
    def plain(s, t, beta, tau=temperature):
        return loss.token_divergence(s, t, beta=beta, temperature=tau)  # [N]

    right = plain(s, t, beta)
    a, b = (s / temperature).log_softmax(-1), (t / temperature).log_softmax(-1)
    found = [
        (plain(s, t, beta, 1.0), "As with temperature 1: divide both logits by the temperature."),
        (
            loss.token_divergence(s, t / temperature, beta=beta),
            "The student's logits are not divided by the temperature.",
        ),
        (
            loss.token_divergence(s / temperature, t, beta=beta),
            "The teacher's logits are not divided by the temperature.",
        ),
        (
            right * temperature**2,
            "A factor temperature ** 2 too many: it belongs to Hinton's distillation.",
        ),
        (right / s.shape[-1], "The mean over the vocabulary; the divergence is the sum."),
        (
            right.mean(),
            "The mean over the tokens: return one number for each of them, the caller divides.",
        ),
        (right.sum(), "The sum over the tokens: return one number for each of them."),
        (right / math.log(2), "Bits, not nats: use the natural logarithm."),
        (-right, "The sign is turned around."),
        (
            loss.divergence_terms(b, a, beta)[0].sum(0),
            "Summed over the tokens; the sum goes over the vocabulary, the last axis.",
        ),
    ]
    if beta in (0, 1):
        found += [
            (
                plain(s, t, 1 - beta),
                f"This is {'reverse' if beta == 0 else 'forward'} KL: student and teacher are swapped.",
            ),
            (
                torch.zeros_like(right),
                "0: the two ends are cases of their own, not the middle formula.",
            ),
        ]
        if beta == 0:
            found += [
                (-(b.exp() * a).sum(-1), "The cross-entropy: the teacher's own entropy is missing.")
            ]
    else:
        p, q = b.exp(), a.exp()
        swapped = torch.log((1 - beta) * p + beta * q)
        found += [
            (
                plain(s, t, 1 - beta),
                "beta and 1 - beta are swapped: m = beta p + (1 - beta) q, beta belongs to the teacher.",
            ),
            (
                beta * (p * (b - swapped)).sum(-1) + (1 - beta) * (q * (a - swapped)).sum(-1),
                "The weights inside m are swapped: m = beta p + (1 - beta) q.",
            ),
            (
                beta * plain(s, t, 0.0) + (1 - beta) * plain(s, t, 1.0),
                "The mean of the two KLs: both should be against m.",
            ),
            (
                beta * plain(s, t, 1.0) + (1 - beta) * plain(s, t, 0.0),
                "The mean of the two KLs: both should be against m.",
            ),
        ]
    return found


def check(token_divergence):
    def compared(name, s, t, beta, temperature=1.0):
        case = f"{name}, beta {beta}, temperature {temperature}"
        with given(case):
            got = token_divergence(s.clone(), t.clone(), beta=beta, temperature=temperature)
        compare(
            case,
            got,
            loss.token_divergence(s, t, beta=beta, temperature=temperature),
            divergence_mistakes(s, t, beta, temperature),
        )

    def slope(function, s, t, beta):
        z = s.detach().clone().requires_grad_()
        return torch.autograd.grad(function(z, t, beta=beta).sum(), z)[0]

    s, t = logs((0.8, 0.2)), logs((0.9, 0.1))
    for beta, by_hand in ((0.0, 0.0367), (1.0, 0.0444), (0.5, 0.0100)):
        case = f"student (0.8, 0.2), teacher (0.9, 0.1), beta {beta}"
        with given(case):
            got = token_divergence(s, t, beta=beta)
        compare(
            case,
            got,
            torch.tensor([by_hand]),
            [(v.round(decimals=4), text) for v, text in divergence_mistakes(s, t, beta, 1.0)],
            tolerance=6e-5,
        )
    for seed, beta, temperature in (
        (0, 0.0, 1.0),
        (1, 1.0, 1.0),
        (2, 0.5, 1.0),
        (3, 0.1, 1.0),
        (4, 0.0, 2.5),
        (5, 1.0, 0.6),
        (6, 0.9, 2.0),
    ):
        compared(
            "random logits [4, 7]", normal(seed, 4, 7), normal(seed + 50, 4, 7), beta, temperature
        )
        z = normal(seed, 4, 7)
        compare(
            f"student and teacher equal, beta {beta}",
            token_divergence(z, z, beta=beta),
            torch.zeros(4).double(),
        )
    s, t = logs((0.8, 0.2, 0.0)), logs((0.9, 0.1, 0.0))
    for beta in (0.0, 0.5, 1.0):
        compared(
            "student (0.8, 0.2, 0), teacher (0.9, 0.1, 0): a token that both forbid (logit -inf)",
            s,
            t,
            beta,
        )
        compared(
            "student (1, 0), teacher (0, 1), logits 1000 and -1000: a probability too small for a float64",
            torch.tensor([[1000.0, -1000.0]]).double(),
            torch.tensor([[-1000.0, 1000.0]]).double(),
            beta,
        )
        s2, t2 = normal(8, 3, 5).requires_grad_(), normal(9, 3, 5).requires_grad_()
        total = token_divergence(s2, t2, beta=beta).sum()
        if not total.requires_grad:
            raise wrong(
                f"random logits, beta {beta}",
                "a divergence through which the student gets a gradient",
                "no graph",
                "Was something detached, or turned into Python numbers?",
            )
        total.backward()
        if t2.grad is not None and t2.grad.abs().max() > 0:
            raise wrong(
                f"random logits, beta {beta}",
                "no gradient for the teacher's logits",
                show(t2.grad[0]),
                "Detach them: or the teacher moves towards the student, too.",
            )
        compare(
            f"random logits, beta {beta}: the student's gradient by autograd",
            s2.grad,
            slope(loss.token_divergence, s2, t2, beta),
        )
        got, expected = (
            slope(token_divergence, s, t, beta),
            slope(loss.token_divergence, s, t, beta),
        )
        case = f"the token that both forbid, beta {beta}: the student's gradient by autograd"
        if got.isnan().any():
            raise wrong(
                case,
                show(expected),
                show(got),
                "The value is right, the gradient is not: a nan hidden behind "
                "the arithmetic comes back in backward as 0 * nan. Replace the -inf before the arithmetic.",
            )
        compare(case, got, expected)
