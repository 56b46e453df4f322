"""Exercise 6, its gradient by hand: its check and the mistakes it knows."""

import torch

import fused_loss
import loss
from exercises.harness import compare, given, logs, normal


def divergence_gradient(z, z_teacher, beta, temperature):
    """The shipped gradient by hand: with the identity as head, distillation_loss takes logits for
    hidden states."""
    head, x = torch.eye(z.shape[-1], dtype=z.dtype), z.detach().clone().requires_grad_()
    with torch.enable_grad():
        value = fused_loss.distillation_loss(
            x, head, z_teacher, head, beta=beta, temperature=temperature, denominator=1
        )
        return torch.autograd.grad(value, x)[0]


def gradient_mistakes(z, z_teacher, beta, temperature):
    a, b = (z / temperature).log_softmax(-1), (z_teacher / temperature).log_softmax(-1)
    right, q = divergence_gradient(z, z_teacher, beta, temperature), a.exp()
    _, g = loss.divergence_terms(b, a, beta)
    other = divergence_gradient(z, z_teacher, 1 - beta, temperature)
    found = [
        (
            -right,
            "The sign is turned around: a step against this gradient would lead away from the teacher.",
        ),
        (right * temperature, "1 / temperature is missing: z is divided by it inside the softmax."),
        (
            right * temperature**2,
            "1 / temperature is missing: z is divided by it inside the softmax.",
        ),
        (divergence_gradient(z, z_teacher, beta, 1.0), "As with temperature 1."),
        (
            divergence_gradient(z, z_teacher * temperature, beta, temperature),
            "The teacher's logits are not divided by the temperature.",
        ),
        (
            g / temperature,
            "This is g, the slope for log q. The softmax adds - q_i sum_v g_v: its row must add up "
            "to 0.",
        ),
        (right / len(z), "Divided by N: each row is the gradient of its own token."),
        (right.mean(0), "The mean over the tokens: return a row for each."),
        (other, "This is the gradient of the other direction (beta and 1 - beta swapped)."),
    ]
    if beta > 0:
        found += [
            (q * (a - b) / temperature, "The KL inside the bracket is missing: [(a - b) - KL].")
        ]
    if 0 < beta < 1:
        found += [(right / (1 - beta), "The factor (1 - beta) is missing.")]
    return found


TITLE = "its gradient by hand"
SHIPPED = (divergence_gradient,)


def check(divergence_gradient):
    s, t = logs((0.8, 0.2)), logs((0.9, 0.1))
    with torch.no_grad():
        for beta, first in ((0.0, -0.10), (1.0, -0.1297)):
            case = f"student (0.8, 0.2), teacher (0.9, 0.1), beta {beta}, temperature 1"
            with given(case):
                got = divergence_gradient(s, t, beta, 1.0)
            compare(
                case,
                got,
                torch.tensor([[first, -first]]),
                [(v.round(decimals=4), text) for v, text in gradient_mistakes(s, t, beta, 1.0)],
                tolerance=6e-5,
            )
    for seed, (beta, temperature) in enumerate(
        [(0.0, 1.0), (1.0, 1.0), (0.5, 1.0), (0.0, 2.0), (1.0, 0.7), (0.2, 1.7), (0.9, 3.0)]
    ):
        s, t = normal(seed, 4, 6), normal(seed + 50, 4, 6)
        z = s.clone().requires_grad_()
        loss.token_divergence(z, t, beta=beta, temperature=temperature).sum().backward()
        case = f"random logits [4, 6], beta {beta}, temperature {temperature}"
        with torch.no_grad():
            with given(case):
                got = divergence_gradient(s.clone(), t.clone(), beta, temperature)
            compare(
                case + "; expected: autograd through the shipped loss",
                got,
                z.grad,
                gradient_mistakes(s, t, beta, temperature),
            )
            compare(case + ": the sum of each row", got.sum(-1), torch.zeros(4).double())
            compare(
                case + ", student equal to the teacher",
                divergence_gradient(s, s.clone(), beta, temperature),
                torch.zeros(4, 6).double(),
            )
